//! Which windows an event belongs to: aligned windows cut into slices, so that an event is stored
//! once however many windows share it.
//!
//! `window/state.rs` stores by the bucket this file names and asks which windows a bucket feeds.
//! A window is named by its start; cumulating windows, many of which start together, by the start of
//! their last step. Inequalities are Flink's: a window `[start, end)` is over when `watermark >= end - 1 +
//! allowed lateness`, and a record is late for it from then on. Invariant: a bucket's rows count for the
//! same windows, `since` on, and of two windows the one with the higher name ends later.

use super::calendar::Calendar;
use crate::decode::time::TIME_MAX_MS;
use crate::state::BucketKey;

/// How windows lie in time. All in ms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Windows of one length, a fixed distance apart. Tumbling windows are `slide == size`.
    Hopping {
        /// Length.
        size_ms: i64,
        /// Distance between starts.
        slide_ms: i64,
        /// Shift of the alignment from the epoch.
        offset_ms: i64,
        /// Greatest common divisor of size and slide: the events of a slice share their windows.
        slice_ms: i64,
    },
    /// Windows that start together and end one step after the other, as Flink's CUMULATE.
    Cumulate {
        /// Length of the longest, a multiple of the step; the next ones start behind it.
        size_ms: i64,
        /// Distance between ends.
        step_ms: i64,
        /// Shift of the alignment from the epoch.
        offset_ms: i64,
    },
    /// Days, weeks or months of a time zone, one after the other.
    Calendar(Calendar),
    /// One window for ever: it has no bounds and is never over.
    Whole,
}

/// Windows whose bounds the clock alone decides, not the events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aligned {
    /// How they lie.
    pub shape: Shape,
    /// No window starts earlier, ms; of the whole window, no event is earlier.
    pub min_start_ms: Option<i64>,
    /// How long past its end a window takes records, ms.
    pub allowed_lateness_ms: i64,
}

/// Where an event goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assigned {
    /// Into this bucket, having missed so many of its windows.
    Bucket(BucketKey, u64),
    /// Late for every window it belongs to, of which the last is over since the watermark passed
    /// this time.
    Late(i64),
    /// It belongs to no window.
    NoWindow,
}

/// The last event that missed no window: those of its slice go the same way until its first window is
/// over. Saves the divisions of [`Aligned::assign`] for nearly every event.
#[derive(Debug, Clone, Copy)]
pub struct Assigner<'w> {
    windows: &'w Aligned,
    bucket: BucketKey,
    /// First millisecond of the slice.
    start_ms: i64,
    /// First millisecond after the slice.
    end_ms: i64,
    /// The watermark from which on the slice's first window is over.
    over_at_ms: i64,
}

impl<'w> Assigner<'w> {
    /// Has seen no event.
    #[must_use]
    pub fn new(windows: &'w Aligned) -> Self {
        let bucket = BucketKey { time: 0, since: 0 };
        Self { windows, bucket, start_ms: i64::MAX, end_ms: i64::MIN, over_at_ms: i64::MIN }
    }

    /// See [`Aligned::assign`].
    #[inline]
    pub fn assign(&mut self, time_ms: i64, watermark_ms: i64) -> Assigned {
        if time_ms >= self.start_ms && time_ms < self.end_ms && watermark_ms < self.over_at_ms {
            return Assigned::Bucket(self.bucket, 0);
        }
        let assigned = self.windows.assign(time_ms, watermark_ms);
        if let Assigned::Bucket(bucket, 0) = assigned {
            self.bucket = bucket;
            (self.start_ms, self.end_ms) = self.windows.alike(bucket);
            self.over_at_ms = self.windows.over_at(bucket.since);
        }
        assigned
    }
}

impl Aligned {
    /// Windows of `shape`.
    #[must_use]
    pub fn new(shape: Shape, min_start_ms: Option<i64>, allowed_lateness_ms: i64) -> Self {
        let min_start_ms = min_start_ms.map(|floor| match &shape {
            Shape::Hopping { slide_ms, offset_ms, .. } => ceil(floor, *offset_ms, *slide_ms),
            _ => floor,
        });
        Self { shape, min_start_ms, allowed_lateness_ms }
    }

