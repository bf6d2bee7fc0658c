//! Turns a located JSON value into a value of its column's type, exactly or not at all.
//!
//! Called after the whole record was validated. Invariant: on a refusal the column is unchanged.

use super::json::scan::{Kind, Value};
use super::json::text::{unescape, unescape_within};
use super::time::{parse_iso, what_is_wrong};
use crate::batch::{Column, DataType, Scalar, Values};
use crate::error::RejectKind;
use std::num::{IntErrorKind, ParseIntError};

/// Why a value does not fit its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// `TypeMismatch` or `NumberRange` or `BadTimestamp`.
    pub kind: RejectKind,
    /// Says what the column would take; names no payload.
    pub detail: String,
}

/// Tags of [`DataType::Scalar`] values, so that `"1"` and `1` differ.
const TAG_TEXT: u8 = b's';
const TAG_OTHER: u8 = b'j';

/// Appends the value at `value` in `record` to `column`; `path` names the field in a misfit.
#[inline]
pub fn push_value(column: &mut Column, record: &[u8], value: Option<Value>, path: &str) -> Result<(), Misfit> {
    let Some(value) = value.filter(|value| value.kind != Kind::Null) else {
        column.push_null();
        return Ok(());
    };
    let range = value.start as usize..value.end as usize;
    match (column.data_type, value.kind) {
        (DataType::String, Kind::Text) => push_text(column, &record[range]),
        (DataType::String, Kind::EscapedText) => {
            column.validity.push(column.len(), true);
            if let Values::Bytes(values) = &mut column.values {
                values.push_with(|out| unescape_within(record, range, out));
            }
        }
        _ => return push_other(column, &record[range], value.kind, path),
    }
    Ok(())
}

#[inline]
fn push_text(column: &mut Column, text: &[u8]) {
    column.validity.push(column.len(), true);
    if let Values::Bytes(values) = &mut column.values {
        values.push(text);
    }
}

fn push_other(column: &mut Column, text: &[u8], kind: Kind, path: &str) -> Result<(), Misfit> {
    if kind == Kind::EscapedText && column.data_type != DataType::Scalar {
        let mut unescaped = Vec::with_capacity(text.len());
        unescape(text, &mut unescaped);
        return push_other(column, &unescaped, Kind::Text, path);
    }
    let mismatch = |column: &Column| mismatch(path, kind, column.data_type);
    match (column.data_type, kind) {
        (DataType::String, Kind::Text) => push_text(column, text),
        (DataType::Bool, Kind::True | Kind::False) => column.push(Scalar::Bool(kind == Kind::True)),
        (DataType::Int64, Kind::Integer | Kind::Fraction) => column.push(Scalar::Int64(integer(text, path)?)),
        (DataType::Float64, Kind::Integer | Kind::Fraction) => {
            column.push(Scalar::Float64(float(text, kind, path)?));
        }
        (DataType::Decimal { precision, scale }, Kind::Integer | Kind::Fraction) => {
            let value = decimal(text, precision, scale)
                .ok_or_else(|| range(path, &format!("does not fit decimal({precision},{scale}) exactly")))?;
            column.push(Scalar::Decimal(value));
        }
        (DataType::Decimal { precision, scale }, Kind::Text) => {
            let value = decimal(text, precision, scale)
                .ok_or_else(|| range(path, &format!("is text that is no decimal({precision},{scale})")))?;
            column.push(Scalar::Decimal(value));
        }
        (DataType::Timestamp, Kind::Text) => {
            let time = parse_iso(text).ok_or_else(|| Misfit {
                kind: RejectKind::BadTimestamp,
                detail: match what_is_wrong(text) {
                    Some(wrong) => format!("{path} is not an ISO-8601 time with a zone: {wrong}"),
                    None => format!("{path} is not an ISO-8601 time with a zone"),
                },
            })?;
            column.push(Scalar::Int64(time));
        }
        (DataType::Scalar, Kind::Object | Kind::Array) => return Err(mismatch(column)),
        (DataType::Scalar, _) => push_scalar(column, text, kind),
        _ => return Err(mismatch(column)),
    }
    Ok(())
}

