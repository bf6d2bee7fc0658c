//! Arrow rows as compact JSON objects, for topics, files and the console.
//!
//! `pipeline` gives the batches, the binding hands the bytes to sinks. Invariant: every row is one
//! valid JSON object whose members stand in column order; equal rows give equal bytes.

use crate::time_text::write_iso;
use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use std::io::Write as _;

/// How times are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeFormat {
    /// Text, `2026-09-21T14:13:20.000Z`; years beyond 9999 and before 0 carry a sign and at least six digits.
    Iso,
    /// A number: milliseconds since 1970-01-01 UTC.
    EpochMs,
}

/// One JSON object a row, of `columns` in that order. Binary values are base64 text (standard
/// alphabet, padded), decimals exact numbers, nulls `null`, lists arrays and structs objects.
///
/// # Panics
/// When a column has a type that no output of the engine has.
#[must_use]
pub fn json_rows(batch: &RecordBatch, columns: &[usize], time: TimeFormat) -> Vec<Vec<u8>> {
    let schema = batch.schema();
    let names: Vec<Vec<u8>> = columns.iter().map(|column| member_name(schema.field(*column).name())).collect();
    let arrays: Vec<&dyn Array> = columns.iter().map(|column| batch.column(*column).as_ref()).collect();
    // Each row is about as long as the one before: room for that spares growing it.
    let mut room = 64;
    (0..batch.num_rows())
        .map(|row| {
            let mut out = Vec::with_capacity(room);
            out.push(b'{');
            for (place, (name, array)) in names.iter().zip(&arrays).enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(name);
                write_value(&mut out, *array, row, time);
            }
            out.push(b'}');
            room = out.len() + 16;
            out
        })
        .collect()
}

/// True for each row of which every one of `columns` is null.
#[must_use]
pub fn null_rows(batch: &RecordBatch, columns: &[usize]) -> Vec<bool> {
    let null = |row| columns.iter().all(|column| batch.column(*column).is_null(row));
    (0..batch.num_rows()).map(null).collect()
}

fn member_name(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 3);
    write_text(&mut out, name);
    out.push(b':');
    out
}

