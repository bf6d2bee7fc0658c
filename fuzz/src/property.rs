//! What must hold of every batch: each kernel, with layouts known or not, decodes it to what the full parser
//! makes of its records one by one, and that is what the oracle says.

use crate::batch::{Batch, Value, write};
use crate::oracle;
use crate::plans::{KEY, TIMESTAMP_MS};
use streamcore::batch::{self as columns, Scalar};
use streamcore::decode::Decoder;
use streamcore::decode::json::kernel::Kernel;
use streamcore::error::{Reject, RejectKind};
use streamcore::group::GroupPlan;
use streamcore::raw::RawBatch;

/// Bytes of a record that leaves little of a block to those after it.
const FAR_BYTES: usize = (16 << 10) - 200;

/// What became of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It had no value.
    Tombstone,
    /// It was refused.
    Refused(Reject),
    /// It is a row: its event time and the values of its columns.
    Row(i64, Vec<Owned>),
}

/// A value of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owned {
    /// None.
    Null,
    /// True or false.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// The bits of a double: -0 is not 0.
    Float(u64),
    /// A decimal, scaled.
    Decimal(i128),
    /// Text, or a tagged scalar.
    Bytes(Vec<u8>),
}

impl From<Scalar<'_>> for Owned {
    fn from(value: Scalar<'_>) -> Self {
        match value {
            Scalar::Null => Self::Null,
            Scalar::Bool(value) => Self::Bool(value),
            Scalar::Int64(value) => Self::Int(value),
            Scalar::Float64(value) => Self::Float(value.to_bits()),
            Scalar::Decimal(value) => Self::Decimal(value),
            Scalar::Bytes(value) => Self::Bytes(value.to_vec()),
        }
    }
}

/// Checks a batch.
///
/// # Panics
/// When the property does not hold; the message ends with the batch as a file of the corpus.
pub fn check(batch: &Batch) {
    let mut records = batch.records.clone();
    if batch.far {
        records.insert(0, Some(format!("{{\"far\":\"{}\"}}", "-".repeat(FAR_BYTES)).into_bytes()));
    }
    let full = Decoder::with_kernel(batch.wanted.plan.clone(), Kernel::Portable);
    let expected: Vec<Outcome> = records.iter().enumerate().map(|(row, record)| alone(&full, record, row)).collect();
    for (record, outcome) in records.iter().zip(&expected) {
        if let Some(record) = record
            && let Err(difference) = oracle::agrees(&batch.wanted.plan, record, outcome)
        {
            fail(batch, &format!("{}\n{outcome:?}, but {difference}", String::from_utf8_lossy(record)));
        }
    }
    let raw = raw_of(&records);
    for kernel in Kernel::available() {
        let decoder = Decoder::with_kernel(batch.wanted.plan.clone(), kernel);
        // At first no layout is known, then all of them; and other records begin the block.
        for start in [0, 0, 1.min(records.len()), records.len() / 2] {
            let decoded = decoder.decode(&raw, start..records.len());
            check_groups(batch.wanted.plan.group.as_ref(), &decoded);
            let found = outcomes(&decoded, start..records.len());
            if let Some(row) = (start..records.len()).find(|row| found[row - start] != expected[*row]) {
                let (found, expected) = (&found[row - start], &expected[row]);
                let name = kernel.name();
                fail(batch, &format!("record {row} from {start}, {name}: {found:?}, by the full parser {expected:?}"));
            }
        }
    }
}

/// Each row's group has the key that its columns make.
fn check_groups(plan: Option<&GroupPlan>, batch: &columns::Batch) {
    let (Some(plan), Some(groups)) = (plan, &batch.groups) else { return };
    let of_key: Vec<&columns::Column> = plan.columns.iter().map(|place| &batch.columns[*place]).collect();
    for row in 0..batch.len() {
        let mut key = Vec::new();
        let any_null = plan.key.encode(&of_key, row, &mut key);
        let group = groups.of_row[row];
        assert_eq!(groups.key(group).0, key, "row {row}");
        assert_eq!(groups.with_null.contains(&group), any_null, "row {row}");
    }
}

fn fail(batch: &Batch, what: &str) -> ! {
    panic!("{what}\n--- the batch:\n{}---", write(batch));
}

/// The outcome of one record by the full parser: without padding behind it, a record is neither compared with
/// layouts nor learned.
fn alone(full: &Decoder, record: &Value, row: usize) -> Outcome {
    let mut raw = RawBatch::new(0, "fuzz".into(), 1, 0);
    push(&mut raw, record.as_deref(), row);
    let mut outcome = outcomes(&full.decode(&raw, 0..1), 0..1).remove(0);
    if let Outcome::Refused(reject) = &mut outcome {
        reject.row = row as u32;
    }
    outcome
}

fn raw_of(records: &[Value]) -> RawBatch {
    let mut raw = RawBatch::new(0, "fuzz".into(), records.len(), 0);
    records.iter().enumerate().for_each(|(row, record)| push(&mut raw, record.as_deref(), row));
    raw.seal();
    raw
}

fn push(raw: &mut RawBatch, value: Option<&[u8]>, row: usize) {
    raw.push(value, row as i64, Some(TIMESTAMP_MS)).expect("small");
    raw.push_key(Some(KEY));
}

/// What became of each of `rows`, which must be in exactly one place.
fn outcomes(batch: &columns::Batch, rows: std::ops::Range<usize>) -> Vec<Outcome> {
    let mut outcomes = vec![None; rows.len()];
    let mut set = |row: u32, outcome: Outcome| {
        let place = &mut outcomes[row as usize - rows.start];
        assert!(place.is_none(), "row {row} is both {place:?} and {outcome:?}");
        *place = Some(outcome);
    };
    for row in &batch.tombstones {
        set(*row, Outcome::Tombstone);
    }
    for reject in &batch.rejects {
        assert_ne!(reject.kind, RejectKind::InternalPanic);
        set(reject.row, Outcome::Refused(reject.clone()));
    }
    assert!(batch.raw_rows.is_sorted());
    assert!(batch.columns.iter().all(|column| column.len() == batch.len()));
    for (place, (row, time_ms)) in batch.raw_rows.iter().zip(&batch.event_times_ms).enumerate() {
        set(*row, Outcome::Row(*time_ms, batch.columns.iter().map(|column| column.get(place).into()).collect()));
    }
    outcomes.into_iter().map(|outcome| outcome.expect("every row is somewhere")).collect()
}
