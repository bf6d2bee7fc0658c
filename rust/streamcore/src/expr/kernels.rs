//! Comparisons and membership over whole columns.
//!
//! `eval` chooses the kernel by type. Invariant: one test of the operands' form a call, none in a
//! loop; the slots of nulls are computed like any other and reset at the end.

use super::convert::power_of_ten;
use super::tree::Comparison;
use super::typed::Set;
use super::value::{Operand, TextOperand, Value, both, column};
use crate::batch::{Bytes, Column, DataType, Values};
use std::cmp::Ordering;

impl Comparison {
    /// True when a left side that is `ordering` the right side meets this comparison.
    pub fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::NotEqual => ordering.is_ne(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

/// `left comparison right` in every row; neither is a constant null, both are held in the same way.
pub(super) fn compare(
    comparison: Comparison,
    (left, left_type): (&Value<'_>, DataType),
    (right, right_type): (&Value<'_>, DataType),
    rows: usize,
) -> Column {
    let results = match (left_type, right_type) {
        (DataType::Bool, _) => ordered(comparison, left.bools(), right.bools(), rows),
        (DataType::Int64 | DataType::Timestamp, _) => ordered(comparison, left.integers(), right.integers(), rows),
        (DataType::Float64, _) => ordered(comparison, left.floats(), right.floats(), rows),
        (DataType::Decimal { scale: left_scale, .. }, DataType::Decimal { scale: right_scale, .. }) => {
            decimals(comparison, (left.decimals(), left_scale), (right.decimals(), right_scale), rows)
        }
        _ => texts(comparison, left.texts(), right.texts(), rows),
    };
    column(DataType::Bool, Values::Bool(results), both(left.flags(), right.flags()))
}

fn ordered<T: PartialOrd + Copy>(
    comparison: Comparison,
    left: Operand<'_, T>,
    right: Operand<'_, T>,
    rows: usize,
) -> Vec<bool> {
    match comparison {
        Comparison::Equal => left.zip(right, rows, |left, right| left == right),
        Comparison::NotEqual => left.zip(right, rows, |left, right| left != right),
        Comparison::Less => left.zip(right, rows, |left, right| left < right),
        Comparison::LessOrEqual => left.zip(right, rows, |left, right| left <= right),
        Comparison::Greater => left.zip(right, rows, |left, right| left > right),
        Comparison::GreaterOrEqual => left.zip(right, rows, |left, right| left >= right),
    }
}

/// Decimals of different scales. Only the side of the smaller scale is multiplied; where that does
/// not fit, it is beyond every value of 38 digits, and so is the saturated product.
fn decimals(
    comparison: Comparison,
    (left, left_scale): (Operand<'_, i128>, u8),
    (right, right_scale): (Operand<'_, i128>, u8),
    rows: usize,
) -> Vec<bool> {
    if left_scale == right_scale {
        return ordered(comparison, left, right, rows);
    }
    let left_factor = power_of_ten(right_scale.saturating_sub(left_scale));
    let right_factor = power_of_ten(left_scale.saturating_sub(right_scale));
    left.zip(right, rows, |left, right| {
        comparison.holds(left.saturating_mul(left_factor).cmp(&right.saturating_mul(right_factor)))
    })
}

fn texts(comparison: Comparison, left: TextOperand<'_>, right: TextOperand<'_>, rows: usize) -> Vec<bool> {
    match (comparison, left, right) {
        (Comparison::Equal, TextOperand::Each(texts), TextOperand::Same(wanted))
        | (Comparison::Equal, TextOperand::Same(wanted), TextOperand::Each(texts)) => {
            map_texts(texts, |text| text == wanted)
        }
        (Comparison::NotEqual, TextOperand::Each(texts), TextOperand::Same(unwanted))
        | (Comparison::NotEqual, TextOperand::Same(unwanted), TextOperand::Each(texts)) => {
            map_texts(texts, |text| text != unwanted)
        }
        _ => (0..rows).map(|row| comparison.holds(left.get(row).cmp(right.get(row)))).collect(),
    }
}

/// `f` of every text, reading each end once.
fn map_texts(texts: &Bytes, f: impl Fn(&[u8]) -> bool) -> Vec<bool> {
    let data = texts.data();
    let mut start = 0;
    let each = texts.ends().iter().map(|end| {
        let text = &data[start..*end as usize];
        start = *end as usize;
        f(text)
    });
    each.collect()
}

/// True in the rows whose value is in `set` (or is not, when `negated`).
pub(super) fn member(value: &Value<'_>, set: &Set, negated: bool, rows: usize) -> Column {
    let mut results = match set {
        Set::Bool(set) => value.bools().map(rows, |value| set.contains(&value)),
        Set::Int64(set) => value.integers().map(rows, |value| found(set, value)),
        Set::Float64(set) => value.floats().map(rows, |value| found(set, value)),
        Set::Decimal(set) => value.decimals().map(rows, |value| found(set, value)),
        Set::Bytes(set) => match value.texts() {
            TextOperand::Each(texts) => map_texts(texts, |text| found_text(set, text)),
            TextOperand::Same(text) => vec![found_text(set, text); rows],
        },
    };
    if negated {
        for result in &mut results {
            *result = !*result;
        }
    }
    column(DataType::Bool, Values::Bool(results), value.flags().to_vec())
}

/// Up to this many elements, looking at each is faster than halving.
const SCAN_MAX: usize = 8;

fn found<T: PartialOrd + Copy>(set: &[T], value: T) -> bool {
    if set.len() <= SCAN_MAX {
        return set.contains(&value);
    }
    let at = set.partition_point(|element| *element < value);
    set.get(at).is_some_and(|element| *element == value)
}

fn found_text(set: &[Box<[u8]>], text: &[u8]) -> bool {
    if set.len() <= SCAN_MAX {
        return set.iter().any(|element| **element == *text);
    }
    set.binary_search_by(|element| (**element).cmp(text)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Scalar;
    use crate::expr::typed::Constant;
    use std::borrow::Cow;

    fn text_value(texts: &[&str]) -> Value<'static> {
        let mut column = Column::new(DataType::String);
        for text in texts {
            column.push(Scalar::Bytes(text.as_bytes()));
        }
        Value::Column(Cow::Owned(column))
    }

    fn text_constant(text: &str) -> Value<'static> {
        Value::Constant(Constant::Bytes(text.as_bytes().into()))
    }

    fn flags(column: &Column) -> Vec<bool> {
        let Values::Bool(values) = &column.values else { panic!("{column:?}") };
        values.clone()
    }

    #[test]
    fn texts_compare_with_a_constant_on_either_side() {
        let (column, constant) = (text_value(&["b", "", "bb", "a"]), text_constant("b"));
        for (comparison, spelling) in Comparison::ALL {
            let (each, same) = ((&column, DataType::String), (&constant, DataType::String));
            let right: Vec<_> = ["b", "", "bb", "a"].iter().map(|text| comparison.holds((*text).cmp("b"))).collect();
            let left: Vec<_> = ["b", "", "bb", "a"].iter().map(|text| comparison.holds("b".cmp(text))).collect();
            assert_eq!(flags(&compare(comparison, each, same, 4)), right, "{spelling}");
            assert_eq!(flags(&compare(comparison, same, each, 4)), left, "{spelling}");
            assert_eq!(flags(&compare(comparison, same, same, 2)), [comparison.holds(Ordering::Equal); 2]);
        }
    }

    #[test]
    fn decimals_of_far_apart_scales_compare_exactly() {
        let decimal =
            |number, scale| (Value::Constant(Constant::Decimal(number)), DataType::Decimal { precision: 38, scale });
        let less = |left: (Value<'_>, DataType), right: (Value<'_>, DataType)| {
            flags(&compare(Comparison::Less, (&left.0, left.1), (&right.0, right.1), 1)) == [true]
        };
        let nines = 10_i128.pow(38) - 1;
        assert!(less(decimal(nines, 38), decimal(nines, 0)));
        assert!(!less(decimal(nines, 0), decimal(nines, 38)));
        assert!(less(decimal(-nines, 0), decimal(-nines, 38)));
        assert!(less(decimal(15, 1), decimal(151, 2)));
        assert!(!less(decimal(15, 1), decimal(150, 2)));
    }

    #[test]
    fn membership_agrees_for_short_and_long_lists() {
        for length in [0, 1, SCAN_MAX, SCAN_MAX + 1, 100] {
            let texts: Vec<String> = (0..length).map(|number| format!("{}", number * 2)).collect();
            let elements = texts.iter().map(|text| Constant::Bytes(text.as_bytes().into())).collect();
            let set = Set::new(DataType::String, elements);
            let numbers = Set::new(DataType::Int64, (0..length as i64).map(|n| Constant::Int64(n * 2)).collect());
            for probe in 0..2 * length + 2 {
                let expected = probe % 2 == 0 && probe < 2 * length;
                let text = text_constant(&probe.to_string());
                assert_eq!(flags(&member(&text, &set, false, 1)), [expected]);
                let number = Value::Constant(Constant::Int64(probe as i64));
                assert_eq!(flags(&member(&number, &numbers, true, 1)), [!expected]);
            }
        }
    }
}