    /// The windows that contain `time_ms`: the first and the last.
    #[inline]
    fn windows_at(&self, time_ms: i64) -> Option<(i64, i64)> {
        let allowed = |start: i64| self.min_start_ms.is_none_or(|floor| start >= floor);
        match &self.shape {
            Shape::Hopping { size_ms, slide_ms, offset_ms, .. } => {
                let first = ceil(time_ms - size_ms + 1, *offset_ms, *slide_ms);
                let first = self.min_start_ms.map_or(first, |floor| first.max(floor));
                let last = floor_to(time_ms, *offset_ms, *slide_ms);
                (first <= last).then_some((first, last))
            }
            Shape::Cumulate { size_ms, step_ms, offset_ms } => {
                let start = floor_to(time_ms, *offset_ms, *size_ms);
                let first = floor_to(time_ms, *offset_ms, *step_ms);
                allowed(start).then_some((first, start + size_ms - step_ms))
            }
            Shape::Calendar(calendar) => {
                let (start, _) = calendar.window(time_ms);
                allowed(start).then_some((start, start))
            }
            Shape::Whole => allowed(time_ms).then_some((0, 0)),
        }
    }

    /// Start and end of the window called `name`, ms; the whole window has none.
    #[must_use]
    pub fn bounds(&self, name: i64) -> Option<(i64, i64)> {
        match &self.shape {
            Shape::Hopping { size_ms, .. } => Some((name, name + size_ms)),
            Shape::Cumulate { size_ms, step_ms, offset_ms } => {
                Some((floor_to(name, *offset_ms, *size_ms), name + step_ms))
            }
            Shape::Calendar(calendar) => Some(calendar.window(name)),
            Shape::Whole => None,
        }
    }

    /// The watermark from which on the window called `name` is over; `i64::MAX` is never reached.
    #[must_use]
    #[inline]
    pub fn over_at(&self, name: i64) -> i64 {
        let end = match &self.shape {
            Shape::Hopping { size_ms, .. } => name + size_ms,
            Shape::Cumulate { step_ms, .. } => name + step_ms,
            Shape::Calendar(calendar) => calendar.window(name).1,
            Shape::Whole => return i64::MAX,
        };
        end - 1 + self.allowed_lateness_ms
    }

    /// Distance between two names, ms; any will do where an event has one window.
    const fn distance_ms(&self) -> i64 {
        match &self.shape {
            Shape::Hopping { slide_ms, .. } => *slide_ms,
            Shape::Cumulate { step_ms, .. } => *step_ms,
            Shape::Calendar(_) | Shape::Whole => 1,
        }
    }

    /// The first window not before `name` that is not over at `watermark_ms`.
    #[inline]
    fn first_open(&self, name: i64, watermark_ms: i64) -> i64 {
        if self.over_at(name) > watermark_ms {
            return name;
        }
        let missed = (watermark_ms - self.over_at(name)) / self.distance_ms() + 1;
        name + missed * self.distance_ms()
    }

    /// Where an event goes, judged with the watermark before it.
    #[inline]
    #[must_use]
    pub fn assign(&self, time_ms: i64, watermark_ms: i64) -> Assigned {
        let Some((first, last)) = self.windows_at(time_ms) else { return Assigned::NoWindow };
        let over_at = self.over_at(last);
        if over_at <= watermark_ms {
            return Assigned::Late(over_at);
        }
        let time = match &self.shape {
            Shape::Hopping { slice_ms, offset_ms, .. } => floor_to(time_ms, *offset_ms, *slice_ms),
            Shape::Cumulate { step_ms, offset_ms, .. } => floor_to(time_ms, *offset_ms, *step_ms),
            Shape::Calendar(_) => first,
            Shape::Whole => 0,
        };
        let since = self.first_open(first, watermark_ms);
        Assigned::Bucket(BucketKey { time, since }, ((since - first) / self.distance_ms()) as u64)
    }

    /// Whether events can go into `bucket`.
    #[must_use]
    pub fn has_bucket(&self, bucket: BucketKey) -> bool {
        if self.shape == Shape::Whole {
            return bucket == BucketKey { time: 0, since: 0 };
        }
        let is_time = |time_ms| (-TIME_MAX_MS..=TIME_MAX_MS).contains(&time_ms);
        if !is_time(bucket.time) || !is_time(bucket.since) {
            return false;
        }
        let Assigned::Bucket(first, 0) = self.assign(bucket.time, i64::MIN) else { return false };
        first.time == bucket.time
            && (first.since..=self.last_window(bucket)).contains(&bucket.since)
            && (bucket.since - first.since) % self.distance_ms() == 0
    }

