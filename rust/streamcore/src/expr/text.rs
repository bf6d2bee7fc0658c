//! Functions on text.
//!
//! `eval` runs them on columns. Invariant: a result is null where an operand is; text stays valid
//! UTF-8, and positions count characters (Unicode code points), never bytes.

use super::value::{TextOperand, Value, both, column};
use crate::batch::{Bytes, Column, DataType, Values};
use memchr::memmem;

/// What a text function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TextFunction {
    Lower,
    Upper,
    Trim,
    /// In characters.
    Length,
    /// Of binary values, in bytes.
    ByteLength,
    StartsWith,
    EndsWith,
    Contains,
    Substring,
    Concat,
}

/// `function` of `operands` in every row; none of them is a constant null.
pub(super) fn apply(function: TextFunction, operands: &[Value<'_>], rows: usize) -> Column {
    let flags = operands.iter().fold(Vec::new(), |flags, operand| both(&flags, operand.flags()));
    let text = operands[0].texts();
    match function {
        TextFunction::Lower => each(text, flags, rows, lower),
        TextFunction::Upper => each(text, flags, rows, upper),
        TextFunction::Trim => each(text, flags, rows, |text, out| {
            out.extend_from_slice(String::from_utf8_lossy(text).trim().as_bytes());
        }),
        TextFunction::Length => measure(text, flags, rows, characters),
        TextFunction::ByteLength => measure(text, flags, rows, <[u8]>::len),
        TextFunction::StartsWith => test(text, operands[1].texts(), flags, rows, <[u8]>::starts_with),
        TextFunction::EndsWith => test(text, operands[1].texts(), flags, rows, <[u8]>::ends_with),
        TextFunction::Contains => contains(text, operands[1].texts(), flags, rows),
        TextFunction::Substring => {
            let start = operands[1].integers();
            let length = operands.get(2).map(Value::integers);
            build(flags, rows, |row, out| {
                let length = length.map(|length| length.get(row));
                out.extend_from_slice(substring(text.get(row), start.get(row), length));
            })
        }
        TextFunction::Concat => build(flags, rows, |row, out| {
            for operand in operands {
                out.extend_from_slice(operand.texts().get(row));
            }
        }),
    }
}

/// A text column of what `write` appends for each row that is not null.
pub(super) fn build(flags: Vec<bool>, rows: usize, mut write: impl FnMut(usize, &mut Vec<u8>)) -> Column {
    let mut values = Bytes::default();
    for row in 0..rows {
        values.push_with(|out| {
            if flags.get(row) != Some(&false) {
                write(row, out);
            }
        });
    }
    column(DataType::String, Values::Bytes(values), flags)
}

fn each(text: TextOperand<'_>, flags: Vec<bool>, rows: usize, write: impl Fn(&[u8], &mut Vec<u8>)) -> Column {
    build(flags, rows, |row, out| write(text.get(row), out))
}

fn measure(text: TextOperand<'_>, flags: Vec<bool>, rows: usize, length: impl Fn(&[u8]) -> usize) -> Column {
    let lengths = (0..rows).map(|row| length(text.get(row)) as i64).collect();
    column(DataType::Int64, Values::Int64(lengths), flags)
}

fn test(
    text: TextOperand<'_>,
    part: TextOperand<'_>,
    flags: Vec<bool>,
    rows: usize,
    holds: impl Fn(&[u8], &[u8]) -> bool,
) -> Column {
    let results = (0..rows).map(|row| holds(text.get(row), part.get(row))).collect();
    column(DataType::Bool, Values::Bool(results), flags)
}

fn contains(text: TextOperand<'_>, part: TextOperand<'_>, flags: Vec<bool>, rows: usize) -> Column {
    match part {
        TextOperand::Same(part) => {
            let finder = memmem::Finder::new(part);
            test(text, TextOperand::Same(part), flags, rows, |text, _| finder.find(text).is_some())
        }
        TextOperand::Each(_) => test(text, part, flags, rows, |text, part| memmem::find(text, part).is_some()),
    }
}

fn lower(text: &[u8], out: &mut Vec<u8>) {
    if text.is_ascii() {
        out.extend(text.iter().map(u8::to_ascii_lowercase));
    } else {
        out.extend_from_slice(String::from_utf8_lossy(text).to_lowercase().as_bytes());
    }
}

fn upper(text: &[u8], out: &mut Vec<u8>) {
    if text.is_ascii() {
        out.extend(text.iter().map(u8::to_ascii_uppercase));
    } else {
        out.extend_from_slice(String::from_utf8_lossy(text).to_uppercase().as_bytes());
    }
}

/// True for a byte that begins a character.
fn begins_character(byte: u8) -> bool {
    byte & 0b1100_0000 != 0b1000_0000
}

fn characters(text: &[u8]) -> usize {
    text.iter().filter(|byte| begins_character(**byte)).count()
}

/// Byte at which character `number` begins, or the end.
fn character_at(text: &[u8], number: usize) -> usize {
    if text.is_ascii() {
        return number.min(text.len());
    }
    let mut starts = text.iter().enumerate().filter(|(_, byte)| begins_character(**byte));
    starts.nth(number).map_or(text.len(), |(at, _)| at)
}

/// At most `length` characters from number `start`, counted from 0; negative: from the end.
fn substring(text: &[u8], start: i64, length: Option<i64>) -> &[u8] {
    let start = if start >= 0 { start } else { (characters(text) as i64).saturating_add(start).max(0) };
    let rest = &text[character_at(text, usize::try_from(start).unwrap_or(usize::MAX))..];
    match length {
        Some(length) => &rest[..character_at(rest, usize::try_from(length).unwrap_or(0))],
        None => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Scalar;
    use crate::expr::typed::Constant;
    use std::borrow::Cow;

    fn text_column(values: &[Option<&str>]) -> Value<'static> {
        let mut column = Column::new(DataType::String);
        for value in values {
            column.push(value.map_or(Scalar::Null, |value| Scalar::Bytes(value.as_bytes())));
        }
        Value::Column(Cow::Owned(column))
    }

    fn texts(column: &Column) -> Vec<Option<String>> {
        let text = |row| match column.get(row) {
            Scalar::Bytes(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
            _ => None,
        };
        (0..column.len()).map(text).collect()
    }

    #[test]
    fn a_substring_counts_characters() {
        let cut = |start, length| String::from_utf8(substring("aé漢z".as_bytes(), start, length).to_vec()).unwrap();
        assert_eq!(cut(1, Some(2)), "é漢");
        assert_eq!(cut(-2, None), "漢z");
        assert_eq!(cut(-9, Some(1)), "a");
        assert_eq!(cut(4, None), "");
        assert_eq!(cut(1, Some(-1)), "");
        assert_eq!(cut(i64::MAX, Some(i64::MAX)), "");
        assert_eq!(cut(i64::MIN, Some(i64::MAX)), "aé漢z");
        assert_eq!(substring(b"plain", 1, Some(3)), b"lai");
    }

    #[test]
    fn case_and_space_follow_unicode() {
        let column = text_column(&[Some(" Straße\u{a0}"), None, Some("ABC")]);
        let all = |function| texts(&apply(function, std::slice::from_ref(&column), 3));
        assert_eq!(all(TextFunction::Upper), [Some(" STRASSE\u{a0}".into()), None, Some("ABC".into())]);
        assert_eq!(all(TextFunction::Lower), [Some(" straße\u{a0}".into()), None, Some("abc".into())]);
        assert_eq!(all(TextFunction::Trim), [Some("Straße".into()), None, Some("ABC".into())]);
    }

    #[test]
    fn a_result_is_null_where_any_operand_is() {
        let left = text_column(&[Some("ab"), None, Some("c")]);
        let right = text_column(&[Some("b"), Some("x"), None]);
        let joined = apply(TextFunction::Concat, &[left.clone(), right.clone()], 3);
        assert_eq!(texts(&joined), [Some("abb".into()), None, None]);
        let found = apply(TextFunction::Contains, &[left.clone(), right], 3);
        assert_eq!((found.get(0), found.get(1), found.get(2)), (Scalar::Bool(true), Scalar::Null, Scalar::Null));
        let constant = Value::Constant(Constant::Bytes(b"c"[..].into()));
        let found = apply(TextFunction::Contains, &[left, constant], 3);
        assert_eq!((found.get(0), found.get(1), found.get(2)), (Scalar::Bool(false), Scalar::Null, Scalar::Bool(true)));
    }
}
