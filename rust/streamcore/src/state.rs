//! The state table under every stateful step: keyed slots in time buckets, with an undo log that is
//! also the dirty set, a digest, and save/load.
//!
//! `dedupe` keeps a bucket a generation, `window` a bucket a slice, sessions one bucket. Invariant:
//! after `rollback` a table is what it was at the last `commit`, to the byte that `encode` writes.

use crate::batch::Bytes;
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use hashbrown::HashTable;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The values of a table, one slot a key, slots numbered from 0 in order of first appearance.
///
/// A table undoes an epoch by restoring the marks it took before a slot's first change, and by
/// truncating the slots that are new; so `mark` may hold less than `encode` (a set that only
/// grows marks its length).
pub trait Slots {
    /// Adds a slot holding the empty value.
    fn push_empty(&mut self);
    /// Drops the slots from `len` on.
    fn truncate(&mut self, len: usize);
    /// Appends what `restore` needs to bring `slot` back to how it is now.
    fn mark(&self, slot: u32, out: &mut Vec<u8>);
    /// Brings `slot` back to its mark.
    fn restore(&mut self, slot: u32, mark: &mut Reader<'_>);
    /// Takes how everything is now for good. For values that keep their own undo beside the marks.
    fn commit(&mut self) {}
    /// A 64-bit digest of the slot's value, independent of how it came about.
    fn digest(&self, slot: u32) -> u64;
    /// Appends the slot's value for saving.
    fn encode(&self, slot: u32, out: &mut Vec<u8>);
    /// Sets `slot`, which holds the empty value, from what `encode` wrote.
    fn decode(&mut self, slot: u32, saved: &mut Reader<'_>) -> Result<()>;
    /// Bytes held by all slots, roughly.
    fn byte_len(&self) -> usize;
    /// True when the slot's key counts as absent; such slots are not saved and are reclaimed.
    fn is_vacant(&self, _slot: u32) -> bool {
        false
    }
}

/// Slots without a value: the table is a set.
#[derive(Debug, Clone, Default)]
pub struct NoValue;

impl Slots for NoValue {
    fn push_empty(&mut self) {}
    fn truncate(&mut self, _len: usize) {}
    fn mark(&self, _slot: u32, _out: &mut Vec<u8>) {}
    fn restore(&mut self, _slot: u32, _mark: &mut Reader<'_>) {}
    fn digest(&self, _slot: u32) -> u64 {
        0
    }
    fn encode(&self, _slot: u32, _out: &mut Vec<u8>) {}
    fn decode(&mut self, _slot: u32, _saved: &mut Reader<'_>) -> Result<()> {
        Ok(())
    }
    fn byte_len(&self) -> usize {
        0
    }
}

/// One change to take back: the slot, where its mark ends, and its row's digest before.
#[derive(Debug, Clone, Copy)]
struct Undo {
    slot: u32,
    mark_end: usize,
    digest: u64,
}

/// Keys with slots.
#[derive(Debug, Clone)]
pub struct StateTable<S> {
    /// Slot numbers by key.
    index: HashTable<u32>,
    /// Key of each slot.
    keys: Bytes,
    /// Epoch in which each slot was last marked or made.
    touched: Vec<u32>,
    /// Value of each slot.
    slots: S,
    /// Current epoch, grows with each commit.
    epoch: u32,
    /// Slots that existed at the last commit.
    committed_len: usize,
    /// Marks of the older slots changed since.
    undo: Vec<Undo>,
    marks: Vec<u8>,
    /// Digest as of the last seal, and as of the last commit.
    digest: u64,
    committed_digest: u64,
}

/// Hash of a key inside one process, of which every one has a seed of its own, so that nobody can send keys that all
/// have one hash. Never saved, and no answer depends on it.
#[must_use]
#[inline]
pub fn key_hash(key: &[u8]) -> u64 {
    SeedableRandomState::with_seed(0, SharedSeed::global_random()).hash_one(key)
}

impl<S: Slots> StateTable<S> {
    /// An empty table; `slots` is empty too.
    pub fn new(slots: S) -> Self {
        Self {
            index: HashTable::new(),
            keys: Bytes::default(),
            touched: Vec::new(),
            slots,
            epoch: 1,
            committed_len: 0,
            undo: Vec::new(),
            marks: Vec::new(),
            digest: 0,
            committed_digest: 0,
        }
    }

    /// Number of slots, vacant ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True when there is no slot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Key of `slot`.
    #[must_use]
    pub fn key(&self, slot: u32) -> &[u8] {
        self.keys.get(slot as usize)
    }

    /// The values.
    #[must_use]
    pub fn slots(&self) -> &S {
        &self.slots
    }

    /// The values, to change slots that [`touch`](Self::touch) or [`slot_for_update`](Self::slot_for_update) gave.
    pub fn slots_mut(&mut self) -> &mut S {
        &mut self.slots
    }

    /// Slot of `key`, if it has one.
    #[must_use]
    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.index.find(hash, |slot| self.keys.get(*slot as usize) == key).copied()
    }

    /// Slot of `key` ready to be changed, made if there is none; tells whether it was made.
    #[inline]
    pub fn slot_for_update(&mut self, hash: u64, key: &[u8]) -> (u32, bool) {
        if let Some(slot) = self.find(hash, key) {
            self.touch(slot);
            return (slot, false);
        }
        (self.insert_new(hash, key), true)
    }

    /// Adds `key`, which must not be there.
    pub fn insert_new(&mut self, hash: u64, key: &[u8]) -> u32 {
        let slot = self.keys.len() as u32;
        self.keys.push(key);
        self.touched.push(self.epoch);
        self.slots.push_empty();
        let keys = &self.keys;
        self.index.insert_unique(hash, slot, |slot| key_hash(keys.get(*slot as usize)));
        slot
    }

    /// Marks `slot` before its first change in this epoch.
    #[inline]
    pub fn touch(&mut self, slot: u32) {
        if self.touched[slot as usize] != self.epoch {
            self.mark(slot);
        }
    }

    fn mark(&mut self, slot: u32) {
        self.touched[slot as usize] = self.epoch;
        self.slots.mark(slot, &mut self.marks);
        self.undo.push(Undo { slot, mark_end: self.marks.len(), digest: self.row_digest(slot) });
    }

    /// Slots changed or made since the last commit.
    pub fn dirty(&self) -> impl Iterator<Item = u32> {
        let new = self.committed_len as u32..self.len() as u32;
        self.undo.iter().map(|undo| undo.slot).chain(new)
    }

    /// Digest of a key and its value; 0 for a key that counts as absent.
    fn row_digest(&self, slot: u32) -> u64 {
        if self.slots.is_vacant(slot) { 0 } else { xxh3_64_with_seed(self.key(slot), self.slots.digest(slot)) }
    }

    /// Brings the digest up to date.
    pub fn seal(&mut self) -> u64 {
        let mut digest = self.committed_digest;
        for undo in &self.undo {
            digest = digest.wrapping_sub(undo.digest).wrapping_add(self.row_digest(undo.slot));
        }
        for slot in self.committed_len as u32..self.len() as u32 {
            digest = digest.wrapping_add(self.row_digest(slot));
        }
        self.digest = digest;
        digest
    }

    /// Everything since the last commit is kept for good.
    pub fn commit(&mut self) {
        self.slots.commit();
        self.undo.clear();
        self.marks.clear();
        self.committed_len = self.len();
        self.committed_digest = self.digest;
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Everything since the last commit is taken back.
    pub fn rollback(&mut self) {
        for slot in self.committed_len..self.len() {
            let hash = key_hash(self.keys.get(slot));
            if let Ok(entry) = self.index.find_entry(hash, |other| *other as usize == slot) {
                entry.remove();
            }
        }
        self.keys.truncate(self.committed_len);
        self.touched.truncate(self.committed_len);
        self.slots.truncate(self.committed_len);
        let undone = std::mem::take(&mut self.undo);
        let marks = std::mem::take(&mut self.marks);
        let mut start = 0;
        for undo in undone {
            self.slots.restore(undo.slot, &mut Reader::new(&marks[start..undo.mark_end]));
            start = undo.mark_end;
        }
        self.digest = self.committed_digest;
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Bytes held, roughly.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.keys.byte_len() + 4 * self.touched.len() + 5 * self.index.capacity() + self.slots.byte_len()
    }

    /// Appends keys and values, in slot order.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let live = || (0..self.len() as u32).filter(|slot| !self.slots.is_vacant(*slot));
        out.put_varint(live().count() as u64);
        for slot in live() {
            out.put_bytes(self.key(slot));
            self.slots.encode(slot, out);
        }
    }

    /// Fills this empty table with what `encode` wrote; the result counts as committed.
    pub fn decode(&mut self, saved: &mut Reader<'_>) -> Result<()> {
        for _ in 0..saved.count(1)? {
            let key = saved.bytes()?;
            let hash = key_hash(key);
            if self.find(hash, key).is_some() {
                return Err(Error::state("saved state holds the same key twice; it was overwritten"));
            }
            let slot = self.insert_new(hash, key);
            self.slots.decode(slot, saved)?;
        }
        self.seal();
        self.commit();
        Ok(())
    }

    /// Number of vacant slots.
    fn vacant(&self) -> usize {
        (0..self.len() as u32).filter(|slot| self.slots.is_vacant(*slot)).count()
    }
}

/// Time of a bucket, and the first window its rows count for (see `window/assign.rs`; else 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketKey {
    /// Start of the slice or number of the generation.
    pub time: i64,
    /// Start of the first window that may count the rows.
    pub since: i64,
}

/// Tables in time order, with undo for making and dropping whole tables.
#[derive(Debug, Clone)]
pub struct Buckets<S> {
    /// The empty value every table starts from.
    empty: S,
    live: BTreeMap<BucketKey, StateTable<S>>,
    /// Dropped since the last commit, for rollback.
    dropped: Vec<(BucketKey, StateTable<S>)>,
    /// Made since the last commit.
    made: Vec<BucketKey>,
}

/// Vacant slots of a table beyond which, when they are the majority, a commit reclaims them.
const VACANT_MAX: usize = 1024;

impl<S: Slots + Clone> Buckets<S> {
    /// No buckets.
    pub fn new(empty: S) -> Self {
        Self { empty, live: BTreeMap::new(), dropped: Vec::new(), made: Vec::new() }
    }

