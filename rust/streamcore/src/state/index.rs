//! Where the keys of a state table are: slots by hash.
//!
//! `state` probes for the keys of a batch together, each entry fetched before it is needed. An entry holds 32 bits of
//! the hash beside the slot: a key that is not meant is passed without being read, and growing reads no key at all. The
//! place of an entry rises with its hash, so growing goes through old and new entries from front to back. Invariant:
//! from an entry's place to where it is there is no gap.

use crate::prefetch::prefetch;

/// Slots by hash. An entry is 32 bits of the hash, then the slot and one; 0 is none.
#[derive(Debug, Clone, Default)]
pub struct Index {
    entries: Vec<u64>,
    len: usize,
}

const ENTRIES_MIN: usize = 8;

/// What is kept of a hash.
const fn kept(hash: u64) -> u32 {
    (hash >> 32) as u32 ^ hash as u32
}

const fn entry(kept: u32, slot: u32) -> u64 {
    (kept as u64) << 32 | (slot as u64 + 1)
}

const fn kept_of(entry: u64) -> u32 {
    (entry >> 32) as u32
}

const fn slot_of(entry: u64) -> u32 {
    (entry as u32).wrapping_sub(1)
}

impl Index {
    /// Where the search for a hash begins.
    #[inline]
    fn place(&self, kept: u32) -> usize {
        ((u64::from(kept) * self.entries.len() as u64) >> 32) as usize
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        if at + 1 == self.entries.len() { 0 } else { at + 1 }
    }

    /// Has the entries for `hash` fetched.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        if let Some(entry) = self.entries.get(self.place(kept(hash))) {
            prefetch(entry);
        }
    }

    /// The slot for `hash` for which `is_it`.
    #[inline]
    pub fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let kept = kept(hash);
        let mut at = self.place(kept);
        loop {
            let entry = *self.entries.get(at)?;
            if entry == 0 {
                return None;
            }
            if kept_of(entry) == kept && is_it(slot_of(entry)) {
                return Some(slot_of(entry));
            }
            at = self.next(at);
        }
    }

    /// Adds `slot`, which is not there.
    pub fn insert(&mut self, hash: u64, slot: u32) {
        if (self.len + 1) * 4 > self.entries.len() * 3 {
            self.grow();
        }
        self.len += 1;
        self.put(entry(kept(hash), slot));
    }

    #[inline]
    fn put(&mut self, entry: u64) {
        let mut at = self.place(kept_of(entry));
        while self.entries[at] != 0 {
            at = self.next(at);
        }
        self.entries[at] = entry;
    }

    fn grow(&mut self) {
        let len = (self.entries.len() * 2).max(ENTRIES_MIN);
        let old = std::mem::replace(&mut self.entries, vec![0; len]);
        old.into_iter().filter(|entry| *entry != 0).for_each(|entry| self.put(entry));
    }

    /// Takes `slot` out, which is there.
    pub fn remove(&mut self, hash: u64, slot: u32) {
        let mut gap = self.place(kept(hash));
        while self.entries[gap] != entry(kept(hash), slot) {
            gap = self.next(gap);
        }
        self.len -= 1;
        // Entries behind move up, unless they would come before their place.
        let mut at = gap;
        loop {
            self.entries[gap] = 0;
            loop {
                at = self.next(at);
                let moved = self.entries[at];
                if moved == 0 {
                    return;
                }
                let place = self.place(kept_of(moved));
                let stays = if gap < at { gap < place && place <= at } else { gap < place || place <= at };
                if !stays {
                    self.entries[gap] = moved;
                    gap = at;
                    break;
                }
            }
        }
    }

    /// Bytes held.
    pub const fn byte_len(&self) -> usize {
        self.entries.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// Few hashes, at both ends of their range, so that entries meet and wrap around.
        #[test]
        fn it_finds_what_is_in_it(steps in proptest::collection::vec((0_u32..300, any::<bool>()), 1..600)) {
            let hash = |slot: u32| u64::from(slot % 7).wrapping_sub(3) << 32 | u64::from(slot % 3) << 29;
            let (mut index, mut model) = (Index::default(), BTreeSet::new());
            for (slot, add) in steps {
                if !add && model.remove(&slot) {
                    index.remove(hash(slot), slot);
                } else if add && model.insert(slot) {
                    index.insert(hash(slot), slot);
                }
                for slot in 0..300 {
                    let known = model.contains(&slot).then_some(slot);
                    prop_assert_eq!(index.find(hash(slot), |other| other == slot), known);
                }
            }
        }
    }
}
