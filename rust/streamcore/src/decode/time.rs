//! Reads event times: ISO-8601 text with a zone, or a number with a declared unit.
//!
//! `decode/convert.rs` calls it with a value's bytes. Invariant: what comes out lies in the years
//! 1 to 9999, so window arithmetic on it cannot overflow.

use crate::spec::TimeUnitSpec;
use speedate::{DateTime, MicrosecondsPrecisionOverflowBehavior, TimeConfig, TimeConfigBuilder};

/// 0001-01-01T00:00:00Z.
pub const TIME_MIN_MS: i64 = -62_135_596_800_000;
/// 9999-12-31T23:59:59.999Z.
pub const TIME_MAX_MS: i64 = 253_402_300_799_999;

const DAY_MS: i64 = 86_400_000;

/// Milliseconds of an ISO-8601 date and time with a zone; more exact fractions are cut.
#[must_use]
pub fn parse_iso(text: &[u8]) -> Option<i64> {
    parse_common(text).or_else(|| parse_iso_slow(text)).filter(|time| in_range(*time))
}

/// The last date met, so that a time of the same date is read without a calendar.
#[derive(Debug, Clone)]
pub struct Day {
    /// `2026-01-01T`.
    date: [u8; 11],
    /// Its first millisecond.
    start_ms: i64,
}

impl Default for Day {
    fn default() -> Self {
        Self { date: *b"1970-01-01T", start_ms: 0 }
    }
}

impl Day {
    /// See [`parse_iso`]; times in the common form on the date before are read fastest.
    #[inline]
    pub fn parse_iso(&mut self, text: &[u8]) -> Option<i64> {
        if let Some(text) = text.as_array::<24>()
            && text[..11] == self.date
            && let Some(since_ms) = time_of_day(text)
        {
            return Some(self.start_ms + since_ms);
        }
        self.parse_other_date(text)
    }

    #[inline(never)]
    fn parse_other_date(&mut self, text: &[u8]) -> Option<i64> {
        let time_ms = parse_iso(text)?;
        if let Some(date) = text.first_chunk()
            && text.as_array::<24>().is_some_and(|text| time_of_day(text).is_some())
        {
            (self.date, self.start_ms) = (*date, time_ms - time_ms.rem_euclid(DAY_MS));
        }
        Some(time_ms)
    }
}

/// Milliseconds since midnight of a time whose last 13 bytes are `00:00:00.000Z`.
#[inline]
fn time_of_day(text: &[u8; 24]) -> Option<i64> {
    let (clock, fraction) = text[11..].split_first_chunk()?;
    let clock = u64::from_le_bytes(*clock) ^ u64::from_le_bytes(*b"00:00:00");
    let fraction = u32::from_le_bytes(*fraction.first_chunk()?) ^ u32::from_le_bytes(*b".000");
    // A byte stays below 128 where it is a digit (at most 9 + 118) or the separator (0 + 127).
    let clock_fits = clock.wrapping_add(u64::from_le_bytes([118, 118, 127, 118, 118, 127, 118, 118]));
    let fraction_fits = fraction.wrapping_add(u32::from_le_bytes([127, 118, 118, 118]));
    let others = (clock | clock_fits) & 0x8080_8080_8080_8080;
    if others != 0 || (fraction | fraction_fits) & 0x8080_8080 != 0 || text[23] != b'Z' {
        return None;
    }
    let digit = |at: u32| (clock >> (8 * at) & 0xf) as i64;
    let tenth = |at: u32| i64::from(fraction >> (8 * at) & 0xf);
    let (hour, minute, second) = (digit(0) * 10 + digit(1), digit(3) * 10 + digit(4), digit(6) * 10 + digit(7));
    let ms = (tenth(1) * 10 + tenth(2)) * 10 + tenth(3);
    (hour < 24 && minute < 60 && second < 60).then_some(((hour * 60 + minute) * 60 + second) * 1000 + ms)
}

fn in_range(time_ms: i64) -> bool {
    (TIME_MIN_MS..=TIME_MAX_MS).contains(&time_ms)
}

/// The form `2026-01-01T00:00:00.000Z`, which nearly every producer writes.
#[inline]
fn parse_common(text: &[u8]) -> Option<i64> {
    let text: &[u8; 24] = text.try_into().ok()?;
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (23, b'Z')];
    if separators.iter().any(|(at, byte)| text[*at] != *byte) {
        return None;
    }
    let mut not_digit = 0;
    let mut number = |from: usize, to: usize| {
        text[from..to].iter().fold(0_i64, |sum, byte| {
            let digit = byte.wrapping_sub(b'0');
            not_digit |= u8::from(digit > 9);
            sum * 10 + i64::from(digit)
        })
    };
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let (hour, minute, second, ms) = (number(11, 13), number(14, 16), number(17, 19), number(20, 23));
    let plain = not_digit == 0
        && year >= 1
        && (1..=12).contains(&month)
        && (1..=28).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    // Days 29 to 31 need the calendar: the slow path has it.
    plain.then(|| days_from_civil(year, month, day) * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + ms)
}

