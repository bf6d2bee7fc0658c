//! Reads event times: ISO-8601 text with a zone, or a number with a declared unit.
//!
//! `decode/convert.rs` calls it with a value's bytes; docs/semantics.md lists the forms. Invariants: what comes out
//! lies in the years 1 to 9999, so window arithmetic on it cannot overflow; what is more exact than a millisecond is
//! rounded down, towards the past, so that an event stays in the window that holds it.

use crate::spec::TimeUnitSpec;

/// 0001-01-01T00:00:00Z.
pub const TIME_MIN_MS: i64 = -62_135_596_800_000;
/// 9999-12-31T23:59:59.999Z.
pub const TIME_MAX_MS: i64 = 253_402_300_799_999;

const DAY_MS: i64 = 86_400_000;

/// Milliseconds of an ISO-8601 date and time with a zone; more exact fractions are cut.
#[must_use]
pub fn parse_iso(text: &[u8]) -> Option<i64> {
    parse_common(text).or_else(|| parse_iso_slow(text).ok()).filter(|time| in_range(*time))
}

/// The minute of the time read last, so that a time of the same minute or date is read without a calendar.
#[derive(Debug, Clone)]
pub struct LastMinute {
    /// `2026-01-01T00:00`.
    text: [u8; 16],
    /// Its first millisecond.
    start_ms: i64,
}

impl Default for LastMinute {
    fn default() -> Self {
        Self { text: *b"1970-01-01T00:00", start_ms: 0 }
    }
}

impl LastMinute {
    /// See [`parse_iso`]; times in the common form and of the minute before are read fastest, then those of its date.
    #[inline]
    pub fn parse_iso(&mut self, text: &[u8]) -> Option<i64> {
        if let Some(text) = text.as_array::<24>()
            && text[..16] == self.text
            && let Some(since_ms) = time_of_minute(text)
        {
            return Some(self.start_ms + since_ms);
        }
        self.parse_other_minute(text)
    }

    #[inline(never)]
    fn parse_other_minute(&mut self, text: &[u8]) -> Option<i64> {
        let Some((text, since_ms)) = text.as_array::<24>().and_then(|text| Some((text, time_of_day(text)?))) else {
            return parse_iso(text);
        };
        let is_same_date = text[..11] == self.text[..11];
        let day_ms =
            if is_same_date { self.start_ms - self.start_ms.rem_euclid(DAY_MS) } else { parse_iso(text)? - since_ms };
        (self.text, self.start_ms) = (*text.first_chunk()?, day_ms + since_ms - since_ms % 60_000);
        Some(day_ms + since_ms)
    }
}

/// Milliseconds since the minute began of a time whose last 8 bytes are `:00.000Z`.
#[inline]
fn time_of_minute(text: &[u8; 24]) -> Option<i64> {
    let digits = u64::from_le_bytes(*text.last_chunk()?) ^ u64::from_le_bytes(*b":00.000Z");
    // A byte stays below 128 where it is a digit (at most 9 + 118) or the separator (0 + 127).
    let fits = digits.wrapping_add(u64::from_le_bytes([127, 118, 118, 127, 118, 118, 118, 127]));
    let digit = |at: u32| (digits >> (8 * at) & 0xf) as i64;
    let (second, ms) = (digit(1) * 10 + digit(2), (digit(4) * 10 + digit(5)) * 10 + digit(6));
    ((digits | fits) & 0x8080_8080_8080_8080 == 0 && second < 60).then_some(second * 1000 + ms)
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

/// Why a text is no time: in words that quote nothing of it, or nothing where it does not even begin as a date does.
type Wrong = Option<&'static str>;

/// Any form: `2026-01-31T23:59:59.999+01:00` or `20260131T235959Z`, with or without seconds and their fraction.
fn parse_iso_slow(text: &[u8]) -> Result<i64, Wrong> {
    let mut text = Cursor(text);
    let year = text.number(4).ok_or(None)?;
    let extended = text.take(b"-");
    let month = text.number(2).ok_or(None)?;
    if extended && !text.take(b"-") {
        return Err(None);
    }
    let day = text.number(2).ok_or(None)?;
    if !(1..=12).contains(&month) || !(1..=days_of_month(year, month)).contains(&day) {
        return Err(Some("there is no such day"));
    }
    if text.0.is_empty() {
        return Err(Some("it is a day without a time and a zone, as in 2026-01-31T00:00:00Z"));
    }
    // RFC 3339 allows a space and small letters.
    if !text.take(b"Tt ") {
        return Err(None);
    }
    let ms_of_day = text.time_of_day(extended)?;
    if text.0.is_empty() {
        return Err(Some("it has no zone, as Z or +01:00"));
    }
    let offset_minutes = text.offset()?;
    if !text.0.is_empty() {
        return Err(None);
    }
    Ok(days_from_civil(year, month, day) * DAY_MS + ms_of_day - offset_minutes * 60_000)
}

/// What is wrong with a text that [`parse_iso`] does not take, where it begins as a date does; in words that quote
/// nothing of it.
#[must_use]
pub fn what_is_wrong(text: &[u8]) -> Option<&'static str> {
    parse_iso_slow(text).map_or_else(|wrong| wrong, |_| Some("it is not in the years 1 to 9999"))
}

