//! Drops records whose id was seen before, exactly, within an event-time horizon.
//!
//! `lane` calls [`Dedupe::judge`] record by record with the clock as it stood before the record.
//! Ids are 128-bit fingerprints in generations of event time; the front says where one may lie.
//! Invariant: a "maybe" of the front never drops a record by itself.

mod front;

use crate::codec::Reader;
use crate::error::Result;
use crate::state::{BucketKey, Buckets, NoValue, key_hash};
use front::Front;
use xxhash_rust::xxh3::xxh3_128;

/// Generations in the horizon: g = within / 8.
const GENERATIONS: i64 = 8;

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
    /// Where an id may lie; never saved, rebuilt from the buckets.
    front: Front,
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
            front: Front::new(),
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
        if self.is_remembered(hash, &fingerprint, watermark_ms) {
            return Judged::Duplicate;
        }
        self.remember(generation, hash, &fingerprint);
        Judged::New
    }

    fn is_remembered(&self, hash: u64, fingerprint: &[u8], watermark_ms: i64) -> bool {
        let any_holds = || {
            self.generations
                .iter()
                .rev()
                .take_while(|(key, _)| !self.is_forgotten(key.time, watermark_ms))
                .any(|(_, table)| table.find(hash, fingerprint).is_some())
        };
        let holds = |generation: i64| {
            let table = self.generations.get(bucket(generation));
            !self.is_forgotten(generation, watermark_ms)
                && table.is_some_and(|table| table.find(hash, fingerprint).is_some())
        };
        self.front.finds(hash, any_holds, holds)
    }

    fn remember(&mut self, generation: i64, hash: u64, fingerprint: &[u8]) {
        // Another generation may hold a forgotten copy, this one cannot: it would have been found.
        self.generations.bucket(bucket(generation)).insert_new(hash, fingerprint);
        self.front.insert(hash, generation, &self.generations);
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
            if let Some(table) = self.generations.get(key) {
                self.front.remove(key.time, (0..table.len() as u32).map(|slot| key_hash(table.key(slot))));
            }
            self.generations.drop_bucket(key);
        }
        self.front.settle(&self.generations);
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
        // The front has ids that are gone, and lacks those of generations that are back now.
        self.front = Front::of(&self.generations);
    }

    /// Bytes held, roughly.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.generations.byte_len() + self.front.byte_len()
    }

    /// Appends the ids.
    pub fn save(&self, out: &mut Vec<u8>) {
        self.generations.encode(out);
    }

    /// Reads what `save` wrote.
    pub fn load(&mut self, saved: &mut Reader<'_>) -> Result<()> {
        self.generations.decode(saved)?;
        self.front = Front::of(&self.generations);
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

    /// Clocks that hardly move keep the generations of the whole span, others a few.
    fn events() -> impl Strategy<Value = Vec<(u8, i64, i64)>> {
        let timed = |step_ms| proptest::collection::vec((0_u8..60, -500_i64..3000, 0_i64..step_ms), 0..200);
        (1_i64..60).prop_flat_map(timed).prop_map(|mut events| {
            let mut watermark = -600;
            for event in &mut events {
                watermark += event.2;
                event.2 = watermark;
            }
            events
        })
    }

    #[test]
    fn a_clock_that_stands_still_has_one_place_to_look_into() {
        let mut dedupe = Dedupe::new(800);
        let ids: Vec<i64> = (0..5000).map(|number| number * 1000).collect();
        for id in &ids {
            assert_eq!(dedupe.judge(&id.to_le_bytes(), *id, WATERMARK_MIN), Judged::New);
        }
        assert!(matches!(dedupe.front, Front::Index(_)));
        assert!(dedupe.front.byte_len() < 64 * ids.len(), "{} bytes", dedupe.front.byte_len());
        assert!(ids.iter().all(|id| dedupe.judge(&id.to_le_bytes(), 0, WATERMARK_MIN) == Judged::Duplicate));
        dedupe.seal();
        dedupe.commit();
        dedupe.forget(4_990_000);
        assert!(matches!(dedupe.front, Front::Filters(_)));
        dedupe.rollback();
        assert!(ids.iter().all(|id| dedupe.judge(&id.to_le_bytes(), 0, WATERMARK_MIN) == Judged::Duplicate));
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
