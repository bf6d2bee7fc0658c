//! Where an id may lie: positions in `ids` by hash, a cache line for fifteen of them.
//!
//! A hash names a bucket of one line; what finds it full goes on to the next, and every full bucket counts how
//! many went past it, so that a search ends at the first that none did (as in Folly's F14, N. Bronson and X. Shi,
//! 2019). An entry is a position and as many bits of the hash as 32 leave, so that a new id is told by the one line
//! alone, nearly always. There are 64 parts that grow on their own: no id waits for all of them to be built anew.
//! Never saved. Invariant: every position that was put in and not taken out is found under its hash.

use crate::prefetch::prefetch;

/// How many probes ahead the line of the index is asked for.
pub const AHEAD: usize = 32;

/// Parts of the index.
const PARTS: usize = 64;
/// Bits of a hash that choose the part; those above them tell entries apart, the upper half chooses the bucket.
const PART_BITS: u32 = PARTS.trailing_zeros();
/// Entries of a bucket.
const ENTRIES: usize = 15;
/// Bits that a position has at least; the entry's others are of the hash.
const POSITION_BITS_MIN: u32 = 16;
/// Most positions there may be: an entry keeps one bit of the hash.
pub const POSITIONS_MAX: usize = 1 << 31;
/// Part of the entries in use, in percent, beyond which a part grows.
const FULL_PERCENT: usize = 85;
/// Part of the entries in use after that, and after shrinking.
const GROWN_PERCENT: usize = 61;
/// One of so many entries may be displaced, beyond twice those that were when the part was built.
const DISPLACED_SHARE: usize = 16;
/// Part of the entries in use below which a part shrinks.
const SPARSE_PERCENT: usize = 25;

/// Where the hashes of positions come from.
pub trait Hashes {
    /// The hash of the id at `position`.
    fn hash(&self, position: u32) -> u64;
    /// Has fetched what [`hash`](Self::hash) reads.
    fn prefetch(&self, position: u32);
}

/// Entries whose hashes lie near to one another. One cache line.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Bucket {
    entries: [u32; ENTRIES],
    /// How many entries are used, from the first on.
    used: u16,
    /// How many entries went on to the next bucket; stays at the greatest number once it is there.
    passed: u16,
}

const EMPTY: Bucket = Bucket { entries: [0; ENTRIES], used: 0, passed: 0 };

impl Bucket {
    /// One bit for each used entry whose bits above the lowest `bits` are those of `entry`.
    #[inline]
    fn matches(&self, entry: u32, bits: u32) -> u32 {
        let mut matches = 0;
        for (at, other) in self.entries.iter().enumerate() {
            matches |= u32::from((other ^ entry) >> bits == 0) << at;
        }
        matches & ((1 << self.used) - 1)
    }
}

/// What a search comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Position(u32),
    /// There is none, and this bucket, the first that one would be in, takes it.
    RoomAt(usize),
    /// There is none.
    Nothing,
}

/// Where a position that was not found goes in; of no use once the index has changed.
#[derive(Debug, Clone, Copy)]
pub struct Vacancy {
    hash: u64,
    bucket: Option<usize>,
}

/// The entries whose hashes have the same low bits.
#[derive(Debug, Clone)]
struct Part {
    buckets: Vec<Bucket>,
    len: usize,
    /// Entries with which it is full.
    len_max: usize,
    /// Entries that are not in the bucket their hash names. Taking old ones out and putting new ones in makes them
    /// ever more.
    displaced: usize,
    /// How many are too many.
    displaced_max: usize,
    position_bits: u32,
}

