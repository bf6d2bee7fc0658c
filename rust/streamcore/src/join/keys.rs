//! The keys of a join with the rows of both sides, each in order of time.
//!
//! `mod.rs` adds and takes away; `matching.rs` looks rows up. One table serves both sides, so a key is hashed once,
//! when its row comes. Invariant: a key that was there at the last commit stays at its slot until the next.

use super::Side;
use super::rows::{Head, RowId};
use crate::prefetch::prefetch;
use hashbrown::HashTable;
use std::collections::VecDeque;

/// A row of a key: when, and where it is. Ordered by time, then by its record's place in the input, so that nobody can
/// tell which partition was read first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The time it is joined at, ms.
    pub time_ms: i64,
    /// Its record's partition and offset.
    pub at: (i32, i64),
    /// Its place.
    pub id: RowId,
}

impl Entry {
    /// Of the row `id`, which is as `head` says.
    pub fn new(head: &Head, id: RowId) -> Self {
        Self { time_ms: head.time_ms, at: head.at, id }
    }
}

/// Rows of one key and one side, rising.
pub type Entries = VecDeque<Entry>;

#[derive(Debug, Default)]
struct Key {
    bytes: Box<[u8]>,
    hash: u64,
    /// Epoch it came in.
    epoch: u32,
    rows: [Entries; 2],
}

/// All keys that have rows.
#[derive(Debug, Default)]
pub struct Keys {
    /// The upper half of each key's hash, and its slot.
    index: HashTable<(u32, u32)>,
    slots: Vec<Key>,
    /// Slots without a key.
    unused: Vec<u32>,
    /// Current epoch, grows with each commit.
    epoch: u32,
    /// Slots that lost their last row since the last commit, of keys that were there then; some have rows again.
    emptied: Vec<u32>,
    /// The same of keys that came since.
    new_emptied: Vec<u32>,
    /// Bytes of the keys themselves.
    key_bytes: usize,
    /// Entries that there is place for.
    entries_held: usize,
}

/// What an allocation takes beside its bytes.
const ALLOCATION_BYTES: usize = 16;

/// Bytes of an index for each key it has place for: a number, and five bytes of its hash, 7/8 full at most.
const INDEX_BYTES: usize = 11;

/// Entries that a list of one has place for.
const ENTRIES_MIN: usize = 4;

impl Keys {
    /// Bytes of a key with one row, beside the key.
    pub const ONE_BYTES: usize =
        2 * ALLOCATION_BYTES + size_of::<Key>() + 2 * INDEX_BYTES + ENTRIES_MIN * size_of::<Entry>();

    /// The key at `slot`.
    pub fn bytes(&self, slot: u32) -> &[u8] {
        &self.slots[slot as usize].bytes
    }