fn write_value(out: &mut Vec<u8>, array: &dyn Array, row: usize, time: TimeFormat) {
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return;
    }
    match array.data_type() {
        DataType::Boolean => out.extend_from_slice(if array.as_boolean().value(row) { b"true" } else { b"false" }),
        DataType::Int64 => write_json(out, &array.as_primitive::<Int64Type>().value(row)),
        // serde_json writes the shortest text that reads back, and null for what is not finite.
        DataType::Float64 => write_json(out, &array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => write_text(out, array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => write_text(out, array.as_string::<i64>().value(row)),
        DataType::Binary => write_base64(out, array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => write_base64(out, array.as_binary::<i64>().value(row)),
        DataType::Decimal128(_, scale) => {
            write_decimal(out, array.as_primitive::<Decimal128Type>().value(row), *scale);
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            write_time(out, array.as_primitive::<TimestampMillisecondType>().value(row), time);
        }
        DataType::List(_) => write_list(out, &array.as_list::<i32>().value(row), time),
        DataType::Struct(_) => write_struct(out, array, row, time),
        other => panic!("no output of the engine has a column of type {other}"),
    }
}

fn write_json<T: serde::Serialize>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("a Vec takes every write, and numbers and text are always JSON");
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    write_json(out, &text);
}

fn write_time(out: &mut Vec<u8>, time_ms: i64, format: TimeFormat) {
    match format {
        TimeFormat::EpochMs => write_json(out, &time_ms),
        TimeFormat::Iso => {
            out.push(b'"');
            write_iso(out, time_ms);
            out.push(b'"');
        }
    }
}

/// Writes `unscaled * 10^-scale` with exactly `scale` digits after the point.
fn write_decimal(out: &mut Vec<u8>, unscaled: i128, scale: i8) {
    let scale = usize::from(scale.unsigned_abs());
    if unscaled < 0 {
        out.push(b'-');
    }
    let start = out.len();
    write!(out, "{:0width$}", unscaled.unsigned_abs(), width = scale + 1).expect("a Vec takes every write");
    if scale > 0 {
        let point = out.len() - scale;
        debug_assert!(point > start, "the width leaves a digit before the point");
        out.insert(point, b'.');
    }
}

fn write_list(out: &mut Vec<u8>, items: &dyn Array, time: TimeFormat) {
    out.push(b'[');
    for row in 0..items.len() {
        if row > 0 {
            out.push(b',');
        }
        write_value(out, items, row, time);
    }
    out.push(b']');
}

fn write_struct(out: &mut Vec<u8>, array: &dyn Array, row: usize, time: TimeFormat) {
    let array = array.as_struct();
    out.push(b'{');
    for (place, (field, column)) in array.fields().iter().zip(array.columns()).enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&member_name(field.name()));
        write_value(out, column.as_ref(), row, time);
    }
    out.push(b'}');
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push(b'"');
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= chunk.len() { letter } else { b'=' });
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::builder::{BinaryBuilder, ListBuilder, StringBuilder, StructBuilder};
    use arrow_array::{
        ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray,
        TimestampMillisecondArray,
    };
    use arrow_schema::{Field, Fields};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn rows_of(name: &str, array: ArrayRef, time: TimeFormat) -> Vec<String> {
        let batch = RecordBatch::try_from_iter_with_nullable([(name, array, true)]).expect("batch");
        let rows = json_rows(&batch, &[0], time);
        rows.into_iter().map(|row| String::from_utf8(row).expect("UTF-8")).collect()
    }

    #[test]
    fn every_type_in_column_order() {
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("flag", Arc::new(BooleanArray::from(vec![Some(true), None])) as ArrayRef, true),
            ("count", Arc::new(Int64Array::from(vec![Some(i64::MIN), None])), true),
            ("mean", Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::NAN)])), true),
            ("na\"me", Arc::new(StringArray::from(vec![Some("a\"\u{1}\u{e9}\n"), None])), true),
            ("bytes", Arc::new(BinaryArray::from(vec![Some(&b"\xff\x00"[..]), None])), true),
        ])
        .expect("batch");
        let rows = json_rows(&batch, &[3, 0, 1, 2, 4], TimeFormat::Iso);
        assert_eq!(
            String::from_utf8_lossy(&rows[0]),
            r#"{"na\"me":"a\"\u0001é\n","flag":true,"count":-9223372036854775808,"mean":0.1,"bytes":"/wA="}"#
        );
        assert_eq!(
            String::from_utf8_lossy(&rows[1]),
            r#"{"na\"me":null,"flag":null,"count":null,"mean":null,"bytes":null}"#
        );
        assert_eq!(null_rows(&batch, &[0, 1]), [false, true]);
        assert_eq!(json_rows(&batch, &[], TimeFormat::Iso), [b"{}", b"{}"]);
    }

    #[test]
    fn decimals_are_exact_numbers() {
        let values = [0, 5, -5, 100, -12_345, 10_i128.pow(37)];
        let array = Decimal128Array::from(values.to_vec()).with_precision_and_scale(38, 2).expect("fits");
        let rows = rows_of("d", Arc::new(array), TimeFormat::Iso);
        assert_eq!(
            rows[..5],
            [r#"{"d":0.00}"#, r#"{"d":0.05}"#, r#"{"d":-0.05}"#, r#"{"d":1.00}"#, r#"{"d":-123.45}"#]
        );
        assert_eq!(rows[5], format!(r#"{{"d":1{}.00}}"#, "0".repeat(35)));
        let array = Decimal128Array::from(vec![-7]).with_precision_and_scale(5, 0).expect("fits");
        assert_eq!(rows_of("d", Arc::new(array), TimeFormat::Iso), [r#"{"d":-7}"#]);
    }

    #[test]
    fn times_as_text_or_number() {
        let array = TimestampMillisecondArray::from(vec![-1, 253_402_300_800_000]).with_timezone("UTC");
        let array: ArrayRef = Arc::new(array);
        assert_eq!(
            rows_of("t", array.clone(), TimeFormat::Iso),
            [r#"{"t":"1969-12-31T23:59:59.999Z"}"#, r#"{"t":"+010000-01-01T00:00:00.000Z"}"#]
        );
        assert_eq!(rows_of("t", array, TimeFormat::EpochMs), [r#"{"t":-1}"#, r#"{"t":253402300800000}"#]);
    }

    #[test]
    fn headers_are_a_list_of_objects() {
        let fields =
            Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)]);
        let mut builder = ListBuilder::new(StructBuilder::from_fields(fields, 2));
        for value in [Some(b"1"), None] {
            let item = builder.values();
            item.field_builder::<StringBuilder>(0).expect("key").append_value("h");
            item.field_builder::<BinaryBuilder>(1).expect("value").append_option(value);
            item.append(true);
        }
        builder.append(true);
        builder.append(true);
        let rows = rows_of("_headers", Arc::new(builder.finish()), TimeFormat::Iso);
        assert_eq!(rows[0], r#"{"_headers":[{"key":"h","value":"MQ=="},{"key":"h","value":null}]}"#);
        assert_eq!(rows[1], r#"{"_headers":[]}"#);
    }

    #[test]
    fn base64_pads_as_the_standard_says() {
        let array = BinaryArray::from(vec![&b""[..], b"f", b"fo", b"foo", b"foob"]);
        let rows = rows_of("b", Arc::new(array), TimeFormat::Iso);
        assert_eq!(
            rows,
            [r#"{"b":""}"#, r#"{"b":"Zg=="}"#, r#"{"b":"Zm8="}"#, r#"{"b":"Zm9v"}"#, r#"{"b":"Zm9vYg=="}"#]
        );
    }

    proptest! {
        #[test]
        fn text_and_floats_read_back(text in any::<String>(), float in any::<f64>(), integer in any::<i64>()) {
            let batch = RecordBatch::try_from_iter([
                ("text", Arc::new(StringArray::from(vec![text.as_str()])) as ArrayRef),
                ("float", Arc::new(Float64Array::from(vec![float]))),
                ("integer", Arc::new(Int64Array::from(vec![integer]))),
            ]).expect("batch");
            let row = json_rows(&batch, &[0, 1, 2], TimeFormat::Iso).remove(0);
            let read: serde_json::Value = serde_json::from_slice(&row).expect("JSON");
            prop_assert_eq!(read["text"].as_str(), Some(text.as_str()));
            prop_assert_eq!(read["integer"].as_i64(), Some(integer));
            // serde_json reads floats to the last digit only with a feature; the standard library always does.
            let row = json_rows(&batch, &[1], TimeFormat::Iso).remove(0);
            let written = std::str::from_utf8(&row[br#"{"float":"#.len()..row.len() - 1]).expect("ASCII");
            if float.is_finite() {
                prop_assert_eq!(written.parse::<f64>().map(f64::to_bits), Ok(float.to_bits()));
            } else {
                prop_assert_eq!(written, "null");
            }
        }
    }
}