impl Part {
    fn new(buckets: usize, position_bits: u32) -> Self {
        let len_max = buckets * ENTRIES * FULL_PERCENT / 100;
        let displaced_max = len_max / DISPLACED_SHARE;
        Self { buckets: vec![EMPTY; buckets], len: 0, len_max, displaced: 0, displaced_max, position_bits }
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.buckets.len() as u64) >> 32) as usize
    }

    /// Bits of the hash above those of the position.
    #[inline]
    fn entry(&self, hash: u64, position: u32) -> u32 {
        ((hash >> PART_BITS) as u32) << self.position_bits | position
    }

    fn position_of(&self, entry: u32) -> u32 {
        entry & ((1_u64 << self.position_bits) - 1) as u32
    }

    fn next(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() { 0 } else { bucket + 1 }
    }

    /// The position under `hash` that `is_it` agrees to.
    #[inline]
    fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Found {
        let (home, entry) = (self.home(hash), self.entry(hash, 0));
        let bucket = &self.buckets[home];
        if let Some(position) = self.find_in(bucket, entry, &mut is_it) {
            return Found::Position(position);
        }
        if bucket.passed == 0 && usize::from(bucket.used) < ENTRIES {
            return Found::RoomAt(home);
        }
        self.find_behind(home, entry, is_it)
    }

    #[inline]
    fn find_in(&self, bucket: &Bucket, entry: u32, is_it: &mut impl FnMut(u32) -> bool) -> Option<u32> {
        let mut matches = bucket.matches(entry, self.position_bits);
        while matches != 0 {
            let position = self.position_of(bucket.entries[matches.trailing_zeros() as usize]);
            if is_it(position) {
                return Some(position);
            }
            matches &= matches - 1;
        }
        None
    }

    /// Goes on where entries went past the bucket at `home`, or it is full.
    fn find_behind(&self, home: usize, entry: u32, mut is_it: impl FnMut(u32) -> bool) -> Found {
        let mut at = home;
        for _ in 1..self.buckets.len() {
            if self.buckets[at].passed == 0 {
                break;
            }
            at = self.next(at);
            if let Some(position) = self.find_in(&self.buckets[at], entry, &mut is_it) {
                return Found::Position(position);
            }
        }
        Found::Nothing
    }

    /// Puts an entry in; there is room, and the position has no more bits than entries hold.
    fn put(&mut self, hash: u64, position: u32) {
        let (home, entry) = (self.home(hash), self.entry(hash, position));
        let mut at = home;
        while usize::from(self.buckets[at].used) == ENTRIES {
            self.buckets[at].passed = self.buckets[at].passed.saturating_add(1);
            at = self.next(at);
        }
        self.displaced += usize::from(at != home);
        self.put_into(at, entry);
    }

    #[inline]
    fn put_into(&mut self, bucket: usize, entry: u32) {
        let bucket = &mut self.buckets[bucket];
        bucket.entries[usize::from(bucket.used)] = entry;
        bucket.used += 1;
        self.len += 1;
    }

    /// Takes an entry out, if it is there.
    fn take(&mut self, hash: u64, position: u32) -> bool {
        let (home, entry) = (self.home(hash), self.entry(hash, position));
        let mut at = home;
        for _ in 0..self.buckets.len() {
            let bucket = &mut self.buckets[at];
            let matches = bucket.matches(entry, 0);
            if matches != 0 {
                bucket.used -= 1;
                bucket.entries[matches.trailing_zeros() as usize] = bucket.entries[usize::from(bucket.used)];
                self.len -= 1;
                self.displaced -= usize::from(at != home);
                self.none_passes(home, at);
                return true;
            }
            if bucket.passed == 0 {
                return false;
            }
            at = self.next(at);
        }
        false
    }

    /// One entry less went past the buckets from `home` to `at`.
    fn none_passes(&mut self, home: usize, at: usize) {
        let mut passed = home;
        while passed != at {
            let count = &mut self.buckets[passed].passed;
            if *count < u16::MAX {
                *count -= 1;
            }
            passed = self.next(passed);
        }
    }

    /// The same entries in as many buckets as they take when `GROWN_PERCENT` of the room is used.
    fn rebuild(&mut self, position_bits: u32, hashes: &impl Hashes) {
        let buckets = (self.len * 100 / (ENTRIES * GROWN_PERCENT)).max(self.len / ENTRIES) + 1;
        let mut rebuilt = Self::new(buckets, position_bits);
        let entries = self.buckets.iter().flat_map(|bucket| &bucket.entries[..usize::from(bucket.used)]);
        let positions: Vec<u32> = entries.map(|entry| self.position_of(*entry)).collect();
        for (at, position) in positions.iter().enumerate() {
            if let Some(ahead) = positions.get(at + AHEAD) {
                hashes.prefetch(*ahead);
            }
            rebuilt.put(hashes.hash(*position), *position);
        }
        rebuilt.displaced_max += 2 * rebuilt.displaced;
        *self = rebuilt;
    }

    /// Percentage of the entries in use.
    fn percent(&self) -> usize {
        self.len * 100 / (self.buckets.len() * ENTRIES)
    }
}

/// Positions by hash. One hash may have several.
#[derive(Debug, Clone)]
pub struct Index {
    parts: Vec<Part>,
}

fn part_of(hash: u64) -> usize {
    hash as usize % PARTS
}

