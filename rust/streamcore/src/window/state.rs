//! Windows that the clock alone bounds: accumulators per key in buckets of event time.
//!
//! A bucket is a slice (see `assign.rs`); a window is the merge of the slices it covers. Rows leave
//! when the watermark passes a window's end, or at a commit with `updates`. Invariant: a bucket
//! stays until the last window it feeds is over at the purge watermark.

mod admitted;
mod blocks;
mod early;
mod fire;
mod merge;
mod moving;
mod open;
mod order;
mod partials;

use super::aggregate::Accumulators;
use super::assign::{Aligned, Assigned, Assigner};
use super::rows::ResultRows;
use super::slot_cache::SlotCache;
use super::{Arrivals, Outcomes, WindowPlan, no_accumulators};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use crate::saving::{Loading, Saving};
use crate::state::{BucketKey, Buckets, NoValue, Slots, StateTable, key_hash};
use blocks::{Blocks, forget};
use fire::{Cursor, Leaving};
use hashbrown::HashMap;
use merge::{merge, merge_slot, parts, slots_of};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Open (and, in the combine stage, fired) windows of one plan.
#[derive(Debug)]
pub struct AlignedWindows {
    plan: Arc<WindowPlan>,
    windows: Aligned,
    /// Accumulators by slice and key.
    slices: Buckets<Accumulators>,
    /// Slices merged; only where windows have many.
    blocks: Option<Blocks>,
    /// Rows already written, by window and key; only where a window can have more than one.
    revisions: Buckets<Revisions>,
    /// Keys changed since rows left early, by slice; only where they leave by the clock.
    changed: Option<Buckets<NoValue>>,
    /// Keys let in, by slice; only where rows are shed and these windows are merged elsewhere.
    admitted: Option<Buckets<NoValue>>,
    /// Watermark of the last fire: windows over at it have left.
    fired_ms: i64,
    /// Watermark of the last purge: buckets whose windows are all over at it are gone.
    purged_ms: i64,
    /// Times the input ended; rows of a window that fires again count on from there.
    ends: u32,
    /// The input ended in this epoch: every row has left as a final one.
    ended: bool,
    /// How far the windows over at the clock have left that did not leave in one piece.
    cursor: Option<Cursor>,
    /// How far the windows have left at an end of the input; not kept.
    ending: Option<Cursor>,
    /// The window that leaves in pieces.
    leaving: Option<Leaving>,
    /// Changed keys that are to leave early in pieces, by window; they follow from `changed` and the cursor.
    changing: Option<WindowKeys>,
    /// `fired_ms`, `purged_ms`, `ends` and `cursor` at the last commit.
    committed: (i64, i64, u32, Option<Cursor>),
    /// The watermark from which on some window is over, or `None`. Kept up to date by every change.
    next_fire_ms: Option<i64>,
    /// Rows counted per bucket since it was taken; tells how many a dropped partial held.
    row_counts: BTreeMap<BucketKey, u64>,
    /// The same by slot; only where the windows are handed over through a topic.
    slot_counts: Option<BTreeMap<BucketKey, Vec<u64>>>,
}

/// Rows written per key.
#[derive(Debug, Clone, Default)]
struct Revisions {
    counts: Vec<u32>,
}

impl Slots for Revisions {
    fn push_empty(&mut self) {
        self.counts.push(0);
    }
    fn truncate(&mut self, len: usize) {
        self.counts.truncate(len);
    }
    fn mark(&self, slot: u32, out: &mut Vec<u8>) {
        self.encode(slot, out);
    }
    fn restore(&mut self, slot: u32, mark: &mut Reader<'_>) {
        self.decode(slot, mark).expect("a mark holds what encode wrote");
    }
    fn digest(&self, slot: u32) -> u64 {
        u64::from(self.counts[slot as usize])
    }
    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.put_varint(u64::from(self.counts[slot as usize]));
    }
    fn decode(&mut self, slot: u32, saved: &mut Reader<'_>) -> Result<()> {
        self.counts[slot as usize] = saved.varint()? as u32;
        Ok(())
    }
    fn byte_len(&self) -> usize {
        self.counts.len() * 4
    }
}

/// A bucket and the rows of a batch that go there.
type BucketRows = (BucketKey, Vec<u32>);

