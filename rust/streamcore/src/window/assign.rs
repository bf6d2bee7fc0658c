//! Which windows an event belongs to: aligned windows cut into slices, so that an event is stored
//! once however many windows share it.
//!
//! `window/state.rs` stores by the bucket this file names and asks which windows a bucket feeds.
//! Inequalities are Flink's: a window `[start, end)` is over when `watermark >= end - 1 + allowed
//! lateness`, and a record is late for it from then on. Invariant: a bucket's rows count for the
//! same windows, `since` on.

use crate::state::BucketKey;

/// Aligned windows of one length, a fixed distance apart. Tumbling windows are `slide == size`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aligned {
    /// Length, ms.
    pub size_ms: i64,
    /// Distance between starts, ms.
    pub slide_ms: i64,
    /// Shift of the alignment from the epoch, ms.
    pub offset_ms: i64,
    /// No window starts earlier.
    pub min_start_ms: Option<i64>,
    /// How long past its end a window takes records, ms.
    pub allowed_lateness_ms: i64,
    /// Greatest common divisor of size and slide: the events of a slice share their windows.
    slice_ms: i64,
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
    /// First millisecond after the slice.
    end_ms: i64,
    /// The watermark from which on the slice's first window is over.
    over_at_ms: i64,
}

impl<'w> Assigner<'w> {
    /// Has seen no event.
    #[must_use]
    pub fn new(windows: &'w Aligned) -> Self {
        let bucket = BucketKey { time: i64::MAX, since: 0 };
        Self { windows, bucket, end_ms: i64::MIN, over_at_ms: i64::MIN }
    }

    /// See [`Aligned::assign`].
    #[inline]
    pub fn assign(&mut self, time_ms: i64, watermark_ms: i64) -> Assigned {
        if time_ms >= self.bucket.time && time_ms < self.end_ms && watermark_ms < self.over_at_ms {
            return Assigned::Bucket(self.bucket, 0);
        }
        let assigned = self.windows.assign(time_ms, watermark_ms);
        if let Assigned::Bucket(bucket, 0) = assigned {
            self.bucket = bucket;
            self.end_ms = bucket.time + self.windows.slice_ms;
            self.over_at_ms = self.windows.over_at(bucket.since);
        }
        assigned
    }
}

impl Aligned {
    /// Windows of `size_ms` every `slide_ms`, both positive.
    #[must_use]
    pub fn new(size_ms: i64, slide_ms: i64, offset_ms: i64, min_start_ms: Option<i64>, lateness_ms: i64) -> Self {
        let slice_ms = gcd(size_ms, slide_ms);
        Self { size_ms, slide_ms, offset_ms, min_start_ms, allowed_lateness_ms: lateness_ms, slice_ms }
    }

    /// Start of the last window at or before `time_ms`.
    #[inline]
    fn last_start(&self, time_ms: i64) -> i64 {
        time_ms - (time_ms - self.offset_ms).rem_euclid(self.slide_ms)
    }

    /// Start of the first window that contains `time_ms` or begins after it ends.
    #[inline]
    fn first_start(&self, time_ms: i64) -> i64 {
        self.start_at_or_after(time_ms - self.size_ms + 1).max(self.floor_start())
    }

    /// Start of the first window at or after `time_ms`.
    #[inline]
    fn start_at_or_after(&self, time_ms: i64) -> i64 {
        time_ms + (self.offset_ms - time_ms).rem_euclid(self.slide_ms)
    }

    fn floor_start(&self) -> i64 {
        self.min_start_ms.map_or(i64::MIN, |floor| self.start_at_or_after(floor))
    }

    /// End of the window that starts at `start_ms`.
    #[must_use]
    pub fn end(&self, start_ms: i64) -> i64 {
        start_ms + self.size_ms
    }

    /// The watermark from which on the window that starts at `start_ms` is over.
    #[must_use]
    #[inline]
    pub fn over_at(&self, start_ms: i64) -> i64 {
        start_ms + self.size_ms - 1 + self.allowed_lateness_ms
    }

    /// Start of the first window that is not over at `watermark_ms`.
    #[inline]
    fn first_open(&self, watermark_ms: i64) -> i64 {
        if watermark_ms == i64::MIN {
            return i64::MIN;
        }
        self.start_at_or_after(watermark_ms.saturating_sub(self.over_at(0)).saturating_add(1))
    }

