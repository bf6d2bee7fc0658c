//! The ids themselves, as 128-bit fingerprints.
//!
//! They lie in generations of event time (`ids`), found through an index of their positions (`index`). Invariant: a
//! record is a copy only if the whole fingerprint is remembered.

use super::ids::{Change, Ids};
use super::index::{AHEAD, Hashes, Index, Vacancy};
use super::{Arrival, Horizon, Judged, Remembered};
use crate::codec::Reader;
use crate::error::{Error, Result};
use crate::state::key_hash;

/// Spreads fingerprints over the index, in every process in another way, so that nobody can send ids that all meet.
#[derive(Debug, Clone, Copy)]
struct Spread(u64, u64);

impl Spread {
    fn new() -> Self {
        Self(key_hash(b"low"), key_hash(b"high"))
    }

    /// Both halves multiplied and folded.
    #[inline]
    fn hash(self, fingerprint: u128) -> u64 {
        let (low, high) = (fingerprint as u64 ^ self.0, (fingerprint >> 64) as u64 ^ self.1);
        let product = u128::from(low) * u128::from(high);
        product as u64 ^ (product >> 64) as u64
    }
}

/// Hashes of ids remembered.
struct Hashed<'i> {
    ids: &'i Ids,
    spread: Spread,
}

impl Hashes for Hashed<'_> {
    #[inline]
    fn hash(&self, position: u32) -> u64 {
        self.spread.hash(self.ids.get(position))
    }

    #[inline]
    fn prefetch(&self, position: u32) {
        self.ids.prefetch(position);
    }
}

/// The ids one lane remembers.
#[derive(Debug)]
pub struct Exact {
    horizon: Horizon,
    ids: Ids,
    index: Index,
    spread: Spread,
    /// A generation and its first millisecond.
    last: (i64, i64),
    /// Hashes of a batch; kept for its memory alone.
    hashes: Vec<u64>,
}

impl Exact {
    /// Remembers nothing yet.
    pub fn new(horizon: Horizon) -> Self {
        Self {
            horizon,
            ids: Ids::default(),
            index: Index::new(),
            spread: Spread::new(),
            last: (0, 0),
            hashes: Vec::new(),
        }
    }

    /// The generation of an event time; remembers the last one and where it begins, which saves a division.
    #[inline]
    fn generation(&mut self, event_time_ms: i64) -> i64 {
        let (generation, start_ms) = self.last;
        let length_ms = self.horizon.generation_ms;
        if (0..length_ms).contains(&event_time_ms.wrapping_sub(start_ms)) {
            return generation;
        }
        let generation = self.horizon.generation(event_time_ms);
        self.last = (generation, generation * length_ms);
        generation
    }

    /// See [`super::Dedupe::judge`].
    pub fn judge(&mut self, arrivals: &[Arrival], judged: &mut Vec<Judged>) -> Result<()> {
        self.ids.check_room(arrivals.len())?;
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.clear();
        hashes.extend(arrivals.iter().map(|arrival| self.spread.hash(arrival.fingerprint)));
        for (at, arrival) in arrivals.iter().enumerate() {
            if let Some(ahead) = hashes.get(at + AHEAD) {
                self.index.prefetch(*ahead);
            }
            judged.push(self.judge_one(hashes[at], arrival));
        }
        self.hashes = hashes;
        Ok(())
    }

    #[inline]
    fn judge_one(&mut self, hash: u64, arrival: &Arrival) -> Judged {
        let generation = self.generation(arrival.event_time_ms);
        if arrival.watermark_ms >= self.horizon.over_at(generation) {
            return Judged::BeyondHorizon;
        }
        let is_copy = |position| {
            self.ids.get(position) == arrival.fingerprint
                && arrival.watermark_ms < self.horizon.over_at(self.ids.generation_of(position))
        };
        let Err(vacancy) = self.index.find(hash, is_copy) else { return Judged::Duplicate };
        self.remember(generation, vacancy, arrival.fingerprint);
        Judged::New
    }

    #[inline]
    fn remember(&mut self, generation: i64, vacancy: Vacancy, fingerprint: u128) {
        let position = self.ids.push(generation, fingerprint);
        self.index.fill(vacancy, position, &Hashed { ids: &self.ids, spread: self.spread });
    }

    /// See [`super::Dedupe::forget`].
    pub fn forget(&mut self, watermark_ms: i64) {
        let over = |generation: &i64| watermark_ms >= self.horizon.over_at(*generation);
        let generations: Vec<i64> = self.ids.generations().take_while(over).collect();
        for generation in &generations {
            self.take_from_index(&self.ids.positions(*generation));
            self.ids.forget(*generation);
        }
        if !generations.is_empty() {
            self.index.shrink(&Hashed { ids: &self.ids, spread: self.spread });
        }
    }

