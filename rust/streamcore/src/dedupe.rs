//! Drops records whose id was seen before, within an event-time horizon.
//!
//! `flow` calls [`Dedupe::judge`] batch by batch, with the clock as it stood before each record. Ids are 128-bit
//! fingerprints in generations of event time, an eighth of the horizon each: `exact` keeps the fingerprints, `bloom`
//! filters of them. Invariant: of the records with one id within the horizon at most one is new.

mod bloom;
mod exact;
mod filter;
mod generations;
mod line;
mod lines;
mod part;
mod spread;
mod table;
mod tags;

pub use bloom::{BloomPlan, CAPACITY_MAX, RATE_DEFAULT, RATE_MAX, RATE_MIN};

use crate::error::{Error, Result};
use crate::room::{Room, Usage};
use crate::saving::{Loading, Saving};
use bloom::Bloom;
use exact::Exact;
use xxhash_rust::xxh3::xxh3_128;

/// Generations in the horizon: g = within / 8.
const GENERATIONS: i64 = 8;

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// Not seen before; remembered now.
    New,
    /// Seen before; with `bloom` perhaps not.
    Duplicate,
    /// Older than what is remembered: it cannot be checked.
    BeyondHorizon,
    /// Not seen before, and there is no room to remember it.
    Full,
}

/// A record to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Of its id; see [`fingerprint`].
    pub fingerprint: u128,
    /// Event time, ms.
    pub event_time_ms: i64,
    /// The lane's clock before it.
    pub watermark_ms: i64,
}

/// What is remembered of an id: XXH3 of its bytes.
#[must_use]
#[inline]
pub fn fingerprint(id: &[u8]) -> u128 {
    xxh3_128(id)
}

/// How long ids are remembered.
#[derive(Debug, Clone, Copy)]
struct Horizon {
    /// How long an id is remembered past its generation's end, ms.
    within_ms: i64,
    /// Length of a generation, ms.
    generation_ms: i64,
}

impl Horizon {
    /// `within_ms` is positive.
    fn new(within_ms: i64) -> Self {
        Self { within_ms, generation_ms: (within_ms / GENERATIONS).max(1) }
    }

    /// Of a clock that stands still: nothing is ever forgotten, so one generation is enough.
    const fn endless(within_ms: i64) -> Self {
        Self { within_ms, generation_ms: 1 << 60 }
    }

    /// The generation of an event time.
    const fn generation(self, event_time_ms: i64) -> i64 {
        event_time_ms.div_euclid(self.generation_ms)
    }

    /// The watermark from which on the ids of `generation` are forgotten.
    const fn over_at(self, generation: i64) -> i64 {
        (generation + 1) * self.generation_ms + self.within_ms
    }

    /// How many generations may be remembered at once, where event times are never further ahead of the clock than
    /// `ahead_ms`.
    const fn generations_max(self, ahead_ms: i64) -> u64 {
        let span_ms = self.within_ms.saturating_add(ahead_ms) as u64;
        span_ms.div_ceil(self.generation_ms as u64) + 1
    }
}

/// What a dedupe step remembers, fixed for a pipeline's life.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DedupePlan {
    /// Horizon, ms; positive.
    pub within_ms: i64,
    /// Whether the clock moves before the end of the input.
    pub clock_moves: bool,
    /// Filters instead of fingerprints.
    pub bloom: Option<BloomPlan>,
    /// How many ids a lane may remember, where records beyond are shed.
    pub room: Option<Room>,
}

/// What an id takes as a fingerprint, bytes.
pub const ID_BYTES: u64 = 24;

impl DedupePlan {
    /// What an id takes, bytes.
    #[must_use]
    pub fn entry_bytes(&self) -> u64 {
        // A filter is made for more ids than it may come to hold.
        self.bloom.map_or(ID_BYTES, |bloom| (2.0 * bloom.bits_an_id() / 8.0).ceil() as u64)
    }
}

/// The ids one lane remembers.
#[derive(Debug)]
pub struct Dedupe {
    horizon: Horizon,
    room: Option<Room>,
    method: Method,
}

#[derive(Debug)]
enum Method {
    Exact(Box<Exact>),
    Bloom(Box<Bloom>),
}

