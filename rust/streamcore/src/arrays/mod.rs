//! Columns as Arrow arrays, and arrays of others as columns.
//!
//! Results and records leave through it, functions of the user are called with it. Invariant: times are
//! `timestamp[ms, UTC]`, and a column that goes out and comes back is the same.

mod read;

pub use read::read_columns;

use crate::batch::{Column, DataType, Values};
use crate::results::{Lists, OutputColumn, OutputType};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, ListArray, RecordBatch,
    StringArray, StructArray, TimestampMillisecondArray,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType as ArrowType, Field, Fields, Schema, TimeUnit};
use std::sync::Arc;

/// Arrow's name of a column type.
#[must_use]
pub fn arrow_type(data_type: DataType) -> ArrowType {
    match data_type {
        DataType::Bool => ArrowType::Boolean,
        DataType::Int64 => ArrowType::Int64,
        DataType::Float64 => ArrowType::Float64,
        DataType::String => ArrowType::Utf8,
        DataType::Binary | DataType::Scalar => ArrowType::Binary,
        DataType::Decimal { precision, scale } => ArrowType::Decimal128(precision, scale as i8),
        DataType::Timestamp => timestamp_type(),
    }
}

/// Arrow's name of a result column's type. Items are never null: aggregates skip nulls.
#[must_use]
pub fn arrow_output_type(output: OutputType) -> ArrowType {
    match output {
        OutputType::Value(data_type) => arrow_type(data_type),
        OutputType::List(_) | OutputType::Counts(_) => ArrowType::List(Arc::new(item_field(output))),
    }
}

fn item_field(output: OutputType) -> Field {
    let item = match output {
        OutputType::Value(data_type) | OutputType::List(data_type) => arrow_type(data_type),
        OutputType::Counts(data_type) => ArrowType::Struct(count_fields(data_type)),
    };
    Field::new("item", item, false)
}

fn count_fields(data_type: DataType) -> Fields {
    Fields::from(vec![Field::new("value", arrow_type(data_type), false), Field::new("count", ArrowType::Int64, false)])
}

/// Arrow's name of a time.
#[must_use]
pub fn timestamp_type() -> ArrowType {
    ArrowType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

fn arrow_output(column: OutputColumn) -> ArrayRef {
    let lists = match column {
        OutputColumn::Values(column) => return arrow_column(column),
        OutputColumn::Lists(lists) => lists,
    };
    let Lists { items, counts, ends, validity } = lists;
    let nulls = (!validity.no_nulls())
        .then(|| NullBuffer::new(BooleanBuffer::collect_bool(ends.len(), |row| validity.is_valid(row))));
    let data_type = items.data_type;
    let values = arrow_column(items);
    let (output, values) = match counts {
        None => (OutputType::List(data_type), values),
        Some(counts) => {
            let columns = vec![values, arrow_column(counts)];
            (OutputType::Counts(data_type), Arc::new(StructArray::new(count_fields(data_type), columns, None)) as _)
        }
    };
    Arc::new(ListArray::new(Arc::new(item_field(output)), offsets_of(&ends), values, nulls))
}

fn offsets_of(ends: &[u32]) -> OffsetBuffer<i32> {
    let offsets = std::iter::once(0).chain(ends.iter().map(|end| *end as i32));
    OffsetBuffer::new(ScalarBuffer::from(offsets.collect::<Vec<i32>>()))
}

fn arrow_column(column: Column) -> ArrayRef {
    let len = column.len();
    let nulls = (!column.validity.no_nulls())
        .then(|| NullBuffer::new(BooleanBuffer::collect_bool(len, |row| column.validity.is_valid(row))));
    match (column.values, column.data_type) {
        (Values::Bool(values), _) => {
            Arc::new(BooleanArray::new(BooleanBuffer::collect_bool(len, |row| values[row]), nulls))
        }
        (Values::Int64(values), DataType::Timestamp) => {
            Arc::new(TimestampMillisecondArray::new(values.into(), nulls).with_timezone("UTC"))
        }
        (Values::Int64(values), _) => Arc::new(Int64Array::new(values.into(), nulls)),
        (Values::Float64(values), _) => Arc::new(Float64Array::new(values.into(), nulls)),
        (Values::Decimal(values), data_type) => {
            let array = Decimal128Array::new(values.into(), nulls);
            Arc::new(array.with_data_type(arrow_type(data_type)))
        }
        (Values::Bytes(values), data_type) => {
            let offsets = offsets_of(values.ends());
            let data = Buffer::from(values.data());
            if data_type == DataType::String {
                let text = StringArray::try_new(offsets, data, nulls);
                return Arc::new(text.expect("text columns hold valid UTF-8: it is checked where bytes enter"));
            }
            Arc::new(BinaryArray::new(offsets, data, nulls))
        }
    }
}

/// A record batch of named columns of equal length.
///
/// # Panics
/// When they are not: the caller fills them row by row.
#[must_use]
pub fn batch_of(names: &[(String, OutputType)], columns: Vec<OutputColumn>) -> RecordBatch {
    let fields = names.iter().map(|(name, output)| Field::new(name, arrow_output_type(*output), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let arrays = columns.into_iter().map(arrow_output).collect();
    RecordBatch::try_new(schema, arrays).expect("columns of one length and the declared types")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Scalar;
    use arrow_array::Array;

    #[test]
    fn columns_keep_values_nulls_and_types() {
        let types = [
            DataType::Bool,
            DataType::Int64,
            DataType::Float64,
            DataType::String,
            DataType::Binary,
            DataType::Decimal { precision: 10, scale: 2 },
            DataType::Timestamp,
        ];
        let names: Vec<(String, OutputType)> =
            types.iter().map(|data_type| (data_type.to_string(), (*data_type).into())).collect();
        let values = [
            Scalar::Bool(true),
            Scalar::Int64(-5),
            Scalar::Float64(1.5),
            Scalar::Bytes("é".as_bytes()),
            Scalar::Bytes(&[0xff]),
            Scalar::Decimal(125),
            Scalar::Int64(-1),
        ];
        let columns = types.iter().zip(values).map(|(data_type, value)| {
            let mut column = Column::new(*data_type);
            column.push(value);
            column.push(Scalar::Null);
            OutputColumn::from(column)
        });
        let batch = batch_of(&names, columns.collect());
        assert_eq!(batch.num_rows(), 2);
        for column in batch.columns() {
            assert!(column.is_valid(0) && column.is_null(1), "{:?}", column.data_type());
        }
        let times = batch.column(6).as_any().downcast_ref::<TimestampMillisecondArray>().expect("timestamps");
        assert_eq!((times.value(0), times.timezone()), (-1, Some("UTC")));
        let text = batch.column(3).as_any().downcast_ref::<StringArray>().expect("text");
        assert_eq!(text.value(0), "é");
    }
}