    /// The table of `key`, made if there is none.
    pub fn bucket(&mut self, key: BucketKey) -> &mut StateTable<S> {
        let (empty, made) = (&self.empty, &mut self.made);
        self.live.entry(key).or_insert_with(|| {
            made.push(key);
            StateTable::new(empty.clone())
        })
    }

    /// The table of `key`, if there is one.
    #[must_use]
    pub fn get(&self, key: BucketKey) -> Option<&StateTable<S>> {
        self.live.get(&key)
    }

    /// Live tables in time order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (BucketKey, &StateTable<S>)> {
        self.live.iter().map(|(key, table)| (*key, table))
    }

    /// Live tables whose time is in `[from, to)`.
    pub fn range(&self, from: i64, to: i64) -> impl Iterator<Item = (BucketKey, &StateTable<S>)> {
        let bound = |time| BucketKey { time, since: i64::MIN };
        self.live.range(bound(from)..bound(to)).map(|(key, table)| (*key, table))
    }

    /// Number of live tables.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// True when no table is live.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Drops the table of `key`, keeping it for rollback.
    pub fn drop_bucket(&mut self, key: BucketKey) {
        if let Some(table) = self.live.remove(&key) {
            self.dropped.push((key, table));
        }
    }

    /// Takes every live table out, undo log and all; for scratch state that is emptied every epoch.
    pub fn take(&mut self) -> BTreeMap<BucketKey, StateTable<S>> {
        self.made.clear();
        std::mem::take(&mut self.live)
    }

