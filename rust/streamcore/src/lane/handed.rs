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
use crate::plan::HandOver;
use crate::raw::RawBatch;

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
}

impl HandOver {
    /// The rows of `batch` that passed, if there are any.
    pub(super) fn take(
        &self,
        passed: &Passed<'_>,
        raw: &RawBatch,
        batch: &Batch,
        interner: &mut Interner,
    ) -> Option<Handed> {
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
        if self.deletes.is_some() && !batch.tombstones.is_empty() {
            self.add_deletes(&mut handed, &mut keys, raw, &batch.tombstones);
        }
        if handed.raw_rows.is_empty() {
            return None;
        }
        handed.offsets.extend(handed.raw_rows.iter().map(|row| raw.offset(*row as usize)));
        handed.groups = interner.groups(&keys.iter().collect::<Vec<_>>(), &self.key, 0..handed.raw_rows.len());
        Some(handed)
    }

    /// Puts the records without a value among the rows, where they came.
    fn add_deletes(&self, handed: &mut Handed, keys: &mut Vec<Column>, raw: &RawBatch, tombstones: &[u32]) {
        let (mut rows, mut times_ms, mut watermarks_ms) = (Vec::new(), Vec::new(), Vec::new());
        let empty = |column: &Column| Column::new(column.data_type);
        let (mut new_keys, mut columns): (Vec<Column>, Vec<Column>) =
            (keys.iter().map(empty).collect(), handed.columns.iter().map(empty).collect());
        let (mut next, mut watermark_ms) = (0, handed.watermarks_ms.first().copied().unwrap_or(i64::MIN));
        for tombstone in tombstones.iter().copied().chain([u32::MAX]) {
            while handed.raw_rows.get(next).is_some_and(|row| *row < tombstone) {
                watermark_ms = handed.watermarks_ms[next];
                rows.push(handed.raw_rows[next]);
                times_ms.push(handed.event_times_ms[next]);
                watermarks_ms.push(watermark_ms);
                new_keys.iter_mut().zip(&*keys).for_each(|(into, from)| into.push(from.get(next)));
                columns.iter_mut().zip(&handed.columns).for_each(|(into, from)| into.push(from.get(next)));
                handed.deletes.push(false);
                next += 1;
            }
            if tombstone < u32::MAX {
                rows.push(tombstone);
                times_ms.push(raw.timestamp_ms(tombstone as usize).unwrap_or(watermark_ms));
                watermarks_ms.push(watermark_ms);
                new_keys.iter_mut().for_each(|key| key.push(key_of(raw, tombstone, self.deletes)));
                columns.iter_mut().for_each(|column| column.push(Scalar::Null));
                handed.deletes.push(true);
            }
        }
        *keys = new_keys;
        handed.columns = columns;
        (handed.raw_rows, handed.event_times_ms, handed.watermarks_ms) = (rows, times_ms, watermarks_ms);
    }
}

/// The key of a record as the table's key; null where it is none of its type, so that it deletes nothing.
fn key_of(raw: &RawBatch, row: u32, data_type: Option<DataType>) -> Scalar<'_> {
    let Some(key) = raw.key(row as usize) else { return Scalar::Null };
    match (data_type, std::str::from_utf8(key)) {
        (Some(DataType::Int64), Ok(text)) => text.parse().map_or(Scalar::Null, Scalar::Int64),
        (Some(DataType::String), Ok(_)) => Scalar::Bytes(key),
        _ => Scalar::Null,
    }
}
