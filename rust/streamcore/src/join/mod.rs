//! Joins of two inputs by key and event time: stream with stream, stream with table, as-of.
//!
//! A lane hands over the rows of either input, each with the watermark of its own input before it, and then both
//! watermarks. Rows are buffered; they are matched when the join's clock passes them, in order of time (`matching.rs`),
//! and go when nothing can need them any more. A row is late by the clock of its own input alone.
//!
//! Invariant: the rows that leave, and their order, are those of the join of all rows that were not late, however the
//! inputs are cut into batches and interleaved. Only the lookup in a table without versions is in order of arrival.

mod firing;
mod joined;
mod keys;
mod matching;
mod pending;
mod plan;
mod room;
mod rows;
mod saved;
mod table;
#[cfg(test)]
mod tests;

use crate::batch::{Column, DataType, Groups};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use crate::room::Usage;
use crate::saving::{Loading, Saving};
use crate::state::key_hash;
use firing::{Cursor, Ending};
pub use joined::{Joined, JoinedBatch};
use keys::{Entry, Keys};
use matching::Moment;
use pending::Pending;
pub use plan::{JoinKind, JoinPlan, JoinType, Side};
pub use room::JoinRoom;
use rows::{Head, RowId, Rows};
use std::collections::VecDeque;
use std::sync::Arc;

/// Rows whose keys are fetched together: enough for the misses of the cache to overlap.
const FETCHED_AT_ONCE: usize = 64;

const SIDES: [Side; 2] = [Side::Left, Side::Right];

/// Rows on their way into a join. All but `rows` is dense over the batch.
#[derive(Debug, Clone, Copy)]
pub struct Arrivals<'a> {
    /// The rows, by number in the batch, rising.
    pub rows: &'a [u32],
    /// Event times, ms.
    pub event_times_ms: &'a [i64],
    /// The watermark of this input before each row.
    pub watermarks_ms: &'a [i64],
    /// The join key of each row.
    pub groups: &'a Groups,
    /// The columns carried along.
    pub columns: &'a [Column],
    /// Which rows delete their key from a table; empty: none.
    pub deletes: &'a [bool],
    /// The partition they come from.
    pub partition: i32,
    /// The offset of each row there.
    pub offsets: &'a [i64],
}

impl Arrivals<'_> {
    fn key(&self, row: u32) -> (&[u8], u64) {
        self.groups.key(self.groups.of_row[row as usize])
    }

    fn has_null_key(&self, row: u32) -> bool {
        self.groups.with_null.binary_search(&self.groups.of_row[row as usize]).is_ok()
    }

    fn is_delete(&self, row: u32) -> bool {
        self.deletes.get(row as usize).copied().unwrap_or(false)
    }
}

/// What became of arriving rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Rows that were taken.
    pub applied: u64,
    /// Rows that came too late, and the watermark from which on they were.
    pub late: Vec<(u32, i64)>,
    /// Rows without a partner for certain, in a join that does not keep them: their key is null, or not in the table.
    pub unmatched: u64,
}

/// The state of a join in one lane.
#[derive(Debug)]
pub struct Join {
    plan: Arc<JoinPlan>,
    keys: Keys,
    rows: [Rows; 2],
    /// Rows that did not leave yet.
    pending: [Pending; 2],
    /// Rows that left and are needed for a while, in order of time.
    departed: [VecDeque<Entry>; 2],
    /// Everything up to this time has left, ms; never falls.
    clock_ms: i64,
    /// The moment after it, if some of its rows have left.
    cursor: Option<Cursor>,
    /// `clock_ms` and `cursor` at the last commit.
    committed: (i64, Option<Cursor>),
    /// The moment of `cursor`, unless it must be lined up anew; its rows are none of `pending` then.
    moment: Option<Moment>,
    /// What of the end of the input has been given.
    ending: Ending,
}

impl Join {
    /// Nothing buffered yet.
    #[must_use]
    pub fn new(plan: &Arc<JoinPlan>) -> Self {
        Self {
            keys: Keys::default(),
            rows: plan.types.clone().map(Rows::new),
            pending: Default::default(),
            departed: Default::default(),
            clock_ms: i64::MIN,
            cursor: None,
            committed: (i64::MIN, None),
            moment: None,
            ending: Ending::default(),
            plan: plan.clone(),
        }
    }

    /// The time up to which everything has left: no later row has a time at or before it. Of no meaning for a table
    /// without versions, where rows leave as they come.
    #[must_use]
    pub fn clock_ms(&self) -> i64 {
        self.clock_ms
    }

    /// Takes rows of `side`. Only a lookup in a table without versions gives rows at once.
    pub fn apply(&mut self, side: Side, arrivals: &Arrivals<'_>, out: &mut Joined) -> Outcomes {
        match (self.plan.kind, side) {
            (JoinKind::Table { versioned: false }, Side::Left) => self.look_up(arrivals, out),
            (JoinKind::Table { versioned: false }, Side::Right) => self.replace(arrivals),
            (JoinKind::Table { versioned: true }, Side::Right) => self.add_versions(arrivals),
            _ => self.buffer(side, arrivals),
        }
    }

