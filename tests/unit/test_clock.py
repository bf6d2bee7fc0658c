from __future__ import annotations

import threading
import time

import pytest

from streamcore.clock import SystemClock


def test_the_wall_clock_is_as_it_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was ahead for a moment must not make records of the future welcome for as long."""
    readings = iter([5_000_000, 9_000_000, 7_000_000, 10_000_000])
    monkeypatch.setattr(time, "time_ns", lambda: next(readings))
    clock = SystemClock()
    assert [clock.wall_ms() for _ in range(4)] == [5, 9, 7, 10]


def test_intervals_do_not_depend_on_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    clock = SystemClock()
    assert clock.monotonic_s() <= clock.monotonic_s()


def test_a_wait_ends_with_its_event() -> None:
    event = threading.Event()
    event.set()
    assert SystemClock().wait(event, 600)
    assert not SystemClock().wait(threading.Event(), 0)