/// Days since 1970-01-01 of a proleptic Gregorian date.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn parse_iso_slow(text: &[u8]) -> Option<i64> {
    // speedate also takes bare numbers and other separators; ISO-8601 has a `T` (RFC 3339 allows a space).
    if !matches!(text.get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let config: TimeConfig = TimeConfigBuilder::new()
        .microseconds_precision_overflow_behavior(MicrosecondsPrecisionOverflowBehavior::Truncate)
        .build();
    let time = DateTime::parse_bytes_rfc3339_with_config(text, &config).ok()?;
    time.time.tz_offset?;
    Some(time.timestamp_tz_ms())
}

/// Milliseconds of a JSON number that counts `unit`s since the epoch, rounded down.
#[must_use]
pub fn parse_number(text: &str, unit: TimeUnitSpec) -> Option<i64> {
    let per_ms = match unit {
        TimeUnitSpec::Iso => return None,
        TimeUnitSpec::S => return parse_seconds(text),
        TimeUnitSpec::Ms => 1,
        TimeUnitSpec::Us => 1_000,
        TimeUnitSpec::Ns => 1_000_000,
    };
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    if whole.contains(['e', 'E']) || text.contains(['e', 'E']) {
        return None;
    }
    let count: i64 = whole.parse().ok()?;
    let negative_fraction = text.starts_with('-') && whole.len() != text.len();
    let time = count.div_euclid(per_ms) - i64::from(negative_fraction && count.rem_euclid(per_ms) == 0);
    Some(time).filter(|time| in_range(*time))
}

/// Seconds with up to any number of decimals, exactly.
fn parse_seconds(text: &str) -> Option<i64> {
    if text.contains(['e', 'E']) {
        return None;
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let mut ms = 0;
    for place in 0..3 {
        ms = ms * 10 + fraction.as_bytes().get(place).map_or(0, |digit| i64::from(digit - b'0'));
    }
    let rest = fraction.as_bytes().iter().skip(3).any(|digit| *digit != b'0');
    let magnitude = seconds.checked_mul(1000)?;
    let time = if text.starts_with('-') { magnitude - ms - i64::from(rest) } else { magnitude + ms };
    Some(time).filter(|time| in_range(*time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn iso_forms_with_a_zone_are_read_and_others_are_not() {
        for (text, expected) in [
            ("1970-01-01T00:00:00.000Z", Some(0)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01T01:00:00+01:00", Some(0)),
            ("1970-01-01 00:00:00.123456789Z", Some(123)),
            ("1969-12-31T23:59:59.999Z", Some(-1)),
            ("2024-02-29T12:00:00.500Z", Some(1_709_208_000_500)),
            ("2023-02-29T12:00:00.500Z", None),
            ("2026-01-01T00:00:60.000Z", None),
            ("2026-01-01T00:00:00", None),
            ("2026-01-01", None),
            ("1700000000", None),
            ("2026-13-01T00:00:00.000Z", None),
            ("", None),
        ] {
            assert_eq!(parse_iso(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn numbers_count_the_declared_unit_and_round_down() {
        for (text, unit, expected) in [
            ("1700000000", TimeUnitSpec::S, Some(1_700_000_000_000)),
            ("1700000000.1239", TimeUnitSpec::S, Some(1_700_000_000_123)),
            ("-0.0005", TimeUnitSpec::S, Some(-1)),
            ("-1", TimeUnitSpec::Ms, Some(-1)),
            ("-1", TimeUnitSpec::Us, Some(-1)),
            ("-0.5", TimeUnitSpec::Ms, Some(-1)),
            ("1999999", TimeUnitSpec::Ns, Some(1)),
            ("1e3", TimeUnitSpec::Ms, None),
            ("9223372036854775807", TimeUnitSpec::Ms, None),
            ("99999999999999999999", TimeUnitSpec::Ns, None),
            ("5", TimeUnitSpec::Iso, None),
        ] {
            assert_eq!(parse_number(text, unit), expected, "{text} {unit:?}");
        }
    }

    proptest! {
        #[test]
        fn the_common_form_agrees_with_the_slow_one(
            (year, month, day) in (1_i64..=9999, 1_i64..=12, 1_i64..=31),
            (hour, minute, second, ms) in (0_i64..=24, 0_i64..=60, 0_i64..=60, 0_i64..=999),
        ) {
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z");
            let (fast, slow) = (parse_common(text.as_bytes()), parse_iso_slow(text.as_bytes()));
            prop_assert!(fast.is_none() || fast == slow, "{}: {:?} and {:?}", text, fast, slow);
            prop_assert_eq!(fast.is_some(), day <= 28 && hour < 24 && minute < 60 && second < 60);
        }

        #[test]
        fn a_known_day_changes_no_answer(
            changes in proptest::collection::vec((0_usize..24, prop::sample::select(b"0123456789:-.TZ\xff ".to_vec())), 0..4),
        ) {
            let mut day = Day::default();
            let known = *b"2026-02-28T23:59:59.999Z";
            prop_assert_eq!(day.parse_iso(&known), parse_iso(&known));
            let mut text = known;
            for (at, byte) in changes {
                text[at] = byte;
                prop_assert_eq!(day.parse_iso(&text), parse_iso(&text));
                prop_assert_eq!(day.parse_iso(&known), parse_iso(&known));
            }
        }
    }
}
