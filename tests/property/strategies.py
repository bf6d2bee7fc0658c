"""Hypothesis strategies: jobs, records and schedules for `harness.py`.

Invariant: an id belongs to one lane, as a topic keyed by it would have it, and a copy of an event is that event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import strategies as st

from tests.property.harness import Step
from tests.property.model import Event, Garbage, Job, Record, Tombstone, Window

LANES_MAX = 4
RECORDS_MAX = 40
TIME_MAX = 2_000

keys = st.sampled_from([None, "", "a", "b", "zebra", "ü"])
values = st.none() | st.integers(-5, 5) | st.integers(-(2**53), 2**53)
weights = st.sampled_from([0.1, 0.2, 0.3, -0.0, 1e16, 1.0, -1e16, 5e-324])

tumbling = st.builds(
    lambda size, offset: Window("tumbling", size, offset=offset), st.integers(1, 300), st.integers(-50, 50)
)
hopping = st.builds(
    lambda size, slide, offset: Window("hopping", size, slide, offset),
    st.integers(1, 300),
    st.integers(20, 350),
    st.integers(-50, 50),
)
cumulate = st.builds(
    lambda steps, step, offset: Window("cumulate", steps * step, step, offset),
    st.integers(1, 8),
    st.integers(1, 60),
    st.integers(-50, 50),
)
sliding = st.builds(lambda size: Window("sliding", size), st.integers(1, 300))
whole = st.just(Window("whole", 0))
aligned = st.one_of(tumbling, hopping, cumulate, whole)
session = st.builds(
    lambda gap, inclusive, more: Window("session", gap, inclusive=inclusive, longest=None if more < 0 else gap + more),
    st.integers(1, 120),
    st.booleans(),
    st.integers(-100, 300),
)
windows = st.one_of(aligned, session)


def jobs(window: st.SearchStrategy[Window] = windows, *, within_min: int = 8) -> st.SearchStrategy[Job]:
    """Jobs; `within_min` in ms is rounded up to what eight generations divide."""
    within = st.none() | st.integers(within_min // 8 + 1, within_min // 8 + 200).map(lambda eighth: eighth * 8)
    job = st.builds(Job, window, st.integers(0, 200), st.sampled_from([0, 0, 1, 30, 500]), within)
    # The engine refuses lateness for a window that is never over.
    job = job.map(lambda made: replace(made, lateness=0) if made.window.kind == "whole" else made)
    # Ids must be remembered for at least as long as a record may be out of order: the engine refuses less.
    return job.map(
        lambda made: (
            made if made.within is None or made.within >= (made.out_of_orderness or 0) else replace(made, within=None)
        )
    )


def keyed_jobs(window: st.SearchStrategy[Window]) -> st.SearchStrategy[Job]:
    """Jobs whose group key is the record key: each lane's windows are its own."""
    return jobs(window).map(lambda job: replace(job, keyed=True))


@st.composite
def arrivals(draw: st.DrawFn, *, lanes_max: int = LANES_MAX, disorder: int | None = None) -> list[Record]:
    """Records in arrival order; with `disorder`, no event comes more than that many ms behind the newest."""
    lanes = draw(st.integers(1, lanes_max))
    records: list[Record] = []
    newest = draw(st.integers(-500, 500))
    for number in range(draw(st.integers(0, RECORDS_MAX))):
        kind = draw(st.sampled_from(["event"] * 8 + ["copy", "garbage", "tombstone"]))
        lane = draw(st.integers(0, lanes - 1))
        events = [record for record in records if isinstance(record.content, Event)]
        if kind == "garbage":
            records.append(Record(lane, Garbage()))
        elif kind == "tombstone":
            records.append(Record(lane, Tombstone()))
        elif kind == "copy" and events:
            copied = draw(st.sampled_from(events))
            assert isinstance(copied.content, Event)
            if disorder is None or copied.content.time >= newest - disorder:
                records.append(copied)
        else:
            time = draw(_times(newest, disorder))
            newest = max(newest, time)
            event = Event(time, draw(keys), f"{lane}-{number}", draw(values), draw(weights))
            records.append(Record(lane, event))
    return records


def _times(newest: int, disorder: int | None) -> st.SearchStrategy[int]:
    if disorder is None:
        return st.integers(newest - TIME_MAX, newest + 300)
    return st.integers(newest - disorder, newest + 300)


steps = st.builds(Step, st.integers(0, 10), st.sampled_from(["push", "push", "commit", "restart", "rollback"]))
schedules = st.lists(steps, max_size=12)
cuts = st.lists(st.builds(Step, st.integers(0, 10)), max_size=12)


def spread(records: list[Record], lanes: int, place: Callable[[str], int]) -> list[Record]:
    """The same records over `lanes` lanes, each id always in the same one."""
    moved = []
    for number, record in enumerate(records):
        content = record.content
        name = content.ident if isinstance(content, Event) else str(number)
        moved.append(Record(place(name) % lanes, content))
    return moved
