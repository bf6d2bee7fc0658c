//! Arrays that a function of the user gave, as columns of the types that it declared.
//!
//! `flow` asks for what `map_batches` gave. Invariant: nothing is lost on the way: a value that the declared type does
//! not hold exactly is a refusal, never another value.

use crate::batch::{Column, DataType, Scalar};
use crate::decode::time::{TIME_MAX_MS, TIME_MIN_MS};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, BinaryArray, LargeBinaryArray, RecordBatch};
use arrow_schema::{DataType as ArrowType, TimeUnit};

/// The columns of `batches` that `wanted` names, of those types, end to end; or what does not fit, in words that quote
/// no value and name what declares them.
pub fn read_columns(
    batches: &[RecordBatch],
    wanted: &[(String, DataType)],
    declared_by: &str,
) -> Result<Vec<Column>, String> {
    let mut columns: Vec<Column> = wanted.iter().map(|(_, data_type)| Column::new(*data_type)).collect();
    for batch in batches {
        for ((name, data_type), column) in wanted.iter().zip(&mut columns) {
            let Some(array) = batch.column_by_name(name) else {
                let schema = batch.schema();
                let known: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                return Err(format!(
                    "it gave no column {name}, which {declared_by} declares; it gave {}",
                    known.join(", ")
                ));
            };
            append(array.as_ref(), *data_type, column).map_err(|wrong| match wrong {
                Wrong::Type => format!(
                    "it gave {name} as {}, and {declared_by} declares {data_type}: convert it in the function",
                    array.data_type()
                ),
                Wrong::Value => format!("it gave a value in {name} that {data_type} does not hold exactly"),
                Wrong::Text => {
                    format!("it gave a text in {name} that is not UTF-8: declare it as binary, or decode it")
                }
            })?;
        }
    }
    Ok(columns)
}

/// What does not fit.
enum Wrong {
    Type,
    Value,
    Text,
}

fn append(array: &dyn Array, data_type: DataType, column: &mut Column) -> Result<(), Wrong> {
    match (data_type, array.data_type()) {
        (_, ArrowType::Null) => (0..array.len()).for_each(|_| column.push(Scalar::Null)),
        (DataType::Bool, ArrowType::Boolean) => {
            array.as_boolean().iter().for_each(|value| column.push(value.map_or(Scalar::Null, Scalar::Bool)));
        }
        (DataType::Int64, _) => return append_integers(array, column),
        (DataType::Float64, _) => return append_floats(array, column),
        (DataType::String, _) => return append_texts(array, column),
        (DataType::Binary, _) => return append_bytes(array, column),
        (DataType::Timestamp, ArrowType::Timestamp(unit, _)) => return append_times(array, *unit, column),
        (DataType::Decimal { scale, .. }, ArrowType::Decimal128(given, given_scale))
            if *given_scale == scale as i8 && DataType::Decimal { precision: *given, scale } == data_type =>
        {
            let values = array.as_primitive::<Decimal128Type>().iter();
            values.for_each(|value| column.push(value.map_or(Scalar::Null, Scalar::Decimal)));
        }
        _ => return Err(Wrong::Type),
    }
    Ok(())
}

fn append_integers(array: &dyn Array, column: &mut Column) -> Result<(), Wrong> {
    match array.data_type() {
        ArrowType::Int64 => each::<Int64Type>(array, column, |value| Some(Scalar::Int64(value))),
        ArrowType::Int32 => each::<Int32Type>(array, column, |value| Some(Scalar::Int64(value.into()))),
        ArrowType::Int16 => each::<Int16Type>(array, column, |value| Some(Scalar::Int64(value.into()))),
        ArrowType::Int8 => each::<Int8Type>(array, column, |value| Some(Scalar::Int64(value.into()))),
        ArrowType::UInt64 => each::<UInt64Type>(array, column, |value| i64::try_from(value).ok().map(Scalar::Int64)),
        ArrowType::UInt32 => each::<UInt32Type>(array, column, |value| Some(Scalar::Int64(value.into()))),
        ArrowType::UInt16 => each::<UInt16Type>(array, column, |value| Some(Scalar::Int64(value.into()))),
        ArrowType::UInt8 => each::<UInt8Type>(array, column, |value| Some(Scalar::Int64(value.into()))),
        _ => Err(Wrong::Type),
    }
}

/// Only finite numbers: no other column of the engine holds another one.
fn append_floats(array: &dyn Array, column: &mut Column) -> Result<(), Wrong> {
    let finite = |value: f64| value.is_finite().then_some(Scalar::Float64(value));
    match array.data_type() {
        ArrowType::Float64 => each::<Float64Type>(array, column, finite),
        ArrowType::Float32 => each::<Float32Type>(array, column, |value| finite(value.into())),
        ArrowType::Int32 => each::<Int32Type>(array, column, |value| finite(value.into())),
        ArrowType::Int16 => each::<Int16Type>(array, column, |value| finite(value.into())),
        ArrowType::Int8 => each::<Int8Type>(array, column, |value| finite(value.into())),
        ArrowType::Int64 => each::<Int64Type>(array, column, |value| {
            // As where a record has an integer in a column of floats.
            finite(value as f64)
        }),
        _ => Err(Wrong::Type),
    }
}

fn append_texts(array: &dyn Array, column: &mut Column) -> Result<(), Wrong> {
    match array.data_type() {
        // As bytes: arrays from elsewhere come without a look at what is in them.
        ArrowType::Utf8 => texts(BinaryArray::from(array.as_string::<i32>().clone()).iter(), column),
        ArrowType::LargeUtf8 => texts(LargeBinaryArray::from(array.as_string::<i64>().clone()).iter(), column),
        ArrowType::Utf8View => texts(array.as_string_view().clone().to_binary_view().iter(), column),
        _ => Err(Wrong::Type),
    }
}

