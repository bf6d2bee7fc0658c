"""Owns time: the only place that reads a clock for a run.

The runner asks it and hands milliseconds to the engine, which never looks by itself.
Invariant: neither clock ever goes backwards, whatever the machine's clock does.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """What the runner needs of time; `streamcore.testing.ManualClock` is the other one."""

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start, for intervals."""

    def wall_ms(self) -> int:
        """Milliseconds since the epoch (UTC)."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Waits until `event` is set, at most `seconds`; says whether it is set."""


class SystemClock:
    """The machine's clocks."""

    def __init__(self) -> None:
        self._wall_ms = 0

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""
        # A clock set back must not turn waiting time negative: it stands still until it has caught up.
        self._wall_ms = max(self._wall_ms, time.time_ns() // 1_000_000)
        return self._wall_ms

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Waits, and says whether `event` is set."""
        return event.wait(seconds)