    fn take_from_index(&mut self, positions: &[u32]) {
        let hashes: Vec<u64> = positions.iter().map(|position| self.spread.hash(self.ids.get(*position))).collect();
        for (at, position) in positions.iter().enumerate() {
            if let Some(ahead) = hashes.get(at + AHEAD) {
                self.index.prefetch(*ahead);
            }
            self.index.remove(hashes[at], *position);
        }
    }

    /// Digest of the ids remembered.
    pub fn seal(&mut self) -> u64 {
        self.ids.seal()
    }

    /// Keeps the epoch.
    pub fn commit(&mut self) {
        self.ids.commit();
        if self.ids.is_sparse() {
            self.ids = self.ids.compacted();
            self.build_index();
        }
    }

    /// Takes the epoch back.
    pub fn rollback(&mut self) {
        let (index, spread) = (&mut self.index, self.spread);
        self.ids.rollback(|ids, position, change| {
            let hashed = Hashed { ids, spread };
            match change {
                Change::Forgotten => index.remove(hashed.hash(position), position),
                Change::Remembered => index.insert(hashed.hash(position), position, &hashed),
            }
        });
    }

    fn build_index(&mut self) {
        self.index = Index::new();
        let hashed = Hashed { ids: &self.ids, spread: self.spread };
        for generation in self.ids.generations() {
            let positions = self.ids.positions(generation);
            positions.into_iter().for_each(|position| self.index.insert(hashed.hash(position), position, &hashed));
        }
    }

    /// See [`super::Dedupe::byte_len`].
    pub fn byte_len(&self) -> usize {
        self.ids.byte_len() + self.index.byte_len()
    }

    /// See [`super::Dedupe::remembered`].
    pub fn remembered(&self) -> Remembered {
        let (ids, generations) = (self.ids.len() as u64, self.ids.generations().count() as u64);
        Remembered { ids, generations, bytes: self.byte_len() as u64, ..Remembered::default() }
    }

    /// Appends the ids.
    pub fn save(&self, out: &mut Vec<u8>) {
        self.ids.encode(out);
    }

    /// Reads what `save` wrote.
    pub fn load(&mut self, saved: &mut Reader<'_>) -> Result<()> {
        for _ in 0..saved.count(9)? {
            let generation = saved.i64()?;
            let count = saved.count(size_of::<u128>())?;
            self.ids.check_room(count)?;
            for _ in 0..count {
                self.load_id(generation, saved.i128()? as u128)?;
            }
        }
        self.ids.commit();
        Ok(())
    }