fn push_scalar(column: &mut Column, text: &[u8], kind: Kind) {
    column.validity.push(column.len(), true);
    let Values::Bytes(values) = &mut column.values else { return };
    values.push_with(|out| match kind {
        Kind::Text => {
            out.push(TAG_TEXT);
            out.extend_from_slice(text);
        }
        Kind::EscapedText => {
            out.push(TAG_TEXT);
            unescape(text, out);
        }
        _ => {
            out.push(TAG_OTHER);
            out.extend_from_slice(text);
        }
    });
}

fn mismatch(path: &str, kind: Kind, expected: DataType) -> Misfit {
    let found = kind.name();
    let declare = match kind {
        Kind::True | Kind::False => Some("bool"),
        Kind::Integer => Some("int64"),
        Kind::Fraction => Some("float64"),
        Kind::Text | Kind::EscapedText => Some("string"),
        Kind::Null | Kind::Object | Kind::Array => None,
    };
    let hint = declare.map_or(String::new(), |name| {
        format!("; if that is right, declare \"{path}\" = \"{name}\" in [source.schema]")
    });
    Misfit { kind: RejectKind::TypeMismatch, detail: format!("{path} is {found}, the column is {expected}{hint}") }
}

fn range(path: &str, what: &str) -> Misfit {
    Misfit { kind: RejectKind::NumberRange, detail: format!("{path} {what}") }
}

fn ascii(text: &[u8]) -> &str {
    std::str::from_utf8(text).expect("a validated number is ASCII")
}

fn integer(text: &[u8], path: &str) -> Result<i64, Misfit> {
    ascii(text).parse().map_err(|_| range(path, "is not a whole number that fits int64"))
}

fn float(text: &[u8], kind: Kind, path: &str) -> Result<f64, Misfit> {
    let value: f64 = ascii(text).parse().expect("a validated number parses");
    if !value.is_finite() {
        return Err(range(path, "is beyond the range of float64"));
    }
    if kind == Kind::Integer && value.abs() >= 9_007_199_254_740_992.0 && !is_exact(value, text) {
        return Err(range(path, "is a whole number that float64 cannot hold exactly"));
    }
    Ok(value)
}

/// True when the large whole `value` is exactly the integer written in `text`.
fn is_exact(value: f64, text: &[u8]) -> bool {
    format!("{value:.0}").as_bytes() == text
}

/// `text` as a count of `10^-scale`, when it fits `precision` digits exactly. Written as a number of JSON, or as other
/// writers of decimals do: with zeros before it, and without digits on one side of the point.
#[must_use]
pub fn decimal(text: &[u8], precision: u8, scale: u8) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, read_exponent(exponent)?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty()
        || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit())
    {
        return None;
    }
    // The value is `all digits * 10^(exponent - fraction digits)`; it is wanted times 10^scale.
    let all = whole.bytes().chain(fraction.bytes());
    let last = whole.len() + fraction.len();
    let shift = i64::from(exponent) - fraction.len() as i64 + i64::from(scale);
    let kept = usize::try_from(last as i64 + shift.min(0)).unwrap_or(0);
    let mut value = 0_i128;
    for (place, byte) in all.enumerate() {
        let digit = i128::from(byte - b'0');
        if place < kept {
            value = value.checked_mul(10)?.checked_add(digit)?;
        } else if digit != 0 {
            return None;
        }
    }
    for _ in 0..shift.max(0) {
        if value == 0 {
            break;
        }
        value = value.checked_mul(10)?;
    }
    (value < 10_i128.pow(u32::from(precision))).then_some(if negative { -value } else { value })
}

