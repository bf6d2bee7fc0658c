//! `collect_list`: the values themselves, in the order of their rows.
//!
//! `typed` feeds it and says how many it may hold. Invariant: the rows stand in the order of (event
//! time, partition, offset), and past the limit the first ones are kept; so what is held depends on the
//! rows alone, not on their order of arrival or how partials were merged.

use super::AggregatePlan;
use super::cells::{ALLOCATION_BYTES, Cell};
use super::extreme::{Place, Placed, Value};
use super::stored::Stored;
use crate::batch::{DataType, Scalar};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use std::cmp::Ordering;

type Row = Placed<Stored>;

/// A place, a tag and a byte: the least that a saved row takes.
const ROW_BYTES_MIN: usize = 26;

/// The first rows with a value.
#[derive(Debug, Clone, Default)]
pub(super) struct Collected {
    /// In order.
    rows: Vec<Row>,
    /// What the rows hold beside themselves, so that asking costs nothing.
    text_bytes: usize,
}

impl Collected {
    /// Adds a row, if it is among the first `limit`. Rows that come in order go to the end.
    pub fn offer(&mut self, place: Place, value: Scalar<'_>, limit: usize) {
        let candidate = (place, value);
        let before = |row: &Row| Row::compare(row.get(), candidate) != Ordering::Greater;
        let at = if self.rows.last().is_none_or(before) { self.rows.len() } else { self.rows.partition_point(before) };
        if at >= limit {
            return;
        }
        let row = Row::own(candidate);
        self.text_bytes += row.heap_len();
        self.rows.insert(at, row);
        self.truncate(limit);
    }

    fn truncate(&mut self, limit: usize) {
        let dropped = self.rows.get(limit..).unwrap_or_default();
        self.text_bytes -= dropped.iter().map(Value::heap_len).sum::<usize>();
        self.rows.truncate(limit);
    }

    /// The values, in order.
    pub fn values(&self) -> impl Iterator<Item = Scalar<'_>> {
        self.rows.iter().map(|row| row.get().1)
    }

    /// True when there is no value.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// True when a column of `data_type` can hold every value.
    pub fn fits(&self, data_type: DataType) -> bool {
        self.rows.iter().all(|row| row.value().fits(data_type))
    }
}

impl Cell for Collected {
    const FORM: u8 = 8;

    fn merge(&mut self, other: &Self, plan: &AggregatePlan) {
        // two rising runs, which a merge sort joins in one pass
        self.rows.extend(other.rows.iter().cloned());
        self.rows.sort_by(|left, right| Row::compare(left.get(), right.get()));
        self.text_bytes += other.text_bytes;
        self.truncate(plan.most());
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.rows.len() as u64);
        self.rows.iter().for_each(|row| row.encode(out));
    }

    fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        let len = saved.count(ROW_BYTES_MIN)?;
        let rows = (0..len).map(|_| Row::decode(saved)).collect::<Result<Vec<_>>>()?;
        let rising = |pair: &[Row]| Row::compare(pair[0].get(), pair[1].get()) != Ordering::Greater;
        if !rows.windows(2).all(rising) {
            return Err(Error::state("saved state holds a list out of order; it was overwritten"));
        }
        let text_bytes = rows.iter().map(Value::heap_len).sum();
        Ok(Self { rows, text_bytes })
    }

    fn heap_len(&self) -> usize {
        // What is reserved is by powers of two, whether it has grown to that or was loaded.
        let reserved = if self.rows.is_empty() { 0 } else { self.rows.len().next_power_of_two().max(4) };
        let own = if reserved > 0 { ALLOCATION_BYTES } else { 0 };
        reserved * size_of::<Row>() + self.text_bytes + own
    }
}
