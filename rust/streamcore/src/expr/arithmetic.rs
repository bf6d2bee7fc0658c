//! Arithmetic over whole columns: `+ - * / // %`, the sign, and rounding.
//!
//! `eval` chooses the kernel by type. Invariant: no result is ever wrapped, saturated or infinite;
//! the row overflows instead. A division by zero is null.

use super::convert::power_of_ten;
use super::tree::Operator;
use super::typed::NumberFunction;
use super::value::{Computed, Operand, Value, both, clear, column};
use crate::batch::{DataType, Values};

/// The outcome of one row of a kernel that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome<T> {
    Value(T),
    Null,
    Overflow,
}

impl<T> Outcome<T> {
    fn checked(value: Option<T>) -> Self {
        value.map_or(Self::Overflow, Self::Value)
    }
}

/// `left operator right` in every row. Neither is a constant null; both are held as `data_type` is,
/// except that decimals of a product keep their own scales.
pub(super) fn binary(
    operator: Operator,
    left: &Value<'_>,
    right: &Value<'_>,
    data_type: DataType,
    rows: usize,
) -> Computed<'static> {
    let flags = both(left.flags(), right.flags());
    match data_type {
        DataType::Float64 => {
            let values = floats(operator, left.floats(), right.floats(), rows, &flags);
            values.into_column(data_type, Values::Float64, flags)
        }
        DataType::Decimal { precision, .. } => {
            let (left, right) = (left.decimals(), right.decimals());
            let limit = power_of_ten(precision);
            let f = |left: i128, right: i128| {
                let result = match operator {
                    Operator::Add => left.checked_add(right),
                    Operator::Subtract => left.checked_sub(right),
                    _ => left.checked_mul(right),
                };
                Outcome::checked(result.filter(|result| -limit < *result && *result < limit))
            };
            attempt(left, right, rows, &flags, f).into_column(data_type, Values::Decimal, flags)
        }
        _ => {
            let values = integers(operator, left.integers(), right.integers(), rows, &flags);
            values.into_column(data_type, Values::Int64, flags)
        }
    }
}

/// What a kernel made of the rows.
struct Attempt<T> {
    values: Vec<T>,
    /// Rows that are null though their operands are not, rising.
    nulls: Vec<u32>,
    /// Rows that overflowed, rising.
    overflowed: Vec<u32>,
}

impl<T> Attempt<T> {
    fn into_column(self, data_type: DataType, values: fn(Vec<T>) -> Values, mut flags: Vec<bool>) -> Computed<'static> {
        let rows = self.values.len();
        clear(&mut flags, &self.nulls, rows);
        clear(&mut flags, &self.overflowed, rows);
        Computed::column(column(data_type, values(self.values), flags), self.overflowed)
    }
}

/// Runs `f` in every row and notes how the rows that are not null ended.
fn attempt<T: Copy + Default>(
    left: Operand<'_, T>,
    right: Operand<'_, T>,
    rows: usize,
    flags: &[bool],
    f: impl Fn(T, T) -> Outcome<T>,
) -> Attempt<T> {
    let (mut nulls, mut overflowed) = (Vec::new(), Vec::new());
    let mut row = 0;
    let values = left.zip(right, rows, |left, right| {
        let outcome = f(left, right);
        let place = row;
        row += 1;
        if let Outcome::Value(value) = outcome {
            return value;
        }
        if flags.get(place) != Some(&false) {
            if outcome_is_null(&outcome) { &mut nulls } else { &mut overflowed }.push(place as u32);
        }
        T::default()
    });
    Attempt { values, nulls, overflowed }
}

fn outcome_is_null<T>(outcome: &Outcome<T>) -> bool {
    matches!(outcome, Outcome::Null)
}