/// Keys by the name of a window.
type WindowKeys = BTreeMap<i64, BTreeSet<Vec<u8>>>;

const fn window_bucket(name: i64) -> BucketKey {
    BucketKey { time: name, since: 0 }
}

impl AlignedWindows {
    /// No windows yet.
    #[must_use]
    pub fn new(plan: Arc<WindowPlan>, windows: Aligned) -> Self {
        Self {
            slices: Buckets::new(no_accumulators(&plan)),
            blocks: Blocks::new(&windows),
            revisions: Buckets::new(Revisions::default()),
            changed: None,
            admitted: plan.room.map(|_| Buckets::new(NoValue)),
            plan,
            windows,
            fired_ms: i64::MIN,
            purged_ms: i64::MIN,
            ends: 0,
            ended: false,
            cursor: None,
            ending: None,
            leaving: None,
            changing: None,
            committed: (i64::MIN, i64::MIN, 0, None),
            next_fire_ms: None,
            row_counts: BTreeMap::new(),
            slot_counts: None,
        }
    }

    /// See [`super::Windows::apply`].
    pub fn apply(&mut self, arrivals: &Arrivals<'_>) -> Outcomes {
        let (buckets, outcomes) = self.sort_into_buckets(arrivals);
        let mut slots = SlotCache::new(arrivals.groups);
        for (bucket, rows) in &buckets {
            self.count(*bucket, arrivals, rows, &mut slots);
        }
        self.note_changed(arrivals.groups, &buckets);
        self.note_admitted(arrivals.groups, &buckets);
        outcomes
    }

    /// Judges every row and sorts those that count by bucket.
    fn sort_into_buckets(&self, arrivals: &Arrivals<'_>) -> (Vec<BucketRows>, Outcomes) {
        let (mut outcomes, mut assigner) = (Outcomes::default(), Assigner::new(&self.windows));
        let mut buckets: Vec<BucketRows> = Vec::new();
        let (mut places, mut current) = (HashMap::<BucketKey, usize>::new(), usize::MAX);
        for row in arrivals.rows {
            let time_ms = arrivals.order.event_times_ms[*row as usize];
            match assigner.assign(time_ms, arrivals.watermarks_ms[*row as usize]) {
                Assigned::NoWindow => outcomes.no_window += 1,
                Assigned::Late(over_at_ms) => outcomes.late.push((*row, over_at_ms)),
                Assigned::Bucket(bucket, missed) => {
                    outcomes.applied += 1;
                    outcomes.missed += missed;
                    match buckets.get_mut(current) {
                        Some((key, rows)) if *key == bucket => rows.push(*row),
                        _ => {
                            current = *places.entry(bucket).or_insert_with(|| {
                                buckets.push((bucket, Vec::new()));
                                buckets.len() - 1
                            });
                            buckets[current].1.push(*row);
                        }
                    }
                }
            }
        }
        (buckets, outcomes)
    }

    fn count(&mut self, bucket: BucketKey, arrivals: &Arrivals<'_>, rows: &[u32], cache: &mut SlotCache<'_>) {
        self.note_open(bucket);
        *self.row_counts.entry(bucket).or_default() += rows.len() as u64;
        forget(&mut self.blocks, bucket);
        let table = self.slices.bucket(bucket);
        let slots = cache.slots(table, rows);
        if let Some(counts) = &mut self.slot_counts {
            partials::count(counts.entry(bucket).or_default(), &slots, table.len());
        }
        table.slots_mut().update(&slots, rows, arrivals.inputs, arrivals.order);
    }

    /// Keeps `next_fire_ms` right when `bucket` gets rows.
    fn note_open(&mut self, bucket: BucketKey) {
        if let Some(name) = self.windows.next_window(bucket, self.fired_ms) {
            let over_at = self.windows.over_at(name);
            self.next_fire_ms = Some(self.next_fire_ms.map_or(over_at, |next| next.min(over_at)));
        }
    }

    fn find_next_fire(&mut self) {
        let opens = self.slices.iter().filter_map(|(key, _)| self.windows.next_window(key, self.fired_ms));
        self.next_fire_ms = opens.min().map(|name| self.windows.over_at(name));
    }