fn texts<'v>(values: impl Iterator<Item = Option<&'v [u8]>>, column: &mut Column) -> Result<(), Wrong> {
    for value in values {
        if value.is_some_and(|text| simdutf8::basic::from_utf8(text).is_err()) {
            return Err(Wrong::Text);
        }
        column.push(value.map_or(Scalar::Null, Scalar::Bytes));
    }
    Ok(())
}

fn append_bytes(array: &dyn Array, column: &mut Column) -> Result<(), Wrong> {
    match array.data_type() {
        ArrowType::Binary => bytes(array.as_binary::<i32>().iter(), column),
        ArrowType::LargeBinary => bytes(array.as_binary::<i64>().iter(), column),
        ArrowType::BinaryView => bytes(array.as_binary_view().iter(), column),
        _ => return Err(Wrong::Type),
    }
    Ok(())
}

fn bytes<'v>(values: impl Iterator<Item = Option<&'v [u8]>>, column: &mut Column) {
    values.for_each(|value| column.push(value.map_or(Scalar::Null, Scalar::Bytes)));
}

fn append_times(array: &dyn Array, unit: TimeUnit, column: &mut Column) -> Result<(), Wrong> {
    let known = |ms: Option<i64>| ms.filter(|ms| (TIME_MIN_MS..=TIME_MAX_MS).contains(ms)).map(Scalar::Int64);
    let whole = |value: i64, parts: i64| known((value % parts == 0).then_some(value / parts));
    match unit {
        TimeUnit::Second => each::<TimestampSecondType>(array, column, |value| known(value.checked_mul(1_000))),
        TimeUnit::Millisecond => each::<TimestampMillisecondType>(array, column, |value| known(Some(value))),
        TimeUnit::Microsecond => each::<TimestampMicrosecondType>(array, column, |value| whole(value, 1_000)),
        TimeUnit::Nanosecond => each::<TimestampNanosecondType>(array, column, |value| whole(value, 1_000_000)),
    }
}

/// Appends what `convert` makes of each value; it gives nothing where that would be another value.
fn each<T: ArrowPrimitiveType>(
    array: &dyn Array,
    column: &mut Column,
    convert: impl Fn(T::Native) -> Option<Scalar<'static>>,
) -> Result<(), Wrong> {
    for value in array.as_primitive::<T>() {
        column.push(value.map_or(Some(Scalar::Null), &convert).ok_or(Wrong::Value)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{
        ArrayRef, BinaryArray, Decimal128Array, Float32Array, Int32Array, Int64Array, NullArray, StringViewArray,
        TimestampMicrosecondArray, UInt64Array,
    };
    use std::sync::Arc;

    fn read(array: ArrayRef, data_type: DataType) -> Result<Column, String> {
        let batch = RecordBatch::try_from_iter_with_nullable([("x", array, true)]).expect("a batch");
        read_columns(&[batch.clone(), batch], &[("x".to_owned(), data_type)], "schema")
            .map(|mut columns| columns.remove(0))
    }

    fn values(array: ArrayRef, data_type: DataType) -> Vec<String> {
        let column = read(array, data_type).expect("fits");
        (0..column.len()).map(|row| format!("{:?}", column.get(row))).collect()
    }

    #[test]
    fn what_fits_is_taken_from_every_batch() {
        let twice = |texts: &[&str]| [texts, texts].concat().iter().map(ToString::to_string).collect::<Vec<_>>();
        let numbers = Arc::new(Int32Array::from(vec![Some(-1), None]));
        assert_eq!(values(numbers.clone(), DataType::Int64), twice(&["Int64(-1)", "Null"]));
        assert_eq!(values(numbers, DataType::Float64), twice(&["Float64(-1.0)", "Null"]));
        let texts = Arc::new(StringViewArray::from(vec!["ö"]));
        assert_eq!(values(texts, DataType::String), twice(&["Bytes([195, 182])"]));
        assert_eq!(values(Arc::new(BinaryArray::from(vec![&b"a"[..]])), DataType::Binary), twice(&["Bytes([97])"]));
        let times = Arc::new(TimestampMicrosecondArray::from(vec![-2_000]));
        assert_eq!(values(times, DataType::Timestamp), twice(&["Int64(-2)"]));
        assert_eq!(values(Arc::new(NullArray::new(1)), DataType::Bool), twice(&["Null"]));
        let money = Arc::new(Decimal128Array::from(vec![125]).with_precision_and_scale(9, 2).expect("fits"));
        assert_eq!(values(money, DataType::Decimal { precision: 9, scale: 2 }), twice(&["Decimal(125)"]));
    }

    #[test]
    fn what_does_not_is_told_without_its_value() {
        let refused = |array, data_type| read(array, data_type).expect_err("refused");
        let large = refused(Arc::new(UInt64Array::from(vec![u64::MAX])), DataType::Int64);
        assert_eq!(large, "it gave a value in x that int64 does not hold exactly");
        let number = refused(Arc::new(Int64Array::from(vec![7])), DataType::String);
        assert_eq!(number, "it gave x as Int64, and schema declares string: convert it in the function");
        let endless = refused(Arc::new(Float32Array::from(vec![f32::INFINITY])), DataType::Float64);
        assert!(endless.starts_with("it gave a value in x"));
        assert!(refused(Arc::new(TimestampMicrosecondArray::from(vec![1])), DataType::Timestamp).contains("exactly"));
        let batch = RecordBatch::try_from_iter([("y", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).expect("one");
        let missing = read_columns(&[batch], &[("x".to_owned(), DataType::Int64)], "schema").expect_err("missing");
        assert_eq!(missing, "it gave no column x, which schema declares; it gave y");
    }
}
