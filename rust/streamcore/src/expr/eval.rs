//! Runs a typed tree over columns: each node once, for all rows.
//!
//! `types` comes before; the kernels it calls are in `kernels`, `arithmetic`, `convert`, `text` and
//! `time`. Invariant: the result is that of going through the rows one by one, operands from left to
//! right, and stopping where `and`, `or`, `if` or `coalesce` no longer need the next: an overflow in
//! an operand that a row did not need is no overflow of that row.

use super::text::build;
use super::time::TimeUnit;
use super::tree::Comparison;
use super::typed::{Operation, Typed};
use super::value::{Computed, Operand, Value, both, clear, column, union};
use super::{arithmetic, convert, kernels, text};
use crate::batch::{Column, DataType, Values};
use std::borrow::Cow;

impl Typed {
    /// The value of this node in each of `rows` rows of `columns`.
    pub fn evaluate<'a>(&self, columns: &'a [Column], rows: usize) -> Computed<'a> {
        match &self.operation {
            Operation::Column(index) => Computed::new(Value::Column(Cow::Borrowed(&columns[*index]))),
            Operation::Constant(constant) => Computed::new(Value::Constant(constant.clone())),
            Operation::Logic { decisive, operands } => logic(*decisive, operands, columns, rows),
            Operation::Coalesce(operands) => self.coalesce(operands, columns, rows),
            Operation::If { condition, then, otherwise } => {
                let condition = condition.operand(columns, rows);
                let (then, otherwise) = (then.operand(columns, rows), otherwise.operand(columns, rows));
                let chosen = truths(&condition.value, rows);
                let overflowed = condition.overflowed;
                choose(&chosen, then, otherwise, overflowed, self.data_type)
            }
            Operation::Extreme { comparison, operands } => self.extreme(*comparison, operands, columns, rows),
            Operation::Compare { comparison, left, right } => {
                let (left_type, right_type) = (left.data_type, right.data_type);
                let (left, right) = (left.operand(columns, rows), right.operand(columns, rows));
                let result = kernels::compare(*comparison, (&left.value, left_type), (&right.value, right_type), rows);
                Computed::column(result, union(left.overflowed, right.overflowed))
            }
            Operation::Arithmetic { operator, left, right } => {
                let (left, right) = (left.operand(columns, rows), right.operand(columns, rows));
                let mut result = arithmetic::binary(*operator, &left.value, &right.value, self.data_type, rows);
                result.overflowed = union(result.overflowed, union(left.overflowed, right.overflowed));
                result
            }
            Operation::Text(function, operands) => {
                let operands: Vec<_> = operands.iter().map(|operand| operand.operand(columns, rows)).collect();
                let (values, overflowed): (Vec<_>, Vec<_>) =
                    operands.into_iter().map(|operand| (operand.value, operand.overflowed)).unzip();
                Computed::column(text::apply(*function, &values, rows), overflowed.into_iter().fold(Vec::new(), union))
            }
            _ => self.evaluate_unary(columns, rows),
        }
    }

    /// The operations of one operand.
    fn evaluate_unary<'a>(&self, columns: &'a [Column], rows: usize) -> Computed<'a> {
        let operands = self.operation.operands();
        let from = operands[0].data_type;
        let Computed { value, overflowed } = operands[0].operand(columns, rows);
        let mut result = match &self.operation {
            Operation::Not(_) => not(&value, rows),
            Operation::IsNull { negated, .. } => is_null(&value, *negated, rows),
            Operation::In { set, negated, .. } => {
                Computed::column(kernels::member(&value, set, *negated, rows), Vec::new())
            }
            Operation::Negate(_) => arithmetic::unary(None, (&value, from), self.data_type, rows),
            Operation::Number(function, _) => arithmetic::unary(Some(*function), (&value, from), self.data_type, rows),
            Operation::TimePart(part, _) => {
                let parts = value.integers().map(rows, |time_ms| part.of(time_ms));
                Computed::column(column(DataType::Int64, Values::Int64(parts), value.flags().to_vec()), Vec::new())
            }
            Operation::Truncate(unit, _) => truncate(*unit, &value, rows),
            Operation::Convert(_) => convert::convert(&value, from, self.data_type, rows),
            other => unreachable!("{other:?} has more than one operand"),
        };
        result.overflowed = union(result.overflowed, overflowed);
        result
    }

    /// The value for a kernel, which need not know a constant null.
    fn operand<'a>(&self, columns: &'a [Column], rows: usize) -> Computed<'a> {
        let Computed { value, overflowed } = self.evaluate(columns, rows);
        Computed { value: value.without_null_constant(self.data_type, rows), overflowed }
    }

    fn coalesce<'a>(&self, operands: &[Typed], columns: &'a [Column], rows: usize) -> Computed<'a> {
        let mut result = operands[0].operand(columns, rows);
        for operand in &operands[1..] {
            if result.value.flags().is_empty() && result.overflowed.is_empty() {
                break;
            }
            // A row that overflowed has no value to replace: it stays out.
            let mut taken: Vec<bool> = (0..rows).map(|row| result.value.is_valid(row)).collect();
            result.overflowed.iter().for_each(|row| taken[*row as usize] = true);
            let overflowed = std::mem::take(&mut result.overflowed);
            result = choose(&taken, result, operand.operand(columns, rows), overflowed, self.data_type);
        }
        result
    }

    fn extreme<'a>(
        &self,
        comparison: Comparison,
        operands: &[Typed],
        columns: &'a [Column],
        rows: usize,
    ) -> Computed<'a> {
        let Computed { value: mut best, mut overflowed } = operands[0].operand(columns, rows);
        for operand in &operands[1..] {
            let next = operand.operand(columns, rows);
            let (left, right) = ((&best, self.data_type), (&next.value, self.data_type));
            let kept = truths(&Value::Column(Cow::Owned(kernels::compare(comparison, left, right, rows))), rows);
            let flags = both(best.flags(), next.value.flags());
            best = Value::Column(Cow::Owned(select(&kept, &best, &next.value, flags, self.data_type)));
            overflowed = union(overflowed, next.overflowed);
        }
        Computed { value: best, overflowed }
    }
}