    /// See [`super::Windows::next_fire_ms`].
    #[must_use]
    pub fn next_fire_ms(&self) -> Option<i64> {
        self.next_fire_ms.filter(|over_at| *over_at < i64::MAX)
    }

    fn purge(&mut self, purge_ms: i64) {
        if purge_ms <= self.purged_ms {
            return;
        }
        self.purged_ms = purge_ms;
        let over = |name: i64| self.windows.over_at(name) <= purge_ms;
        let slices = self.slices.iter().take_while(|(key, _)| key.time <= purge_ms);
        let gone: Vec<BucketKey> =
            slices.map(|(key, _)| key).filter(|key| over(self.windows.last_window(*key))).collect();
        let revisions: Vec<BucketKey> =
            self.revisions.iter().map(|(key, _)| key).take_while(|key| over(key.time)).collect();
        self.forget_changed(|key| gone.contains(&key));
        for key in gone {
            forget(&mut self.blocks, key);
            self.slices.drop_bucket(key);
        }
        revisions.into_iter().for_each(|key| self.revisions.drop_bucket(key));
    }

    /// Merges another lane's windows of the same plan, appending rows for windows that had fired;
    /// gives the number of rows that came too late to be merged.
    pub fn absorb(&mut self, other: &mut Self, out: &mut ResultRows) -> Result<u64> {
        let mut too_late = 0;
        let mut reopened = WindowKeys::new();
        let row_counts = std::mem::take(&mut other.row_counts);
        other.next_fire_ms = None;
        // What changes behind an end of the input leaves as other rows do.
        self.ended &= other.slices.is_empty();
        for (bucket, table) in other.slices.take() {
            if self.windows.over_at(self.windows.last_window(bucket)) <= self.purged_ms {
                too_late += row_counts.get(&bucket).copied().unwrap_or_default();
                continue;
            }
            self.note_reopened(bucket, &table, &mut reopened);
            self.note_keys_changed(bucket, &table);
            self.note_open(bucket);
            forget(&mut self.blocks, bucket);
            if self.slices.get(bucket).is_none() {
                self.slices.adopt(bucket, table);
                continue;
            }
            let mine = self.slices.bucket(bucket);
            (0..table.len() as u32).for_each(|slot| merge_slot(mine, &table, slot));
        }
        for (name, keys) in reopened {
            self.emit(name, &keys, true, out)?;
        }
        Ok(too_late)
    }

    /// Notes the fired windows that `table` adds to; their earlier rows count as revisions.
    fn note_reopened(&mut self, bucket: BucketKey, table: &StateTable<Accumulators>, reopened: &mut WindowKeys) {
        let fired: Vec<i64> = self
            .windows
            .windows_of(bucket)
            .take_while(|name| self.leaves(*name))
            .filter(|name| self.windows.over_at(*name) > self.purged_ms)
            .collect();
        for name in fired {
            for slot in 0..table.len() as u32 {
                let key = table.key(slot);
                if !self.has_left_of(name, key) {
                    continue;
                }
                let hash = key_hash(key);
                let mut feeding = parts(&self.slices, &self.windows, name);
                let written = feeding.any(|part| part.find(hash, key).is_some());
                if written && !reopened.get(&name).is_some_and(|keys| keys.contains(key)) {
                    note_written(self.revisions.bucket(window_bucket(name)), key);
                }
                reopened.entry(name).or_default().insert(key.to_vec());
            }
        }
    }

    /// See [`super::Windows::ends`].
    #[must_use]
    pub const fn ends(&self) -> u32 {
        self.ends
    }

    /// See [`super::Windows::seal`].
    pub fn seal(&mut self, out: &mut ResultRows) -> Result<u64> {
        if self.plan.updates && self.plan.early.at_commit() && !self.ended {
            for (name, keys) in self.dirty() {
                self.emit(name, &keys, false, out)?;
            }
        }
        let revisions = self.revisions.seal().rotate_left(1);
        let changed = self.changed.as_mut().map_or(0, Buckets::seal).rotate_left(2);
        let mut cursor = Vec::new();
        Cursor::encode(self.cursor.as_ref(), &mut cursor);
        let cursor = if self.cursor.is_some() { xxh3_64(&cursor) } else { 0 };
        Ok(self.slices.seal().wrapping_add(revisions).wrapping_add(changed).wrapping_add(cursor))
    }

