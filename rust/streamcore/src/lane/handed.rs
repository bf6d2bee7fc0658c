//! Rows of a lane on their way to a join, with all that it asks for.
//!
//! `flow.rs` makes them in the lane's thread, so that keys are encoded side by side; the join takes them one lane after
//! the other. Invariant: rows, and the deletes of a table among them, are in the order of their records.

use super::{Lane, LaneOutput};
use crate::batch::{Batch, Column, DataType, Groups, Scalar};
use crate::error::RejectKind;
use crate::flow::{Left, LeftRow, Passed};
use crate::group::Interner;
use crate::join::Arrivals;
use crate::plan::{HandOver, Plan};
use crate::raw::RawBatch;
use std::borrow::Cow;
use std::ops::Range;

/// Rows that reached the join, and nothing else: all is dense.
#[derive(Debug, Default)]
pub struct Handed {
    /// Row in the raw batch of each.
    pub raw_rows: Vec<u32>,
    /// Event times, ms.
    pub event_times_ms: Vec<i64>,
    /// The clock before each, ms.
    pub watermarks_ms: Vec<i64>,
    /// Offsets.
    pub offsets: Vec<i64>,
    /// Keys.
    pub groups: Groups,
    /// The columns carried along.
    pub columns: Vec<Column>,
    /// Which are no rows but delete that of their key; empty: none.
    pub deletes: Vec<bool>,
    /// Which the join has no room for, rising.
    pub full: Vec<u32>,
}

impl Handed {
    /// The rows that are not `full`.
    #[must_use]
    pub fn rows(&self) -> Vec<u32> {
        let all = 0..self.raw_rows.len() as u32;
        if self.full.is_empty() {
            all.collect()
        } else {
            all.filter(|row| self.full.binary_search(row).is_err()).collect()
        }
    }

    /// `rows` of it, of `partition`, as a join takes them.
    #[must_use]
    pub fn arrivals<'a>(&'a self, rows: &'a [u32], partition: i32) -> Arrivals<'a> {
        Arrivals {
            rows,
            event_times_ms: &self.event_times_ms,
            watermarks_ms: &self.watermarks_ms,
            groups: &self.groups,
            columns: &self.columns,
            deletes: &self.deletes,
            partition,
            offsets: &self.offsets,
        }
    }
}

impl Lane {
    /// Hands rows on to the join, less those that it has no room for.
    pub(super) fn hand_on(&mut self, mut handed: Handed, output: &mut LaneOutput) {
        if let Some(room) = &mut self.room {
            handed.full = room.take(&handed.arrivals(&handed.rows(), self.partition));
            let limit = format!("no room for another row: {}", room.room().limit());
            for row in &handed.full {
                self.ledger.applied -= 1;
                self.ledger.rejected += 1;
                self.ledger.shed += 1;
                let left = Left::Rejected { reason: RejectKind::StateFull.as_str(), detail: limit.clone(), at: 0 };
                output.left.push(LeftRow { raw_row: handed.raw_rows[*row as usize], left });
            }
        }
        output.handed.push(handed);
    }

    /// The records of `batch` without a value, less those from the future, which leave.
    ///
    /// The time of such a record is its timestamp, so only `now_ms` can tell, as for rows whose time that is. It matters
    /// where it says from when on a key has no row: in a table with versions.
    pub(super) fn tombstones_in_time<'b>(
        &mut self,
        plan: &Plan,
        raw: &RawBatch,
        batch: &'b Batch,
        now_ms: i64,
        output: &mut LaneOutput,
    ) -> Cow<'b, [u32]> {
        let input = plan.input(self.id);
        let is_versioned = input.hand_over.as_ref().is_some_and(|hand_over| hand_over.is_table)
            && plan.join.as_ref().is_some_and(|step| step.plan.waits());
        let Some(skew_ms) = input.clock.max_future_skew_ms.filter(|_| is_versioned) else {
            return Cow::Borrowed(&batch.tombstones);
        };
        let latest_ms = now_ms.saturating_add(skew_ms);
        let mut in_time = Vec::with_capacity(batch.tombstones.len());
        for raw_row in batch.tombstones.iter().copied() {
            let Some(event_time_ms) = raw.timestamp_ms(raw_row as usize).filter(|time_ms| *time_ms > latest_ms) else {
                in_time.push(raw_row);
                continue;
            };
            self.ledger.tombstone -= 1;
            self.ledger.future += 1;
            let left = Left::Future { event_time_ms, ahead_ms: event_time_ms.saturating_sub(now_ms) };
            output.left.push(LeftRow { raw_row, left });
        }
        Cow::Owned(in_time)
    }
}

/// A batch of a lane, as it is handed over.
pub(super) struct Arrived<'a> {
    /// The records.
    pub raw: &'a RawBatch,
    /// Those of them with a value.
    pub batch: &'a Batch,
    /// Those without one, by row of `raw`, rising.
    pub tombstones: &'a [u32],
    /// The clock behind the batch, ms.
    pub clock_ms: i64,
}

