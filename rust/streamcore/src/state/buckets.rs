//! Tables in time order, made and dropped whole.
//!
//! `state.rs` is what one of them is; `window` keeps them, a bucket a slice. Invariant: `usage` is what all tables hold, without
//! going through them.

use super::{Slots, StateTable};
use crate::codec::Reader;
use crate::room::Usage;
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
    pub(super) empty: S,
    pub(super) live: BTreeMap<BucketKey, StateTable<S>>,
    /// Dropped since the last commit, for rollback: those that had rows then.
    dropped: Vec<(BucketKey, StateTable<S>)>,
    /// Made since the last commit.
    made: Vec<BucketKey>,
    /// What the live tables hold, as `counted` in them, and those dropped, which undo takes.
    usage: Usage,
    /// Tables that may have changed since they were counted.
    uncounted: Vec<BucketKey>,
    /// Tables ever made.
    pub(super) births: u64,
}

impl<S: Slots + Clone> Buckets<S> {
    /// No buckets.
    pub fn new(empty: S) -> Self {
        let (usage, uncounted) = (Usage::default(), Vec::new());
        Self { empty, live: BTreeMap::new(), dropped: Vec::new(), made: Vec::new(), usage, uncounted, births: 0 }
    }

    /// The table of `key`, made if there is none.
    pub fn bucket(&mut self, key: BucketKey) -> &mut StateTable<S> {
        if self.uncounted.last() != Some(&key) {
            self.uncounted.push(key);
        }
        let (empty, made, births) = (&self.empty, &mut self.made, &mut self.births);
        self.live.entry(key).or_insert_with(|| {
            made.push(key);
            *births += 1;
            StateTable { born: *births, ..StateTable::new(empty.clone()) }
        })
    }

    /// A table of its own number.
    pub(super) fn new_table(&mut self) -> StateTable<S> {
        self.births += 1;
        StateTable { born: self.births, ..StateTable::new(self.empty.clone()) }
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

    /// Drops the table of `key`, keeping it for rollback if that brings rows back.
    pub fn drop_bucket(&mut self, key: BucketKey) {
        let Some(table) = self.live.remove(&key) else { return };
        self.usage -= table.counted;
        if table.committed_len > 0 {
            let usage = table.usage();
            self.usage += Usage { undo_bytes: usage.bytes + usage.undo_bytes, ..Usage::default() };
            self.dropped.push((key, table));
        }
    }

    /// Takes every live table out, undo log and all; for scratch state that is emptied every epoch.
    pub fn take(&mut self) -> BTreeMap<BucketKey, StateTable<S>> {
        self.made.clear();
        self.uncounted.clear();
        self.usage = Usage::default();
        std::mem::take(&mut self.live)
    }

    /// Puts `table` in as the new bucket `key`, which must not be live.
    pub fn adopt(&mut self, key: BucketKey, mut table: StateTable<S>) {
        debug_assert!(table.committed_len == 0 && !self.live.contains_key(&key));
        table.counted = Usage::default();
        self.births += 1;
        table.born = self.births;
        self.uncounted.push(key);
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
        let renumbered = self.reclaim();
        self.count_all();
        renumbered
    }

    /// Rebuilds tables that are mostly vacant.
    fn reclaim(&mut self) -> bool {
        let mut renumbered = false;
        for table in self.live.values_mut() {
            if !table.is_sparse() {
                continue;
            }
            self.births += 1;
            let mut fresh = StateTable { born: self.births, ..StateTable::new(self.empty.clone()) };
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
        self.live.extend(std::mem::take(&mut self.dropped));
        for table in self.live.values_mut() {
            table.rollback();
        }
        self.count_all();
    }

    /// What is held. Costs what changed since the last call, not what there is.
    pub fn usage(&mut self) -> Usage {
        for key in std::mem::take(&mut self.uncounted) {
            if let Some(table) = self.live.get_mut(&key) {
                let usage = table.usage();
                self.usage = self.usage + usage - std::mem::replace(&mut table.counted, usage);
            }
        }
        self.usage
    }

    /// Counts anew, where every table may have changed and none is left to be dropped.
    pub(super) fn count_all(&mut self) {
        self.uncounted.clear();
        self.usage = Usage::default();
        for table in self.live.values_mut() {
            table.counted = table.usage();
            self.usage += table.counted;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saving::{Extent, Saving};
    use crate::state::{NoValue, key_hash};

    const FIRST: BucketKey = BucketKey { time: 0, since: 0 };
    const SECOND: BucketKey = BucketKey { time: 10, since: 0 };

    fn add(buckets: &mut Buckets<NoValue>, bucket: BucketKey, keys: std::ops::Range<u32>) {
        for key in keys {
            let key = key.to_le_bytes();
            buckets.bucket(bucket).slot_for_update(key_hash(&key), &key);
        }
    }

    fn saved(buckets: &Buckets<NoValue>) -> Vec<u8> {
        let mut saving = Saving::new(Extent::Whole);
        buckets.save(&mut saving);
        saving.out
    }

    #[test]
    fn of_tables_that_are_dropped_only_those_are_kept_that_an_undo_brings_back() {
        let mut buckets = Buckets::new(NoValue);
        add(&mut buckets, FIRST, 0..1_000);
        buckets.seal();
        buckets.commit();
        let (before, held) = (saved(&buckets), buckets.usage());
        add(&mut buckets, SECOND, 0..100_000);
        assert!(buckets.usage().bytes > 10 * held.bytes);
        buckets.drop_bucket(SECOND);
        assert_eq!(buckets.usage(), held, "made and dropped within the epoch");
        buckets.drop_bucket(FIRST);
        add(&mut buckets, FIRST, 0..100_000);
        buckets.usage();
        buckets.drop_bucket(FIRST);
        let usage = buckets.usage();
        assert_eq!((usage.entries, usage.bytes, buckets.len()), (0, 0, 0));
        assert!(usage.undo_bytes <= held.bytes + held.undo_bytes, "{usage:?} of {held:?}");
        buckets.rollback();
        assert_eq!((saved(&buckets), buckets.usage()), (before, held));
    }
}
