//! Which rows there is no room for, in windows whose entries are forgotten bucket by bucket.
//!
//! `window/state.rs` and `window/sliding.rs` ask before they count a batch; sessions, whose entries join, ask row by row.
//! Invariant: a row is turned away only if it would add an entry, and what lives at the clock before it fills the room.

use super::Arrivals;
use crate::room::{Room, Usage};
use crate::state::{BucketKey, Buckets, Slots, key_hash};
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeSet;

/// The rows of a batch, rising, that would add an entry to `held` for which there is no `room`. `over_at_ms` is the
/// watermark from which on a bucket is forgotten; `entry` gives a row's bucket and writes its key, where it has one.
pub fn without_room<S: Slots + Clone>(
    held: &mut Buckets<S>,
    room: &Room,
    arrivals: &Arrivals<'_>,
    over_at_ms: impl Fn(BucketKey) -> i64,
    mut entry: impl FnMut(u32, &mut Vec<u8>) -> Option<BucketKey>,
) -> Vec<u32> {
    let usage = held.usage();
    // Far from the bound nothing need be looked up: what is over and not forgotten yet only makes it nearer.
    if room.fits_any(usage, arrivals.rows.len(), arrivals.key_len_max() + size_of::<i64>()) {
        return Vec::new();
    }
    let (mut full, mut key) = (Vec::new(), Vec::new());
    let mut living = Living::new(held, entries(usage), over_at_ms);
    for row in arrivals.rows {
        key.clear();
        let Some(bucket) = entry(*row, &mut key) else { continue };
        living.forget(arrivals.watermarks_ms[*row as usize]);
        if !living.holds(bucket, &key) && !living.add(bucket, &key, room) {
            full.push(*row);
        }
    }
    full
}

/// What rows of the batch add to a bucket: how much, and the keys.
type Added = (Usage, HashSet<Box<[u8]>>);

/// Entries that live at the clock, those that rows of the batch add included.
struct Living<'h, S, F> {
    held: &'h Buckets<S>,
    over_at_ms: F,
    usage: Usage,
    /// Buckets by the watermark from which on they are forgotten.
    due: BTreeSet<(i64, BucketKey)>,
    /// Keys added, by bucket.
    added: HashMap<BucketKey, Added>,
}

impl<'h, S: Slots + Clone, F: Fn(BucketKey) -> i64> Living<'h, S, F> {
    fn new(held: &'h Buckets<S>, usage: Usage, over_at_ms: F) -> Self {
        let due = held.iter().map(|(bucket, _)| (over_at_ms(bucket), bucket)).collect();
        Self { held, over_at_ms, usage, due, added: HashMap::new() }
    }

    /// Takes out the buckets that are over at `watermark_ms`.
    fn forget(&mut self, watermark_ms: i64) {
        while let Some((_, bucket)) = self.due.first().copied().filter(|(over_at_ms, _)| *over_at_ms <= watermark_ms) {
            self.due.pop_first();
            let held = self.held.get(bucket).map_or(Usage::default(), |table| entries(table.usage()));
            let added = self.added.get(&bucket).map_or(Usage::default(), |(usage, _)| *usage);
            self.usage = self.usage - held - added;
        }
    }

    fn holds(&self, bucket: BucketKey, key: &[u8]) -> bool {
        self.held.get(bucket).is_some_and(|table| table.find(key_hash(key), key).is_some())
            || self.added.get(&bucket).is_some_and(|(_, keys)| keys.contains(key))
    }

    /// Adds an entry, if there is room for it.
    fn add(&mut self, bucket: BucketKey, key: &[u8], room: &Room) -> bool {
        let entry = Usage::entry(key.len());
        if !room.fits(self.usage + entry) {
            return false;
        }
        self.usage += entry;
        self.due.insert(((self.over_at_ms)(bucket), bucket));
        let (usage, keys) = self.added.entry(bucket).or_default();
        *usage += entry;
        keys.insert(key.into());
        true
    }
}

/// What of `usage` decides whether there is room.
const fn entries(usage: Usage) -> Usage {
    Usage { bytes: 0, undo_bytes: 0, ..usage }
}
