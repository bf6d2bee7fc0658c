//! Filters of the ids instead of the ids: a fifth of the memory, and a stated share of new ids taken for copies.
//!
//! Each generation of event time has a filter (`filter`), and a further one, twice as large, whenever the last is full.
//! The stated rate is divided: among as many generations as can be remembered at once, and within one among its filters,
//! as 1/2, 1/6, 1/12 ... which never sum to more than 1 (after P. Almeida et al., "Scalable Bloom Filters", 2007). A new
//! generation's filter is made for as many ids as the fullest one remembered has. Invariant: a record is new only if no
//! filter that is remembered at its clock may hold its id, and the rates of those filters sum to at most the stated one.

#[cfg(test)]
mod tests;

use super::filter::{Filter, Probe, Rate, bytes_for, ids_a_block};
use super::{Arrival, GENERATIONS, Horizon, Judged, Remembered, has_room};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use crate::room::Room;
use crate::saving::{Extent, Loading, Saving};

/// Share of new ids that may be taken for copies, where nothing is said.
pub const RATE_DEFAULT: f64 = 0.001;
/// The least share that can be asked for.
pub const RATE_MIN: f64 = 1e-9;
/// The greatest.
pub const RATE_MAX: f64 = 0.1;
/// Most ids that can be planned for.
pub const CAPACITY_MAX: u64 = 1 << 40;

/// Ids that the first filter of a generation is for at least.
const PLANNED_MIN: u64 = 1024;
/// A new generation has room for this part more than the fullest one has ids.
const HEADROOM: u64 = 8;
/// How many probes ahead blocks are asked for.
const AHEAD: usize = 8;
/// Form of the saved state.
const FORM: u8 = 1;

/// What the filters of a step are made for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BloomPlan {
    /// Share of new ids that may be taken for copies, from [`RATE_MIN`] to [`RATE_MAX`].
    pub false_drop_rate: f64,
    /// Ids that are expected within the horizon; otherwise a filter is made for as many as the generations before had.
    pub capacity: Option<u64>,
    /// Generations that may be remembered at once; `None` where the clock does not move and all time is one.
    pub generations: Option<u64>,
    /// Ids that the first filter of a generation is for at least.
    planned_min: u64,
}

impl BloomPlan {
    /// A plan for a horizon of `within_ms` where event times are ahead of the clock by at most `ahead_ms`, if it moves.
    #[must_use]
    pub fn new(within_ms: i64, ahead_ms: Option<i64>, false_drop_rate: f64, capacity: Option<u64>) -> Self {
        let generations = ahead_ms.map(|ahead_ms| Horizon::new(within_ms).generations_max(ahead_ms));
        Self { false_drop_rate, capacity, generations, planned_min: PLANNED_MIN }
    }

    /// The rate of a generation's filter, from 0.
    fn rate(&self, filter: usize) -> f64 {
        let filter = filter as f64;
        self.false_drop_rate / self.generations.unwrap_or(1) as f64 / ((filter + 1.0) * (filter + 2.0))
    }

    /// Ids expected in one generation.
    fn capacity_of_generation(&self) -> Option<u64> {
        let parts = if self.generations.is_some() { GENERATIONS as u64 } else { 1 };
        self.capacity.map(|ids| ids.div_ceil(parts))
    }

    /// Bits an id takes in a filter that is full.
    #[must_use]
    pub fn bits_an_id(&self) -> f64 {
        512.0 / ids_a_block(self.rate(0))
    }

    /// Bytes of the filters of all generations when as many ids come as expected.
    #[must_use]
    pub fn byte_len(&self) -> Option<u64> {
        let planned = self.capacity_of_generation()?.max(self.planned_min);
        Some(bytes_for(planned, self.rate(0)).saturating_mul(self.generations.unwrap_or(1)))
    }
}

