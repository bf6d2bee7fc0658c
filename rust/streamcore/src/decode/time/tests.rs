//! Tables of what is a time and what is none, and the parsers against each other and against speedate.

use super::*;
use proptest::prelude::*;

/// Midday of a leap day.
const NOON_MS: i64 = 1_709_208_000_000;

#[test]
fn a_text_that_is_no_time_is_told_why() {
    for (text, wrong) in [
        ("2023-02-29T00:00:00Z", Some("there is no such day")),
        ("2026-13-01T00:00:00Z", Some("there is no such day")),
        ("20260431T000000Z", Some("there is no such day")),
        ("2026-01-31", Some("it is a day without a time and a zone, as in 2026-01-31T00:00:00Z")),
        ("2026-01-31T24:00:00Z", Some("there is no such time of day")),
        ("2026-01-31T23:59:60Z", Some("there is no such time of day")),
        ("20260131T235960Z", Some("there is no such time of day")),
        ("2026-01-31T23:59-99:00", Some("there is no such offset from UTC, as +01:00 or -11:30")),
        ("2026-01-31T23:59:00+24", Some("there is no such offset from UTC, as +01:00 or -11:30")),
        ("20260131T2359+0160", Some("there is no such offset from UTC, as +01:00 or -11:30")),
        ("2026-01-31T23:59:00+1:00", None),
        ("2026-01-31T23:59:59.5", Some("it has no zone, as Z or +01:00")),
        ("2026-01-31T23:59", Some("it has no zone, as Z or +01:00")),
        ("0000-12-31T23:59:59Z", Some("it is not in the years 1 to 9999")),
        ("9999-12-31T23:59:59-01:00", Some("it is not in the years 1 to 9999")),
        ("yesterday", None),
        ("2026-01-31T23:59:59 UTC", None),
        ("2026-01-31 later", None),
        ("", None),
    ] {
        assert_eq!(parse_iso(text.as_bytes()), None, "{text}");
        assert_eq!(what_is_wrong(text.as_bytes()), wrong, "{text}");
    }
}

#[test]
fn iso_forms_with_a_zone_are_read() {
    for (text, expected) in [
        ("1970-01-01T00:00:00.000Z", 0),
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00Z", 0),
        ("1970-01-01t00:00:00z", 0),
        ("1970-01-01 00:00:00Z", 0),
        ("2024-02-29T12:00:00.500Z", NOON_MS + 500),
        // The basic form, and mixtures of it with the extended one only in the zone.
        ("20240229T120000Z", NOON_MS),
        ("20240229T1200Z", NOON_MS),
        ("20240229T120000.123Z", NOON_MS + 123),
        ("20240229T173000+0530", NOON_MS),
        ("20240229T173000+05:30", NOON_MS),
        // Offsets.
        ("2024-02-29T13:00:00+01:00", NOON_MS),
        ("2024-02-29T17:30:00+05:30", NOON_MS),
        ("2024-02-29T17:30:00+0530", NOON_MS),
        ("2024-02-29T17:00:00+05", NOON_MS),
        ("2024-02-29T04:00-08", NOON_MS),
        ("2024-02-29T02:30:00.5-09:30", NOON_MS + 500),
        ("2024-02-29T12:00:00+00:00", NOON_MS),
        ("2024-02-29T12:00:00-00:00", NOON_MS),
        ("2024-03-01T11:59:00+23:59", NOON_MS),
        ("2024-02-28T12:01:00-23:59", NOON_MS),
        // Before 1970, and the ends of what is a time.
        ("1969-12-31T23:59:59.999Z", -1),
        ("1969-12-31T23:59:59.9999Z", -1),
        ("1969-12-31T23:59:59.9990Z", -1),
        ("1900-02-28T00:00:00Z", -2_203_977_600_000),
        ("0001-01-01T00:00:00Z", TIME_MIN_MS),
        ("0001-01-01T01:00:00+01:00", TIME_MIN_MS),
        ("9999-12-31T23:59:59.999Z", TIME_MAX_MS),
        ("9999-12-31T23:59:59.999999999Z", TIME_MAX_MS),
        ("9999-12-31T22:59:59.999-01:00", TIME_MAX_MS),
    ] {
        assert_eq!(parse_iso(text.as_bytes()), Some(expected), "{text}");
    }
}

#[test]
fn a_fraction_has_any_number_of_digits_and_is_cut() {
    let digits = "1239999999999999999999999999";
    for (len, ms) in [(0, 0), (1, 100), (2, 120)].into_iter().chain((3..=digits.len()).map(|len| (len, 123))) {
        for (point, zone) in [(".", "Z"), (",", "Z"), (".", "+00:00"), (",", "+00")] {
            let fraction = if len == 0 { String::new() } else { format!("{point}{}", &digits[..len]) };
            for text in [format!("2024-02-29T12:00:00{fraction}{zone}"), format!("20240229T120000{fraction}{zone}")] {
                assert_eq!(parse_iso(text.as_bytes()), Some(NOON_MS + ms), "{text}");
            }
        }
    }
}