/// What a dedupe step holds, for whoever watches it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Remembered {
    /// Ids.
    pub ids: u64,
    /// Generations they are of.
    pub generations: u64,
    /// Bytes.
    pub bytes: u64,
    /// How likely an id that is new now is taken for a copy; an upper bound.
    pub false_drop_rate: f64,
    /// How many of the records dropped so far were no copies, as expected from that rate.
    pub false_drops_expected: f64,
    /// Ids in the filters that are filled the furthest, for each for which they were made.
    pub fill: f64,
}

impl Remembered {
    /// Every figure with its name.
    #[must_use]
    pub fn entries(&self) -> [(&'static str, f64); 6] {
        [
            ("ids", self.ids as f64),
            ("generations", self.generations as f64),
            ("bytes", self.bytes as f64),
            ("fill", self.fill),
            ("false_drop_rate", self.false_drop_rate),
            ("false_drops_expected", self.false_drops_expected),
        ]
    }

    /// Takes in what another lane holds: counts add up, of rates and fills the greatest counts.
    pub fn add(&mut self, other: &Self) {
        self.ids += other.ids;
        self.generations = self.generations.max(other.generations);
        self.bytes += other.bytes;
        self.false_drop_rate = self.false_drop_rate.max(other.false_drop_rate);
        self.false_drops_expected += other.false_drops_expected;
        self.fill = self.fill.max(other.fill);
    }
}

impl Dedupe {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new(plan: &DedupePlan) -> Self {
        let horizon = Horizon::new(plan.within_ms);
        let method = match plan.bloom {
            None if plan.clock_moves => Method::Exact(Box::new(Exact::new(horizon))),
            None => Method::Exact(Box::new(Exact::new(Horizon::endless(plan.within_ms)))),
            Some(bloom) => Method::Bloom(Box::new(Bloom::new(horizon, bloom))),
        };
        Self { horizon, room: plan.room, method }
    }

    /// The watermark from which on an id of `event_time_ms` is forgotten.
    #[must_use]
    pub const fn forgotten_at(&self, event_time_ms: i64) -> i64 {
        self.horizon.over_at(self.horizon.generation(event_time_ms))
    }

    /// Judges `arrivals` one after the other, and remembers those that are new. Appends a verdict for each; an error
    /// is of kind `Limit`: there is no room for another id.
    pub fn judge(&mut self, arrivals: &[Arrival], judged: &mut Vec<Judged>) -> Result<()> {
        // Far from the bound no id need be counted: what is over and not forgotten yet only makes it nearer.
        let room = self.room.filter(|room| !room.fits_any(entries(self.remembered().ids), arrivals.len(), 0));
        match &mut self.method {
            Method::Exact(exact) => exact.judge(arrivals, room.as_ref(), judged),
            Method::Bloom(bloom) => {
                bloom.judge(arrivals, room.as_ref(), judged);
                Ok(())
            }
        }
    }

    /// How many ids there is room for.
    #[must_use]
    pub const fn room(&self) -> Option<Room> {
        self.room
    }

    /// Forgets the generations that are over at `watermark_ms`. Called between batches.
    pub fn forget(&mut self, watermark_ms: i64) {
        match &mut self.method {
            Method::Exact(exact) => exact.forget(watermark_ms),
            Method::Bloom(bloom) => bloom.forget(watermark_ms),
        }
    }

    /// Digest of what is remembered.
    pub fn seal(&mut self) -> u64 {
        match &mut self.method {
            Method::Exact(exact) => exact.seal(),
            Method::Bloom(bloom) => bloom.seal(),
        }
    }

    /// Keeps the epoch.
    pub fn commit(&mut self) {
        match &mut self.method {
            Method::Exact(exact) => exact.commit(),
            Method::Bloom(bloom) => bloom.commit(),
        }
    }

    /// Takes the epoch back.
    pub fn rollback(&mut self) {
        match &mut self.method {
            Method::Exact(exact) => exact.rollback(),
            Method::Bloom(bloom) => bloom.rollback(),
        }
    }

    /// What is held; each id is an entry.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let Remembered { ids, bytes, .. } = self.remembered();
        let undo_bytes = match &self.method {
            Method::Exact(exact) => exact.undo_len(),
            Method::Bloom(bloom) => bloom.undo_len(),
        } as u64;
        Usage { bytes: bytes - undo_bytes, undo_bytes, ..entries(ids) }
    }

