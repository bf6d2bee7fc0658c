//! Slices merged in blocks, so that windows that overlap do not merge all of their slices anew.
//!
//! A window of `n` slices is made of about `sqrt(n)` blocks of `sqrt(n)` slices, and of slices at its ends. A block is
//! made when a window first has need of all of it, and goes when one of its slices changes or is dropped; it is no
//! state, for it follows from the slices. Invariant: a block holds what its slices hold.

use super::{Aligned, BucketKey, Buckets};
use crate::state::StateTable;
use crate::window::aggregate::Accumulators;
use std::collections::BTreeMap;

/// Slices of a window below which merging them all is as quick.
const SLICES_MIN: i64 = 16;

/// The slices of some stretch of time, merged.
#[derive(Debug)]
struct Block {
    table: StateTable<Accumulators>,
    /// The first window that all of its rows count for.
    since: i64,
}

/// Blocks by where they begin, ms.
#[derive(Debug)]
pub struct Blocks {
    /// Length of a block, and what its start is a multiple of past `offset_ms`, ms.
    length_ms: i64,
    offset_ms: i64,
    by_start: BTreeMap<i64, Block>,
}

impl Blocks {
    /// For windows that have enough slices.
    pub fn new(windows: &Aligned) -> Option<Self> {
        let (length_ms, slice_ms, offset_ms) = windows.slicing()?;
        let slices = length_ms / slice_ms;
        let length_ms = (slices as f64).sqrt().ceil() as i64 * slice_ms;
        (slices >= SLICES_MIN).then(|| Self { length_ms, offset_ms, by_start: BTreeMap::new() })
    }

    /// Start of the block that `time_ms` is in.
    fn start(&self, time_ms: i64) -> i64 {
        time_ms - (time_ms - self.offset_ms).rem_euclid(self.length_ms)
    }

    /// The slice at `time_ms` changes.
    pub fn forget(&mut self, time_ms: i64) {
        if self.by_start.last_key_value().is_some_and(|(last_ms, _)| time_ms < *last_ms + self.length_ms) {
            self.by_start.remove(&self.start(time_ms));
        }
    }

    /// Everything may have changed.
    pub fn clear(&mut self) {
        self.by_start.clear();
    }

    /// Makes the blocks that lie in `[from_ms, to_ms)` and have more than one slice; `merge` makes a table of several.
    pub fn make(
        &mut self,
        (from_ms, to_ms): (i64, i64),
        slices: &Buckets<Accumulators>,
        merge: impl Fn(&[&StateTable<Accumulators>]) -> StateTable<Accumulators>,
    ) {
        let mut inside = slices.range(from_ms, to_ms).peekable();
        while let Some((first, table)) = inside.next() {
            let start_ms = self.start(first.time);
            let (mut tables, mut since) = (vec![table], first.since);
            while let Some((key, table)) = inside.next_if(|(key, _)| key.time < start_ms + self.length_ms) {
                tables.push(table);
                since = since.max(key.since);
            }
            let whole = start_ms >= from_ms && start_ms + self.length_ms <= to_ms;
            if whole && tables.len() > 1 && !self.by_start.contains_key(&start_ms) {
                self.by_start.insert(start_ms, Block { table: merge(&tables), since });
            }
        }
    }

    /// Tables whose rows are those of the window called `name`, over `[from_ms, to_ms)`.
    pub fn parts<'a>(
        &'a self,
        name: i64,
        (from_ms, to_ms): (i64, i64),
        slices: &'a Buckets<Accumulators>,
    ) -> Vec<&'a StateTable<Accumulators>> {
        let (mut parts, mut covered_ms) = (Vec::new(), i64::MIN);
        for (key, table) in slices.range(from_ms, to_ms) {
            let start_ms = self.start(key.time);
            let end_ms = start_ms + self.length_ms;
            let block = self.by_start.get(&start_ms).filter(|block| block.since <= name);
            match block.filter(|_| start_ms >= from_ms && end_ms <= to_ms) {
                _ if key.time < covered_ms => {}
                Some(block) => {
                    parts.push(&block.table);
                    covered_ms = end_ms;
                }
                None if key.since <= name => parts.push(table),
                None => {}
            }
        }
        parts
    }

    /// Bytes held.
    pub fn byte_len(&self) -> usize {
        self.by_start.values().map(|block| block.table.usage().bytes as usize).sum()
    }
}

/// The slice that `bucket` is of changes.
pub fn forget(blocks: &mut Option<Blocks>, bucket: BucketKey) {
    blocks.iter_mut().for_each(|blocks| blocks.forget(bucket.time));
}
