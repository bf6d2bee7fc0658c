"""Lengths and points of time as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore.config.durations import (
    DURATION_MAX_MS,
    Months,
    check_position,
    format_duration,
    format_instant,
    format_window_size,
    parse_duration,
    parse_instant,
    parse_window_size,
    resolve_position,
)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("500ms", 500),
        ("5s", 5_000),
        ("1.5s", 1_500),
        ("1m", 60_000),
        ("1h30m", 5_400_000),
        ("7d", 604_800_000),
        ("1w", 604_800_000),
        ("0s", 0),
        (timedelta(minutes=2, microseconds=1000), 120_001),
    ],
)
def test_reads_durations(text: str | timedelta, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (5, 'write "5s" or "5ms" instead of 5'),
        (0.5, 'write "0.5s" or "0.5ms" instead of 0.5'),
        ("60", 'write "60s" or "60ms" instead of 60'),
        (True, "a unit"),
        ("1mo", 'write it in days, as "30d"'),
        ("five", "is no duration"),
        ("5 s", "is no duration"),
        ("", "is no duration"),
        ("0.5ms", "not a whole number of milliseconds"),
        ("-5s", "cannot be negative"),
        ("40000d", "longer than a hundred years"),
        (None, "not NoneType"),
        (timedelta(microseconds=1), "not a whole number of milliseconds"),
    ],
)
def test_refuses_what_is_no_duration_and_says_what_to_write(value: object, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        parse_duration(value)


def test_a_shift_may_be_negative() -> None:
    assert parse_duration("-8h", signed=True) == -28_800_000


@given(st.integers(0, DURATION_MAX_MS))
def test_what_is_written_is_read_back(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds)) == milliseconds


@pytest.mark.parametrize(
    ("milliseconds", "text"), [(0, "0s"), (1, "1ms"), (90_000, "90s"), (60_000, "1m"), (172_800_000, "2d")]
)
def test_writes_the_largest_unit_that_fits(milliseconds: int, text: str) -> None:
    assert format_duration(milliseconds) == text


def test_reads_times_with_a_zone_exactly() -> None:
    assert parse_instant("2026-01-01T00:00:00.001Z") == 1_767_225_600_001
    assert parse_instant("2026-01-01T01:00:00+01:00") == parse_instant("2026-01-01T00:00:00Z")
    assert parse_instant(datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)) == -1


@pytest.mark.parametrize(
    ("value", "part"), [("yesterday", "is no time"), ("2026-01-01T00:00:00", "no zone"), (5, "text")]
)
def test_refuses_times_that_nobody_can_place(value: object, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        parse_instant(value)


@given(st.integers(-62_135_596_800_000, 253_402_300_799_999))
def test_times_survive_writing(milliseconds: int) -> None:
    assert parse_instant(format_instant(milliseconds)) == milliseconds


def test_positions_in_a_log() -> None:
    assert check_position("earliest") == "earliest"
    assert resolve_position("-2h", now_ms=10_000_000) == 2_800_000
    assert resolve_position("1970-01-01T00:00:01Z", now_ms=0) == 1_000
    for wrong in ("soon", "2026-13-01", "-2", 7):
        with pytest.raises(ValueError, match=r"is not|is no|a unit|write"):
            check_position(wrong)


@pytest.mark.parametrize(("text", "size"), [("1mo", Months(1)), (" 12mo ", Months(12)), ("1d", 86_400_000)])
def test_a_window_may_be_months_long(text: str, size: object) -> None:
    assert parse_window_size(text) == size
    assert parse_window_size(format_window_size(parse_window_size(text))) == size


@pytest.mark.parametrize("text", ["1201mo", "1.5mo", "1mo1d", "-1mo", "1y", 1])
def test_lengths_that_are_no_months(text: object) -> None:
    with pytest.raises(ValueError, match=r"longer than a hundred years|no duration|no fixed length|needs a unit"):
        parse_window_size(text)
