//! Joins of two inputs by key and event time: stream with stream, stream with table, as-of.
//!
//! A lane hands over the rows of either input, each with the watermark of its own input before it, and then both
//! watermarks. Rows are buffered; they are matched when the join's clock passes them, in order of time (`matching.rs`),
//! and go when nothing can need them any more. A row is late by the clock of its own input alone.
//!
//! Invariant: the rows that leave, and their order, are those of the join of all rows that were not late, however the
//! inputs are cut into batches and interleaved. Only the lookup in a table without versions is in order of arrival.

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
use crate::state::key_hash;
pub use joined::{Joined, JoinedBatch};
use keys::{Entry, Keys};
use matching::Due;
use pending::Pending;
pub use plan::{JoinKind, JoinPlan, JoinType, Side};
pub use room::JoinRoom;
use rows::{Head, RowId, Rows};
use std::collections::VecDeque;
use std::sync::Arc;

/// Version of the saved bytes.
const SAVED_VERSION: u8 = 1;

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
    /// `clock_ms` at the last commit.
    committed_ms: i64,
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
            committed_ms: i64::MIN,
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
        let relied_on_ms = if self.clock_ms == i64::MIN { i64::MIN } else { self.clock_ms.saturating_add(relied_on) };
        arrivals.watermarks_ms[row as usize].max(relied_on_ms)
    }

    /// Adds rows whose time has not come.
    fn add(&mut self, side: Side, columns: &[Column], rows: &[u32], heads: &[Head]) {
        let (keys, pending) = (&mut self.keys, &mut self.pending[side as usize]);
        self.rows[side as usize].append(columns, rows, heads, |id, head| {
            let entry = Entry::new(&head, id);
            keys.add(head.key, side, entry);
            pending.push(head.time_ms, id);
        });
    }

    /// Lets everything leave that both watermarks have passed; an idle input's is [`i64::MAX`]. After `rows_max` rows
    /// of this call it stops at the next moment of event time: true when it did, and must be called again.
    pub fn fire(&mut self, left_ms: i64, right_ms: i64, rows_max: usize, out: &mut Joined) -> bool {
        if !self.plan.waits() {
            return false;
        }
        let until_ms = self.known_until_ms(left_ms, right_ms);
        let (mut superseded, before, mut more) = (Vec::new(), out.len(), false);
        let mut due = Due::default();
        while let Some(time_ms) = self.next_ms().filter(|time_ms| *time_ms <= until_ms) {
            if out.len() - before >= rows_max.max(1) {
                more = true;
                break;
            }
            self.pending[0].take(time_ms, &mut due.left);
            self.pending[1].take(time_ms, &mut due.right);
            for pair in self.matches(time_ms, &due) {
                out.push(time_ms, pair, &self.rows);
            }
            self.settle(time_ms, &due, &mut superseded);
            self.clock_ms = time_ms;
        }
        if !more {
            self.clock_ms = self.clock_ms.max(until_ms);
        }
        out.copy(&self.rows);
        self.free(&superseded);
        more
    }

    /// The time up to which all rows are known.
    fn known_until_ms(&self, left_ms: i64, right_ms: i64) -> i64 {
        let known = |watermark_ms: i64, side| {
            watermark_ms.saturating_sub(self.plan.allowed_lateness_ms).saturating_sub(self.plan.margin_ms(side))
        };
        known(left_ms, Side::Left).min(known(right_ms, Side::Right))
    }

    /// The time of the earliest row that did not leave yet.
    fn next_ms(&self) -> Option<i64> {
        self.pending.iter().filter_map(Pending::next_ms).min()
    }

    /// Notes how long the rows that were due are needed, and which others no longer are.
    fn settle(&mut self, time_ms: i64, due: &Due, superseded: &mut Vec<Entry>) {
        for (side, ids) in SIDES.into_iter().zip([&due.left, &due.right]) {
            for id in ids {
                let head = self.rows[side as usize].head(*id);
                let entry = Entry::new(&head, *id);
                if self.plan.needed_until_ms(side, time_ms, head.is_delete).is_some() {
                    self.departed[side as usize].push_back(entry);
                }
                if side == Side::Right && self.looks_back() {
                    // The one before it; those before that have gone with it.
                    let entries = self.keys.entries(head.key, side);
                    let place = entries.partition_point(|other| *other < entry);
                    superseded.extend(place.checked_sub(1).map(|place| entries[place]));
                }
            }
        }
    }

    /// True when of the right rows of a key only the latest counts.
    fn looks_back(&self) -> bool {
        matches!(self.plan.kind, JoinKind::AsOf { .. } | JoinKind::Table { .. })
    }

    /// Frees rows that nothing can need any more.
    fn free(&mut self, superseded: &[Entry]) {
        superseded.iter().for_each(|entry| self.free_row(Side::Right, *entry));
        for side in SIDES {
            while let Some(entry) = self.departed[side as usize].front().copied() {
                self.fetch_departed(side);
                let alive = self.rows[side as usize].is_alive(entry.id);
                let is_delete = alive && self.rows[side as usize].head(entry.id).is_delete;
                let until_ms = self.plan.needed_until_ms(side, entry.time_ms, is_delete);
                if alive && until_ms.is_none_or(|until_ms| until_ms > self.clock_ms) {
                    break;
                }
                self.departed[side as usize].pop_front();
                if alive {
                    self.free_row(side, entry);
                }
            }
        }
        self.keys.forget_new();
    }

    /// Has the keys of rows fetched that are soon the first of those that left.
    fn fetch_departed(&self, side: Side) {
        let key = |place: usize| {
            let entry = self.departed[side as usize].get(place)?;
            self.rows[side as usize].is_alive(entry.id).then(|| self.rows[side as usize].head(entry.id).key)
        };
        if let Some(slot) = key(16) {
            self.keys.fetch_slot(slot);
        }
        if let Some(slot) = key(8) {
            self.keys.fetch_entries(slot, side);
        }
    }

    fn free_row(&mut self, side: Side, entry: Entry) {
        let key = self.rows[side as usize].head(entry.id).key;
        self.keys.remove(key, side, entry);
        self.rows[side as usize].free(entry.id);
    }

    /// Appends what is left at the end of the input; nothing changes: a later run goes on where this one stood.
    pub fn end(&self, out: &mut Joined) {
        let mut due: std::collections::BTreeMap<i64, Due> = std::collections::BTreeMap::new();
        self.pending[0].iter().for_each(|(time_ms, id)| due.entry(time_ms).or_default().left.push(id));
        self.pending[1].iter().for_each(|(time_ms, id)| due.entry(time_ms).or_default().right.push(id));
        for (time_ms, due) in due {
            for pair in self.matches(time_ms, &due) {
                out.push(time_ms, pair, &self.rows);
            }
        }
        out.copy(&self.rows);
    }

    /// Brings the digest up to date.
    pub fn seal(&mut self) -> u64 {
        let keys = &self.keys;
        let [left, right] = self.rows.each_mut().map(|rows| rows.seal(|slot| keys.bytes(slot)));
        let clock = xxhash_rust::xxh3::xxh3_64(&self.clock_ms.to_le_bytes());
        left.rotate_left(7).wrapping_add(right).rotate_left(7).wrapping_add(clock)
    }

    /// Keeps the epoch.
    pub fn commit(&mut self) {
        self.committed_ms = self.clock_ms;
        self.rows.iter_mut().for_each(Rows::commit);
        if self.rows.iter().any(Rows::is_sparse) {
            self.rows = self.rows.each_ref().map(Rows::together);
            self.place_all();
        }
        self.keys.commit();
    }

    /// Takes the epoch back.
    pub fn rollback(&mut self) {
        self.clock_ms = self.committed_ms;
        self.rows.iter_mut().for_each(Rows::rollback);
        self.place_all();
        self.keys.commit();
    }

    /// Finds a place anew for all rows.
    fn place_all(&mut self) {
        self.keys.clear_rows();
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
    pub fn save(&self, out: &mut Vec<u8>) {
        out.put_u8(SAVED_VERSION);
        out.put_i64(self.clock_ms);
        for rows in &self.rows {
            out.put_varint(rows.len());
            rows.iter().for_each(|id| rows.encode(id, self.keys.bytes(rows.head(id).key), out));
        }
    }

    /// Reads what `save` wrote, into a new join of the same plan; the result counts as committed.
    pub fn load(&mut self, saved: &mut Reader<'_>) -> Result<()> {
        let version = saved.u8()?;
        if version != SAVED_VERSION {
            let message = format!("the saved join has version {version}, this program reads {SAVED_VERSION}");
            return Err(Error::state(format!("{message}; run it with the program that saved it, or newer")));
        }
        self.clock_ms = saved.i64()?;
        for side in SIDES {
            self.load_rows(side, saved)?;
        }
        self.place_all();
        self.seal();
        self.commit();
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
        let freed: usize = self.rows.iter().map(Rows::freed_len).sum();
        let bytes = self.rows.iter().map(Rows::byte_len).sum::<usize>() + self.keys.byte_len();
        Usage {
            entries: self.buffered().iter().sum(),
            key_bytes: self.keys.key_bytes() as u64,
            bytes: (bytes - freed + waiting) as u64,
            undo_bytes: freed as u64,
        }
    }
}
