"""Owns how lengths and points of time are written: `"5s"`, `"1h30m"`, `"-2h"`, `"2026-01-01T00:00:00Z"`.

Before it: text from a pipeline file or a Python argument. After it: int milliseconds, the only form the rest knows.
Invariant: `parse_duration(format_duration(n)) == n`, and no number without a unit is ever accepted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
DURATION_MAX_MS = 36_525 * MILLISECONDS["d"]
"""A hundred years: sums of a few durations and a timestamp stay far inside int64."""
MONTHS_MAX = 1_200

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_WHOLE = re.compile(r"(-?)((?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+)")
_PATTERN = r"^((\d+(\.\d+)?(ms|s|m|h|d|w))+|.*\$\{.*)$"
"""Of an editor's schema, which sees variables before they are replaced."""


def parse_duration(value: object, *, signed: bool = False) -> int:
    """Milliseconds of `"500ms"`, `"5s"`, `"1h30m"`, `"7d"`, `"1w"` or a `timedelta`.

    Raises `ValueError` with a sentence that says what to write instead.

    >>> parse_duration("1h30m")
    5400000
    """
    if isinstance(value, timedelta):
        milliseconds = _whole(value / timedelta(milliseconds=1), str(value))
    elif isinstance(value, (int, float)):
        raise ValueError(_bare_number(value))  # noqa: TRY004 - pydantic collects ValueErrors
    elif isinstance(value, str):
        milliseconds = _parse_text(value.strip())
    else:
        raise ValueError(f'a duration is text such as "5s", not {type(value).__name__}')  # noqa: TRY004 - pydantic collects ValueErrors
    if milliseconds < 0 and not signed:
        raise ValueError(f"a duration cannot be negative: {value}")
    if abs(milliseconds) > DURATION_MAX_MS:
        raise ValueError(f"{value} is longer than a hundred years")
    return milliseconds


@dataclass(frozen=True, slots=True)
class Months:
    """A length in months of a calendar, which no number of milliseconds can say."""

    count: int


def parse_window_size(value: object) -> int | Months:
    """Milliseconds of a duration, or the months of `"1mo"`. Raises `ValueError`.

    >>> parse_window_size("1d"), parse_window_size("3mo")
    (86400000, Months(count=3))
    """
    if isinstance(value, Months):
        return value
    months = re.fullmatch(r"0*(\d+)mo", value.strip()) if isinstance(value, str) else None
    if months is None:
        return parse_duration(value)
    if len(months[1]) > len(str(MONTHS_MAX)) or int(months[1]) > MONTHS_MAX:
        raise ValueError(f"{str(value)[:24]} is longer than a hundred years; the most is {MONTHS_MAX}mo")
    return Months(int(months[1]))


def format_window_size(size: int | Months) -> str:
    """The text that `parse_window_size` reads."""
    return f"{size.count}mo" if isinstance(size, Months) else format_duration(size)


def format_duration(milliseconds: int) -> str:
    """The shortest text for a duration, in one unit: `90000` is `"90s"`, `60000` is `"1m"`."""
    for unit in ("d", "h", "m", "s"):
        if milliseconds and milliseconds % MILLISECONDS[unit] == 0:
            return f"{milliseconds // MILLISECONDS[unit]}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def parse_instant(value: object) -> int:
    """Milliseconds since the epoch of an ISO-8601 time with a zone. Raises `ValueError`.

    >>> parse_instant("1970-01-01T00:00:01Z")
    1000
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise ValueError(f'"{value}" is no time; write it as "2026-01-01T00:00:00Z"') from None
    if not isinstance(value, datetime):
        raise ValueError('a time is text such as "2026-01-01T00:00:00Z"')  # noqa: TRY004 - pydantic collects ValueErrors
    if value.tzinfo is None:
        raise ValueError(f'{value.isoformat()} has no zone; add "Z" for UTC')
    # In whole microseconds, as a float of seconds would round.
    return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def format_instant(milliseconds: int) -> str:
    """ISO-8601 in UTC with milliseconds."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def check_position(value: object) -> str:
    """A place in a log to start or stop at: a word, `-2h` (before now) or an ISO time. Raises `ValueError`."""
    if not isinstance(value, str):
        raise ValueError('write "earliest", "latest", "-2h" or "2026-01-01T00:00:00Z"')  # noqa: TRY004 - pydantic collects ValueErrors
    if value in ("earliest", "latest", "end"):
        return value
    resolve_position(value, now_ms=0)
    return value