    /// The times `[from, to)` whose events go the same way as those of `bucket`.
    #[inline]
    fn alike(&self, bucket: BucketKey) -> (i64, i64) {
        match &self.shape {
            Shape::Hopping { slice_ms, .. } => (bucket.time, bucket.time + slice_ms),
            Shape::Cumulate { step_ms, .. } => (bucket.time, bucket.time + step_ms),
            Shape::Calendar(calendar) => calendar.window(bucket.time),
            Shape::Whole => (self.min_start_ms.unwrap_or(i64::MIN), i64::MAX),
        }
    }

    /// Times `[from, to)` of the buckets that can feed the window called `name`.
    #[must_use]
    pub fn slices_of(&self, name: i64) -> (i64, i64) {
        self.bounds(name).unwrap_or((0, 1))
    }

    /// Of windows of one length that overlap: that, the length of a slice and the offset of both, ms.
    #[must_use]
    pub fn slicing(&self) -> Option<(i64, i64, i64)> {
        match self.shape {
            Shape::Hopping { size_ms, offset_ms, slice_ms, .. } => Some((size_ms, slice_ms, offset_ms)),
            Shape::Cumulate { size_ms, step_ms, offset_ms } => Some((size_ms, step_ms, offset_ms)),
            Shape::Calendar(_) | Shape::Whole => None,
        }
    }

    /// Names of the windows that `bucket` feeds, rising.
    pub fn windows_of(&self, bucket: BucketKey) -> impl Iterator<Item = i64> + use<> {
        let (distance, last) = (self.distance_ms(), self.last_window(bucket));
        (0..).map(move |step| bucket.since + step * distance).take_while(move |name| *name <= last)
    }

    /// The last window that `bucket` feeds.
    #[must_use]
    pub fn last_window(&self, bucket: BucketKey) -> i64 {
        match &self.shape {
            Shape::Hopping { slide_ms, offset_ms, .. } => floor_to(bucket.time, *offset_ms, *slide_ms),
            Shape::Cumulate { size_ms, step_ms, offset_ms } => {
                floor_to(bucket.time, *offset_ms, *size_ms) + size_ms - step_ms
            }
            Shape::Calendar(_) => bucket.time,
            Shape::Whole => 0,
        }
    }

    /// The first window that `bucket` feeds and that is not over at `watermark_ms`.
    #[must_use]
    pub fn next_window(&self, bucket: BucketKey, watermark_ms: i64) -> Option<i64> {
        let name = self.first_open(bucket.since, watermark_ms);
        (name <= self.last_window(bucket)).then_some(name)
    }
}

impl Shape {
    /// Windows of `size_ms` every `slide_ms`, both positive.
    #[must_use]
    pub fn hopping(size_ms: i64, slide_ms: i64, offset_ms: i64) -> Self {
        Self::Hopping { size_ms, slide_ms, offset_ms, slice_ms: gcd(size_ms, slide_ms) }
    }
}

/// The last multiple of `step_ms` past `offset_ms` that is not after `time_ms`.
#[inline]
const fn floor_to(time_ms: i64, offset_ms: i64, step_ms: i64) -> i64 {
    time_ms - (time_ms - offset_ms).rem_euclid(step_ms)
}

/// The first such multiple that is not before `time_ms`.
#[inline]
const fn ceil(time_ms: i64, offset_ms: i64, step_ms: i64) -> i64 {
    time_ms + (offset_ms - time_ms).rem_euclid(step_ms)
}

const fn gcd(left: i64, right: i64) -> i64 {
    if right == 0 { left } else { gcd(right, left % right) }
}

#[cfg(test)]
mod tests {
    use super::super::calendar::Period;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tumbling_windows_align_to_the_epoch_also_before_it() {
        let windows = Aligned::new(Shape::hopping(10, 10, 0), None, 0);
        let bucket = |time| BucketKey { time, since: time };
        assert_eq!(windows.assign(19, i64::MIN), Assigned::Bucket(bucket(10), 0));
        assert_eq!(windows.assign(-1, i64::MIN), Assigned::Bucket(bucket(-10), 0));
        assert_eq!(windows.assign(19, 18), Assigned::Bucket(bucket(10), 0));
        assert_eq!(windows.assign(19, 19), Assigned::Late(19), "end - 1 <= watermark");
    }

    #[test]
    fn the_whole_window_takes_all_and_is_never_over() {
        let windows = Aligned::new(Shape::Whole, Some(-5), 0);
        let mut assigner = Assigner::new(&windows);
        for time in [7, -5, i64::MAX - 1, 0] {
            let expected = Assigned::Bucket(BucketKey { time: 0, since: 0 }, 0);
            assert_eq!(assigner.assign(time, i64::MAX - 1), expected);
        }
        assert_eq!(assigner.assign(-6, i64::MIN), Assigned::NoWindow, "before min_start");
        assert_eq!(windows.bounds(0), None);
    }

