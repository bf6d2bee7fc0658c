"""What must change nothing, over every aggregate and window kind: order within the bound, lanes, saving at any record.

`test_windows.py` holds the same for one set of aggregates with inputs that hypothesis draws. Invariant: the rows
compared are the engine's own, so approximations must be equal too.
"""

from __future__ import annotations

import random
import zlib
from itertools import permutations

import pytest

from tests.property import harness, random_jobs
from tests.property.aggregates import Aggregate
from tests.property.harness import Step
from tests.property.model import Event, Job, Record, Row, Window
from tests.property.random_jobs import HOUR
from tests.property.strategies import spread

SEEDS = range(60)
BOUND = 120

Session = tuple[int, int, tuple[int, ...]]
"""Start, end and events."""


@pytest.mark.parametrize("seed", SEEDS)
def test_saving_and_loading_after_every_record_changes_nothing(seed: int) -> None:
    case = random_jobs.case(seed)
    spec = harness.describe(case.job, emit="final")
    at_once = harness.run(spec, case.records)
    each = harness.run(spec, case.records, [Step(1, "commit"), Step(0, "restart")] * len(case.records))
    for outcome in (at_once, each):
        # of several lanes, late records and rows of keyed jobs leave push by push, lane by lane
        outcome.late.sort()
        outcome.rows = sorted(outcome.rows, key=repr) if case.job.keyed else outcome.rows
    assert each == at_once


@pytest.mark.parametrize("seed", SEEDS)
def test_order_within_the_bound_changes_nothing(seed: int) -> None:
    """Shuffled by less than the bound; times differ, as of equal ones `first` takes the one with the lower offset."""
    spec, records, scale = prepared(seed)
    chance = random.Random(seed)
    delayed = [(time_of(record) + chance.randrange(BOUND * scale), record) for record in records]
    shuffled = [record for _, record in sorted(delayed, key=lambda pair: pair[0])]
    assert shuffled != records
    in_order, out_of_order = harness.run(spec, records), harness.run(spec, shuffled)
    assert out_of_order.rows == in_order.rows
    assert out_of_order.late == []


@pytest.mark.parametrize("seed", SEEDS)
def test_the_number_of_lanes_changes_nothing(seed: int) -> None:
    spec, records, _ = prepared(seed)
    alone = harness.run(spec, records)
    for lanes in (2, 3, 5):
        apart = spread(records, lanes, lambda name: zlib.crc32(name.encode()))
        assert harness.run(spec, apart, [Step(7), Step(3, "commit"), Step(9, "restart")]).rows == alone.rows


def prepared(seed: int) -> tuple[bytes, list[Record], int]:
    """A pipeline, its input in order, and the ms that one unit of its time has."""
    scale = HOUR * 6 if random_jobs.job(seed, 0).window.kind == "calendar" else 1
    return harness.describe(random_jobs.job(seed, BOUND * scale)), random_jobs.in_order(seed, scale), scale


def time_of(record: Record) -> int:
    assert isinstance(record.content, Event)
    return record.content.time


EVERY_TEN = (0, 10, 20, 30, 40, 50, 60)
EVERY_EIGHT = (0, 8, 16, 24, 32, 40, 48)
ARRIVALS: dict[str, tuple[Window, tuple[int, ...], list[Session]]] = {
    "exactly the gap apart": (Window("session", 10), EVERY_TEN, [(0, 70, EVERY_TEN)]),
    "exactly the gap apart, exclusive": (
        Window("session", 10, inclusive=False),
        EVERY_TEN,
        [(time, time + 10, (time,)) for time in EVERY_TEN],
    ),
    "bridged by one event": (
        Window("session", 8),
        (0, 4, 12, 20, 24, 40, 41),
        [(0, 32, (0, 4, 12, 20, 24)), (40, 49, (40, 41))],
    ),
    "bridged by one event, exclusive": (
        Window("session", 9, inclusive=False),
        (0, 4, 12, 20, 29, 40, 41),
        [(0, 29, (0, 4, 12, 20)), (29, 38, (29,)), (40, 50, (40, 41))],
    ),
    "the same time twice": (
        Window("session", 10),
        (0, 0, 10, 11, 21, 35, 35),
        [(0, 31, (0, 0, 10, 11, 21)), (35, 45, (35, 35))],
    ),
    "cut": (
        Window("session", 10, longest=25),
        EVERY_EIGHT,
        [(0, 25, (0, 8, 16, 24)), (25, 50, (32, 40, 48))],
    ),
    "cut only because bridged": (
        Window("session", 10, longest=40),
        (35, 36, 44, 54, 55, 64, 70),
        [(35, 40, (35, 36)), (40, 80, (44, 54, 55, 64, 70))],
    ),
    "as long as may be": (Window("session", 10, longest=70), EVERY_TEN, [(0, 70, EVERY_TEN)]),
}


@pytest.mark.parametrize("commit", [False, True])
@pytest.mark.parametrize("name", ARRIVALS)
def test_sessions_are_the_same_in_every_order_of_arrival(name: str, commit: bool) -> None:
    """All 5,040 orders of seven events, each with a key of its own, a stretch of time after the one before."""
    window, times, expected = ARRIVALS[name]
    orders = list(permutations(times))
    records = [
        Record(0, Event(1000 * number + time, f"{number:04}", f"{number}-{place}", time, None))
        for number, order in enumerate(orders)
        for place, time in enumerate(order)
    ]
    job = Job(window, 100, aggregates=(Aggregate("times", "collect_list", "value"), Aggregate("n", "count")))
    schedule = [Step(997, "commit"), Step(0, "restart")] * 35 if commit else []
    rows = harness.run(harness.describe(job), records, schedule).rows
    found: dict[str, list[Session]] = {}
    for row in rows:
        found.setdefault(row["key"], []).append(session_of(row))
    assert len(found) == 5_040
    assert {key: sessions for key, sessions in found.items() if sessions != expected} == {}


def session_of(row: Row) -> Session:
    base = 1000 * int(row["key"])
    assert row["n"] == len(row["times"])
    return (row["window_start"] - base, row["window_end"] - base, tuple(row["times"]))