    /// Keys changed since the last commit, by open window.
    fn dirty(&self) -> WindowKeys {
        let tables = self.slices.iter();
        self.of_open_windows(
            tables.map(|(bucket, table)| (bucket, table.dirty().map(|slot| table.key(slot)).collect())),
        )
    }

    /// The windows that `keys` of buckets are in and that have not left.
    fn of_open_windows<'k>(&self, keys: impl Iterator<Item = (BucketKey, Vec<&'k [u8]>)>) -> WindowKeys {
        let mut changed = WindowKeys::new();
        for (bucket, keys) in keys.filter(|(_, keys)| !keys.is_empty()) {
            for name in self.windows.windows_of(bucket).filter(|name| !self.leaves(*name)) {
                changed.entry(name).or_default().extend(keys.iter().map(|key| key.to_vec()));
            }
        }
        changed
    }

    /// See [`super::Windows::commit`].
    pub fn commit(&mut self) {
        if self.slices.commit() {
            self.leaving = None;
        }
        self.revisions.commit();
        if let Some(changed) = &mut self.changed {
            changed.commit();
        }
        self.row_counts.clear();
        self.ended = false;
        self.committed = (self.fired_ms, self.purged_ms, self.ends, self.cursor.clone());
    }

    /// See [`super::Windows::rollback`].
    pub fn rollback(&mut self) {
        (self.ending, self.leaving, self.changing) = (None, None, None);
        self.slices.rollback();
        self.blocks.iter_mut().for_each(Blocks::clear);
        self.revisions.rollback();
        self.changed.iter_mut().chain(&mut self.admitted).for_each(Buckets::rollback);
        self.row_counts.clear();
        self.slot_counts.iter_mut().for_each(BTreeMap::clear);
        self.ended = false;
        (self.fired_ms, self.purged_ms, self.ends, self.cursor) = self.committed.clone();
        self.find_next_fire();
    }

    /// See [`super::Windows::save`].
    pub fn save(&self, saving: &mut Saving) {
        let out = &mut saving.out;
        out.put_i64(self.fired_ms);
        out.put_i64(self.purged_ms);
        out.put_varint(u64::from(self.ends));
        Cursor::encode(self.cursor.as_ref(), out);
        self.slices.save(saving);
        self.revisions.save(saving);
        self.changed.iter().for_each(|changed| changed.save(saving));
    }

    /// See [`super::Windows::load`].
    pub fn load(&mut self, saved: &mut Loading<'_>) -> Result<()> {
        (self.fired_ms, self.purged_ms, self.ends, self.cursor) =
            saved.newest(|saved| Ok((saved.i64()?, saved.i64()?, saved.varint()? as u32, Cursor::decode(saved)?)))?;
        self.slices.load(saved)?;
        self.revisions.load(saved)?;
        if let Some(changed) = &mut self.changed {
            changed.load(saved)?;
        }
        let keys = self.slices.iter().flat_map(|(_, table)| (0..table.len() as u32).map(|slot| table.key(slot)));
        if !keys.into_iter().all(|key| self.plan.key.is_valid(key)) {
            return Err(Error::state("saved windows hold a key of other columns; the state is of another pipeline"));
        }
        self.committed = (self.fired_ms, self.purged_ms, self.ends, self.cursor.clone());
        self.find_next_fire();
        Ok(())
    }

    /// See [`super::Windows::open_windows`].
    #[must_use]
    pub fn open_windows(&self) -> usize {
        self.unfired(i64::MAX).len()
    }
}

/// Counts one more row of `key`; gives how many came before.
fn next_revision(table: &mut StateTable<Revisions>, key: &[u8]) -> i64 {
    let (slot, _) = table.slot_for_update(key_hash(key), key);
    let count = &mut table.slots_mut().counts[slot as usize];
    *count += 1;
    i64::from(*count - 1)
}

/// Makes sure the row that `key` has been written with is counted.
fn note_written(table: &mut StateTable<Revisions>, key: &[u8]) {
    let (slot, new) = table.slot_for_update(key_hash(key), key);
    if new {
        table.slots_mut().counts[slot as usize] = 1;
    }
}