/// True in the rows where `condition` is: null is not true.
pub(super) fn truths(condition: &Value<'_>, rows: usize) -> Vec<bool> {
    let truths = condition.bools().map(rows, |truth| truth);
    if condition.flags().is_empty() { truths } else { both(&truths, condition.flags()) }
}

fn not(value: &Value<'_>, rows: usize) -> Computed<'static> {
    let values = value.bools().map(rows, |truth| !truth);
    Computed::column(column(DataType::Bool, Values::Bool(values), value.flags().to_vec()), Vec::new())
}

fn is_null(value: &Value<'_>, negated: bool, rows: usize) -> Computed<'static> {
    let values = match value.flags() {
        [] => vec![negated; rows],
        flags => flags.iter().map(|valid| *valid == negated).collect(),
    };
    Computed::column(column(DataType::Bool, Values::Bool(values), Vec::new()), Vec::new())
}

fn truncate(unit: TimeUnit, value: &Value<'_>, rows: usize) -> Computed<'static> {
    let mut flags = value.flags().to_vec();
    let starts: Vec<Option<i64>> = value.integers().map(rows, |time_ms| unit.truncate(time_ms));
    let failed = |row: &u32| starts[*row as usize].is_none() && value.is_valid(*row as usize);
    let overflowed: Vec<u32> = (0..rows as u32).filter(failed).collect();
    clear(&mut flags, &overflowed, rows);
    let starts = starts.into_iter().map(Option::unwrap_or_default).collect();
    Computed::column(column(DataType::Timestamp, Values::Int64(starts), flags), overflowed)
}

/// `and` (`decisive` is false) or `or` (true) in Kleene's three-valued logic.
fn logic<'a>(decisive: bool, operands: &[Typed], columns: &'a [Column], rows: usize) -> Computed<'a> {
    let first = operands[0].operand(columns, rows);
    let mut values = first.value.bools().map(rows, |truth| truth);
    let mut flags = first.value.flags().to_vec();
    let mut overflowed = first.overflowed;
    for operand in &operands[1..] {
        let mut next = operand.operand(columns, rows);
        next.overflowed.retain(|row| {
            let row = *row as usize;
            values[row] != decisive || flags.get(row) == Some(&false)
        });
        overflowed = union(overflowed, next.overflowed);
        merge_logic(decisive, &mut values, &mut flags, &next.value);
    }
    Computed::column(column(DataType::Bool, Values::Bool(values), flags), overflowed)
}

fn merge_logic(decisive: bool, values: &mut Vec<bool>, flags: &mut Vec<bool>, next: &Value<'_>) {
    let rows = values.len();
    let next_values = next.bools();
    if flags.is_empty() && next.flags().is_empty() {
        let current = Operand::Each(values);
        *values = if decisive {
            current.zip(next_values, rows, |left, right| left | right)
        } else {
            current.zip(next_values, rows, |left, right| left & right)
        };
        return;
    }
    flags.resize(rows, true);
    for row in 0..rows {
        let (value, valid) = (next_values.get(row), next.is_valid(row));
        let decided = (flags[row] && values[row] == decisive) || (valid && value == decisive);
        flags[row] = decided || (flags[row] && valid);
        values[row] = flags[row] && decided == decisive;
    }
}

/// `then` in the rows of `chosen`, else `otherwise`; with the overflows of what was taken, and those
/// of the choice itself.
fn choose<'a>(
    chosen: &[bool],
    mut then: Computed<'a>,
    mut otherwise: Computed<'a>,
    overflowed: Vec<u32>,
    data_type: DataType,
) -> Computed<'a> {
    then.overflowed.retain(|row| chosen[*row as usize]);
    otherwise.overflowed.retain(|row| !chosen[*row as usize]);
    let flags = match (then.value.flags(), otherwise.value.flags()) {
        ([], []) => Vec::new(),
        _ => (0..chosen.len())
            .map(|row| if chosen[row] { then.value.is_valid(row) } else { otherwise.value.is_valid(row) })
            .collect(),
    };
    let values = select(chosen, &then.value, &otherwise.value, flags, data_type);
    Computed::column(values, union(overflowed, union(then.overflowed, otherwise.overflowed)))
}

