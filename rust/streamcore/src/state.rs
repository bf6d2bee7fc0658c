//! The state table under every window: keyed slots in time buckets, with an undo log that is also the dirty set, a
//! digest, and save/load (`state/saved.rs`).
//!
//! `window` keeps a bucket a slice, sessions one bucket; `dedupe` and `join` have tables of their own. Invariant:
//! after `rollback` a table is what it was at the last `commit`, to the byte that `encode` writes.

mod buckets;
mod chunks;
mod index;
mod keys;
mod moving;
mod region;
mod saved;
mod touched;

pub use buckets::{BucketKey, Buckets};
pub(crate) use chunks::Chunks;
pub(crate) use keys::{SHORT_MAX, same};
pub use moving::{Contents, Route, RouteOf};
pub(crate) use region::{LARGE_PAGE, Region};

use crate::codec::Reader;
use crate::error::Result;
use crate::prefetch::TOGETHER;
use crate::room::Usage;
use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;
use index::Index;
use keys::Keys;
use std::hash::BuildHasher;
use touched::Touched;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

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
    /// Takes everything since the last commit back, before slots are truncated and restored. For the same values.
    fn rollback(&mut self) {}
    /// Has the slot's value fetched.
    fn prefetch(&self, _slot: u32) {}
    /// A 64-bit digest of the slot's value, independent of how it came about.
    fn digest(&self, slot: u32) -> u64;
    /// A digest of the slot's value that does not depend on the lane it is in either.
    fn content(&self, slot: u32) -> u64 {
        self.digest(slot)
    }
    /// Appends the slot's value for saving.
    fn encode(&self, slot: u32, out: &mut Vec<u8>);
    /// Sets `slot`, which holds the empty value, from what `encode` wrote.
    fn decode(&mut self, slot: u32, saved: &mut Reader<'_>) -> Result<()>;
    /// Bytes held by all slots, roughly. Asked for at every push, so it must not go through them.
    fn byte_len(&self) -> usize;
    /// Bytes held beside those to undo this epoch, where values keep their own undo.
    fn undo_len(&self) -> usize {
        0
    }
    /// True when the slot's key counts as absent; such slots are not saved and are reclaimed.
    fn is_vacant(&self, _slot: u32) -> bool {
        false
    }
    /// Number of such slots.
    fn vacant(&self) -> usize {
        0
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

/// One change to take back: the slot, where its mark ends, and the digest of its key, which lies where nobody looks
/// again before the epoch ends.
#[derive(Debug, Clone, Copy)]
struct Undo {
    slot: u32,
    mark_end: usize,
    key_digest: u64,
}

/// Keys with slots.
#[derive(Debug, Clone)]
pub struct StateTable<S> {
    /// Slots by key.
    index: Index,
    /// Key of each slot.
    keys: Keys,
    /// The older slots changed since the last commit.
    touched: Touched,
    /// Value of each slot.
    slots: S,
    /// Slots that existed at the last commit.
    committed_len: usize,
    /// Marks of the older slots changed since.
    undo: Chunks<Undo>,
    marks: Vec<u8>,
    /// Digest as of the last seal, as of the last commit, and that without the rows changed since.
    digest: u64,
    committed_digest: u64,
    kept_digest: u64,
    /// What [`Buckets`] has counted of this table.
    counted: Usage,
    /// Its number among the tables that [`Buckets`] made.
    born: u64,
    /// No save of the table with this number has its rows, whatever was committed.
    unsaved: bool,
}

/// What a key takes in a table beside itself and its values, bytes at most: its record, which holds the key itself where
/// that is short, a bit, and a place in the index, which is 53 to 80 % full.
pub const SLOT_BYTES: u64 = 16 + 1 + 16;

/// Vacant slots of a table beyond which, when they are the majority, a commit reclaims them.
const VACANT_MAX: usize = 1024;

/// Keys with their hashes that are looked up together, on the way to their slots.
#[derive(Default)]
struct Group<'k> {
    keys: [(&'k [u8], u64, Option<u32>); TOGETHER],
    len: usize,
}

/// Hash of a key inside one process, of which every one has a seed of its own, so that nobody can send keys that all
/// have one hash. Never saved, and no answer depends on it.
#[must_use]
#[inline]
pub fn key_hash(key: &[u8]) -> u64 {
    SeedableRandomState::with_seed(0, SharedSeed::global_random()).hash_one(key)
}

/// Empties `list` and keeps the memory that it took for that of the next epoch, but none that a longer one took.
pub(crate) fn clear_for_next<T>(list: &mut Vec<T>) {
    let used = list.len();
    list.clear();
    if list.capacity() > 2 * used {
        *list = Vec::with_capacity(used);
    }
}

impl<S: Slots> StateTable<S> {
    /// An empty table; `slots` is empty too.
    pub fn new(slots: S) -> Self {
        Self {
            index: Index::default(),
            keys: Keys::default(),
            touched: Touched::default(),
            slots,
            committed_len: 0,
            undo: Chunks::default(),
            marks: Vec::new(),
            digest: 0,
            committed_digest: 0,
            kept_digest: 0,
            counted: Usage::default(),
            born: 0,
            unsaved: false,
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
        self.keys.len() == 0
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
        self.index.find(hash, |slot| self.keys.is(slot as usize, key))
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

    /// The slots of `keys` with their hashes, as [`slot_for_update`](Self::slot_for_update) gives them, added to `found`.
    ///
    /// What a table larger than the cache holds of a key lies in several places, each of which is found through the one
    /// before; so keys go from place to place in groups, and while the places of one group are on their way the
    /// groups before it are worked on.
    pub fn slots_for_update<'k>(&mut self, mut keys: impl Iterator<Item = (&'k [u8], u64)>, found: &mut Vec<u32>) {
        let (mut here, mut next) = (Group::default(), Group::default());
        self.ask_for(&mut keys, &mut next);
        while here.len + next.len > 0 {
            let mut ahead = Group::default();
            self.ask_for(&mut keys, &mut ahead);
            self.locate(&mut next);
            self.update_located(&here, found);
            (here, next) = (next, ahead);
        }
    }

    /// Has the places in the index fetched of the next of `keys`, which go into `group`.
    #[inline]
    fn ask_for<'k>(&self, keys: &mut impl Iterator<Item = (&'k [u8], u64)>, group: &mut Group<'k>) {
        for (place, (key, hash)) in group.keys.iter_mut().zip(keys) {
            self.index.prefetch(hash);
            *place = (key, hash, None);
            group.len += 1;
        }
    }

    /// Finds the slots that the keys of `group` have by their hashes, and has what lies there fetched.
    #[inline]
    fn locate(&self, group: &mut Group<'_>) {
        for (_, hash, slot) in &mut group.keys[..group.len] {
            *slot = self.index.find(*hash, |_| true);
            if let Some(slot) = *slot {
                self.touched.prefetch(slot);
                self.prefetch(slot);
            }
        }
    }

    /// The slots of `group`, located, added to `found`. A key may have got its slot since.
    #[inline]
    fn update_located(&mut self, group: &Group<'_>, found: &mut Vec<u32>) {
        let group = &group.keys[..group.len];
        if self.keys.any_long() {
            group.iter().filter_map(|(.., slot)| *slot).for_each(|slot| self.keys.prefetch_long(slot as usize));
        }
        for (key, hash, slot) in group {
            let slot = slot.filter(|slot| self.keys.is(*slot as usize, key));
            found.push(match slot {
                Some(slot) => {
                    self.touch(slot);
                    slot
                }
                None => self.slot_for_update(*hash, key).0,
            });
        }
    }

    /// The keys of all slots, with zeros behind, if none is longer than [`SHORT_MAX`].
    pub fn short_keys(&self) -> Option<impl Iterator<Item = [u8; SHORT_MAX]> + Clone> {
        self.keys.short()
    }

    /// Number of bytes that all keys begin with.
    #[must_use]
    pub fn shared_key_len(&self) -> usize {
        let Some(first) = (!self.is_empty()).then(|| self.key(0)) else { return 0 };
        (1..self.len() as u32).fold(first.len(), |shared, slot| {
            let key = self.key(slot);
            if key.get(..shared) == first.get(..shared) {
                return shared;
            }
            first.iter().zip(key).take_while(|(left, right)| left == right).count()
        })
    }

    /// Has what is first asked of `slots` fetched; for going through many, some dozens at a time.
    #[inline]
    pub fn prefetch_all(&self, slots: &[u32]) {
        slots.iter().for_each(|slot| self.prefetch(*slot));
    }

    /// Has the keys of `slots` fetched that lie behind what [`prefetch_all`](Self::prefetch_all) asked for.
    #[inline]
    pub fn prefetch_long(&self, slots: &[u32]) {
        if self.keys.any_long() {
            slots.iter().for_each(|slot| self.keys.prefetch_long(*slot as usize));
        }
    }

    /// Has what is first asked of a slot fetched.
    #[inline]
    fn prefetch(&self, slot: u32) {
        self.keys.prefetch(slot as usize);
        self.slots.prefetch(slot);
    }

    /// Adds `key`, which must not be there.
    pub fn insert_new(&mut self, hash: u64, key: &[u8]) -> u32 {
        let slot = self.keys.len() as u32;
        self.keys.push(key);
        self.slots.push_empty();
        self.index.insert(hash, slot);
        slot
    }

    /// Marks `slot` before its first change in this epoch.
    #[inline]
    pub fn touch(&mut self, slot: u32) {
        if (slot as usize) < self.committed_len && self.touched.add(slot) {
            self.mark(slot);
        }
    }

    fn mark(&mut self, slot: u32) {
        self.slots.mark(slot, &mut self.marks);
        let key_digest = xxh3_64(self.key(slot));
        self.kept_digest = self.kept_digest.wrapping_sub(self.row_digest(slot, key_digest));
        self.undo.push(Undo { slot, mark_end: self.marks.len(), key_digest });
    }

    /// Slots changed or made since the last commit.
    pub fn dirty(&self) -> impl Iterator<Item = u32> {
        let new = self.committed_len as u32..self.len() as u32;
        self.undo.iter().map(|undo| undo.slot).chain(new)
    }

    /// Digest of a key, given its own, and its value; 0 for a key that counts as absent.
    fn row_digest(&self, slot: u32, key_digest: u64) -> u64 {
        if self.slots.is_vacant(slot) {
            0
        } else {
            xxh3_64_with_seed(&self.slots.digest(slot).to_le_bytes(), key_digest)
        }
    }

    /// Brings the digest up to date.
    pub fn seal(&mut self) -> u64 {
        let mut digest = self.kept_digest;
        for (at, undo) in self.undo.iter().enumerate() {
            if let Some(ahead) = self.undo.get(at + TOGETHER) {
                self.slots.prefetch(ahead.slot);
            }
            digest = digest.wrapping_add(self.row_digest(undo.slot, undo.key_digest));
        }
        for slot in self.committed_len as u32..self.len() as u32 {
            digest = digest.wrapping_add(self.row_digest(slot, xxh3_64(self.key(slot))));
        }
        self.digest = digest;
        digest
    }

    /// Everything since the last commit is kept for good.
    pub fn commit(&mut self) {
        self.slots.commit();
        self.touched.clear(self.undo.iter().map(|undo| undo.slot), self.undo.len());
        self.undo.clear();
        clear_for_next(&mut self.marks);
        self.committed_len = self.len();
        self.unsaved = false;
        (self.committed_digest, self.kept_digest) = (self.digest, self.digest);
    }

    /// Everything since the last commit is taken back.
    pub fn rollback(&mut self) {
        for slot in self.committed_len..self.len() {
            self.index.remove(key_hash(self.keys.get(slot)), slot as u32);
        }
        self.keys.truncate(self.committed_len);
        self.slots.rollback();
        self.slots.truncate(self.committed_len);
        self.touched.clear(self.undo.iter().map(|undo| undo.slot), self.undo.len());
        let undone = std::mem::take(&mut self.undo);
        let marks = std::mem::take(&mut self.marks);
        let mut start = 0;
        for undo in undone.iter() {
            self.slots.restore(undo.slot, &mut Reader::new(&marks[start..undo.mark_end]));
            start = undo.mark_end;
        }
        (self.digest, self.kept_digest) = (self.committed_digest, self.committed_digest);
    }

    /// What it holds; every slot counts as an entry.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let key_bytes = self.keys.key_bytes();
        let bytes = self.keys.byte_len() + self.touched.byte_len() + self.index.byte_len() + self.slots.byte_len();
        let undo_bytes = self.marks.len() + self.undo.byte_len() + self.slots.undo_len();
        // Slots that are vacant in the majority go with the next commit.
        let going_bytes = if self.is_sparse() { bytes / self.len() * self.slots.vacant() } else { 0 };
        Usage {
            entries: self.len() as u64,
            key_bytes: key_bytes as u64,
            bytes: (bytes - going_bytes) as u64,
            undo_bytes: (undo_bytes + going_bytes) as u64,
        }
    }

    /// Whether a commit reclaims the vacant slots.
    fn is_sparse(&self) -> bool {
        self.len() > VACANT_MAX && self.slots.vacant() * 2 > self.len()
    }
}