    fn load_id(&mut self, generation: i64, fingerprint: u128) -> Result<()> {
        let (ids, hash) = (&self.ids, self.spread.hash(fingerprint));
        let is_it = |position| ids.generation_of(position) == generation && ids.get(position) == fingerprint;
        match self.index.find(hash, is_it) {
            Ok(_) => Err(Error::state("saved state remembers an id twice; it was overwritten")),
            Err(vacancy) => {
                self.remember(generation, vacancy, fingerprint);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedupe::fingerprint;
    use crate::watermark::WATERMARK_MIN;
    use proptest::prelude::*;

    fn arrival(id: &[u8], event_time_ms: i64, watermark_ms: i64) -> Arrival {
        Arrival { fingerprint: fingerprint(id), event_time_ms, watermark_ms }
    }

    fn judge(dedupe: &mut Exact, id: &[u8], event_time_ms: i64, watermark_ms: i64) -> Judged {
        let mut judged = Vec::new();
        dedupe.judge(&[arrival(id, event_time_ms, watermark_ms)], &mut judged).expect("room");
        judged[0]
    }

    #[test]
    fn an_id_is_remembered_for_the_horizon_and_then_cannot_be_checked() {
        let mut dedupe = Exact::new(Horizon::new(800));
        assert_eq!(judge(&mut dedupe, b"a", 50, WATERMARK_MIN), Judged::New);
        assert_eq!(judge(&mut dedupe, b"a", 750, 100), Judged::Duplicate);
        // Generation 0 ends at 100 and is remembered until the watermark reaches 900.
        assert_eq!(judge(&mut dedupe, b"a", 50, 899), Judged::Duplicate);
        assert_eq!(judge(&mut dedupe, b"a", 50, 900), Judged::BeyondHorizon);
        assert_eq!(
            judge(&mut dedupe, b"a", 950, 900),
            Judged::New,
            "the old copy is forgotten though it still lies there"
        );
        dedupe.forget(900);
        assert_eq!(judge(&mut dedupe, b"a", 951, 901), Judged::Duplicate);
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

    type Event = (u8, i64, i64);

    /// Judges a batch, then forgets, as a lane does.
    fn apply(dedupe: &mut Exact, batch: &[Event]) -> Vec<Judged> {
        let arrivals: Vec<Arrival> = batch.iter().map(|(id, time, clock)| arrival(&[*id], *time, *clock)).collect();
        let mut judged = Vec::new();
        dedupe.judge(&arrivals, &mut judged).expect("room");
        batch.iter().for_each(|event| dedupe.forget(event.2));
        judged
    }

    fn saved(dedupe: &Exact) -> Vec<u8> {
        let mut out = Vec::new();
        dedupe.save(&mut out);
        out
    }

    /// `count` numbers from `first` on as ids, a generation each `per_generation` of them.
    fn numbers(first: i64, count: i64, per_generation: i64, watermark_ms: i64) -> Vec<Arrival> {
        let numbered = |number: i64| arrival(&number.to_le_bytes(), number / per_generation * 100, watermark_ms);
        (first..first + count).map(numbered).collect()
    }

    fn verdicts(dedupe: &mut Exact, arrivals: &[Arrival], verdict: Judged) -> usize {
        let mut judged = Vec::new();
        dedupe.judge(arrivals, &mut judged).expect("room");
        judged.iter().filter(|judged| **judged == verdict).count()
    }

    #[test]
    fn many_ids_of_any_number_of_generations_take_few_bytes_and_are_given_back() {
        const COUNT: i64 = 200_000;
        for (per_generation, bytes_max) in [(COUNT, 24), (COUNT / 9, 24), (1000, 25), (10, 80)] {
            let mut dedupe = Exact::new(Horizon::new(800));
            let fresh = numbers(0, COUNT, per_generation, WATERMARK_MIN);
            assert_eq!(verdicts(&mut dedupe, &fresh, Judged::New), COUNT as usize);
            assert_eq!(verdicts(&mut dedupe, &fresh, Judged::Duplicate), COUNT as usize);
            let (digest, bytes) = (dedupe.seal(), dedupe.byte_len());
            assert!(bytes <= bytes_max * COUNT as usize, "{} bytes an id", bytes as f64 / COUNT as f64);
            dedupe.commit();
            assert_eq!(
                verdicts(&mut dedupe, &numbers(COUNT, COUNT, COUNT, WATERMARK_MIN), Judged::New),
                COUNT as usize
            );
            dedupe.forget(i64::MAX / 2);
            assert_eq!(verdicts(&mut dedupe, &fresh, Judged::New), COUNT as usize);
            dedupe.rollback();
            assert_eq!(dedupe.seal(), digest);
            assert_eq!(verdicts(&mut dedupe, &fresh, Judged::Duplicate), COUNT as usize);
            dedupe.forget(i64::MAX / 2);
            assert_eq!(dedupe.seal(), 0);
            dedupe.commit();
            assert!(dedupe.byte_len() < 100_000, "{} bytes for nothing", dedupe.byte_len());
        }
    }

    #[test]
    fn damaged_state_is_an_error() {
        let mut dedupe = Exact::new(Horizon::new(800));
        apply(&mut dedupe, &[(1, 50, 0), (2, 50, 0), (3, 950, 0)]);
        let whole = saved(&dedupe);
        for end in 0..whole.len() {
            assert!(Exact::new(Horizon::new(800)).load(&mut Reader::new(&whole[..end])).is_err(), "cut at {end}");
        }
        let mut twice = whole.clone();
        twice.copy_within(10..26, 26);
        assert!(
            Exact::new(Horizon::new(800))
                .load(&mut Reader::new(&twice))
                .expect_err("twice")
                .to_string()
                .contains("twice")
        );
    }

    proptest! {
        #[test]
        fn it_agrees_with_remembering_everything(events in events(), within_ms in 1_i64..900, cut in 1_usize..40) {
            let mut dedupe = Exact::new(Horizon::new(within_ms));
            let judged: Vec<Judged> = events.chunks(cut).flat_map(|batch| apply(&mut dedupe, batch)).collect();
            prop_assert_eq!(judged, naive(&events, within_ms));
        }

        #[test]
        fn undo_is_the_identity_and_saving_keeps_everything(events in events(), at in 0_usize..200) {
            let at = at.min(events.len());
            let mut dedupe = Exact::new(Horizon::new(400));
            apply(&mut dedupe, &events[..at]);
            let digest = dedupe.seal();
            dedupe.commit();
            let before = saved(&dedupe);
            let first = apply(&mut dedupe, &events[at..]);
            dedupe.rollback();
            prop_assert_eq!(&before, &saved(&dedupe));
            prop_assert_eq!(dedupe.seal(), digest);
            let mut loaded = Exact::new(Horizon::new(400));
            loaded.load(&mut Reader::new(&before)).expect("whole");
            prop_assert_eq!(loaded.seal(), digest);
            prop_assert_eq!(apply(&mut loaded, &events[at..]), first.clone());
            prop_assert_eq!(apply(&mut dedupe, &events[at..]), first);
        }
    }
}
