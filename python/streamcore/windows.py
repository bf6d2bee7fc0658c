"""Owns the kinds of windows of the builder.

Before it: the caller. After it: `.window(...)`.
Invariant: lengths are checked here, so a mistake is raised where it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from streamcore.config import parse_duration, parse_instant, parse_window_size
from streamcore.errors import ConfigError, Problem

Length = str | timedelta


@dataclass(frozen=True, slots=True)
class Window:
    """A kind of window with its lengths, as `sc.tumbling("1m")` makes it."""

    keys: Mapping[str, Any]
    """The keys a pipeline file would have for it."""


def tumbling(
    size: Length,
    *,
    offset: Length = "0s",
    timezone: str | None = None,
    week_start: str | None = None,
    min_start: str | datetime | None = None,
) -> Window:
    """Windows of `size`, one after the other, aligned to 1970-01-01T00:00:00Z plus `offset`.

    With a `timezone` (an IANA name) `size` is whole days or weeks, or months as `"1mo"`, of that zone's calendar, and
    `offset` counts from midnight by the clock on the wall; weeks begin on `week_start`, Monday if not given. No window
    starts before `min_start`. Raises `ConfigError` for what is no length of time.
    """
    calendar = {"timezone": timezone, "week_start": week_start}
    return _window("tumbling", size=size, offset=offset, **calendar, min_start=min_start)


def hopping(size: Length, *, slide: Length, offset: Length = "0s", min_start: str | datetime | None = None) -> Window:
    """Windows of `size`, one every `slide`; any positive slide will do. Raises `ConfigError`."""
    return _window("hopping", size=size, slide=slide, offset=offset, min_start=min_start)


def sliding(size: Length) -> Window:
    """The trailing window of `size` at each event of a group, closed at both ends: `[t - size, t]` for an event at `t`.

    Events of one time share a row; `window_end` is that time. The row leaves when the clock has passed it. The group key
    must be the record key. Raises `ConfigError`.
    """
    return _window("sliding", size=size)


def cumulate(size: Length, *, step: Length, offset: Length = "0s", min_start: str | datetime | None = None) -> Window:
    """Windows that start together every `size` and end one `step` after the other, up to `size`.

    `size` is a multiple of `step`; an event is in every window of its start that ends after it. Raises `ConfigError`.
    """
    return _window("cumulate", size=size, step=step, offset=offset, min_start=min_start)


def whole(*, min_start: str | datetime | None = None) -> Window:
    """One window for ever, whose row leaves at the end of the input; with `emit="updates"` a running total.

    It has no bounds: `window_start` and `window_end` are null. Raises `ConfigError`.
    """
    return _window("whole", min_start=min_start)


def session(
    gap: Length,
    *,
    max_length: Length | None = None,
    gap_inclusive: bool = True,
    min_start: str | datetime | None = None,
) -> Window:
    """Events no further than `gap` apart; two exactly `gap` apart are one session if `gap_inclusive`.

    A session whose window would be longer than `max_length` is cut at the multiples of `max_length` since
    1970-01-01T00:00:00Z. Events before `min_start` are in none. Raises `ConfigError`.
    """
    return _window("session", gap=gap, max_length=max_length, gap_inclusive=gap_inclusive, min_start=min_start)


def _window(kind: str, **values: Any) -> Window:
    for name, value in values.items():
        if name == "min_start" and value is not None:
            _check(kind, name, value, parse_instant)
        elif name == "offset":
            _check(kind, name, value, lambda text: parse_duration(text, signed=True))
        elif kind == "tumbling" and name == "size":
            _check(kind, name, value, parse_window_size)
        elif name in ("size", "slide", "step", "gap", "max_length") and value is not None:
            _check(kind, name, value, parse_duration)
    return Window({"window": kind, **{name: value for name, value in values.items() if value is not None}})


def _check(kind: str, name: str, value: object, parse: Callable[[Any], object]) -> None:
    try:
        parse(value)
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        raise ConfigError(f"{kind} window", [Problem(name, message, hint=hint or None)]) from None