/// Sums, differences and products first run in a loop that only remembers *whether* a row
/// overflowed; which ones is worked out when one did.
fn integers(
    operator: Operator,
    left: Operand<'_, i64>,
    right: Operand<'_, i64>,
    rows: usize,
    flags: &[bool],
) -> Attempt<i64> {
    let mut any = false;
    let values = match operator {
        Operator::Add => left.zip(right, rows, |left, right| note(&mut any, left.overflowing_add(right))),
        Operator::Subtract => left.zip(right, rows, |left, right| note(&mut any, left.overflowing_sub(right))),
        Operator::Multiply => left.zip(right, rows, |left, right| note(&mut any, left.overflowing_mul(right))),
        Operator::FloorDivide | Operator::Divide => return attempt(left, right, rows, flags, floor_divide),
        Operator::Modulo => return attempt(left, right, rows, flags, modulo),
    };
    if !any {
        return Attempt { values, nulls: Vec::new(), overflowed: Vec::new() };
    }
    attempt(left, right, rows, flags, |left, right| {
        Outcome::checked(match operator {
            Operator::Add => left.checked_add(right),
            Operator::Subtract => left.checked_sub(right),
            _ => left.checked_mul(right),
        })
    })
}

fn note(any: &mut bool, (value, overflowed): (i64, bool)) -> i64 {
    *any |= overflowed;
    value
}

/// Rounded towards minus infinity, so that `a == (a // b) * b + a % b` also for negative numbers.
fn floor_divide(left: i64, right: i64) -> Outcome<i64> {
    if right == 0 {
        return Outcome::Null;
    }
    let Some(quotient) = left.checked_div(right) else { return Outcome::Overflow };
    let rounded_up = left % right != 0 && (left < 0) != (right < 0);
    Outcome::Value(quotient - i64::from(rounded_up))
}

/// The remainder of [`floor_divide`]: it has the divisor's sign.
fn modulo(left: i64, right: i64) -> Outcome<i64> {
    if right == 0 {
        return Outcome::Null;
    }
    let remainder = left.wrapping_rem(right);
    let other_sign = remainder != 0 && (remainder < 0) != (right < 0);
    Outcome::Value(if other_sign { remainder + right } else { remainder })
}

/// The same two passes as for [`integers`].
fn floats(
    operator: Operator,
    left: Operand<'_, f64>,
    right: Operand<'_, f64>,
    rows: usize,
    flags: &[bool],
) -> Attempt<f64> {
    let f = move |left: f64, right: f64| match operator {
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        _ => left / right,
    };
    let values = match operator {
        Operator::Add => left.zip(right, rows, |left, right| left + right),
        Operator::Subtract => left.zip(right, rows, |left, right| left - right),
        Operator::Multiply => left.zip(right, rows, |left, right| left * right),
        _ => left.zip(right, rows, |left, right| left / right),
    };
    if values.iter().fold(true, |all, value| all & value.is_finite()) {
        return Attempt { values, nulls: Vec::new(), overflowed: Vec::new() };
    }
    attempt(left, right, rows, flags, |left, right| {
        let result = f(left, right);
        if result.is_finite() {
            Outcome::Value(result)
        } else if operator == Operator::Divide && right == 0.0 {
            Outcome::Null
        } else {
            Outcome::Overflow
        }
    })
}

/// `-value`, `abs(value)` and the roundings; integers are their own floor.
pub(super) fn unary(
    function: Option<NumberFunction>,
    (value, from): (&Value<'_>, DataType),
    to: DataType,
    rows: usize,
) -> Computed<'static> {
    let flags = value.flags().to_vec();
    match from {
        DataType::Float64 => {
            let values = value.floats().map(rows, |number| match function {
                None => -number,
                Some(NumberFunction::Abs) => number.abs(),
                Some(NumberFunction::Floor) => number.floor(),
                Some(NumberFunction::Ceil) => number.ceil(),
                Some(NumberFunction::Round) => number.round(),
            });
            Computed::column(column(to, Values::Float64(values), flags), Vec::new())
        }
        DataType::Decimal { scale, .. } => {
            let values = value.decimals().map(rows, |number| round_decimal(function, number, scale));
            Computed::column(column(to, Values::Decimal(values), flags), Vec::new())
        }
        _ => {
            let values = value.integers();
            let values = attempt(values, values, rows, &flags, |number, _| match function {
                None => Outcome::checked(number.checked_neg()),
                Some(NumberFunction::Abs) => Outcome::checked(number.checked_abs()),
                Some(_) => Outcome::Value(number),
            });
            values.into_column(to, Values::Int64, flags)
        }
    }
}

