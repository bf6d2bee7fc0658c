//! Exact sets of values, as 128-bit fingerprints.
//!
//! `typed` feeds it canonical bytes, `finish` asks for the size. Two different values with one
//! fingerprint would be counted once: among a billion values the chance is about `1.5e-21`.
//! Invariant: `fingerprints` holds each once, in order of first appearance, and the index, where
//! there is one, finds exactly those. A set only grows, so its mark is its length.

use super::AggregatePlan;
use super::cells::{ALLOCATION_BYTES, Cell};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Sets up to this size are searched from end to end: faster than an index, and without one.
const SCAN_MAX: usize = 16;

/// The fingerprint of `bytes`; `tag` keeps types apart.
#[inline]
pub(super) fn fingerprint(bytes: &[u8], tag: u64) -> u128 {
    xxh3_128_with_seed(bytes, tag)
}

/// The different values seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Distinct {
    fingerprints: Vec<u128>,
    /// Positions in `fingerprints`, from the first beyond [`SCAN_MAX`] on.
    index: Option<Box<HashTable<u32>>>,
}

impl Distinct {
    /// How many different values there are.
    pub fn len(&self) -> usize {
        self.fingerprints.len()
    }

    /// Adds a value; false when it was there.
    pub fn insert(&mut self, fingerprint: u128) -> bool {
        let position = self.fingerprints.len();
        let Some(index) = &mut self.index else {
            if self.fingerprints.contains(&fingerprint) {
                return false;
            }
            self.fingerprints.push(fingerprint);
            if position == SCAN_MAX {
                self.index = Some(Box::new(indexed(&self.fingerprints)));
            }
            return true;
        };
        let known = &self.fingerprints;
        let entry =
            index.entry(fingerprint as u64, |at| known[*at as usize] == fingerprint, |at| known[*at as usize] as u64);
        let hashbrown::hash_table::Entry::Vacant(vacant) = entry else { return false };
        vacant.insert(position as u32);
        self.fingerprints.push(fingerprint);
        true
    }

    fn truncate(&mut self, len: usize) {
        if len <= SCAN_MAX {
            self.index = None;
        }
        if let Some(index) = &mut self.index {
            for (position, fingerprint) in self.fingerprints.iter().enumerate().skip(len) {
                if let Ok(entry) = index.find_entry(*fingerprint as u64, |at| *at as usize == position) {
                    entry.remove();
                }
            }
        }
        self.fingerprints.truncate(len);
    }
}

/// An index of `fingerprints`, which are their own hashes.
fn indexed(fingerprints: &[u128]) -> HashTable<u32> {
    let mut index = HashTable::with_capacity(2 * fingerprints.len());
    for (position, fingerprint) in fingerprints.iter().enumerate() {
        index.insert_unique(*fingerprint as u64, position as u32, |at| fingerprints[*at as usize] as u64);
    }
    index
}

impl Cell for Distinct {
    const FORM: u8 = 5;

    fn merge(&mut self, other: &Self, _: &AggregatePlan) {
        for fingerprint in &other.fingerprints {
            self.insert(*fingerprint);
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.fingerprints.len() as u64);
        for fingerprint in &self.fingerprints {
            out.put_i128(*fingerprint as i128);
        }
    }

    fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        let len = saved.count(size_of::<u128>())?;
        let mut set = Self { fingerprints: Vec::with_capacity(len), index: None };
        for _ in 0..len {
            if !set.insert(saved.i128()? as u128) {
                return Err(Error::state("saved state holds one value twice in a set; it was overwritten"));
            }
        }
        Ok(set)
    }

    fn mark(&self, out: &mut Vec<u8>) {
        out.put_varint(self.fingerprints.len() as u64);
    }

    fn restore(&mut self, mark: &mut Reader<'_>) {
        let len = mark.varint().expect("a mark holds the length that was written");
        self.truncate(len as usize);
    }

    /// The sum of the elements' hashes: the order of appearance does not matter.
    fn digest(&self) -> u64 {
        let hash = |fingerprint: &u128| (*fingerprint as u64) ^ ((fingerprint >> 64) as u64).rotate_left(32);
        self.fingerprints.iter().map(hash).fold(self.fingerprints.len() as u64, u64::wrapping_add)
    }

    fn heap_len(&self) -> usize {
        // an entry of the index takes a position and a control byte, at a load of 7/16 to 7/8
        let index_bytes = if self.index.is_some() { 8 * self.len() } else { 0 };
        let own = if self.fingerprints.is_empty() { 0 } else { ALLOCATION_BYTES };
        size_of_val(self.fingerprints.as_slice()) + index_bytes + own
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn small_sets_have_no_index() {
        let mut set = Distinct::default();
        for value in 0..SCAN_MAX as u128 {
            assert!(set.insert(value));
        }
        assert!(set.index.is_none());
        assert!(set.insert(99) && set.index.is_some());
        assert_eq!(size_of::<Distinct>(), 32);
    }

    #[test]
    fn types_are_told_apart() {
        assert_ne!(fingerprint(b"a", 1), fingerprint(b"a", 2));
    }

    #[test]
    fn a_value_saved_twice_is_refused() {
        let mut out = Vec::new();
        out.put_varint(2);
        out.put_i128(7);
        out.put_i128(7);
        assert!(Distinct::decode(&mut Reader::new(&out)).is_err());
    }

    proptest! {
        #[test]
        fn counts_restores_and_counts_again_as_a_set_does(
            values in prop::collection::vec(0_u64..80, 0..200), cut in any::<prop::sample::Index>(),
        ) {
            let (before, after) = values.split_at(cut.index(values.len() + 1));
            let insert = |set: &mut Distinct, values: &[u64]| values.iter().for_each(|value| {
                set.insert(fingerprint(&value.to_le_bytes(), 0));
            });
            let mut set = Distinct::default();
            insert(&mut set, before);
            let (mut mark, mut saved) = (Vec::new(), Vec::new());
            set.mark(&mut mark);
            set.encode(&mut saved);
            let distinct = |values: &[u64]| values.iter().collect::<BTreeSet<_>>().len();
            for _ in 0..2 {
                prop_assert_eq!(set.len(), distinct(before));
                insert(&mut set, after);
                prop_assert_eq!(set.len(), distinct(&values));
                set.restore(&mut Reader::new(&mark));
                let mut restored = Vec::new();
                set.encode(&mut restored);
                prop_assert_eq!(&restored, &saved);
                prop_assert_eq!(set.index.is_some(), set.len() > SCAN_MAX);
            }
        }
    }
}
