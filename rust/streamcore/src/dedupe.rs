//! Drops records whose id was seen before, exactly, within an event-time horizon.
//!
//! `lane` calls [`Dedupe::judge`] record by record with the clock as it stood before the record.
//! Ids are 128-bit fingerprints in generations of event time; a bloom filter in front answers only
//! "certainly new". Invariant: a bloom "maybe" never drops a record by itself.

use crate::codec::Reader;
use crate::error::Result;
use crate::state::{BucketKey, Buckets, NoValue, key_hash};
use fastbloom::BloomFilter;
use foldhash::fast::FixedState;
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_128;

/// Generations in the horizon: g = within / 8.
const GENERATIONS: i64 = 8;

/// Generations that share one bloom filter; a new id looks into about three of them.
const GENERATIONS_PER_FILTER: i64 = 4;

/// Ids the first filter of a span is sized for.
const FILTER_IDS_MIN: usize = 1 << 14;

/// Share of new ids that must be looked up although they are new.
const FALSE_MAYBE_RATE: f64 = 0.01;

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// Not seen before; remembered now.
    New,
    /// Seen before.
    Duplicate,
    /// Older than what is remembered: it cannot be checked.
    BeyondHorizon,
}

/// The ids one lane remembers.
#[derive(Debug)]
pub struct Dedupe {
    /// How long an id is remembered past its generation's end, ms.
    within_ms: i64,
    /// Length of a generation, ms.
    generation_ms: i64,
    /// Fingerprints, one bucket a generation.
    generations: Buckets<NoValue>,
    /// Filters by `generation / GENERATIONS_PER_FILTER`; never saved, rebuilt from the buckets.
    filters: BTreeMap<i64, Filter>,
}

/// A bloom filter over the fingerprints of a few generations.
#[derive(Debug)]
struct Filter {
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

/// The key of a generation's bucket.
const fn bucket(generation: i64) -> BucketKey {
    BucketKey { time: generation, since: 0 }
}

impl Dedupe {
    /// Remembers nothing yet. `within_ms` is positive.
    #[must_use]
    pub fn new(within_ms: i64) -> Self {
        Self {
            within_ms,
            generation_ms: (within_ms / GENERATIONS).max(1),
            generations: Buckets::new(NoValue),
            filters: BTreeMap::new(),
        }
    }

    /// True when ids of `generation` are forgotten at `watermark_ms`.
    const fn is_forgotten(&self, generation: i64, watermark_ms: i64) -> bool {
        watermark_ms >= (generation + 1) * self.generation_ms + self.within_ms
    }

    /// The watermark from which on an id of `event_time_ms` is forgotten.
    #[must_use]
    pub const fn forgotten_at(&self, event_time_ms: i64) -> i64 {
        (event_time_ms.div_euclid(self.generation_ms) + 1) * self.generation_ms + self.within_ms
    }

    /// Judges the record with `id` and remembers it if it is new. `watermark_ms` is the lane's
    /// clock before the record.
    pub fn judge(&mut self, id: &[u8], event_time_ms: i64, watermark_ms: i64) -> Judged {
        let generation = event_time_ms.div_euclid(self.generation_ms);
        if self.is_forgotten(generation, watermark_ms) {
            return Judged::BeyondHorizon;
        }
        let fingerprint = xxh3_128(id).to_le_bytes();
        let hash = key_hash(&fingerprint);
        if self.maybe_seen(hash) && self.is_remembered(hash, &fingerprint, watermark_ms) {
            return Judged::Duplicate;
        }
        self.remember(generation, hash, &fingerprint);
        Judged::New
    }

    fn maybe_seen(&self, hash: u64) -> bool {
        self.filters.values().rev().any(|filter| filter.bloom.contains_hash(hash))
    }

    fn is_remembered(&self, hash: u64, fingerprint: &[u8], watermark_ms: i64) -> bool {
        self.generations
            .iter()
            .rev()
            .take_while(|(key, _)| !self.is_forgotten(key.time, watermark_ms))
            .any(|(_, table)| table.find(hash, fingerprint).is_some())
    }

    fn remember(&mut self, generation: i64, hash: u64, fingerprint: &[u8]) {
        // Another generation may hold a forgotten copy, this one cannot: it would have been found.
        self.generations.bucket(bucket(generation)).insert_new(hash, fingerprint);
        let span = generation.div_euclid(GENERATIONS_PER_FILTER);
        let filter = self.filters.entry(span).or_insert_with(|| Filter::new(FILTER_IDS_MIN));
        filter.insert(hash);
        if filter.ids > filter.capacity {
            self.rebuild_filter(span);
        }
    }

    /// Makes the filter of `span` anew from the ids remembered, with room for as many again.
    fn rebuild_filter(&mut self, span: i64) {
        let first = span * GENERATIONS_PER_FILTER;
        let tables = || self.generations.range(first, first + GENERATIONS_PER_FILTER);
        let ids: usize = tables().map(|(_, table)| table.len()).sum();
        let mut filter = Filter::new((ids * 2).max(FILTER_IDS_MIN));
        for (_, table) in tables() {
            for slot in 0..table.len() as u32 {
                filter.insert(key_hash(table.key(slot)));
            }
        }
        self.filters.insert(span, filter);
    }

    /// Forgets the generations that are over at `watermark_ms`. Called between batches.
    pub fn forget(&mut self, watermark_ms: i64) {
        let over: Vec<BucketKey> = self
            .generations
            .iter()
            .map(|(key, _)| key)
            .take_while(|key| self.is_forgotten(key.time, watermark_ms))
            .collect();
        for key in over {
            self.generations.drop_bucket(key);
        }
        self.drop_empty_filters();
    }

