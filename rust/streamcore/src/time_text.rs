//! Milliseconds as ISO-8601 text.
//!
//! `generate` and `encode` write times with it. Invariant: every `i64` has exactly one text, and
//! texts of years 0 to 9999 sort as their times do.

const DAY_MS: i64 = 86_400_000;

/// Appends `2026-09-21T00:00:00.000Z`. Years outside 0 to 9999 carry a sign and at least six
/// digits (`+010000-01-01T00:00:00.000Z`), the expanded form of ISO-8601.
pub fn write_iso(out: &mut Vec<u8>, time_ms: i64) {
    let (year, month, day) = civil_from_days(time_ms.div_euclid(DAY_MS));
    let of_day = time_ms.rem_euclid(DAY_MS) as u64;
    if (0..=9999).contains(&year) {
        write_digits(out, year as u64, 4);
    } else {
        out.push(if year < 0 { b'-' } else { b'+' });
        let digits = if year.unsigned_abs() < 1_000_000 { 6 } else { 9 };
        write_digits(out, year.unsigned_abs(), digits);
    }
    let parts = [
        (b'-', month, 2),
        (b'-', day, 2),
        (b'T', of_day / 3_600_000, 2),
        (b':', of_day / 60_000 % 60, 2),
        (b':', of_day / 1000 % 60, 2),
        (b'.', of_day % 1000, 3),
    ];
    for (separator, value, digits) in parts {
        out.push(separator);
        write_digits(out, value, digits);
    }
    out.push(b'Z');
}

fn write_digits(out: &mut Vec<u8>, mut value: u64, digits: usize) {
    let start = out.len();
    out.resize(start + digits, b'0');
    for slot in out[start..].iter_mut().rev() {
        *slot = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
/// Years start on 1 March inside, so that the leap day is the last of its year.
fn civil_from_days(days: i64) -> (i64, u64, u64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097) as u64;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era as i64 + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn iso(time_ms: i64) -> String {
        let mut out = Vec::new();
        write_iso(&mut out, time_ms);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn known_times() {
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(iso(1_790_000_000_000), "2026-09-21T14:13:20.000Z");
        assert_eq!(iso(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(iso(-62_135_596_800_000), "0001-01-01T00:00:00.000Z");
        assert_eq!(iso(253_402_300_799_999), "9999-12-31T23:59:59.999Z");
        assert_eq!(iso(253_402_300_800_000), "+010000-01-01T00:00:00.000Z");
        assert_eq!(iso(-62_167_219_200_001), "-000001-12-31T23:59:59.999Z");
        assert_eq!(iso(i64::MAX), "+292278994-08-17T07:12:55.807Z");
        assert_eq!(iso(i64::MIN), "-292275055-05-16T16:47:04.192Z");
    }

    proptest! {
        #[test]
        fn speedate_reads_it_back(time_ms in -62_167_219_200_000_i64..253_402_300_800_000) {
            let text = iso(time_ms);
            let read = speedate::DateTime::parse_str(&text).expect("ISO-8601");
            prop_assert_eq!(read.timestamp_tz() * 1000 + i64::from(read.time.microsecond / 1000), time_ms);
        }
    }
}
