//! Columns and records as Arrow record batches, the form in which everything leaves the engine.
//!
//! `pipeline` calls it for results, and for late, future and refused records. Invariant: times are
//! `timestamp[ms, UTC]`, and the schema of an output never changes during a run.

use crate::batch::{Column, DataType, Values};
use crate::lane::{Left, LeftRow};
use crate::raw::{Fault, RawBatch};
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

fn timestamp_type() -> ArrowType {
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

/// The columns of whole records.
pub const RECORD_COLUMNS: [(&str, DataType); 6] = [
    ("_key", DataType::Binary),
    ("_value", DataType::Binary),
    ("_topic", DataType::String),
    ("_partition", DataType::Int64),
    ("_offset", DataType::Int64),
    ("_timestamp", DataType::Timestamp),
];

/// [`RECORD_COLUMNS`] of `rows`.
fn record_columns(raw: &RawBatch, rows: &[u32]) -> Vec<(Field, ArrayRef)> {
    let indexes = || rows.iter().map(|row| *row as usize);
    let key: BinaryArray = indexes().map(|row| raw.key(row)).collect();
    let value: BinaryArray = indexes().map(|row| raw.value(row)).collect();
    let topic = StringArray::from_iter_values(indexes().map(|_| &*raw.topic));
    let partition = Int64Array::from_iter_values(indexes().map(|_| i64::from(raw.lane)));
    let offset = Int64Array::from_iter_values(indexes().map(|row| raw.offset(row)));
    let timestamp: TimestampMillisecondArray = indexes().map(|row| raw.timestamp_ms(row)).collect();
    let arrays: [ArrayRef; 6] = [
        Arc::new(key),
        Arc::new(value),
        Arc::new(topic),
        Arc::new(partition),
        Arc::new(offset),
        Arc::new(timestamp.with_timezone("UTC")),
    ];
    let fields = RECORD_COLUMNS.iter().map(|(name, data_type)| Field::new(*name, arrow_type(*data_type), true));
    fields.zip(arrays).collect()
}

fn assemble(columns: Vec<(Field, ArrayRef)>) -> RecordBatch {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("one array a field, one length")
}

/// Records as they came.
#[must_use]
pub fn records(raw: &RawBatch, rows: &[u32]) -> RecordBatch {
    assemble(record_columns(raw, rows))
}

/// Late records: `event_time`, `lateness_ms`, `reason` and the record.
#[must_use]
pub fn late(raw: &RawBatch, left: &[LeftRow]) -> RecordBatch {
    let (mut rows, mut times, mut amounts, mut reasons) = (vec![], vec![], vec![], vec![]);
    for row in left {
        if let Left::Late { reason, event_time_ms, lateness_ms } = row.left {
            rows.push(row.raw_row);
            times.push(event_time_ms);
            amounts.push(lateness_ms);
            reasons.push(reason);
        }
    }
    let mut columns = timed_columns(times, "lateness_ms", amounts);
    columns.push((Field::new("reason", ArrowType::Utf8, false), Arc::new(StringArray::from(reasons))));
    columns.extend(record_columns(raw, &rows));
    assemble(columns)
}

/// Records from the future: `event_time`, `ahead_ms` and the record.
#[must_use]
pub fn future(raw: &RawBatch, left: &[LeftRow]) -> RecordBatch {
    let (mut rows, mut times, mut amounts) = (vec![], vec![], vec![]);
    for row in left {
        if let Left::Future { event_time_ms, ahead_ms } = row.left {
            rows.push(row.raw_row);
            times.push(event_time_ms);
            amounts.push(ahead_ms);
        }
    }
    let mut columns = timed_columns(times, "ahead_ms", amounts);
    columns.extend(record_columns(raw, &rows));
    assemble(columns)
}

fn timed_columns(times: Vec<i64>, name: &str, amounts: Vec<i64>) -> Vec<(Field, ArrayRef)> {
    let times = TimestampMillisecondArray::from(times).with_timezone("UTC");
    vec![
        (Field::new("event_time", timestamp_type(), false), Arc::new(times)),
        (Field::new(name, ArrowType::Int64, false), Arc::new(Int64Array::from(amounts))),
    ]
}

/// Refused records: `reason`, `detail`, `at` (byte in the value), `truncated_len` (bytes of a value of which only the
/// beginning is here; null for others) and the record.
#[must_use]
pub fn rejected(raw: &RawBatch, left: &[LeftRow]) -> RecordBatch {
    let (mut rows, mut reasons, mut details, mut places) = (vec![], vec![], vec![], vec![]);
    for row in left {
        if let Left::Rejected { reason, detail, at } = &row.left {
            rows.push(row.raw_row);
            reasons.push(*reason);
            details.push(detail.as_str());
            places.push(i64::from(*at));
        }
    }
    let truncated_len: Int64Array = rows.iter().map(|row| whole_len(raw, *row as usize)).collect();
    let mut columns: Vec<(Field, ArrayRef)> = vec![
        (Field::new("reason", ArrowType::Utf8, false), Arc::new(StringArray::from(reasons))),
        (Field::new("detail", ArrowType::Utf8, false), Arc::new(StringArray::from(details))),
        (Field::new("at", ArrowType::Int64, false), Arc::new(Int64Array::from(places))),
        (Field::new("truncated_len", ArrowType::Int64, true), Arc::new(truncated_len)),
    ];
    columns.extend(record_columns(raw, &rows));
    assemble(columns)
}

/// Bytes of a value that is not all here because it has too many.
fn whole_len(raw: &RawBatch, row: usize) -> Option<i64> {
    match raw.fault(row)? {
        Fault::TooLong(len) => i64::try_from(len).ok(),
        Fault::Incomplete(_) => None,
    }
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

    #[test]
    fn left_records_carry_their_parts() {
        let mut raw = RawBatch::new(3, "clicks".into(), 2, 16);
        raw.push(Some(b"{}"), 10, Some(77)).expect("small");
        raw.push_key(Some(b"k"));
        raw.push(Some(b"nonsense"), 11, Some(78)).expect("small");
        raw.push_key(None);
        let left = [
            LeftRow { raw_row: 0, left: Left::Late { reason: "WINDOW", event_time_ms: 5, lateness_ms: 2 } },
            LeftRow {
                raw_row: 1,
                left: Left::Rejected { reason: "DECODE_SYNTAX", detail: "expected a value".into(), at: 0 },
            },
        ];
        let batch = rejected(&raw, &left);
        assert_eq!(batch.num_rows(), 1);
        let column = |name| batch.column_by_name(name).expect("there").clone();
        let value = column("_value");
        assert_eq!(value.as_any().downcast_ref::<BinaryArray>().expect("bytes").value(0), b"nonsense");
        assert!(column("_key").is_null(0));
        assert_eq!(late(&raw, &left).num_rows(), 1);
        assert_eq!(future(&raw, &left).num_rows(), 0);
    }
}