impl HandOver {
    /// The rows that passed, if there are any.
    pub(super) fn take(&self, passed: &Passed<'_>, arrived: &Arrived<'_>, interner: &mut Interner) -> Option<Handed> {
        let Arrived { raw, batch, .. } = *arrived;
        let rows = &passed.rows;
        let gather = |places: &[usize]| places.iter().map(|place| passed.columns[*place].gather(rows)).collect();
        let of_rows = |values: &[i64]| rows.iter().map(|row| values[*row as usize]).collect();
        let mut handed = Handed {
            raw_rows: rows.iter().map(|row| batch.raw_rows[*row as usize]).collect(),
            event_times_ms: of_rows(&batch.event_times_ms),
            watermarks_ms: of_rows(&passed.watermarks_ms),
            columns: gather(&self.carried),
            ..Handed::default()
        };
        let mut keys: Vec<Column> = gather(&self.keys);
        let deletes = self.deletes(passed, arrived);
        if !deletes.is_empty() {
            handed.put_among(&deletes, &mut keys);
        }
        if handed.raw_rows.is_empty() {
            return None;
        }
        handed.offsets.extend(handed.raw_rows.iter().map(|row| raw.offset(*row as usize)));
        handed.groups = interner.groups(&keys.iter().collect::<Vec<_>>(), &self.key, 0..handed.raw_rows.len());
        Some(handed)
    }

    /// What deletes the row of a key from a table: records without a value, and rows that a filter took out.
    fn deletes<'a>(&self, passed: &'a Passed<'_>, arrived: &Arrived<'a>) -> Vec<Delete<'a>> {
        let Arrived { raw, batch, tombstones, clock_ms } = *arrived;
        if !self.is_table {
            return Vec::new();
        }
        let of_record = |row: u32| self.record_key.map(|data_type| vec![key_of(raw, row, data_type)]);
        let filtered = passed.filtered.iter().map(|row| {
            let place = *row as usize;
            let of_row = || self.keys.iter().map(|key| passed.columns[*key].get(place)).collect();
            Delete {
                raw_row: batch.raw_rows[place],
                event_time_ms: batch.event_times_ms[place],
                watermark_ms: passed.watermarks_ms[place],
                key: of_record(batch.raw_rows[place]).unwrap_or_else(of_row),
            }
        });
        let tombstone = |raw_row: u32| {
            let next = batch.raw_rows.partition_point(|row| *row < raw_row);
            let watermark_ms = passed.watermarks_ms.get(next).copied().unwrap_or(clock_ms);
            let event_time_ms = raw.timestamp_ms(raw_row as usize).unwrap_or(watermark_ms);
            Some(Delete { raw_row, event_time_ms, watermark_ms, key: of_record(raw_row)? })
        };
        let mut deletes: Vec<_> = filtered.chain(tombstones.iter().copied().filter_map(tombstone)).collect();
        deletes.sort_by_key(|delete| delete.raw_row);
        deletes
    }
}

/// A change of a table that leaves its key without a row.
struct Delete<'a> {
    raw_row: u32,
    event_time_ms: i64,
    watermark_ms: i64,
    key: Vec<Scalar<'a>>,
}

impl Handed {
    /// Puts `deletes` among the rows, where they came; their keys among `keys`.
    fn put_among(&mut self, deletes: &[Delete<'_>], keys: &mut [Column]) {
        let rows = std::mem::take(self);
        let row_keys: Vec<Column> = keys.iter_mut().map(emptied).collect();
        self.columns = rows.columns.iter().map(|column| Column::new(column.data_type)).collect();
        let mut next = 0;
        for delete in deletes {
            let before = next + rows.raw_rows[next..].partition_point(|row| *row < delete.raw_row);
            self.push_rows(&rows, &row_keys, next..before, keys);
            next = before;
            self.raw_rows.push(delete.raw_row);
            self.event_times_ms.push(delete.event_time_ms);
            self.watermarks_ms.push(delete.watermark_ms);
            keys.iter_mut().zip(&delete.key).for_each(|(into, key)| into.push(*key));
            self.columns.iter_mut().for_each(|column| column.push(Scalar::Null));
            self.deletes.push(true);
        }
        self.push_rows(&rows, &row_keys, next..rows.raw_rows.len(), keys);
    }

    fn push_rows(&mut self, from: &Self, from_keys: &[Column], rows: Range<usize>, keys: &mut [Column]) {
        self.raw_rows.extend_from_slice(&from.raw_rows[rows.clone()]);
        self.event_times_ms.extend_from_slice(&from.event_times_ms[rows.clone()]);
        self.watermarks_ms.extend_from_slice(&from.watermarks_ms[rows.clone()]);
        self.deletes.resize(self.raw_rows.len(), false);
        let places: Vec<u32> = rows.map(|row| row as u32).collect();
        let columns = self.columns.iter_mut().chain(keys).zip(from.columns.iter().chain(from_keys));
        columns.for_each(|(into, from)| into.extend_from(from, &places));
    }
}

fn emptied(column: &mut Column) -> Column {
    let empty = Column::new(column.data_type);
    std::mem::replace(column, empty)
}

/// The key of a record as the table's key; null where it is none of its type, so that it deletes nothing.
fn key_of(raw: &RawBatch, row: u32, data_type: DataType) -> Scalar<'_> {
    let Some(key) = raw.key(row as usize) else { return Scalar::Null };
    match (data_type, std::str::from_utf8(key)) {
        (DataType::Int64, Ok(text)) => text.parse().map_or(Scalar::Null, Scalar::Int64),
        (DataType::String, Ok(_)) => Scalar::Bytes(key),
        _ => Scalar::Null,
    }
}