/// The filters of one stretch of event time.
#[derive(Debug)]
struct Generation {
    number: i64,
    /// The last one takes ids.
    filters: Vec<Filter>,
}

impl Generation {
    fn len(&self) -> u64 {
        self.filters.iter().map(Filter::len).sum()
    }

    fn rate(&self) -> Rate {
        self.filters.iter().map(Filter::rate).fold(0, Rate::saturating_add)
    }
}

/// What is kept beside the filters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    /// Records dropped that were no copies, as expected, in units of 2^-64.
    false_drops: u128,
}

/// The filters of one lane.
#[derive(Debug)]
pub struct Bloom {
    horizon: Horizon,
    plan: BloomPlan,
    /// By number.
    generations: Vec<Generation>,
    /// The sum of the filters' rates.
    rate: Rate,
    counts: Counts,
    /// At the last commit.
    committed: Counts,
    /// Generations forgotten since.
    forgotten: Vec<Generation>,
}

impl Bloom {
    /// No filters yet.
    pub fn new(horizon: Horizon, plan: BloomPlan) -> Self {
        let counts = Counts::default();
        Self { horizon, plan, generations: Vec::new(), rate: 0, counts, committed: counts, forgotten: Vec::new() }
    }

    /// The generation of an event time: all time is one where none is ever forgotten.
    #[inline]
    fn generation(&self, event_time_ms: i64) -> i64 {
        if self.plan.generations.is_some() { self.horizon.generation(event_time_ms) } else { 0 }
    }

    /// The watermark from which on the ids of `generation` are forgotten.
    #[inline]
    fn over_at(&self, generation: i64) -> i64 {
        if self.plan.generations.is_some() { self.horizon.over_at(generation) } else { i64::MAX }
    }

    /// See [`super::Dedupe::judge`].
    pub fn judge(&mut self, arrivals: &[Arrival], room: Option<&Room>, judged: &mut Vec<Judged>) {
        let probe = |arrival: &Arrival| Probe::new(arrival.fingerprint);
        let mut probes: [Probe; AHEAD] = std::array::from_fn(|at| arrivals.get(at).map_or(Probe::new(0), probe));
        probes.iter().take(arrivals.len()).for_each(|probe| self.prefetch(probe));
        for (at, arrival) in arrivals.iter().enumerate() {
            let this = probes[at % AHEAD];
            if let Some(ahead) = arrivals.get(at + AHEAD) {
                probes[at % AHEAD] = probe(ahead);
                self.prefetch(&probes[at % AHEAD]);
            }
            judged.push(self.judge_one(arrival, &this, room));
        }
    }

    #[inline]
    fn prefetch(&self, probe: &Probe) {
        self.generations.iter().flat_map(|generation| &generation.filters).for_each(|filter| filter.prefetch(probe));
    }

    #[inline]
    fn judge_one(&mut self, arrival: &Arrival, probe: &Probe, room: Option<&Room>) -> Judged {
        let number = self.generation(arrival.event_time_ms);
        if arrival.watermark_ms >= self.over_at(number) {
            return Judged::BeyondHorizon;
        }
        let live = self.live(arrival.watermark_ms);
        let may_hold = |generation: &Generation| generation.filters.iter().any(|filter| filter.may_hold(probe));
        if live.iter().rev().any(may_hold) {
            return Judged::Duplicate;
        }
        if !has_room(room, || live.iter().map(Generation::len).sum()) {
            return Judged::Full;
        }
        debug_assert!(
            self.plan.generations.is_none_or(|most| live.len() as u64 <= most),
            "{} generations where {:?} share the rate",
            live.len(),
            self.plan.generations
        );
        let is_whole = live.len() == self.generations.len();
        let rate = if is_whole { self.rate } else { sum(live) };
        self.counts.false_drops += odds(rate);
        self.remember(number, arrival, probe);
        Judged::New
    }