    /// Puts `table` in as the new bucket `key`, which must not be live.
    pub fn adopt(&mut self, key: BucketKey, table: StateTable<S>) {
        debug_assert!(table.committed_len == 0 && !self.live.contains_key(&key));
        self.made.push(key);
        self.live.insert(key, table);
    }

    /// Brings all digests up to date and sums them.
    pub fn seal(&mut self) -> u64 {
        self.live.iter_mut().fold(0, |sum, (key, table)| {
            let place = xxh3_64_with_seed(&key.time.to_le_bytes(), key.since as u64);
            let rows = table.seal();
            if rows == 0 { sum } else { sum.wrapping_add((rows ^ place).wrapping_mul(0x9e37_79b9_7f4a_7c15)) }
        })
    }

    /// Everything since the last commit is kept for good. True when slots were renumbered.
    pub fn commit(&mut self) -> bool {
        self.dropped.clear();
        self.made.clear();
        for table in self.live.values_mut() {
            table.commit();
        }
        self.reclaim()
    }

    /// Rebuilds tables that are mostly vacant.
    fn reclaim(&mut self) -> bool {
        let mut renumbered = false;
        for table in self.live.values_mut() {
            if table.len() <= VACANT_MAX || table.vacant() * 2 <= table.len() {
                continue;
            }
            let mut fresh = StateTable::new(self.empty.clone());
            let mut saved = Vec::new();
            table.encode(&mut saved);
            if fresh.decode(&mut Reader::new(&saved)).is_ok() {
                *table = fresh;
                renumbered = true;
            }
        }
        renumbered
    }

    /// Everything since the last commit is taken back.
    pub fn rollback(&mut self) {
        for key in std::mem::take(&mut self.made) {
            self.live.remove(&key);
        }
        for (key, table) in std::mem::take(&mut self.dropped) {
            if table.committed_len > 0 {
                self.live.insert(key, table);
            }
        }
        for table in self.live.values_mut() {
            table.rollback();
        }
    }

    /// Bytes held, roughly.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.live.values().map(StateTable::byte_len).sum()
    }

    /// Appends all live tables.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.live.len() as u64);
        for (key, table) in &self.live {
            out.put_i64(key.time);
            out.put_i64(key.since);
            table.encode(out);
        }
    }

    /// Fills these empty buckets with what `encode` wrote; the result counts as committed.
    pub fn decode(&mut self, saved: &mut Reader<'_>) -> Result<()> {
        for _ in 0..saved.count(17)? {
            let key = BucketKey { time: saved.i64()?, since: saved.i64()? };
            let mut table = StateTable::new(self.empty.clone());
            table.decode(saved)?;
            if self.live.insert(key, table).is_some() {
                return Err(Error::state("saved state holds the same bucket twice; it was overwritten"));
            }
        }
        Ok(())
    }
}