    /// Slot of `key`, if it has one.
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let is_it = |(tag, slot): &(u32, u32)| *tag == tag_of(hash) && *self.slots[*slot as usize].bytes == *key;
        self.index.find(hash, is_it).map(|(_, slot)| *slot)
    }

    /// Slot of `key`, made if there is none.
    pub fn slot(&mut self, hash: u64, key: &[u8]) -> u32 {
        if let Some(slot) = self.find(hash, key) {
            return slot;
        }
        let new = Key { bytes: key.into(), hash, epoch: self.epoch, rows: Default::default() };
        self.key_bytes += key.len();
        let slot = if let Some(slot) = self.unused.pop() {
            self.slots[slot as usize] = new;
            slot
        } else {
            self.slots.push(new);
            self.slots.len() as u32 - 1
        };
        let slots = &self.slots;
        self.index.insert_unique(hash, (tag_of(hash), slot), |(_, slot)| slots[*slot as usize].hash);
        slot
    }

    /// Has what is known of the keys of `hashes` fetched, and where a row of `side` goes: all of them side by side.
    pub fn fetch(&self, side: Side, hashes: impl Iterator<Item = u64>) {
        let found = hashes.filter_map(|hash| self.index.find(hash, |(tag, _)| *tag == tag_of(hash)));
        let slots: Vec<u32> = found.map(|(_, slot)| *slot).collect();
        slots.iter().for_each(|slot| self.fetch_slot(*slot));
        for slot in slots {
            if let Some(first) = self.slots[slot as usize].bytes.first() {
                prefetch(first);
            }
            self.fetch_entries(slot, side);
        }
    }

    /// Has the key at `slot` fetched.
    pub fn fetch_slot(&self, slot: u32) {
        prefetch(&self.slots[slot as usize].hash);
        prefetch(&self.slots[slot as usize].rows[1]);
    }

    /// Has rows of the key at `slot` fetched.
    pub fn fetch_entries(&self, slot: u32, side: Side) {
        let entries = &self.slots[slot as usize].rows[side as usize];
        entries.front().into_iter().chain(entries.back()).for_each(prefetch);
    }

    /// Rows of the key at `slot`.
    pub fn entries(&self, slot: u32, side: Side) -> &Entries {
        &self.slots[slot as usize].rows[side as usize]
    }

    /// Adds a row to the key at `slot`.
    pub fn add(&mut self, slot: u32, side: Side, entry: Entry) {
        let entries = &mut self.slots[slot as usize].rows[side as usize];
        let before = entries.capacity();
        if entries.back().is_none_or(|last| *last < entry) {
            entries.push_back(entry);
        } else {
            let place = entries.partition_point(|other| *other < entry);
            entries.insert(place, entry);
        }
        self.entries_held += entries.capacity() - before;
    }

    /// Takes a row away from the key at `slot`.
    pub fn remove(&mut self, slot: u32, side: Side, entry: Entry) {
        let key = &mut self.slots[slot as usize];
        let entries = &mut key.rows[side as usize];
        if let Ok(place) = entries.binary_search(&entry) {
            entries.remove(place);
        }
        if key.rows.iter().all(VecDeque::is_empty) {
            if key.epoch == self.epoch { self.new_emptied.push(slot) } else { self.emptied.push(slot) }
        }
    }

    /// Takes all rows away; the keys stay until [`commit`](Self::commit).
    pub fn clear_rows(&mut self) {
        for (slot, key) in self.slots.iter_mut().enumerate() {
            key.rows.iter_mut().for_each(VecDeque::clear);
            self.emptied.push(slot as u32);
        }
    }

    /// Forgets the keys without rows that came since the last commit: nothing taken back can need them.
    pub fn forget_new(&mut self) {
        for slot in std::mem::take(&mut self.new_emptied) {
            self.forget(slot);
        }
    }

    /// Forgets all keys without rows.
    pub fn commit(&mut self) {
        self.forget_new();
        for slot in std::mem::take(&mut self.emptied) {
            self.forget(slot);
        }
        if self.unused.len() == self.slots.len() {
            (self.slots, self.unused) = (Vec::new(), Vec::new());
        }
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Forgets the key at `slot` if it has no rows.
    fn forget(&mut self, slot: u32) {
        let key = &mut self.slots[slot as usize];
        if !key.rows.iter().all(VecDeque::is_empty) {
            return;
        }
        // A slot may be told of twice; the second time it is without a key already.
        if let Ok(entry) = self.index.find_entry(key.hash, |(_, other)| *other == slot) {
            entry.remove();
            self.key_bytes -= key.bytes.len();
            self.entries_held -= key.rows.iter().map(VecDeque::capacity).sum::<usize>();
            *key = Key::default();
            self.unused.push(slot);
        }
    }

    /// Number of keys that have, or had at the last commit, rows.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Bytes of the keys themselves.
    pub fn key_bytes(&self) -> usize {
        self.key_bytes
    }

    /// Bytes held, roughly.
    pub fn byte_len(&self) -> usize {
        self.key_bytes
            + self.index.len() * 2 * ALLOCATION_BYTES
            + self.slots.capacity() * size_of::<Key>()
            + self.index.capacity() * INDEX_BYTES
            + self.entries_held * size_of::<Entry>()
    }
}

const fn tag_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}
