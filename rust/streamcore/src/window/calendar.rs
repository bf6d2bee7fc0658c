//! Days, weeks and months of a time zone, as windows.
//!
//! `window/assign.rs` asks where the window of a time begins and ends. A day begins at the first instant whose
//! local time is midnight or later: where the clocks go forward over midnight that is the instant after, where
//! they go back over it, the first of the two. Zones are those compiled in, so no machine's files decide an
//! answer. Invariant: every instant has one window; windows follow one another without a hole.

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

const DAY_MS: i64 = 86_400_000;

/// No zone is further from UTC, ms.
const OFFSET_MAX_MS: i64 = 26 * 3_600_000;

/// What a window is as long as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// So many days, one of the first beginning on day `anchor` since 1970-01-01.
    Days {
        /// Number of days.
        every: i64,
        /// First day of some window.
        anchor: i64,
    },
    /// So many months, counted from January 1970.
    Months {
        /// Number of months.
        every: i64,
    },
}

/// Days of the week, as the first day of a week.
pub const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

impl Period {
    /// So many days, counted from 1970-01-01.
    #[must_use]
    pub const fn days(every: i64) -> Self {
        Self::Days { every, anchor: 0 }
    }

    /// So many weeks, counted from the one of 1970-01-01; `first_day` is a place in [`WEEKDAYS`].
    #[must_use]
    pub const fn weeks(every: i64, first_day: i64) -> Self {
        // 1970-01-01 was a Thursday.
        Self::Days { every: every * 7, anchor: -(3 - first_day).rem_euclid(7) }
    }

    /// Number of the window that holds a day.
    const fn number(self, day: i64) -> i64 {
        match self {
            Self::Days { every, anchor } => (day - anchor).div_euclid(every),
            Self::Months { every } => month_of_day(day).div_euclid(every),
        }
    }

    /// The first day of a window.
    const fn first_day(self, number: i64) -> i64 {
        match self {
            Self::Days { every, anchor } => number * every + anchor,
            Self::Months { every } => day_of_month(number * every),
        }
    }
}

/// Windows that begin and end as a calendar says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    zone: TimeZone,
    /// Length of a window.
    pub period: Period,
    /// How long after midnight of its first day, by the clock on the wall, a window begins, ms.
    pub offset_ms: i64,
}

impl Calendar {
    /// Windows of `period` in the zone of this IANA name; `None` where there is no such zone.
    #[must_use]
    pub fn new(zone: &str, period: Period, offset_ms: i64) -> Option<Self> {
        Some(Self { zone: TimeZoneDatabase::bundled().get(zone).ok()?, period, offset_ms })
    }