    fn drop_empty_filters(&mut self) {
        let first = self.generations.iter().next().map(|(key, _)| key.time.div_euclid(GENERATIONS_PER_FILTER));
        match first {
            Some(first) => self.filters.retain(|span, _| *span >= first),
            None => self.filters.clear(),
        }
    }

    fn rebuild_filters(&mut self) {
        self.filters.clear();
        let spans: Vec<i64> =
            self.generations.iter().map(|(key, _)| key.time.div_euclid(GENERATIONS_PER_FILTER)).collect();
        for span in spans {
            if !self.filters.contains_key(&span) {
                self.rebuild_filter(span);
            }
        }
    }

    /// Digest of the ids remembered.
    pub fn seal(&mut self) -> u64 {
        self.generations.seal()
    }

    /// Keeps the epoch.
    pub fn commit(&mut self) {
        self.generations.commit();
    }

    /// Takes the epoch back.
    pub fn rollback(&mut self) {
        self.generations.rollback();
        // A filter may have been dropped with a generation that is back now.
        self.rebuild_filters();
    }

    /// Bytes held, roughly.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.generations.byte_len() + self.filters.values().map(|filter| filter.bloom.num_bits() / 8).sum::<usize>()
    }

    /// Appends the ids.
    pub fn save(&self, out: &mut Vec<u8>) {
        self.generations.encode(out);
    }

    /// Reads what `save` wrote.
    pub fn load(&mut self, saved: &mut Reader<'_>) -> Result<()> {
        self.generations.decode(saved)?;
        self.rebuild_filters();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watermark::WATERMARK_MIN;
    use proptest::prelude::*;

    #[test]
    fn an_id_is_remembered_for_the_horizon_and_then_cannot_be_checked() {
        let mut dedupe = Dedupe::new(800);
        assert_eq!(dedupe.judge(b"a", 50, WATERMARK_MIN), Judged::New);
        assert_eq!(dedupe.judge(b"a", 750, 100), Judged::Duplicate);
        // Generation 0 ends at 100 and is remembered until the watermark reaches 900.
        assert_eq!(dedupe.judge(b"a", 50, 899), Judged::Duplicate);
        assert_eq!(dedupe.judge(b"a", 50, 900), Judged::BeyondHorizon);
        assert_eq!(dedupe.judge(b"a", 950, 900), Judged::New, "the old copy is forgotten though it still lies there");
        dedupe.forget(900);
        assert_eq!(dedupe.judge(b"a", 951, 901), Judged::Duplicate);
    }

    /// Every id ever seen with its generation, scanned in full.
    fn naive(events: &[(u8, i64, i64)], within_ms: i64) -> Vec<Judged> {
        let generation_ms = (within_ms / 8).max(1);
        let mut seen: Vec<(u8, i64)> = Vec::new();
        let mut judge = |(id, time, watermark): &(u8, i64, i64)| {
            let until = |time: i64| (time.div_euclid(generation_ms) + 1) * generation_ms + within_ms;
            if *watermark >= until(*time) {
                return Judged::BeyondHorizon;
            }
            if seen.iter().any(|(other, at)| other == id && *watermark < until(*at)) {
                return Judged::Duplicate;
            }
            seen.push((*id, *time));
            Judged::New
        };
        events.iter().map(&mut judge).collect()
    }

    fn events() -> impl Strategy<Value = Vec<(u8, i64, i64)>> {
        let event = (0_u8..20, -500_i64..3000, 0_i64..60);
        proptest::collection::vec(event, 0..200).prop_map(|mut events| {
            let mut watermark = -600;
            for event in &mut events {
                watermark += event.2;
                event.2 = watermark;
            }
            events
        })
    }

    proptest! {
        #[test]
        fn it_agrees_with_remembering_everything(events in events(), within_ms in 1_i64..900, cut in 1_usize..40) {
            let mut dedupe = Dedupe::new(within_ms);
            let mut judged = Vec::new();
            for batch in events.chunks(cut) {
                judged.extend(batch.iter().map(|(id, time, watermark)| dedupe.judge(&[*id], *time, *watermark)));
                dedupe.forget(batch[batch.len() - 1].2);
            }
            prop_assert_eq!(judged, naive(&events, within_ms));
        }

        #[test]
        fn undo_is_the_identity_and_saving_keeps_everything(events in events(), at in 0_usize..200) {
            let at = at.min(events.len());
            let mut dedupe = Dedupe::new(400);
            let apply = |dedupe: &mut Dedupe, part: &[(u8, i64, i64)]| {
                let judged: Vec<_> = part.iter().map(|(id, time, wm)| dedupe.judge(&[*id], *time, *wm)).collect();
                if let Some(last) = part.last() {
                    dedupe.forget(last.2);
                }
                judged
            };
            apply(&mut dedupe, &events[..at]);
            let digest = dedupe.seal();
            dedupe.commit();
            let mut before = Vec::new();
            dedupe.save(&mut before);
            let first = apply(&mut dedupe, &events[at..]);
            dedupe.rollback();
            let mut after = Vec::new();
            dedupe.save(&mut after);
            prop_assert_eq!(&before, &after);
            prop_assert_eq!(dedupe.seal(), digest);
            let mut loaded = Dedupe::new(400);
            loaded.load(&mut Reader::new(&before)).expect("whole");
            prop_assert_eq!(loaded.seal(), digest);
            prop_assert_eq!(apply(&mut loaded, &events[at..]), first.clone());
            prop_assert_eq!(apply(&mut dedupe, &events[at..]), first);
        }
    }
}