    /// What is held, for whoever watches it.
    #[must_use]
    pub fn remembered(&self) -> Remembered {
        match &self.method {
            Method::Exact(exact) => exact.remembered(),
            Method::Bloom(bloom) => bloom.remembered(),
        }
    }

    /// Remembers what `other`, of the same plan, does; then it is as good as committed.
    pub fn learn(&mut self, other: &Self) -> Result<()> {
        match (&mut self.method, &other.method) {
            (Method::Exact(exact), Method::Exact(other)) => exact.learn(other),
            _ => Err(Error::state(
                "filters of dedupe (method = \"bloom\") cannot be moved to other partitions: they do not hold the ids",
            )),
        }
    }

    /// Appends what is remembered.
    pub fn save(&self, saving: &mut Saving) {
        match &self.method {
            Method::Exact(exact) => exact.save(saving),
            Method::Bloom(bloom) => bloom.save(saving),
        }
    }

    /// Reads what `save` wrote, of a step with the same plan.
    pub fn load(&mut self, saved: &mut Loading<'_>) -> Result<()> {
        match &mut self.method {
            Method::Exact(exact) => exact.load(saved),
            Method::Bloom(bloom) => bloom.load(saved),
        }
    }
}

/// So many ids.
fn entries(ids: u64) -> Usage {
    Usage { entries: ids, ..Usage::default() }
}

/// Whether there is room for one id more, if there is a bound.
fn has_room(room: Option<&Room>, ids: impl FnOnce() -> u64) -> bool {
    room.is_none_or(|room| room.fits_any(entries(ids()), 1, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_generations_are_remembered_at_once_than_said() {
        for (within_ms, ahead_ms) in [(800, 0), (800, 101), (800, 799), (15, 15), (7, 3), (1, 1)] {
            let horizon = Horizon::new(within_ms);
            let live = |watermark_ms: i64| {
                let (first, last) = (watermark_ms - 2 * within_ms - 9, watermark_ms + ahead_ms);
                let generations = horizon.generation(first)..=horizon.generation(last);
                generations.filter(|generation| watermark_ms < horizon.over_at(*generation)).count() as u64
            };
            let most = (-1_000..1_000).map(live).max().expect("some");
            let said = horizon.generations_max(ahead_ms);
            assert!(most <= said && said <= most + 1, "{within_ms} {ahead_ms}: {most} of {said}");
        }
    }

    #[test]
    fn lanes_add_up_and_the_worst_rate_counts() {
        let mut sum = Remembered { ids: 3, generations: 2, bytes: 10, false_drop_rate: 0.1, ..Remembered::default() };
        sum.add(&Remembered { ids: 1, generations: 5, bytes: 1, fill: 0.5, ..Remembered::default() });
        let figures = sum.entries().map(|(name, figure)| format!("{name} {figure}"));
        assert_eq!(figures[..3], ["ids 4", "generations 5", "bytes 11"]);
        assert_eq!(figures[3..], ["fill 0.5", "false_drop_rate 0.1", "false_drops_expected 0"]);
    }

    #[test]
    fn a_clock_that_stands_still_needs_no_generations() {
        let plan = DedupePlan { within_ms: 8, clock_moves: false, bloom: None, room: None };
        let arrivals: Vec<Arrival> = (-5_000..5_000_i64)
            .map(|number| Arrival {
                fingerprint: fingerprint(&number.to_le_bytes()),
                event_time_ms: number * 1_000_000_000,
                watermark_ms: i64::MIN,
            })
            .collect();
        let (mut dedupe, mut judged) = (Dedupe::new(&plan), Vec::new());
        dedupe.judge(&arrivals, &mut judged).expect("room");
        assert!(judged.iter().all(|judged| *judged == Judged::New));
        judged.clear();
        dedupe.judge(&arrivals, &mut judged).expect("room");
        assert!(judged.iter().all(|judged| *judged == Judged::Duplicate));
        assert_eq!((dedupe.remembered().ids, dedupe.remembered().generations), (10_000, 2));
    }
}