    fn buffer(&mut self, side: Side, arrivals: &Arrivals<'_>) -> Outcomes {
        let mut outcomes = Outcomes::default();
        let (mut taken, mut heads) = (Vec::with_capacity(arrivals.rows.len()), Vec::with_capacity(arrivals.rows.len()));
        for (place, row) in arrivals.rows.iter().enumerate() {
            self.fetch_keys(side, arrivals, place);
            let head = self.head(arrivals, *row);
            let over_at_ms = head.time_ms.saturating_add(self.plan.allowed_lateness_ms);
            if over_at_ms <= self.own_clock_ms(side, arrivals, *row) {
                outcomes.late.push((*row, over_at_ms));
            } else if head.has_null_key && !self.plan.keeps_alone(side) {
                outcomes.unmatched += 1;
            } else {
                taken.push(*row);
                heads.push(Head { key: self.slot(arrivals, *row), ..head });
            }
        }
        outcomes.applied = taken.len() as u64;
        self.add(side, arrivals.columns, &taken, &heads);
        outcomes
    }

    /// What row `row` will be, but for the slot of its key.
    fn head(&self, arrivals: &Arrivals<'_>, row: u32) -> Head {
        let event_time_ms = arrivals.event_times_ms[row as usize];
        Head {
            key: 0,
            time_ms: self.plan.join_time_ms(event_time_ms),
            event_time_ms,
            at: (arrivals.partition, arrivals.offsets[row as usize]),
            is_delete: arrivals.is_delete(row),
            has_null_key: arrivals.has_null_key(row),
        }
    }

    /// Has the keys of the next rows fetched, when `place` is the first of a block.
    fn fetch_keys(&self, side: Side, arrivals: &Arrivals<'_>, place: usize) {
        if place.is_multiple_of(FETCHED_AT_ONCE) {
            let rows = &arrivals.rows[place..arrivals.rows.len().min(place + FETCHED_AT_ONCE)];
            self.keys.fetch(side, rows.iter().map(|row| arrivals.key(*row).1));
        }
    }

    fn slot(&mut self, arrivals: &Arrivals<'_>, row: u32) -> u32 {
        let (key, hash) = arrivals.key(row);
        self.keys.slot(hash, key)
    }

    /// The clock a row of `side` is judged by: its input's before it, or what the join took that for while the input
    /// was idle.
    fn own_clock_ms(&self, side: Side, arrivals: &Arrivals<'_>, row: u32) -> i64 {
        let relied_on = self.plan.margin_ms(side).saturating_add(self.plan.allowed_lateness_ms);
        let clock_ms = self.cursor.map_or(self.clock_ms, |cursor| cursor.time_ms);
        let relied_on_ms = if clock_ms == i64::MIN { i64::MIN } else { clock_ms.saturating_add(relied_on) };
        arrivals.watermarks_ms[row as usize].max(relied_on_ms)
    }

    /// Adds rows whose time has not come.
    fn add(&mut self, side: Side, columns: &[Column], rows: &[u32], heads: &[Head]) {
        self.ending = Ending::default();
        let (keys, pending) = (&mut self.keys, &mut self.pending[side as usize]);
        self.rows[side as usize].append(columns, rows, heads, |id, head| {
            let entry = Entry::new(&head, id);
            keys.add(head.key, side, entry);
            pending.push(head.time_ms, id);
        });
    }

    /// Brings the digest up to date.
    pub fn seal(&mut self) -> u64 {
        let keys = &self.keys;
        let [left, right] = self.rows.each_mut().map(|rows| rows.seal(|slot| keys.bytes(slot)));
        let mut clock = Vec::new();
        clock.put_i64(self.clock_ms);
        if let Some(cursor) = self.cursor {
            clock.put_i64(cursor.time_ms);
            clock.put_u64(cursor.rows);
        }
        let clock = xxhash_rust::xxh3::xxh3_64(&clock);
        left.rotate_left(7).wrapping_add(right).rotate_left(7).wrapping_add(clock)
    }

    /// Keeps the epoch.
    pub fn commit(&mut self) {
        self.committed = (self.clock_ms, self.cursor);
        self.rows.iter_mut().for_each(Rows::commit);
        if self.rows.iter().any(Rows::is_sparse) {
            self.rows = self.rows.each_ref().map(Rows::together);
            self.place_all();
        }
        self.keys.commit();
    }

    /// Takes the epoch back.
    pub fn rollback(&mut self) {
        (self.clock_ms, self.cursor) = self.committed;
        self.ending = Ending::default();
        self.rows.iter_mut().for_each(Rows::rollback);
        self.place_all();
        self.keys.commit();
    }