    /// Where an event goes, judged with the watermark before it.
    #[inline]
    #[must_use]
    pub fn assign(&self, time_ms: i64, watermark_ms: i64) -> Assigned {
        let (first, last) = (self.first_start(time_ms), self.last_start(time_ms));
        if first > last {
            return Assigned::NoWindow;
        }
        let over_at = self.over_at(last);
        if over_at <= watermark_ms {
            return Assigned::Late(over_at);
        }
        let time = time_ms - (time_ms - self.offset_ms).rem_euclid(self.slice_ms);
        if self.over_at(first) > watermark_ms {
            return Assigned::Bucket(BucketKey { time, since: first }, 0);
        }
        let since = self.first_open(watermark_ms);
        let missed = (since - first) / self.slide_ms;
        Assigned::Bucket(BucketKey { time, since }, missed as u64)
    }

    /// Starts of the windows that `bucket` feeds, rising.
    pub fn windows_of(&self, bucket: BucketKey) -> impl Iterator<Item = i64> + use<> {
        let slide = self.slide_ms;
        let (first, last) = (bucket.since, self.last_start(bucket.time));
        (0..).map(move |step| first + step * slide).take_while(move |start| *start <= last)
    }

    /// Start of the last window that `bucket` feeds.
    #[must_use]
    pub fn last_window(&self, bucket: BucketKey) -> i64 {
        self.last_start(bucket.time)
    }

    /// The first window that `bucket` feeds and that is not over at `watermark_ms`.
    #[must_use]
    pub fn next_window(&self, bucket: BucketKey, watermark_ms: i64) -> Option<i64> {
        let start = bucket.since.max(self.first_open(watermark_ms));
        (start <= self.last_window(bucket)).then_some(start)
    }
}

fn gcd(left: i64, right: i64) -> i64 {
    if right == 0 { left } else { gcd(right, left % right) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tumbling_windows_align_to_the_epoch_also_before_it() {
        let windows = Aligned::new(10, 10, 0, None, 0);
        let bucket = |time| BucketKey { time, since: time };
        assert_eq!(windows.assign(19, i64::MIN), Assigned::Bucket(bucket(10), 0));
        assert_eq!(windows.assign(-1, i64::MIN), Assigned::Bucket(bucket(-10), 0));
        assert_eq!(windows.assign(19, 18), Assigned::Bucket(bucket(10), 0));
        assert_eq!(windows.assign(19, 19), Assigned::Late(19), "end - 1 <= watermark");
    }

    proptest! {
        #[test]
        fn slices_feed_the_windows_that_contain_the_event_and_are_not_over(
            size in 1_i64..30, slide in 1_i64..30, offset in -20_i64..20,
            floor in proptest::option::of(-50_i64..50), lateness in 0_i64..10,
            time in -200_i64..200, watermark in -200_i64..200,
        ) {
            let windows = Aligned::new(size, slide, offset, floor, lateness);
            let mut assigner = Assigner::new(&windows);
            for (time, watermark) in [(time, watermark - 7), (time, watermark), (time + 3, watermark + 3), (time, watermark)] {
                prop_assert_eq!(assigner.assign(time, watermark), windows.assign(time, watermark));
            }
            let containing: Vec<i64> = (-300..300)
                .filter(|start| (start - offset) % slide == 0 && *start <= time && time < start + size)
                .filter(|start| floor.is_none_or(|floor| *start >= floor))
                .collect();
            let open: Vec<i64> =
                containing.iter().copied().filter(|start| start + size - 1 + lateness > watermark).collect();
            match windows.assign(time, watermark) {
                Assigned::NoWindow => prop_assert!(containing.is_empty()),
                Assigned::Late(over_at) => {
                    prop_assert!(!containing.is_empty() && open.is_empty());
                    prop_assert!(over_at <= watermark);
                }
                Assigned::Bucket(bucket, missed) => {
                    prop_assert_eq!(windows.windows_of(bucket).collect::<Vec<_>>(), open.clone());
                    prop_assert_eq!(missed as usize, containing.len() - open.len());
                    prop_assert_eq!(windows.next_window(bucket, watermark), open.first().copied());
                    prop_assert_eq!(windows.last_window(bucket), open[open.len() - 1]);
                    prop_assert!(bucket.time <= time && time < bucket.time + size);
                }
            }
        }
    }
}
