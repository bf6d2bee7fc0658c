//! The clock of a lane, and the minimum over lanes.
//!
//! `lane` moves its clock record by record; `pipeline` tells the time (`now_ms`) and which lanes
//! have read everything, and takes the minimum for the combine stage. Invariant: a watermark
//! never falls.

use crate::codec::{Reader, Write};
use crate::error::Result;

/// The watermark before any record: everything is on time.
pub const WATERMARK_MIN: i64 = i64::MIN;

/// The watermark at the end of a bounded input: every window is over. Never stored as a clock.
pub const WATERMARK_MAX: i64 = i64::MAX;

/// How far behind the newest event time the watermark stays; `None`: it does not move before the
/// end of the input.
pub type OutOfOrderness = Option<i64>;

/// The moment of a call, by both of the caller's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// By the clock on the wall, ms since 1970: what event times are compared with. Somebody may set it.
    pub wall_ms: i64,
    /// By a clock that nobody sets, ms from any start: how long nothing came is told by it.
    pub steady_ms: i64,
}

/// Both clocks show the same, as in tests.
impl From<i64> for Now {
    fn from(ms: i64) -> Self {
        Self { wall_ms: ms, steady_ms: ms }
    }
}

/// Event-time clock of one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// See [`OutOfOrderness`]; fixed for a pipeline's life.
    out_of_orderness_ms: OutOfOrderness,
    /// Newest event time, moved by [`observe`](Self::observe).
    max_event_time_ms: Option<i64>,
    /// `max_event_time_ms - out_of_orderness_ms - 1`, or further where an idle clock ran on.
    watermark_ms: i64,
    /// When the last record came, or the first call that told the time, by the steady clock.
    last_arrival_ms: Option<i64>,
    /// The lane has read everything readable; told by the source.
    caught_up: bool,
}

impl Clock {
    /// A clock that has seen nothing.
    #[must_use]
    pub const fn new(out_of_orderness_ms: OutOfOrderness) -> Self {
        Self {
            out_of_orderness_ms,
            max_event_time_ms: None,
            watermark_ms: WATERMARK_MIN,
            last_arrival_ms: None,
            caught_up: false,
        }
    }

    /// Moves the clock for one record on its way in.
    #[inline]
    pub fn observe(&mut self, event_time_ms: i64) {
        if self.max_event_time_ms.is_some_and(|max| event_time_ms <= max) {
            return;
        }
        self.max_event_time_ms = Some(event_time_ms);
        if let Some(bound) = self.out_of_orderness_ms {
            self.watermark_ms = self.watermark_ms.max(event_time_ms - bound - 1);
        }
    }

    /// Notes that records arrived at `now_ms`.
    pub fn arrived(&mut self, now_ms: i64) {
        self.last_arrival_ms = Some(now_ms);
        self.caught_up = false;
    }

    /// Notes whether the lane has read everything readable at `now_ms`.
    pub fn tell(&mut self, now_ms: i64, caught_up: bool) {
        self.last_arrival_ms.get_or_insert(now_ms);
        self.caught_up = caught_up;
    }

    /// The watermark, ms: no record at or before it is expected any more.
    #[must_use]
    #[inline]
    pub const fn watermark_ms(&self) -> i64 {
        self.watermark_ms
    }

    /// Newest event time seen, ms.
    #[must_use]
    pub const fn max_event_time_ms(&self) -> Option<i64> {
        self.max_event_time_ms
    }

    /// Whether the lane had read everything readable when last told.
    #[must_use]
    pub const fn is_caught_up(&self) -> bool {
        self.caught_up
    }

    /// How long nothing came, ms; `None` before the time was told.
    #[must_use]
    pub fn quiet_ms(&self, now_ms: i64) -> Option<i64> {
        self.last_arrival_ms.map(|arrival| (now_ms - arrival).max(0))
    }

    /// True when the lane has read everything and nothing came for `idle_timeout_ms`.
    #[must_use]
    pub fn is_idle(&self, now_ms: i64, idle_timeout_ms: i64) -> bool {
        self.caught_up && self.last_arrival_ms.is_some_and(|arrival| now_ms - arrival >= idle_timeout_ms)
    }

    /// Lets an idle clock run as time passes, from where it stood when the last record came.
    pub fn run_on(&mut self, now_ms: i64) {
        if let (Some(bound), Some(max), Some(arrival)) =
            (self.out_of_orderness_ms, self.max_event_time_ms, self.last_arrival_ms)
        {
            let elapsed = (now_ms - arrival).max(0);
            self.watermark_ms = self.watermark_ms.max(max - bound - 1 + elapsed);
        }
    }

    /// Shows what others did.
    pub const fn set(&mut self, max_event_time_ms: Option<i64>, watermark_ms: i64) {
        (self.max_event_time_ms, self.watermark_ms) = (max_event_time_ms, watermark_ms);
    }