/// Whether it is a sign, two digits for the hours, and two for the minutes or none.
fn is_shaped_as_offset(zone: &[u8]) -> bool {
    let Some((b'+' | b'-', digits)) = zone.split_first() else { return false };
    let Some((hours, rest)) = digits.split_at_checked(2) else { return false };
    let minutes = rest.strip_prefix(b":").unwrap_or(rest);
    (rest.is_empty() || minutes.len() == 2) && hours.iter().chain(minutes).all(u8::is_ascii_digit)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// What is left of a text to be read.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    /// Passes over one of these bytes, if it is the next.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let Some((byte, rest)) = self.0.split_first() else { return false };
        let found = bytes.contains(byte);
        if found {
            self.0 = rest;
        }
        found
    }

    /// A number of exactly `digits` digits.
    fn number(&mut self, digits: usize) -> Option<i64> {
        let (number, rest) = self.0.split_at_checked(digits)?;
        let whole = number.iter().all(u8::is_ascii_digit);
        self.0 = rest;
        whole.then(|| number.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
    }

    /// The milliseconds of a time of day; its seconds and their fraction need not be there. A leap second is none: no
    /// second that is counted since 1970 is its.
    fn time_of_day(&mut self, extended: bool) -> Result<i64, Wrong> {
        let hour = self.number(2).ok_or(None)?;
        if extended && !self.take(b":") {
            return Err(None);
        }
        let minute = self.number(2).ok_or(None)?;
        let has_second = if extended { self.take(b":") } else { self.0.first().is_some_and(u8::is_ascii_digit) };
        let second = if has_second { self.number(2).ok_or(None)? } else { 0 };
        if hour > 23 || minute > 59 || second > 59 {
            return Err(Some("there is no such time of day"));
        }
        let ms = if has_second && self.take(b".,") { self.fraction().ok_or(None)? } else { 0 };
        Ok(((hour * 60 + minute) * 60 + second) * 1000 + ms)
    }

    /// The milliseconds of a fraction of any number of digits.
    fn fraction(&mut self) -> Option<i64> {
        let len = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.0.split_at(len);
        self.0 = rest;
        let digit = |place: usize| digits.get(place).map_or(0, |digit| i64::from(digit - b'0'));
        (len > 0).then(|| (digit(0) * 10 + digit(1)) * 10 + digit(2))
    }

    /// Minutes that the zone is ahead of UTC: `Z`, `+05:30`, `+0530` or `+05`.
    fn offset(&mut self) -> Result<i64, Wrong> {
        if self.take(b"Zz") {
            return Ok(0);
        }
        let wrong = is_shaped_as_offset(self.0).then_some("there is no such offset from UTC, as +01:00 or -11:30");
        self.hours_and_minutes().ok_or(wrong)
    }

    fn hours_and_minutes(&mut self) -> Option<i64> {
        let behind = self.take(b"-");
        if !behind && !self.take(b"+") {
            return None;
        }
        let hours = self.number(2).filter(|hours| *hours < 24)?;
        let has_minutes = self.take(b":") || !self.0.is_empty();
        let minutes = if has_minutes { self.number(2).filter(|minutes| *minutes < 60)? } else { 0 };
        let offset = hours * 60 + minutes;
        Some(if behind { -offset } else { offset })
    }
}

/// Milliseconds of a JSON number that counts `unit`s since the epoch.
#[must_use]
pub fn parse_number(text: &str, unit: TimeUnitSpec) -> Option<i64> {
    let time_ms = match (text.parse::<i64>(), unit) {
        (_, TimeUnitSpec::Iso) => return None,
        (Ok(count), TimeUnitSpec::S) => count.checked_mul(1000)?,
        (Ok(count), TimeUnitSpec::Ms) => count,
        (Ok(count), TimeUnitSpec::Us) => count.div_euclid(1_000),
        (Ok(count), TimeUnitSpec::Ns) => count.div_euclid(1_000_000),
        (Err(_), TimeUnitSpec::S) => parse_decimal(text, 3)?,
        (Err(_), TimeUnitSpec::Ms) => parse_decimal(text, 0)?,
        (Err(_), TimeUnitSpec::Us) => parse_decimal(text, -3)?,
        (Err(_), TimeUnitSpec::Ns) => parse_decimal(text, -6)?,
    };
    Some(time_ms).filter(|time_ms| in_range(*time_ms))
}

/// A JSON number with its point moved `shift` places to the right, digit by digit, and rounded down; `None` where
/// that is no time.
fn parse_decimal(text: &str, shift: i64) -> Option<i64> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
    let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut digits = whole.bytes().chain(fraction.bytes()).map(|digit| i64::from(digit - b'0'));
    if digits.clone().all(|digit| digit == 0) {
        return Some(0);
    }
    let point = exponent.parse::<i64>().ok()?.checked_add(shift)?.checked_add(whole.len() as i64)?;
    let mut time_ms = 0_i64;
    // One digit is not zero, so this ends soon, however large the exponent is.
    for _ in 0..point {
        time_ms = time_ms * 10 + digits.next().unwrap_or(0);
        if time_ms > TIME_MAX_MS {
            return None;
        }
    }
    let has_rest = digits.any(|digit| digit != 0);
    Some(if negative { -time_ms - i64::from(has_rest) } else { time_ms })
}

#[cfg(test)]
mod tests;