    /// The generations that are remembered at `watermark_ms`; those before are not forgotten until the batch is over.
    #[inline]
    fn live(&self, watermark_ms: i64) -> &[Generation] {
        let is_over = |generation: &Generation| watermark_ms >= self.over_at(generation.number);
        let first = self.generations.iter().position(|generation| !is_over(generation));
        &self.generations[first.unwrap_or(self.generations.len())..]
    }

    #[inline]
    fn remember(&mut self, number: i64, arrival: &Arrival, probe: &Probe) {
        let place = match self.generations.binary_search_by_key(&number, |generation| generation.number) {
            Ok(place) => place,
            Err(place) => {
                let planned = self.planned(arrival.watermark_ms);
                let filters = vec![Filter::new(planned, self.plan.rate(0))];
                self.generations.insert(place, Generation { number, filters });
                place
            }
        };
        let generation = &mut self.generations[place];
        if generation.filters.last().is_none_or(Filter::is_full) {
            self.grow(place);
        }
        let filter = self.generations[place].filters.last_mut().expect("a generation has a filter");
        if filter.insert(arrival.fingerprint, probe) {
            self.rate = sum(&self.generations);
        }
    }

    /// Ids to plan a new generation for: by what there is at the record that begins it, not at the end of its batch.
    fn planned(&self, watermark_ms: i64) -> u64 {
        let fullest = self.live(watermark_ms).iter().map(Generation::len).max().unwrap_or_default();
        let learned = fullest + fullest / HEADROOM;
        learned.max(self.plan.capacity_of_generation().unwrap_or_default()).max(self.plan.planned_min)
    }

    /// Adds a filter to the generation at `place`, whose last one is full.
    fn grow(&mut self, place: usize) {
        let filters = &mut self.generations[place].filters;
        let planned = filters.last().map_or(self.plan.planned_min, |last| last.planned().saturating_mul(2));
        filters.push(Filter::new(planned, self.plan.rate(filters.len())));
    }

    /// See [`super::Dedupe::forget`].
    pub fn forget(&mut self, watermark_ms: i64) {
        let over = self.generations.len() - self.live(watermark_ms).len();
        if over > 0 {
            self.forgotten.extend(self.generations.drain(..over));
            self.rate = sum(&self.generations);
        }
    }

    /// See [`super::Dedupe::seal`].
    pub fn seal(&mut self) -> u64 {
        let mut digest = self.counts.false_drops as u64 ^ (self.counts.false_drops >> 64) as u64;
        for generation in &mut self.generations {
            digest = digest.rotate_left(9).wrapping_add(generation.number as u64);
            for filter in &mut generation.filters {
                digest = digest.rotate_left(9).wrapping_add(filter.seal());
            }
        }
        digest
    }

    /// See [`super::Dedupe::commit`].
    pub fn commit(&mut self) {
        self.forgotten.clear();
        self.generations.iter_mut().flat_map(|generation| &mut generation.filters).for_each(Filter::commit);
        self.committed = self.counts;
    }

    /// See [`super::Dedupe::rollback`].
    pub fn rollback(&mut self) {
        self.generations.append(&mut self.forgotten);
        for generation in &mut self.generations {
            // A filter is made for the id that goes in, so one without a committed id is new.
            generation.filters.retain(|filter| filter.committed_len() > 0);
            generation.filters.iter_mut().for_each(Filter::rollback);
        }
        self.generations.retain(|generation| !generation.filters.is_empty());
        self.generations.sort_unstable_by_key(|generation| generation.number);
        self.rate = sum(&self.generations);
        self.counts = self.committed;
    }

    /// See [`super::Dedupe::byte_len`].
    pub fn byte_len(&self) -> usize {
        let all = self.generations.iter().chain(&self.forgotten);
        all.flat_map(|generation| &generation.filters).map(|filter| filter.byte_len() + size_of::<Filter>()).sum()
    }