    /// Holds `windows` to the list of all windows as (start, end), for an event and a watermark.
    fn check(windows: &Aligned, all: &[(i64, i64)], time: i64, watermark: i64) -> Result<(), TestCaseError> {
        let mut assigner = Assigner::new(windows);
        for (time, watermark) in [
            (time, watermark - 7),
            (time, watermark),
            (time + 3, watermark + 3),
            (time - 2, watermark),
            (time, watermark),
        ] {
            prop_assert_eq!(assigner.assign(time, watermark), windows.assign(time, watermark));
        }
        let over = |end: i64| end - 1 + windows.allowed_lateness_ms <= watermark;
        let floor = windows.min_start_ms.unwrap_or(i64::MIN);
        let holds = |(start, end): &&(i64, i64)| *start >= floor && *start <= time && time < *end;
        let mut containing: Vec<(i64, i64)> = all.iter().filter(holds).copied().collect();
        containing.sort_by_key(|(_, end)| *end);
        let open: Vec<(i64, i64)> = containing.iter().copied().filter(|(_, end)| !over(*end)).collect();
        match windows.assign(time, watermark) {
            Assigned::NoWindow => prop_assert!(containing.is_empty()),
            Assigned::Late(over_at) => {
                prop_assert!(!containing.is_empty() && open.is_empty());
                prop_assert!(over_at <= watermark);
            }
            Assigned::Bucket(bucket, missed) => {
                let names: Vec<i64> = windows.windows_of(bucket).collect();
                let bounds: Vec<_> = names.iter().filter_map(|name| windows.bounds(*name)).collect();
                prop_assert_eq!(&bounds, &open);
                prop_assert_eq!(missed as usize, containing.len() - open.len());
                prop_assert_eq!(windows.next_window(bucket, watermark), names.first().copied());
                prop_assert_eq!(windows.last_window(bucket), *names.last().expect("one is open"));
                for name in names {
                    let (from, to) = windows.slices_of(name);
                    prop_assert!(from <= bucket.time && bucket.time < to && bucket.since <= name);
                }
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn slices_feed_the_windows_that_contain_the_event_and_are_not_over(
            size in 1_i64..30, slide in 1_i64..30, offset in -20_i64..20,
            floor in proptest::option::of(-50_i64..50), lateness in 0_i64..10,
            time in -200_i64..200, watermark in -200_i64..200,
        ) {
            let windows = Aligned::new(Shape::hopping(size, slide, offset), floor, lateness);
            let starts = (-300..300).filter(|start| (start - offset) % slide == 0);
            let all: Vec<_> = starts.map(|start| (start, start + size)).collect();
            check(&windows, &all, time, watermark)?;
        }

        #[test]
        fn days_of_a_zone_are_windows_like_others(
            hour in 0_i64..24 * 40, later in -50_i64..50, lateness in 0_i64..50_000_000, floor in proptest::option::of(0_i64..40),
        ) {
            // From 2026-03-01: the clocks of Berlin go forward on the 29th.
            let (march, hour_ms) = (1_772_323_200_000, 3_600_000);
            let calendar = Calendar::new("Europe/Berlin", Period::days(1), 0).expect("a zone");
            let mut all = vec![calendar.window(march - 24 * hour_ms)];
            while all.len() < 50 {
                all.push(calendar.window(all[all.len() - 1].1));
            }
            let floor = floor.map(|day| march + day * 24 * hour_ms);
            let windows = Aligned::new(Shape::Calendar(calendar), floor, lateness);
            let time = march + hour * hour_ms;
            check(&windows, &all, time, time + later * hour_ms)?;
        }

        #[test]
        fn steps_feed_the_windows_that_start_together(
            step in 1_i64..12, steps in 1_i64..8, offset in -20_i64..20,
            floor in proptest::option::of(-50_i64..50), lateness in 0_i64..10,
            time in -200_i64..200, watermark in -200_i64..200,
        ) {
            let (size_ms, offset_ms) = (step * steps, offset);
            let windows = Aligned::new(Shape::Cumulate { size_ms, step_ms: step, offset_ms }, floor, lateness);
            let starts = (-300..300).filter(|start| (start - offset) % size_ms == 0);
            let all: Vec<_> = starts.flat_map(|start| (1..=steps).map(move |n| (start, start + n * step))).collect();
            check(&windows, &all, time, watermark)?;
        }
    }
}
