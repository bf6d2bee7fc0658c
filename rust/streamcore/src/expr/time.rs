//! Calendar arithmetic on timestamps, in UTC and the proleptic Gregorian calendar.
//!
//! `eval` runs these kernels on columns of ms since 1970-01-01. Invariant: every int64 is a valid
//! timestamp; nothing here panics, also before the epoch. Truncating the very first times an int64
//! can hold overflows, and is reported as such.

use std::fmt::Write;

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// What `year(t)` and its kin take out of a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimePart {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    /// 1 is Monday, 7 is Sunday (ISO 8601).
    DayOfWeek,
}

/// What `date_trunc` cuts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeUnit {
    Second,
    Minute,
    Hour,
    Day,
    /// From Monday (ISO 8601).
    Week,
    Month,
    Quarter,
    Year,
}

impl TimeUnit {
    /// Every unit by its name.
    pub const ALL: [(&'static str, Self); 8] = [
        ("second", Self::Second),
        ("minute", Self::Minute),
        ("hour", Self::Hour),
        ("day", Self::Day),
        ("week", Self::Week),
        ("month", Self::Month),
        ("quarter", Self::Quarter),
        ("year", Self::Year),
    ];

    /// The last start of this unit at or before `time_ms`; nothing if int64 cannot hold it.
    pub fn truncate(self, time_ms: i64) -> Option<i64> {
        let days = time_ms.div_euclid(DAY_MS);
        let to_month = |keep: fn(i64) -> i64| {
            let (year, month, _) = date(days);
            days_from_date(year, keep(month), 1).checked_mul(DAY_MS)
        };
        match self {
            Self::Second => time_ms.checked_sub(time_ms.rem_euclid(SECOND_MS)),
            Self::Minute => time_ms.checked_sub(time_ms.rem_euclid(MINUTE_MS)),
            Self::Hour => time_ms.checked_sub(time_ms.rem_euclid(HOUR_MS)),
            Self::Day => time_ms.checked_sub(time_ms.rem_euclid(DAY_MS)),
            Self::Week => (days - (days_of_week(days) - 1)).checked_mul(DAY_MS),
            Self::Month => to_month(|month| month),
            Self::Quarter => to_month(|month| month - (month - 1) % 3),
            Self::Year => to_month(|_| 1),
        }
    }
}

impl TimePart {
    /// This part of `time_ms`.
    pub fn of(self, time_ms: i64) -> i64 {
        let days = time_ms.div_euclid(DAY_MS);
        let in_day = time_ms.rem_euclid(DAY_MS);
        match self {
            Self::Year => date(days).0,
            Self::Month => date(days).1,
            Self::Day => date(days).2,
            Self::Hour => in_day / HOUR_MS,
            Self::Minute => in_day / MINUTE_MS % 60,
            Self::Second => in_day / SECOND_MS % 60,
            Self::DayOfWeek => days_of_week(days),
        }
    }
}

/// 1970-01-01 was a Thursday.
fn days_of_week(days: i64) -> i64 {
    (days + 3).rem_euclid(7) + 1
}

/// Days in 400 years, after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;
/// From 0000-03-01, where an era begins so that the leap day is its year's last, to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;

/// Year, month and day of the day `days` after 1970-01-01.
fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + EPOCH_DAYS;
    let (era, in_era) = (shifted.div_euclid(ERA_DAYS), shifted.rem_euclid(ERA_DAYS));
    let year_of_era = (in_era - in_era / 1_460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months counted from March follow a pattern of 153 days in five.
    let from_march = (5 * in_year + 2) / 153;
    let day = in_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// Days from 1970-01-01 to a date.
fn days_from_date(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let in_year = (153 * from_march + 2) / 5 + day - 1;
    era * ERA_DAYS + 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + in_year - EPOCH_DAYS
}

/// Reads an ISO-8601 time with a zone; what is finer than a millisecond is cut off.
pub(super) fn parse(text: &[u8]) -> Option<i64> {
    let time = speedate::DateTime::parse_bytes_rfc3339(text).ok()?;
    time.time.tz_offset.map(|_| time.timestamp_tz_ms())
}

/// Appends `2026-01-01T00:00:00.000Z`.
pub(super) fn write(time_ms: i64, out: &mut Vec<u8>) {
    let (year, month, day) = date(time_ms.div_euclid(DAY_MS));
    let in_day = time_ms.rem_euclid(DAY_MS);
    let (hour, minute, second) = (in_day / HOUR_MS, in_day / MINUTE_MS % 60, in_day / SECOND_MS % 60);
    let mut text = String::with_capacity(24);
    let year_written = match year {
        0..=9_999 => write!(text, "{year:04}"),
        // ISO 8601 wants a sign on years of another length.
        _ => write!(text, "{year:+05}"),
    };
    let milliseconds = in_day % SECOND_MS;
    let rest_written = write!(text, "-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z");
    debug_assert!(year_written.is_ok() && rest_written.is_ok(), "writing to a String cannot fail");
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> i64 {
        parse(text.as_bytes()).unwrap()
    }

    fn written(time_ms: i64) -> String {
        let mut out = Vec::new();
        write(time_ms, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_unit_cuts_to_its_start() {
        let time = at("2024-02-29T13:14:15.167Z");
        let expected = [
            (TimeUnit::Second, "2024-02-29T13:14:15.000Z"),
            (TimeUnit::Minute, "2024-02-29T13:14:00.000Z"),
            (TimeUnit::Hour, "2024-02-29T13:00:00.000Z"),
            (TimeUnit::Day, "2024-02-29T00:00:00.000Z"),
            (TimeUnit::Week, "2024-02-26T00:00:00.000Z"),
            (TimeUnit::Month, "2024-02-01T00:00:00.000Z"),
            (TimeUnit::Quarter, "2024-01-01T00:00:00.000Z"),
            (TimeUnit::Year, "2024-01-01T00:00:00.000Z"),
        ];
        for (unit, start) in expected {
            assert_eq!(written(unit.truncate(time).unwrap()), start, "{unit:?}");
        }
        assert_eq!(written(TimeUnit::Hour.truncate(-1).unwrap()), "1969-12-31T23:00:00.000Z");
    }

    #[test]
    fn the_ends_of_int64_do_not_panic() {
        for time in [i64::MIN, i64::MIN + 1, i64::MAX] {
            for (_, unit) in TimeUnit::ALL {
                assert!(unit.truncate(time).is_none_or(|start| start <= time));
            }
            assert!((1..=12).contains(&TimePart::Month.of(time)));
        }
        assert_eq!(TimeUnit::Year.truncate(i64::MIN), None);
        assert_eq!(written(i64::MAX), "+292278994-08-17T07:12:55.807Z");
    }

    #[test]
    fn a_time_needs_its_zone() {
        assert_eq!(parse(b"1970-01-01T01:00:00.5+01:00"), Some(500));
        assert_eq!(parse(b"1969-12-31T23:59:59.999Z"), Some(-1));
        assert_eq!(parse(b"2026-01-01T00:00:00"), None);
        assert_eq!(parse(b"2026-01-01"), None);
        assert_eq!(parse(b"1767225600"), None);
    }

    #[test]
    fn monday_is_the_first_day() {
        assert_eq!(TimePart::DayOfWeek.of(at("2026-01-05T00:00:00Z")), 1);
        assert_eq!(TimePart::DayOfWeek.of(at("2026-01-04T23:59:59Z")), 7);
    }

    proptest! {
        #[test]
        fn dates_agree_with_another_calendar(time in -11_000_000_000_000i64..19_000_000_000_000) {
            let other = speedate::DateTime::from_timestamp(time.div_euclid(1000), 0).unwrap();
            prop_assert_eq!(TimePart::Year.of(time), i64::from(other.date.year));
            prop_assert_eq!(TimePart::Month.of(time), i64::from(other.date.month));
            prop_assert_eq!(TimePart::Day.of(time), i64::from(other.date.day));
            prop_assert_eq!(TimePart::Hour.of(time), i64::from(other.time.hour));
            prop_assert_eq!(TimePart::Minute.of(time), i64::from(other.time.minute));
            prop_assert_eq!(TimePart::Second.of(time), i64::from(other.time.second));
            prop_assert_eq!(at(&written(time)), time);
        }

        #[test]
        fn days_and_dates_are_inverse(days in any::<i64>().prop_map(|ms| ms / DAY_MS)) {
            let (year, month, day) = date(days);
            prop_assert_eq!(days_from_date(year, month, day), days);
        }
    }
}