/// Sign and size keep the scale; roundings leave no digit after the point.
fn round_decimal(function: Option<NumberFunction>, number: i128, scale: u8) -> i128 {
    let unit = power_of_ten(scale);
    match function {
        None => -number,
        Some(NumberFunction::Abs) => number.abs(),
        Some(NumberFunction::Floor) => number.div_euclid(unit),
        Some(NumberFunction::Ceil) => -(-number).div_euclid(unit),
        Some(NumberFunction::Round) => {
            // Halves go away from zero, as they do for doubles. A unit of 1 has no half.
            let (whole, part) = (number / unit, number % unit);
            whole + if part.abs() >= unit - part.abs() { part.signum() } else { 0 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn division_rounds_down_and_the_rest_has_the_divisors_sign() {
        let expected = [(7, 2, 3, 1), (-7, 2, -4, 1), (7, -2, -4, -1), (-7, -2, 3, -1), (6, 3, 2, 0), (-6, 3, -2, 0)];
        for (left, right, quotient, rest) in expected {
            assert_eq!(floor_divide(left, right), Outcome::Value(quotient), "{left} // {right}");
            assert_eq!(modulo(left, right), Outcome::Value(rest), "{left} % {right}");
        }
        assert_eq!(floor_divide(1, 0), Outcome::Null);
        assert_eq!(modulo(1, 0), Outcome::Null);
        assert_eq!(floor_divide(i64::MIN, -1), Outcome::Overflow);
        assert_eq!(modulo(i64::MIN, -1), Outcome::Value(0));
    }

    #[test]
    fn decimals_round_like_doubles() {
        let all = |number| {
            [NumberFunction::Floor, NumberFunction::Ceil, NumberFunction::Round]
                .map(|function| round_decimal(Some(function), number, 1))
        };
        assert_eq!(all(15), [1, 2, 2]);
        assert_eq!(all(-15), [-2, -1, -2]);
        assert_eq!(all(14), [1, 2, 1]);
        assert_eq!(all(-10), [-1, -1, -1]);
        assert_eq!(round_decimal(Some(NumberFunction::Round), 7, 0), 7);
        assert_eq!(round_decimal(Some(NumberFunction::Round), 0, 0), 0);
    }

    #[test]
    fn a_null_row_never_overflows() {
        let left = column(DataType::Int64, Values::Int64(vec![0, i64::MAX]), vec![false, true]);
        let right = column(DataType::Int64, Values::Int64(vec![i64::MIN, -1]), Vec::new());
        let value = |column| Value::Column(std::borrow::Cow::Owned(column));
        let result = binary(Operator::Subtract, &value(left), &value(right), DataType::Int64, 2);
        assert_eq!(result.overflowed, [1]);
        assert_eq!(result.value.flags(), [false, false]);
    }

    proptest! {
        #[test]
        fn quotient_and_rest_give_the_number_back(left in any::<i64>(), right in any::<i64>()) {
            prop_assume!(right != 0 && !(left == i64::MIN && right == -1));
            let (Outcome::Value(quotient), Outcome::Value(rest)) = (floor_divide(left, right), modulo(left, right)) else {
                panic!("{left} {right}");
            };
            prop_assert_eq!(i128::from(quotient) * i128::from(right) + i128::from(rest), i128::from(left));
            prop_assert!(rest == 0 || (rest < 0) == (right < 0));
            prop_assert!(rest.unsigned_abs() < right.unsigned_abs());
        }
    }
}