/// The values of `then` in the rows of `chosen`, else those of `otherwise`.
fn select(chosen: &[bool], then: &Value<'_>, otherwise: &Value<'_>, flags: Vec<bool>, data_type: DataType) -> Column {
    fn pick<T: Copy>(chosen: &[bool], then: Operand<'_, T>, otherwise: Operand<'_, T>) -> Vec<T> {
        let rows = chosen.iter().enumerate();
        rows.map(|(row, chosen)| if *chosen { then.get(row) } else { otherwise.get(row) }).collect()
    }
    let values = match data_type {
        DataType::Bool => Values::Bool(pick(chosen, then.bools(), otherwise.bools())),
        DataType::Int64 | DataType::Timestamp => Values::Int64(pick(chosen, then.integers(), otherwise.integers())),
        DataType::Float64 => Values::Float64(pick(chosen, then.floats(), otherwise.floats())),
        DataType::Decimal { .. } => Values::Decimal(pick(chosen, then.decimals(), otherwise.decimals())),
        DataType::String | DataType::Binary | DataType::Scalar => {
            let (then, otherwise) = (then.texts(), otherwise.texts());
            let texts = build(flags, chosen.len(), |row, out| {
                out.extend_from_slice(if chosen[row] { then.get(row) } else { otherwise.get(row) });
            });
            return Column { data_type, ..texts };
        }
    };
    column(data_type, values, flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Scalar;

    /// Every pair of true, false and null.
    fn pairs() -> [Column; 2] {
        let all = [Scalar::Bool(true), Scalar::Bool(false), Scalar::Null];
        let mut columns = [Column::new(DataType::Bool), Column::new(DataType::Bool)];
        for left in all {
            for right in all {
                columns[0].push(left);
                columns[1].push(right);
            }
        }
        columns
    }

    fn three_valued(operation: Operation) -> String {
        let typed = Typed { operation, data_type: DataType::Bool };
        let column = typed.evaluate(&pairs(), 9).value.into_column(DataType::Bool, 9).into_owned();
        let letter = |row| match column.get(row) {
            Scalar::Bool(true) => 't',
            Scalar::Bool(false) => 'f',
            _ => '-',
        };
        (0..9).map(letter).collect()
    }

    fn operand(index: usize) -> Typed {
        Typed { operation: Operation::Column(index), data_type: DataType::Bool }
    }

    #[test]
    fn logic_is_three_valued() {
        let logic = |decisive| Operation::Logic { decisive, operands: vec![operand(0), operand(1)] };
        assert_eq!(three_valued(logic(false)), "tf-fff-f-");
        assert_eq!(three_valued(logic(true)), "ttttf-t--");
        assert_eq!(three_valued(Operation::Not(Box::new(operand(0)))), "ffftt t---".replace(' ', ""));
        assert_eq!(three_valued(Operation::Coalesce(vec![operand(0), operand(1)])), "tttffftf-");
    }

    #[test]
    fn a_null_condition_counts_as_false() {
        let [condition, then, otherwise] = [operand(0), operand(0), operand(1)].map(Box::new);
        assert_eq!(three_valued(Operation::If { condition, then, otherwise }), "ttttf-tf-");
    }
}
