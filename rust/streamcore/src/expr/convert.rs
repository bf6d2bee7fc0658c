//! Changes a value's type: the widening that mixed operands need, and the casts a user writes.
//!
//! `types` inserts them, `eval` runs them. Invariant: a cast of a value that the new type cannot
//! hold is null; widening to a decimal that is too narrow is an overflow, because the user did not
//! ask for it.

use super::text::build;
use super::time;
use super::value::{Computed, Operand, Value, clear, column};
use crate::batch::{Column, DataType, Values};
use std::io::Write;

/// `value`, which is of type `from` and no constant null, as type `to`.
pub(super) fn convert(value: &Value<'_>, from: DataType, to: DataType, rows: usize) -> Computed<'static> {
    let flags = value.flags();
    let cast = |column| Computed::column(column, Vec::new());
    match (from, to) {
        (_, DataType::String) => cast(to_text(value, from, rows)),
        (DataType::Int64, DataType::Float64) => {
            let values = value.integers().map(rows, |number| number as f64);
            cast(column(to, Values::Float64(values), flags.to_vec()))
        }
        (DataType::Int64, DataType::Timestamp) | (DataType::Timestamp, DataType::Int64) => {
            cast(column(to, Values::Int64(value.integers().map(rows, |number| number)), flags.to_vec()))
        }
        (DataType::Int64, DataType::Decimal { precision, scale }) => {
            let widened = partial(value.integers(), flags, rows, |number| rescale(number.into(), scale, precision));
            widened.overflowing(to, Values::Decimal)
        }
        (DataType::Decimal { scale: old, .. }, DataType::Decimal { precision, scale }) => {
            let widened =
                partial(value.decimals(), flags, rows, |number| rescale(number, scale.saturating_sub(old), precision));
            widened.overflowing(to, Values::Decimal)
        }
        (DataType::Decimal { scale, .. }, DataType::Float64) => {
            let values = value.decimals().map(rows, |number| decimal_to_float(number, scale));
            cast(column(to, Values::Float64(values), flags.to_vec()))
        }
        (DataType::Decimal { scale, .. }, DataType::Int64) => {
            let whole = |number: i128| (number / power_of_ten(scale)).try_into().ok();
            cast(partial(value.decimals(), flags, rows, whole).nulling(to, Values::Int64))
        }
        (DataType::Float64, DataType::Int64) => {
            cast(partial(value.floats(), flags, rows, float_to_integer).nulling(to, Values::Int64))
        }
        (DataType::Bool, DataType::Int64) => {
            cast(column(to, Values::Int64(value.bools().map(rows, i64::from)), flags.to_vec()))
        }
        (DataType::String, _) => cast(from_text(value, to, rows)),
        _ => unreachable!("the type checker let a conversion from {from} to {to} pass"),
    }
}

fn from_text(value: &Value<'_>, to: DataType, rows: usize) -> Column {
    let (texts, flags) = (value.texts(), value.flags());
    let numbers: Vec<usize> = (0..rows).collect();
    let numbers = Operand::Each(&numbers);
    match to {
        DataType::Float64 => {
            let read = |row| text_to_float(texts.get(row));
            partial(numbers, flags, rows, read).nulling(to, Values::Float64)
        }
        DataType::Timestamp => {
            partial(numbers, flags, rows, |row| time::parse(texts.get(row))).nulling(to, Values::Int64)
        }
        _ => partial(numbers, flags, rows, |row| text_to_integer(texts.get(row))).nulling(to, Values::Int64),
    }
}

fn to_text(value: &Value<'_>, from: DataType, rows: usize) -> Column {
    let mut flags = value.flags().to_vec();
    if from == DataType::Binary {
        let valid = |row: &u32| simdutf8::basic::from_utf8(value.texts().get(*row as usize)).is_err();
        clear(&mut flags, &(0..rows as u32).filter(valid).collect::<Vec<_>>(), rows);
    }
    build(flags, rows, |row, out| {
        let written = match from {
            DataType::Bool => write!(out, "{}", value.bools().get(row)),
            DataType::Int64 => write!(out, "{}", value.integers().get(row)),
            // The shortest digits that read back as the same double.
            DataType::Float64 => write!(out, "{:?}", value.floats().get(row)),
            DataType::Decimal { scale, .. } => write!(out, "{}", Decimal(value.decimals().get(row), scale)),
            DataType::Timestamp => {
                time::write(value.integers().get(row), out);
                Ok(())
            }
            DataType::String | DataType::Binary | DataType::Scalar => out.write_all(value.texts().get(row)),
        };
        debug_assert!(written.is_ok(), "writing to a Vec cannot fail");
    })
}

/// What a conversion that may fail made of the rows.
struct Partial<U> {
    values: Vec<U>,
    flags: Vec<bool>,
    /// Rows that were not null and did not fit.
    failed: Vec<u32>,
}

impl<U> Partial<U> {
    fn nulling(mut self, to: DataType, values: fn(Vec<U>) -> Values) -> Column {
        let rows = self.values.len();
        clear(&mut self.flags, &self.failed, rows);
        column(to, values(self.values), self.flags)
    }

    fn overflowing(mut self, to: DataType, values: fn(Vec<U>) -> Values) -> Computed<'static> {
        let failed = std::mem::take(&mut self.failed);
        let rows = self.values.len();
        clear(&mut self.flags, &failed, rows);
        Computed::column(column(to, values(self.values), self.flags), failed)
    }
}

