//! Records as Arrow record batches, the form in which they leave the engine.
//!
//! `pipeline` calls it for records that reach the end, and for late, future and refused ones. Invariant: times are
//! `timestamp[ms, UTC]`, and the schema of an output never changes during a run.

use crate::arrays::{arrow_type, timestamp_type};
use crate::batch::DataType;
use crate::error::RejectKind;
use crate::flow::{Left, LeftRow};
use crate::raw::{Fault, RawBatch};
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow_schema::{DataType as ArrowType, Field, Schema};
use std::sync::Arc;

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

/// Rows of what [`rejected`] made that something is wrong with: not those that were shed.
#[must_use]
pub fn rejected_rows(batch: &RecordBatch) -> u64 {
    let reasons = batch.column(0).as_string::<i32>();
    reasons.iter().filter(|reason| *reason != Some(RejectKind::StateFull.as_str())).count() as u64
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
    use arrow_array::Array;

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