    /// The IANA name of the zone.
    #[must_use]
    pub fn zone(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// Start and end of the window that holds `time_ms`.
    #[must_use]
    pub fn window(&self, time_ms: i64) -> (i64, i64) {
        let local_ms = time_ms + self.zone_offset_ms(time_ms);
        let mut number = self.period.number((local_ms - self.offset_ms).div_euclid(DAY_MS));
        let mut end_ms = self.begins(number + 1);
        // Where the clocks go back over midnight, the day before comes a second time: it is the next day's.
        while end_ms <= time_ms {
            number += 1;
            end_ms = self.begins(number + 1);
        }
        (self.begins(number), end_ms)
    }

    /// The first instant whose local time is not before the one at which window `number` begins.
    fn begins(&self, number: i64) -> i64 {
        let local_ms = self.period.first_day(number) * DAY_MS + self.offset_ms;
        let mut from_ms = local_ms - OFFSET_MAX_MS;
        loop {
            let begins_ms = (local_ms - self.zone_offset_ms(from_ms)).max(from_ms);
            match self.transition_after(from_ms) {
                Some(transition_ms) if transition_ms <= begins_ms => from_ms = transition_ms,
                _ => return begins_ms,
            }
        }
    }

    fn zone_offset_ms(&self, time_ms: i64) -> i64 {
        i64::from(self.zone.to_offset(timestamp(time_ms)).seconds()) * 1000
    }

    fn transition_after(&self, time_ms: i64) -> Option<i64> {
        self.zone.following(timestamp(time_ms)).next().map(|transition| transition.timestamp().as_millisecond())
    }
}

/// The nearest time that `jiff` knows: it ends a day before the year 9999 does.
fn timestamp(time_ms: i64) -> Timestamp {
    let end = if time_ms < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_millisecond(time_ms).unwrap_or(end)
}

/// Names of all zones.
#[must_use]
pub fn zones() -> Vec<String> {
    TimeZoneDatabase::bundled().available().map(|name| name.to_string()).collect()
}

/// Months since January 1970 of a day since 1970-01-01, proleptic Gregorian.
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
const fn month_of_day(day: i64) -> i64 {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    // Months since March of the year 0; January 1970 is the 23,638th.
    (era * 400 + year) * 12 + from_march - 23_638
}

/// Day since 1970-01-01 of the first of a month, counted from January 1970.
/// Source: as above, `days_from_civil`.
const fn day_of_month(month: i64) -> i64 {
    let from_march = month + 23_638;
    let year = from_march.div_euclid(12);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * from_march.rem_euclid(12) + 2) / 5;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("a time").as_millisecond()
    }

    fn days(zone: &str) -> Calendar {
        Calendar::new(zone, Period::days(1), 0).expect("a zone")
    }

    #[test]
    fn days_are_as_long_as_the_clocks_make_them() {
        for (zone, inside, start, end) in [
            ("Europe/Berlin", "2026-03-29T12:00Z", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),
            ("Europe/Berlin", "2026-10-25T12:00Z", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),
            ("America/New_York", "2026-03-08T12:00Z", "2026-03-08T05:00Z", "2026-03-09T04:00Z"),
            ("America/New_York", "2026-11-01T12:00Z", "2026-11-01T04:00Z", "2026-11-02T05:00Z"),
            ("Asia/Kolkata", "2026-03-08T12:00Z", "2026-03-07T18:30Z", "2026-03-08T18:30Z"),
            // Midnight does not exist: the clocks go from 24:00 to 01:00.
            ("America/Sao_Paulo", "2018-11-04T12:00Z", "2018-11-04T03:00Z", "2018-11-05T02:00Z"),
            ("Africa/Cairo", "2024-04-26T12:00Z", "2024-04-25T22:00Z", "2024-04-26T21:00Z"),
            // Midnight comes twice: at 01:00 the clocks go back to 00:00.
            ("America/Havana", "2019-11-03T12:00Z", "2019-11-03T04:00Z", "2019-11-04T05:00Z"),
            // One minute into the day the clocks go back to 23:01 of the day before.
            ("America/St_Johns", "2010-11-07T03:00Z", "2010-11-07T02:30Z", "2010-11-08T03:30Z"),
            // There was no 30 December.
            ("Pacific/Apia", "2011-12-31T00:00Z", "2011-12-30T10:00Z", "2011-12-31T10:00Z"),
        ] {
            let calendar = days(zone);
            for time in [at(inside), at(start), at(end) - 1] {
                assert_eq!(calendar.window(time), (at(start), at(end)), "{zone} {inside}");
            }
            assert_eq!(calendar.window(at(start) - 1).1, at(start), "{zone} {inside}");
            assert_eq!(calendar.window(at(end)).0, at(end), "{zone} {inside}");
        }
    }

    #[test]
    fn weeks_and_months_begin_where_they_are_told_to() {
        let window = |period, offset_ms, time| {
            Calendar::new("Europe/Berlin", period, offset_ms).expect("a zone").window(at(time))
        };
        let bounds = |start, end| (at(start), at(end));
        let thursday = "2026-03-26T12:00Z";
        assert_eq!(window(Period::weeks(1, 0), 0, thursday), bounds("2026-03-22T23:00Z", "2026-03-29T22:00Z"));
        assert_eq!(window(Period::weeks(1, 6), 0, thursday), bounds("2026-03-21T23:00Z", "2026-03-28T23:00Z"));
        assert_eq!(window(Period::weeks(1, 3), 0, thursday), bounds("2026-03-25T23:00Z", "2026-04-01T22:00Z"));
        assert_eq!(window(Period::Months { every: 1 }, 0, thursday), bounds("2026-02-28T23:00Z", "2026-03-31T22:00Z"));
        assert_eq!(window(Period::Months { every: 3 }, 0, thursday), bounds("2025-12-31T23:00Z", "2026-03-31T22:00Z"));
        assert_eq!(
            window(Period::days(1), 6 * 3_600_000, "2026-03-29T03:59Z"),
            bounds("2026-03-28T05:00Z", "2026-03-29T04:00Z")
        );
        for first_day in 0..7 {
            let Period::Days { anchor, .. } = Period::weeks(2, first_day) else { panic!("weeks are days") };
            assert!((-6..=0).contains(&anchor) && (anchor + 3 - first_day) % 7 == 0, "{first_day}: {anchor}");
        }
    }

    /// The number of the window of an instant is the highest that any instant up to it had by its local date.
    #[test]
    fn every_quarter_of_an_hour_is_in_the_window_of_its_date() {
        for (zone, year) in [
            ("Europe/Berlin", 2026),
            ("America/New_York", 2026),
            ("Asia/Kolkata", 2026),
            ("America/Sao_Paulo", 2018),
            ("America/Santiago", 2026),
            ("Africa/Cairo", 2024),
            ("Australia/Lord_Howe", 2026),
            ("Pacific/Apia", 2011),
            ("America/Havana", 2019),
            ("Antarctica/Troll", 2026),
            ("UTC", 1969),
        ] {
            for period in [Period::days(1), Period::weeks(1, 6), Period::Months { every: 1 }] {
                let calendar = Calendar::new(zone, period, 0).expect("a zone");
                let from = at(&format!("{year}-01-01T00:00Z"));
                let (mut highest, mut expected) = (i64::MIN, calendar.window(from).0);
                for quarter in 0..400 * 96 {
                    let time = from + quarter * 900_000;
                    let local = time + calendar.zone_offset_ms(time);
                    let number = period.number(local.div_euclid(DAY_MS));
                    if number > highest && highest > i64::MIN {
                        expected = time;
                    }
                    highest = highest.max(number);
                    let (start, end) = calendar.window(time);
                    assert!(start == expected && time < end, "{zone} {time}: {start} {end}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn dates_agree_with_a_library_from_the_year_1_to_9999() {
        let first = jiff::civil::date(1, 1, 1);
        let epoch = jiff::civil::date(1970, 1, 1);
        for step in 0..3_652_000 / 13 {
            let date = first + jiff::Span::new().days(step * 13);
            let day = i64::from((date - epoch).get_days());
            let month = (i64::from(date.year()) - 1970) * 12 + i64::from(date.month()) - 1;
            assert_eq!(month_of_day(day), month, "{date}");
            assert_eq!(day_of_month(month), day - i64::from(date.day()) + 1, "{date}");
        }
    }

    #[test]
    fn the_first_and_the_last_times_have_windows() {
        for zone in ["Pacific/Kiritimati", "America/Los_Angeles", "UTC"] {
            for time in [at("0001-01-01T00:00Z"), at("9999-12-30T00:00Z") + 2 * DAY_MS - 1] {
                let (start, end) = days(zone).window(time);
                assert!(start <= time && time < end && end - start <= DAY_MS, "{zone}: {start} {time} {end}");
            }
        }
        assert!(Calendar::new("Europe/Berlni", Period::days(1), 0).is_none());
        assert!(zones().iter().any(|zone| zone == "Asia/Kolkata"));
    }
}