    /// Finds a place anew for all rows.
    fn place_all(&mut self) {
        self.keys.clear_rows();
        self.moment = None;
        self.ending.forget_places();
        for side in SIDES {
            let ids: Vec<RowId> = self.rows[side as usize].iter().collect();
            let (mut pending, mut departed) = (Pending::default(), Vec::new());
            for id in ids {
                let head = self.rows[side as usize].head(id);
                let entry = Entry::new(&head, id);
                self.keys.add(head.key, side, entry);
                if !self.plan.waits() {
                    continue;
                }
                if head.time_ms > self.clock_ms {
                    pending.push(head.time_ms, id);
                } else if self.plan.needed_until_ms(side, head.time_ms, head.is_delete).is_some() {
                    departed.push(entry);
                }
            }
            departed.sort_unstable();
            (self.pending[side as usize], self.departed[side as usize]) = (pending, departed.into());
        }
    }

    /// Appends the state.
    pub fn save(&self, saving: &mut Saving) {
        let out = &mut saving.out;
        out.put_u8(saved::VERSION);
        out.put_i64(self.clock_ms);
        out.put_varint(self.cursor.map_or(0, |cursor| cursor.rows));
        self.cursor.iter().for_each(|cursor| out.put_i64(cursor.time_ms));
        self.rows.iter().for_each(|rows| rows.save(|slot| self.keys.bytes(slot), saving));
    }

    /// Reads what `save` wrote, into a new join of the same plan; the result counts as committed.
    pub fn load(&mut self, saved: &mut Loading<'_>) -> Result<()> {
        (self.clock_ms, self.cursor) = saved.newest(saved::read_clock)?;
        for side in SIDES {
            if let Some(whole) = saved.as_whole() {
                self.load_rows(side, whole)?;
                continue;
            }
            let (born, rows) = saved::gather(saved)?;
            self.load_rows(side, &mut Reader::new(&rows))?;
            self.rows[side as usize].renumbered(born);
        }
        self.place_all();
        if self.cursor.is_some_and(|cursor| self.next_ms() != Some(cursor.time_ms)) {
            return Err(Error::state("a saved join stands at a time at which it has no rows; it was overwritten"));
        }
        self.seal();
        self.commit();
        // Places were given anew.
        self.rows.iter_mut().for_each(|rows| rows.renumbered(0));
        Ok(())
    }

    fn load_rows(&mut self, side: Side, saved: &mut Reader<'_>) -> Result<()> {
        const ROW_BYTES_MIN: usize = 34;
        let mut count = saved.count(ROW_BYTES_MIN)?;
        while count > 0 {
            let rows: Vec<u32> = (0..count.min(1024) as u32).collect();
            let mut columns: Vec<Column> = self.plan.types[side as usize].iter().copied().map(Column::new).collect();
            let mut heads = Vec::with_capacity(rows.len());
            for _ in &rows {
                heads.push(self.load_head(saved)?);
                columns.iter_mut().try_for_each(|column| saved::decode_value(saved, column))?;
            }
            self.rows[side as usize].append(&columns, &rows, &heads, |_, _| {});
            count -= rows.len();
        }
        Ok(())
    }

    fn load_head(&mut self, saved: &mut Reader<'_>) -> Result<Head> {
        let key = saved.bytes()?;
        if !self.plan.key.is_valid(key) {
            return Err(Error::state("a saved row of a join has a key of other types; it was overwritten"));
        }
        let key = self.keys.slot(key_hash(key), key);
        let (time_ms, event_time_ms) = (saved.i64()?, saved.i64()?);
        let partition =
            i32::try_from(saved.i64()?).map_err(|_| Error::state("a saved row of a join has no partition"))?;
        let (at, flags) = ((partition, saved.i64()?), saved.u8()?);
        Ok(Head { key, time_ms, event_time_ms, at, is_delete: flags & 1 != 0, has_null_key: flags & 2 != 0 })
    }

    /// Bytes that a row which is its key's only one takes, beside its key and texts; `types` are of its columns.
    #[must_use]
    pub fn row_bytes(types: &[DataType]) -> usize {
        let values = |data_type: &DataType| match data_type {
            DataType::Decimal { .. } => 16,
            _ => 8,
        };
        // Of those that wait or are still needed, one in two places is taken.
        Rows::HEAD_BYTES + types.iter().map(values).sum::<usize>() + Keys::ONE_BYTES + 2 * size_of::<Entry>()
    }

    /// Rows buffered, left and right.
    #[must_use]
    pub fn buffered(&self) -> [u64; 2] {
        self.rows.each_ref().map(Rows::len)
    }

    /// What is held: an entry is a row. Rows that only a rollback would need go with the next commit.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let departed: usize = self.departed.iter().map(VecDeque::capacity).sum();
        let waiting = self.pending.iter().map(Pending::byte_len).sum::<usize>() + departed * size_of::<Entry>();
        let moment = self.moment.as_ref().map_or(0, Moment::byte_len);
        let freed: usize = self.rows.iter().map(Rows::freed_len).sum();
        let bytes = self.rows.iter().map(Rows::byte_len).sum::<usize>() + self.keys.byte_len();
        Usage {
            entries: self.buffered().iter().sum(),
            key_bytes: self.keys.key_bytes() as u64,
            bytes: (bytes - freed + waiting + moment) as u64,
            undo_bytes: freed as u64,
        }
    }
}