    /// Of those bytes, those that go with the next commit.
    pub fn undo_len(&self) -> usize {
        let filters = |generations: &[Generation], bytes: fn(&Filter) -> usize| -> usize {
            generations.iter().flat_map(|generation| &generation.filters).map(bytes).sum()
        };
        filters(&self.generations, Filter::undo_len) + filters(&self.forgotten, Filter::byte_len)
    }

    /// See [`super::Dedupe::remembered`].
    pub fn remembered(&self) -> Remembered {
        let share = |rate: u128| rate as f64 / 2.0_f64.powi(64);
        let fill = |generation: &Generation| {
            let planned: u64 = generation.filters.iter().map(Filter::planned).sum();
            generation.len() as f64 / planned as f64
        };
        Remembered {
            ids: self.generations.iter().map(Generation::len).sum(),
            generations: self.generations.len() as u64,
            bytes: self.byte_len() as u64,
            false_drop_rate: share(u128::from(self.rate)),
            false_drops_expected: share(self.counts.false_drops),
            fill: self.generations.iter().map(fill).fold(0.0, f64::max),
        }
    }

    /// See [`super::Dedupe::save`].
    pub fn save(&self, saving: &mut Saving) {
        match saving.extent() {
            Extent::Whole => self.save_filters(&mut saving.out),
            // Of the filters that take ids most lines change: they are saved with every change, whole.
            Extent::Changes => saving.put_sized(|out| self.save_filters(out)),
            Extent::Part(_) => {}
        }
    }

    fn save_filters(&self, out: &mut Vec<u8>) {
        out.put_u8(FORM);
        out.put_i128(self.counts.false_drops as i128);
        out.put_varint(self.generations.len() as u64);
        for generation in &self.generations {
            out.put_i64(generation.number);
            out.put_varint(generation.filters.len() as u64);
            generation.filters.iter().for_each(|filter| filter.encode(out));
        }
    }

    /// See [`super::Dedupe::load`].
    pub fn load(&mut self, saved: &mut Loading<'_>) -> Result<()> {
        if let Some(whole) = saved.as_whole() {
            return self.load_filters(whole);
        }
        let changes = saved.pieces().0.iter_mut().filter(|piece| piece.extent == Extent::Changes);
        let saved = changes.map(|piece| piece.reader.bytes()).collect::<Result<Vec<_>>>()?;
        let Some(newest) = saved.last() else { return Ok(()) };
        let mut newest = Reader::new(newest);
        self.load_filters(&mut newest)?;
        newest.finish()
    }

    fn load_filters(&mut self, saved: &mut Reader<'_>) -> Result<()> {
        let form = saved.u8()?;
        if form != FORM {
            let message = format!("saved state holds filters of form {form}, not {FORM}; it is of a newer streamcore");
            return Err(Error::state(message));
        }
        self.counts.false_drops = saved.i128()? as u128;
        for _ in 0..saved.count(9)? {
            let number = saved.i64()?;
            let mut filters = Vec::new();
            for at in 0..saved.count(3)? {
                filters.push(Filter::decode(saved, self.plan.rate(at))?);
            }
            let is_behind = self.generations.last().is_none_or(|last| last.number < number);
            if !is_behind || filters.is_empty() {
                return Err(Error::state("saved state holds generations out of order; it was overwritten"));
            }
            self.generations.push(Generation { number, filters });
        }
        self.rate = sum(&self.generations);
        self.committed = self.counts;
        Ok(())
    }
}

/// How likely a new id is held by a filter of one of `generations`.
fn sum(generations: &[Generation]) -> Rate {
    generations.iter().map(Generation::rate).fold(0, Rate::saturating_add)
}

/// How many new ids were taken for copies for each that was not, in units of 2^-64.
#[inline]
fn odds(rate: Rate) -> u128 {
    // r / (1 - r), of which the first two terms tell enough at the rates there are.
    u128::from(rate) + ((u128::from(rate) * u128::from(rate)) >> 64)
}