/// An exponent; beyond any that a value other than zero can have, it is as good as any other there.
fn read_exponent(text: &str) -> Option<i32> {
    text.parse().map_or_else(
        |error: ParseIntError| match error.kind() {
            IntErrorKind::PosOverflow => Some(i32::MAX),
            IntErrorKind::NegOverflow => Some(i32::MIN),
            _ => None,
        },
        Some,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::json::Projection;

    /// Decodes `{"a": text}` as one column.
    fn decode(text: &str, data_type: DataType) -> Result<Column, RejectKind> {
        let record = format!("{{\"a\":{text}}}");
        let mut found = [None];
        Projection::new(&[vec!["a".to_owned()]], 64).locate(record.as_bytes(), &mut found).expect("valid JSON");
        let mut column = Column::new(data_type);
        push_value(&mut column, record.as_bytes(), found[0], "a").map_err(|misfit| misfit.kind)?;
        Ok(column)
    }

    #[test]
    fn integers_are_exact_or_refused() {
        let get = |text| decode(text, DataType::Int64).map(|column| format!("{:?}", column.get(0)));
        assert_eq!(get("9223372036854775807"), Ok("Int64(9223372036854775807)".into()));
        assert_eq!(get("9223372036854775808"), Err(RejectKind::NumberRange));
        assert_eq!(get("1.0"), Err(RejectKind::NumberRange));
        assert_eq!(get("-0"), Ok("Int64(0)".into()));
        assert_eq!(get("\"1\""), Err(RejectKind::TypeMismatch));
        assert_eq!(get("null"), Ok("Null".into()));
    }

    #[test]
    fn floats_take_integers_they_can_hold() {
        let get = |text| decode(text, DataType::Float64).map(|column| format!("{:?}", column.get(0)));
        assert_eq!(get("3"), Ok("Float64(3.0)".into()));
        assert_eq!(get("9007199254740993"), Err(RejectKind::NumberRange));
        assert_eq!(get("9007199254740994"), Ok("Float64(9007199254740994.0)".into()));
        assert_eq!(get("1e400"), Err(RejectKind::NumberRange));
    }

    #[test]
    fn decimals_are_exact() {
        for (text, expected) in [
            ("1.25", Some(125)),
            ("1.250", Some(125)),
            ("1.255", None),
            ("-3", Some(-300)),
            ("12e-1", Some(120)),
            ("1.2E+1", Some(1200)),
            ("1e-3", None),
            ("0e999999999", Some(0)),
            ("0e99999999999", Some(0)),
            ("1e-99999999999", None),
            ("1e99999999999", None),
            ("1e", None),
            ("1.", Some(100)),
            (".5", Some(50)),
            ("-.5e1", Some(-500)),
            ("007", Some(700)),
            (".", None),
            ("", None),
            ("-", None),
            ("--1", None),
            ("+1", None),
            ("99999999.99", Some(9_999_999_999)),
            ("100000000", None),
        ] {
            assert_eq!(decimal(text.as_bytes(), 10, 2), expected, "{text}");
        }
    }

    #[test]
    fn an_escape_is_the_character_it_stands_for_in_every_column() {
        // Writers of .NET escape the sign of a zone.
        for (escaped, plain, data_type) in [
            (r#""2026-01-01T00:00:00\u002b01:00""#, r#""2026-01-01T00:00:00+01:00""#, DataType::Timestamp),
            (r#""1\u002e5""#, r#""1.5""#, DataType::Decimal { precision: 9, scale: 2 }),
            (r#""\u0061""#, r#""a""#, DataType::String),
            (r#""\u0061""#, r#""a""#, DataType::Scalar),
        ] {
            assert_eq!(decode(escaped, data_type), decode(plain, data_type));
            assert!(decode(plain, data_type).is_ok());
        }
        assert_eq!(decode(r#""\u0031""#, DataType::Int64), Err(RejectKind::TypeMismatch));
    }

    #[test]
    fn scalars_of_unlike_kinds_differ() {
        let bytes = |text| match decode(text, DataType::Scalar).expect("scalar").get(0) {
            Scalar::Bytes(bytes) => bytes.to_vec(),
            other => panic!("{other:?}"),
        };
        assert_ne!(bytes("1"), bytes("\"1\""));
        assert_eq!(bytes("\"\\u0061\""), bytes("\"a\""));
        assert_eq!(decode("[1]", DataType::Scalar), Err(RejectKind::TypeMismatch));
    }
}