#[test]
fn what_is_no_time_is_not_read() {
    for text in [
        "",
        "Z",
        "now",
        "1700000000",
        "2026-01-01",
        "20260101",
        "2026-01-01Z",
        // Without a zone, or with one that is none.
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00.000",
        "2026-01-01T00:00:00 Z",
        "2026-01-01T00:00:00UTC",
        "2026-01-01T00:00:00ZZ",
        "2026-01-01T00:00:00Z ",
        "2026-01-01T00:00:00[Europe/Berlin]",
        "2026-01-01T00:00:00+01:00[Europe/Berlin]",
        "2026-01-01T00:00:00+",
        "2026-01-01T00:00:00+1",
        "2026-01-01T00:00:00+1:00",
        "2026-01-01T00:00:00+01:",
        "2026-01-01T00:00:00+01:0",
        "2026-01-01T00:00:00+010",
        "2026-01-01T00:00:00+01:000",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+01:60",
        "2026-01-01T00:00:00\u{2212}01:00",
        // Days and hours that no calendar has; leap seconds, which no count since 1970 has.
        "2023-02-29T12:00:00.500Z",
        "1900-02-29T12:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-13-01T00:00:00.000Z",
        "2026-01-00T00:00:00Z",
        "2026-01-32T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "2026-01-01T00:00:60.000Z",
        "2016-12-31T23:59:60Z",
        "20161231T235960Z",
        // Fractions of nothing, and of what is no second.
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00,Z",
        "2026-01-01T00:00.5Z",
        "2026-01-01T00:00:00.1.2Z",
        "2026-01-01T00:00:00:000Z",
        // Other forms of ISO-8601, and half of one and half of another.
        "2026-01-01T00Z",
        "2026-001T00:00:00Z",
        "2026-W01-4T00:00:00Z",
        "2026-0101T00:00:00Z",
        "202601-01T00:00:00Z",
        "20260101T00:00:00Z",
        "2026-01-01T000000Z",
        "2026-01-01_00:00:00Z",
        "26-01-01T00:00:00Z",
        "2026-1-1T00:00:00Z",
        "+2026-01-01T00:00:00Z",
        "-0001-01-01T00:00:00Z",
        // Years that are too early or too late, also by their zone.
        "0000-12-31T23:59:59Z",
        "0001-01-01T00:00:00+00:01",
        "+010000-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999-00:01",
    ] {
        assert_eq!(parse_iso(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn numbers_count_the_declared_unit_and_round_down() {
    for (text, unit, expected) in [
        ("0", TimeUnitSpec::S, Some(0)),
        ("-0", TimeUnitSpec::Ms, Some(0)),
        ("-0.0", TimeUnitSpec::S, Some(0)),
        ("0e999999999999", TimeUnitSpec::S, Some(0)),
        ("1700000000", TimeUnitSpec::S, Some(1_700_000_000_000)),
        ("1700000000123", TimeUnitSpec::Ms, Some(1_700_000_000_123)),
        ("1700000000123999", TimeUnitSpec::Us, Some(1_700_000_000_123)),
        ("1700000000123999999", TimeUnitSpec::Ns, Some(1_700_000_000_123)),
        ("1999999", TimeUnitSpec::Ns, Some(1)),
        // Fractions: seconds as the `time.time()` of Python writes them, exactly.
        ("1700000000.1", TimeUnitSpec::S, Some(1_700_000_000_100)),
        ("1700000000.1239999", TimeUnitSpec::S, Some(1_700_000_000_123)),
        ("1700000000123.999999999999999999999", TimeUnitSpec::Ms, Some(1_700_000_000_123)),
        ("1700000000123999.9", TimeUnitSpec::Us, Some(1_700_000_000_123)),
        // Exponents, exactly too.
        ("1.7e9", TimeUnitSpec::S, Some(1_700_000_000_000)),
        ("1.700000000123E+12", TimeUnitSpec::Ms, Some(1_700_000_000_123)),
        ("1.700000000123999e15", TimeUnitSpec::Us, Some(1_700_000_000_123)),
        ("1.700000000123999e+18", TimeUnitSpec::Ns, Some(1_700_000_000_123)),
        ("1700000000123999e-3", TimeUnitSpec::Ms, Some(1_700_000_000_123)),
        ("1e3", TimeUnitSpec::Ms, Some(1000)),
        ("1e-9", TimeUnitSpec::S, Some(0)),
        ("1e-999999999", TimeUnitSpec::S, Some(0)),
        // Before 1970, down is further away.
        ("-1", TimeUnitSpec::S, Some(-1000)),
        ("-1", TimeUnitSpec::Ms, Some(-1)),
        ("-1", TimeUnitSpec::Us, Some(-1)),
        ("-1", TimeUnitSpec::Ns, Some(-1)),
        ("-1000000", TimeUnitSpec::Ns, Some(-1)),
        ("-1000001", TimeUnitSpec::Ns, Some(-2)),
        ("-0.0005", TimeUnitSpec::S, Some(-1)),
        ("-0.5", TimeUnitSpec::Ms, Some(-1)),
        ("-1.0", TimeUnitSpec::Ms, Some(-1)),
        ("-1.000000001", TimeUnitSpec::Ms, Some(-2)),
        ("-1e-9", TimeUnitSpec::S, Some(-1)),
        // The years 1 to 9999.
        ("-62135596800", TimeUnitSpec::S, Some(TIME_MIN_MS)),
        ("-62135596800.001", TimeUnitSpec::S, None),
        ("253402300799.999999", TimeUnitSpec::S, Some(TIME_MAX_MS)),
        ("253402300800", TimeUnitSpec::S, None),
        ("253402300799999999999", TimeUnitSpec::Ns, Some(TIME_MAX_MS)),
        ("253402300800000000000", TimeUnitSpec::Ns, None),
        ("9223372036854775807", TimeUnitSpec::S, None),
        ("9223372036854775807", TimeUnitSpec::Ms, None),
        ("9223372036854775807", TimeUnitSpec::Ns, Some(9_223_372_036_854)),
        ("9223372036854775808", TimeUnitSpec::Ns, Some(9_223_372_036_854)),
        ("-9223372036854775809", TimeUnitSpec::Ns, Some(-9_223_372_036_855)),
        ("1e400", TimeUnitSpec::Ns, None),
        ("1e99999999999999999999", TimeUnitSpec::S, None),
        ("1e9223372036854775807", TimeUnitSpec::S, None),
        ("5", TimeUnitSpec::Iso, None),
        ("5.5", TimeUnitSpec::Iso, None),
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
        let (fast, slow) = (parse_common(text.as_bytes()), parse_iso_slow(text.as_bytes()).ok());
        prop_assert!(fast.is_none() || fast == slow, "{}: {:?} and {:?}", text, fast, slow);
        prop_assert_eq!(fast.is_some(), day <= 28 && hour < 24 && minute < 60 && second < 60);
    }

    #[test]
    fn speedate_reads_the_same(
        changes in proptest::collection::vec((0_usize..32, prop::sample::select(b"0123456789:-+.TZtz ".to_vec())), 0..4),
        (fraction, zone) in (0_usize..=6, prop::sample::select(vec!["Z", "+01:00", "-0930", "+23:59", "-00:00"])),
    ) {
        let point = if fraction == 0 { "" } else { "." };
        let mut text = format!("2024-02-29T12:34:56{point}{}{zone}", &"789123"[..fraction]).into_bytes();
        for (at, byte) in changes {
            if let Some(place) = text.get_mut(at) {
                *place = byte;
            }
        }
        let other = speedate::DateTime::parse_bytes_rfc3339(&text).ok().filter(|time| time.time.tz_offset.is_some());
        let other = other.map(|time| time.timestamp_tz_ms()).filter(|time| in_range(*time));
        if let (Some(ours), Some(theirs)) = (parse_iso(&text), other) {
            prop_assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn decimals_are_what_integers_of_a_finer_unit_are(count in -63_000_000_000_000_000_000_i128..260_000_000_000_000_000_000) {
        // Nanoseconds, written as each coarser unit.
        let expected = i64::try_from(count.div_euclid(1_000_000)).ok().filter(|time| in_range(*time));
        let (sign, digits) = (if count < 0 { "-" } else { "" }, count.unsigned_abs());
        for (unit, places) in [(TimeUnitSpec::S, 9), (TimeUnitSpec::Ms, 6), (TimeUnitSpec::Us, 3), (TimeUnitSpec::Ns, 0)] {
            let one = 10_u128.pow(places);
            let plain = format!("{sign}{}.{:0width$}", digits / one, digits % one, width = places.max(1) as usize);
            let scientific = format!("{sign}{digits}e-{places}");
            prop_assert_eq!(parse_number(&plain, unit), expected, "{} {:?}", plain, unit);
            prop_assert_eq!(parse_number(&scientific, unit), expected, "{} {:?}", scientific, unit);
        }
    }

    #[test]
    fn a_known_minute_changes_no_answer(
        changes in proptest::collection::vec((0_usize..24, prop::sample::select(b"0123456789:-.TZ\xff ".to_vec())), 0..4),
    ) {
        let mut last = LastMinute::default();
        let known = *b"2026-02-28T23:59:59.999Z";
        prop_assert_eq!(last.parse_iso(&known), parse_iso(&known));
        let mut text = known;
        for (at, byte) in changes {
            text[at] = byte;
            prop_assert_eq!(last.parse_iso(&text), parse_iso(&text));
            prop_assert_eq!(last.parse_iso(&text), parse_iso(&text), "again, as it is known now");
            prop_assert_eq!(last.parse_iso(&known), parse_iso(&known));
        }
    }
}