def resolve_position(value: str, *, now_ms: int) -> int:
    """Milliseconds since the epoch of `-2h` or an ISO time. Raises `ValueError`."""
    if value.startswith("-"):
        return now_ms + parse_duration(value, signed=True)
    try:
        return parse_instant(value)
    except ValueError as error:
        if value[:1].isdigit():
            raise
        raise ValueError(f'"{value}" is not "earliest", "latest", "end", "-2h" or an ISO time') from error


def _parse_text(text: str) -> int:
    match = _WHOLE.fullmatch(text)
    if match is None:
        if re.fullmatch(r"-?\d+(\.\d+)?", text):
            raise ValueError(_bare_number(text))
        if re.fullmatch(r"\d+(mo|months?|y|years?)", text):
            raise ValueError(f'"{text}" has no fixed length; write it in days, as "30d"')
        raise ValueError(f'"{text}" is no duration; write a number and one of ms s m h d w, as "5s" or "1h30m"')
    milliseconds = sum(float(number) * MILLISECONDS[unit] for number, unit in _PART.findall(match[2]))
    return _whole(-milliseconds if match[1] else milliseconds, text)


def _whole(milliseconds: float, text: str) -> int:
    if abs(milliseconds - round(milliseconds)) > 1e-6:
        raise ValueError(f"{text} is not a whole number of milliseconds")
    return round(milliseconds)


def _bare_number(value: object) -> str:
    return f'a duration needs a unit: write "{value}s" or "{value}ms" instead of {value}'


def _start(value: Any) -> str:
    if value == "end":
        raise ValueError('"end" is a place to stop at; to skip what is there, start at "latest"')
    return check_position(value)


def _duration(value: Any) -> int:
    return parse_duration(value)


def _positive(value: Any) -> int:
    milliseconds = parse_duration(value)
    if milliseconds == 0:
        raise ValueError("must be longer than zero")
    return milliseconds


def _window_size(value: Any) -> int | Months:
    size = parse_window_size(value)
    if size in (0, Months(0)):
        raise ValueError("must be longer than zero")
    return size


def _signed(value: Any) -> int:
    return parse_duration(value, signed=True)


_AS_TEXT = PlainSerializer(format_duration, return_type=str)
_SCHEMA = WithJsonSchema({"type": "string", "pattern": _PATTERN, "examples": ["5s", "1m", "500ms"]})

Duration = Annotated[int, BeforeValidator(_duration), _AS_TEXT, _SCHEMA]
"""Milliseconds, zero or more; written as `"5s"` or a `timedelta`."""

PositiveDuration = Annotated[int, BeforeValidator(_positive), _AS_TEXT, _SCHEMA]
"""Milliseconds, more than zero."""

WindowSize = Annotated[
    int | Months,
    BeforeValidator(_window_size),
    PlainSerializer(format_window_size, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _PATTERN.replace("|w)", "|w|mo)"), "examples": ["1m", "1d", "1mo"]}),
]
"""Milliseconds, more than zero, or `Months`; written as `"1m"`, a `timedelta` or `"1mo"`."""

SignedDuration = Annotated[
    int,
    BeforeValidator(_signed),
    _AS_TEXT,
    WithJsonSchema({"type": "string", "pattern": _PATTERN.replace("^(", "^(-?", 1)}),
]
"""Milliseconds, also negative."""

Instant = Annotated[
    int,
    BeforeValidator(parse_instant),
    PlainSerializer(format_instant, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""Milliseconds since the epoch; written as an ISO-8601 time with a zone."""

LogPosition = Annotated[str, BeforeValidator(_start)]
"""`earliest`, `latest`, an ISO time, or `-2h`: that long before now."""
