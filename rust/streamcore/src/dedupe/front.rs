//! Where an id may lie: the structure in front of the generations of `dedupe`.
//!
//! With few generations, as in a stream, bloom filters tell "certainly new" and a "maybe" looks through all
//! of them. A clock that stands still, as over a file, keeps any number of generations; then an index names
//! the one generation to look into. Neither is ever saved. Invariant: every id remembered is in here.

use crate::state::{Buckets, NoValue, key_hash};
use fastbloom::BloomFilter;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::collections::BTreeMap;

/// Generations that share one bloom filter; a new id looks into about three of them.
const GENERATIONS_PER_FILTER: i64 = 4;

/// Ids the first filter of a span is sized for.
const FILTER_IDS_MIN: usize = 1 << 14;

/// Share of new ids that must be looked up although they are new.
const FALSE_MAYBE_RATE: f64 = 0.01;

/// Generations beyond which an index takes over from the filters. A clock that moves keeps 9, and as many
/// again when records are as late as they may be.
const FILTERED_GENERATIONS_MAX: usize = 32;

/// Generations from which on filters take over again; lower, so that it does not go to and fro.
const INDEXED_GENERATIONS_MIN: usize = 16;

/// A bloom filter over the fingerprints of a few generations.
#[derive(Debug)]
pub struct Filter {
    bloom: BloomFilter<FixedState>,
    /// Ids put in.
    ids: usize,
    /// Ids it was sized for.
    capacity: usize,
}

impl Filter {
    fn new(capacity: usize) -> Self {
        let bloom =
            BloomFilter::with_false_pos(FALSE_MAYBE_RATE).hasher(FixedState::default()).expected_items(capacity);
        Self { bloom, ids: 0, capacity }
    }

    fn insert(&mut self, hash: u64) {
        self.bloom.insert_hash(hash);
        self.ids += 1;
    }
}

/// An id in the index. The hash is kept: fetching it from the generation is a cache miss for each id when
/// the index grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    hash: u64,
    generation: i64,
}

/// What tells where an id may lie.
#[derive(Debug)]
pub enum Front {
    /// Filters by `generation / GENERATIONS_PER_FILTER`.
    Filters(BTreeMap<i64, Filter>),
    /// Every id; two places may have one hash.
    Index(HashTable<Place>),
}

impl Front {
    /// Knows no id.
    pub const fn new() -> Self {
        Self::Filters(BTreeMap::new())
    }

    /// Knows the ids of `generations`.
    pub fn of(generations: &Buckets<NoValue>) -> Self {
        if generations.len() > FILTERED_GENERATIONS_MAX {
            Self::indexed(generations)
        } else {
            Self::filtered(generations)
        }
    }

    fn filtered(generations: &Buckets<NoValue>) -> Self {
        let mut filters = BTreeMap::new();
        for (key, _) in generations.iter() {
            let span = span_of(key.time);
            filters.entry(span).or_insert_with(|| filter_of(generations, span));
        }
        Self::Filters(filters)
    }

    fn indexed(generations: &Buckets<NoValue>) -> Self {
        let ids = generations.iter().map(|(_, table)| table.len()).sum();
        let mut index = HashTable::with_capacity(ids);
        for (key, table) in generations.iter() {
            for slot in 0..table.len() as u32 {
                let hash = key_hash(table.key(slot));
                index.insert_unique(hash, Place { hash, generation: key.time }, |place| place.hash);
            }
        }
        Self::Index(index)
    }

    /// Whether a generation that `holds` tells of holds the id with `hash`, if the front does not rule it out.
    pub fn finds(&self, hash: u64, newest_first: impl FnOnce() -> bool, holds: impl Fn(i64) -> bool) -> bool {
        match self {
            Self::Filters(filters) => {
                filters.values().rev().any(|filter| filter.bloom.contains_hash(hash)) && newest_first()
            }
            Self::Index(index) => index.find(hash, |place| place.hash == hash && holds(place.generation)).is_some(),
        }
    }