/// Bits that hold every position up to `position`.
fn bits_of(position: u32) -> u32 {
    (u32::BITS - position.leading_zeros()).max(POSITION_BITS_MIN)
}

impl Index {
    /// Knows nothing.
    pub fn new() -> Self {
        Self { parts: vec![Part::new(1, POSITION_BITS_MIN); PARTS] }
    }

    /// The position under `hash` that `is_it` agrees to, or where such a one goes in.
    #[inline]
    pub fn find(&self, hash: u64, is_it: impl FnMut(u32) -> bool) -> Result<u32, Vacancy> {
        match self.parts[part_of(hash)].find(hash, is_it) {
            Found::Position(position) => Ok(position),
            Found::RoomAt(bucket) => Err(Vacancy { hash, bucket: Some(bucket) }),
            Found::Nothing => Err(Vacancy { hash, bucket: None }),
        }
    }

    /// Has the line fetched that `hash` is looked for in first.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let part = &self.parts[part_of(hash)];
        prefetch(&part.buckets[part.home(hash)]);
    }

    /// Puts `position`, which is not there, where there is room for it.
    #[inline]
    pub fn fill(&mut self, vacancy: Vacancy, position: u32, hashes: &impl Hashes) {
        let part = &mut self.parts[part_of(vacancy.hash)];
        if part.len >= part.len_max || part.displaced > part.displaced_max || position >> part.position_bits != 0 {
            part.rebuild(bits_of(position).max(part.position_bits), hashes);
        } else if let Some(bucket) = vacancy.bucket {
            return part.put_into(bucket, part.entry(vacancy.hash, position));
        }
        part.put(vacancy.hash, position);
    }

    /// Adds `position`, which is not there.
    pub fn insert(&mut self, hash: u64, position: u32, hashes: &impl Hashes) {
        self.fill(Vacancy { hash, bucket: None }, position, hashes);
    }

    /// Takes `position` out.
    pub fn remove(&mut self, hash: u64, position: u32) {
        let removed = self.parts[part_of(hash)].take(hash, position);
        debug_assert!(removed, "every id remembered has its place in the index");
    }

    /// Gives memory back after many were taken out.
    pub fn shrink(&mut self, hashes: &impl Hashes) {
        for part in &mut self.parts {
            if part.buckets.len() > 1 && part.percent() < SPARSE_PERCENT {
                part.rebuild(part.position_bits, hashes);
            }
        }
    }

    /// Bytes held.
    pub fn byte_len(&self) -> usize {
        self.parts.iter().map(|part| part.buckets.capacity() * size_of::<Bucket>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Few homes, so that buckets overflow, also from the last to the first; and two tags.
    fn hash_of(position: u32) -> u64 {
        ((u64::from(position) % 5) * 0x3fff_ffff) << 32 | u64::from(position % 2) << PART_BITS
    }

    struct Few;

    impl Hashes for Few {
        fn hash(&self, position: u32) -> u64 {
            hash_of(position)
        }
        fn prefetch(&self, _: u32) {}
    }

    struct Scattered;

    impl Hashes for Scattered {
        fn hash(&self, position: u32) -> u64 {
            u64::from(position).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        }
        fn prefetch(&self, _: u32) {}
    }

    proptest! {
        #[test]
        fn what_was_put_in_and_not_taken_out_is_found(steps in proptest::collection::vec((0_u32..400, any::<bool>()), 0..1200)) {
            let (mut index, mut known) = (Index::new(), BTreeSet::new());
            for (position, adds) in steps {
                let is_known = known.contains(&position);
                prop_assert_eq!(index.find(hash_of(position), |at| at == position).is_ok(), is_known);
                if is_known {
                    index.remove(hash_of(position), position);
                    known.remove(&position);
                } else if adds {
                    index.insert(hash_of(position), position, &Few);
                    known.insert(position);
                }
                if position == 0 {
                    index.shrink(&Few);
                }
            }
            for position in 0..400 {
                let found = index.find(hash_of(position), |at| at == position).ok();
                prop_assert_eq!(found, known.contains(&position).then_some(position));
            }
        }
    }

    #[test]
    fn a_position_takes_the_bits_it_needs() {
        let mut index = Index::new();
        let positions: Vec<u32> = (0..31).map(|bit| 1 << bit).chain([(POSITIONS_MAX - 1) as u32]).collect();
        positions.iter().for_each(|position| index.insert(Scattered.hash(*position), *position, &Scattered));
        for position in positions {
            assert_eq!(index.find(Scattered.hash(position), |at| at == position).ok(), Some(position));
        }
    }
}
