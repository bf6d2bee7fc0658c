"""Owns time: the only place that reads a clock for a run.

The runner asks it and hands milliseconds to the engine, which never looks by itself.
Invariant: what lies between two readings is measured by the steady clock, which neither falls nor jumps, whatever is done to the
clock on the wall. That one is only compared with times of records.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """What the runner needs of time; `streamcore.testing.ManualClock` is the other one."""

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start, for intervals. Nobody sets this clock."""

    def wall_ms(self) -> int:
        """Milliseconds since the epoch (UTC), as the machine has them now; they may fall."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Waits until `event` is set, at most `seconds`; says whether it is set."""


class SystemClock:
    """The machine's clocks."""

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Waits, and says whether `event` is set."""
        return event.wait(seconds)