    /// Takes in the id with `hash`, which is in its generation by now.
    pub fn insert(&mut self, hash: u64, generation: i64, generations: &Buckets<NoValue>) {
        match self {
            Self::Filters(_) if generations.len() > FILTERED_GENERATIONS_MAX => *self = Self::indexed(generations),
            Self::Filters(filters) => {
                let span = span_of(generation);
                let filter = filters.entry(span).or_insert_with(|| Filter::new(FILTER_IDS_MIN));
                filter.insert(hash);
                if filter.ids > filter.capacity {
                    *filter = filter_of(generations, span);
                }
            }
            Self::Index(index) => {
                index.insert_unique(hash, Place { hash, generation }, |place| place.hash);
            }
        }
    }

    /// Forgets `hashes`, the ids of `generation`.
    pub fn remove(&mut self, generation: i64, hashes: impl Iterator<Item = u64>) {
        if let Self::Index(index) = self {
            for hash in hashes {
                if let Ok(entry) = index.find_entry(hash, |place| *place == Place { hash, generation }) {
                    entry.remove();
                }
            }
        }
    }

    /// Adapts to the `generations` left after some were forgotten.
    pub fn settle(&mut self, generations: &Buckets<NoValue>) {
        match self {
            Self::Filters(filters) => match generations.iter().next() {
                Some((key, _)) => filters.retain(|span, _| *span >= span_of(key.time)),
                None => filters.clear(),
            },
            Self::Index(_) if generations.len() <= INDEXED_GENERATIONS_MIN => *self = Self::filtered(generations),
            Self::Index(index) => {
                // Memory of a long span is given back; a quarter keeps it from growing right again.
                if index.len() * 4 < index.capacity() {
                    index.shrink_to(index.len() * 2, |place| place.hash);
                }
            }
        }
    }

    /// Bytes held, roughly.
    pub fn byte_len(&self) -> usize {
        match self {
            Self::Filters(filters) => filters.values().map(|filter| filter.bloom.num_bits() / 8).sum(),
            Self::Index(index) => index.capacity() * (size_of::<Place>() + 1),
        }
    }
}

const fn span_of(generation: i64) -> i64 {
    generation.div_euclid(GENERATIONS_PER_FILTER)
}

/// A filter of the ids remembered in `span`, with room for as many again.
fn filter_of(generations: &Buckets<NoValue>, span: i64) -> Filter {
    let first = span * GENERATIONS_PER_FILTER;
    let tables = || generations.range(first, first + GENERATIONS_PER_FILTER);
    let ids: usize = tables().map(|(_, table)| table.len()).sum();
    let mut filter = Filter::new((ids * 2).max(FILTER_IDS_MIN));
    for (_, table) in tables() {
        for slot in 0..table.len() as u32 {
            filter.insert(key_hash(table.key(slot)));
        }
    }
    filter
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::BucketKey;

    #[test]
    fn filters_turn_into_an_index_and_back() {
        let mut generations = Buckets::new(NoValue);
        let mut front = Front::new();
        let hash = |generation: i64| key_hash(&generation.to_le_bytes());
        let bucket = |generation: i64| BucketKey { time: generation, since: 0 };
        for generation in 0..40 {
            generations.bucket(bucket(generation)).insert_new(hash(generation), &generation.to_le_bytes());
            front.insert(hash(generation), generation, &generations);
            assert_eq!(matches!(front, Front::Index(_)), generations.len() > FILTERED_GENERATIONS_MAX);
        }
        let finds = |front: &Front, generation: i64| front.finds(hash(generation), || true, |at| at == generation);
        assert!((0..40).all(|generation| finds(&front, generation)));
        for generation in 0..30 {
            front.remove(generation, std::iter::once(hash(generation)));
            generations.drop_bucket(bucket(generation));
            front.settle(&generations);
            assert!(matches!(front, Front::Filters(_)) || !finds(&front, generation));
        }
        assert!(matches!(front, Front::Filters(_)));
        assert!((30..40).all(|generation| finds(&front, generation)));
    }
}
