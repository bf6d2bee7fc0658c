//! State tables by event time: made, dropped and undone whole.
//!
//! `window` keeps a bucket a slice, sessions one bucket. Invariant: as for a table, after `rollback` the buckets are what
//! they were at the last `commit`.

use super::{Slots, StateTable};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64_with_seed;

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