    /// Appends event times; arrivals are processing time and start anew.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.max_event_time_ms.is_some()));
        out.put_i64(self.max_event_time_ms.unwrap_or_default());
        out.put_i64(self.watermark_ms);
    }

    /// Reads what `encode` wrote.
    pub fn decode(out_of_orderness_ms: OutOfOrderness, reader: &mut Reader<'_>) -> Result<Self> {
        let seen = reader.u8()? != 0;
        let max = reader.i64()?;
        let watermark_ms = reader.i64()?;
        Ok(Self { max_event_time_ms: seen.then_some(max), watermark_ms, ..Self::new(out_of_orderness_ms) })
    }
}

/// Clocks of several lanes taken together at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minimum {
    /// Over the lanes that are not idle; over all of them when every lane is idle.
    pub active_ms: i64,
    /// Over all lanes that have ever seen a record, idle ones included.
    pub all_ms: i64,
    /// Every lane is idle.
    pub all_idle: bool,
}

/// The minimum watermark over `clocks`, each with whether it is idle.
pub fn minimum<'a>(clocks: impl Iterator<Item = (&'a Clock, bool)>) -> Minimum {
    let read = |(clock, is_idle): (&Clock, bool)| (clock.watermark_ms(), clock.max_event_time_ms().is_some(), is_idle);
    minimum_of(clocks.map(read))
}

/// The minimum over `lanes`: the watermark of each, whether it has ever seen a record, and whether it is idle.
pub fn minimum_of(clocks: impl Iterator<Item = (i64, bool, bool)>) -> Minimum {
    let (mut active, mut all, mut lanes) = (None::<i64>, None::<i64>, 0);
    for (watermark, has_seen, is_idle) in clocks {
        lanes += 1;
        if !is_idle {
            active = Some(active.map_or(watermark, |least| least.min(watermark)));
        }
        if has_seen {
            all = Some(all.map_or(watermark, |least| least.min(watermark)));
        }
    }
    let all_ms = all.unwrap_or(WATERMARK_MIN);
    Minimum { active_ms: active.unwrap_or(all_ms), all_ms, all_idle: lanes > 0 && active.is_none() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(times: &[i64]) -> Clock {
        let mut clock = Clock::new(Some(5));
        for time in times {
            clock.observe(*time);
        }
        clock
    }

    #[test]
    fn the_watermark_trails_the_maximum_and_never_falls() {
        let mut clock = at(&[100]);
        assert_eq!(clock.watermark_ms(), 94);
        clock.observe(50);
        assert_eq!(clock.watermark_ms(), 94);
        clock.observe(101);
        assert_eq!(clock.watermark_ms(), 95);
    }

    #[test]
    fn unbounded_disorder_holds_the_clock() {
        let mut clock = Clock::new(None);
        clock.observe(100);
        clock.run_on(1_000_000);
        assert_eq!(clock.watermark_ms(), WATERMARK_MIN);
    }

    #[test]
    fn a_lane_is_idle_only_when_caught_up_and_quiet() {
        let mut clock = at(&[100]);
        clock.arrived(1_000);
        assert!(!clock.is_idle(9_000, 500), "a slow lane is not idle");
        clock.tell(1_200, true);
        assert!(!clock.is_idle(1_400, 500), "quiet for 400 ms only");
        assert!(clock.is_idle(1_500, 500));
        clock.arrived(1_600);
        assert!(!clock.is_idle(9_000, 500), "a record ends idleness");
    }

    #[test]
    fn an_idle_clock_runs_with_the_wall_clock_and_does_not_jump() {
        let mut clock = at(&[100]);
        clock.arrived(1_000);
        clock.run_on(1_030);
        assert_eq!(clock.watermark_ms(), 94 + 30);
        clock.run_on(1_010);
        assert_eq!(clock.watermark_ms(), 94 + 30, "it never goes back");
    }

    #[test]
    fn an_idle_lane_does_not_hold_the_minimum_but_counts_in_all() {
        let (mut slow, mut fast, empty) = (at(&[10]), at(&[1000]), Clock::new(Some(5)));
        slow.tell(0, true);
        fast.arrived(600);
        let minimum_now = minimum([&slow, &fast].into_iter().map(|clock| (clock, clock.is_idle(600, 500))));
        assert_eq!(minimum_now, Minimum { active_ms: 994, all_ms: 4, all_idle: false });
        let with_empty = minimum([&fast, &empty].into_iter().map(|clock| (clock, clock.is_idle(600, 500))));
        assert_eq!(with_empty.active_ms, WATERMARK_MIN, "a lane that has not spoken yet holds the minimum");
        assert_eq!(with_empty.all_ms, 994);
    }
}
