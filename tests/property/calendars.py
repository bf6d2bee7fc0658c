"""Naive calendar windows: the clock on the wall is read minute by minute.

`model.py` asks for the window of a time. Invariant: the rule is read off docs/semantics.md ("the first instant at
which the clock on the wall shows it or later"), with Python's zone rules in place of the engine's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Literal
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FAR = timedelta(hours=27)
"""No clock on a wall is further from UTC than this, ever."""
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True)
class Calendar:
    zone: str
    unit: Literal["day", "week", "month"]
    every: int
    offset_minutes: int = 0
    week_start: int = 0
    """0 is Monday."""

    def span(self, time: int) -> tuple[int, int]:
        """The window `[start, end)` that holds `time`, ms."""
        around = (EPOCH + timedelta(milliseconds=time)).date()
        number = self._number(around) - 2
        while _begins(self, number + 1) <= time:
            number += 1
        return _begins(self, number), _begins(self, number + 1)

    def _number(self, day: date) -> int:
        """Of the window around a day, give or take one."""
        if self.unit == "month":
            return ((day.year - 1970) * 12 + day.month - 1) // self.every
        return (day - EPOCH.date()).days // (self.every * (7 if self.unit == "week" else 1))

    def first_day(self, number: int) -> date:
        if self.unit == "month":
            months = number * self.every
            return date(1970 + months // 12, months % 12 + 1, 1)
        if self.unit == "day":
            return EPOCH.date() + timedelta(days=number * self.every)
        # the week of 1970-01-01, a Thursday
        return EPOCH.date() - timedelta(days=(3 - self.week_start) % 7) + timedelta(weeks=number * self.every)


@cache
def _begins(calendar: Calendar, number: int) -> int:
    day, zone = calendar.first_day(number), ZoneInfo(calendar.zone)
    target = datetime(day.year, day.month, day.day, tzinfo=UTC) + calendar.offset_minutes * MINUTE
    instant = target - FAR
    while instant.astimezone(zone).replace(tzinfo=UTC) < target:
        instant += MINUTE
    return (instant - EPOCH) // timedelta(milliseconds=1)