fn partial<T: Copy, U: Default>(
    operand: Operand<'_, T>,
    flags: &[bool],
    rows: usize,
    f: impl Fn(T) -> Option<U>,
) -> Partial<U> {
    let mut failed = Vec::new();
    let mut row = 0;
    let values = operand.map(rows, |value| {
        let result = f(value);
        if result.is_none() && flags.get(row) != Some(&false) {
            failed.push(row as u32);
        }
        row += 1;
        result.unwrap_or_default()
    });
    Partial { values, flags: flags.to_vec(), failed }
}

/// 10 to the power of a scale, which is at most 38.
pub(super) fn power_of_ten(scale: u8) -> i128 {
    10_i128.pow(scale.into())
}

/// `number` with `more` further digits after the point, unless it then has over `precision` digits.
pub(super) fn rescale(number: i128, more: u8, precision: u8) -> Option<i128> {
    number
        .checked_mul(power_of_ten(more))
        .filter(|scaled| scaled.unsigned_abs() < power_of_ten(precision).unsigned_abs())
}

fn decimal_to_float(number: i128, scale: u8) -> f64 {
    // Both sides of the division are exact up to here, so its result is the nearest double.
    const EXACT_MAX: u128 = 1 << 53;
    if number.unsigned_abs() <= EXACT_MAX && scale <= 22 {
        return number as f64 / power_of_ten(scale) as f64;
    }
    Decimal(number, scale).to_string().parse().expect("a decimal's text is a number")
}

/// The whole part, if int64 holds it.
fn float_to_integer(number: f64) -> Option<i64> {
    // 2^63 is a double, and the first that does not fit.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    (-LIMIT..LIMIT).contains(&number).then_some(number as i64)
}

fn text_to_integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn text_to_float(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok().filter(|number: &f64| number.is_finite())
}

/// A decimal for display.
struct Decimal(i128, u8);

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(number, scale) = *self;
        let (sign, unit) = (if number < 0 { "-" } else { "" }, power_of_ten(scale).unsigned_abs());
        let (whole, part) = (number.unsigned_abs() / unit, number.unsigned_abs() % unit);
        if scale == 0 {
            return write!(f, "{sign}{whole}");
        }
        write!(f, "{sign}{whole}.{part:0width$}", width = usize::from(scale))
    }
}

/// Reads a number as written in an expression (`-1.50`, `2e3`) as an exact decimal: value, digits
/// in all, digits after the point. Nothing if it has over 38 digits.
pub(super) fn parse_decimal(written: &str) -> Option<(i128, u8, u8)> {
    let (mantissa, exponent) = match written.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (written, 0),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let part = part.trim_end_matches('0');
    let mut number: i128 = format!("{whole}{part}").parse().ok()?;
    let mut scale = part.len() as i64 - exponent;
    if scale < 0 {
        let zeros = u32::try_from(-scale).ok().filter(|zeros| *zeros <= 38)?;
        number = number.checked_mul(10_i128.checked_pow(zeros)?)?;
        scale = 0;
    }
    let scale = u8::try_from(scale).ok().filter(|scale| *scale <= 38)?;
    let digits = number.unsigned_abs().checked_ilog10().map_or(1, |power| power as u8 + 1);
    let precision = digits.max(scale).max(1);
    (precision <= 38).then_some((number, precision, scale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_literal_is_an_exact_decimal() {
        assert_eq!(parse_decimal("-1.50"), Some((-15, 2, 1)));
        assert_eq!(parse_decimal("2e3"), Some((2000, 4, 0)));
        assert_eq!(parse_decimal("25e-4"), Some((25, 4, 4)));
        assert_eq!(parse_decimal("0.1000000000000000055"), Some((1_000_000_000_000_000_055, 19, 19)));
        assert_eq!(parse_decimal("1e39"), None);
        assert_eq!(parse_decimal("1e-39"), None);
    }

    #[test]
    fn the_edges_of_int64_are_kept() {
        assert_eq!(float_to_integer(-9_223_372_036_854_775_808.0), Some(i64::MIN));
        assert_eq!(float_to_integer(9_223_372_036_854_775_808.0), None);
        assert_eq!(float_to_integer(-1.9), Some(-1));
        assert_eq!(float_to_integer(f64::NAN), None);
        assert_eq!(text_to_float(b"inf"), None);
        assert_eq!(text_to_float(b"1e999"), None);
        assert_eq!(text_to_integer(b"1.0"), None);
    }

    #[test]
    fn a_decimal_is_written_with_its_scale() {
        assert_eq!(Decimal(-5, 2).to_string(), "-0.05");
        assert_eq!(Decimal(1234, 0).to_string(), "1234");
        assert_eq!(Decimal(i128::MIN, 38).to_string(), "-1.70141183460469231731687303715884105728");
    }

    proptest! {
        #[test]
        fn a_decimal_becomes_the_nearest_double(number in any::<i128>(), shift in 0u32..127, scale in 0u8..=38) {
            let number = number >> shift;
            let exact: f64 = Decimal(number, scale).to_string().parse().unwrap();
            prop_assert_eq!(decimal_to_float(number, scale).to_bits(), if number == 0 { 0 } else { exact.to_bits() });
        }
    }
}
