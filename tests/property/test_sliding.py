"""Sliding windows against the naive model: a row for each time at which a group has an event."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.property import harness, model, strategies
from tests.property.early import keyed
from tests.property.harness import LEDGER_CLASSES, Step
from tests.property.model import Event, Job, Record, Row
from tests.property.strategies import arrivals, keyed_jobs, schedules

one_lane = arrivals(lanes_max=1).map(keyed)


def columns(rows: list[Row]) -> list[Row]:
    return [{name: row[name] for name in row if name not in {"revision", "is_final"}} for row in rows]


@given(keyed_jobs(strategies.sliding), one_lane, schedules)
def test_they_are_those_of_the_model(job: Job, records: list[Record], schedule: list[Step]) -> None:
    answer, spec = model.run(job, records), harness.describe(job)
    whole = harness.run(spec, records)
    assert columns(whole.rows) == answer.rows
    assert whole.late == answer.late
    assert all(row["is_final"] and row["revision"] == 0 for row in whole.rows)
    for lane, ledger in answer.ledgers.items():
        assert {name: whole.ledgers[lane][name] for name in LEDGER_CLASSES} == {
            name: ledger.get(name, 0) for name in LEDGER_CLASSES
        }
    hurt = harness.run(spec, records, schedule)
    assert (hurt.rows, hurt.late, hurt.ledgers, hurt.digest) == (whole.rows, whole.late, whole.ledgers, whole.digest)


@given(st.data(), st.integers(0, 150), strategies.sliding, st.randoms(use_true_random=False))
def test_order_within_the_bound_changes_nothing(
    data: st.DataObject, bound: int, window: model.Window, random: Any
) -> None:
    made = data.draw(arrivals(lanes_max=1, disorder=0))
    records = keyed([record for record in made if isinstance(record.content, Event)])
    shuffled = sorted(records, key=lambda record: _time(record) + random.uniform(0, bound))
    spec = harness.describe(Job(window, bound, keyed=True))
    in_order, out_of_order = harness.run(spec, records), harness.run(spec, shuffled)
    assert out_of_order.rows == in_order.rows
    assert out_of_order.late == []


@given(keyed_jobs(strategies.sliding), arrivals().map(keyed), schedules)
def test_lanes_have_rows_of_their_own(job: Job, records: list[Record], schedule: list[Step]) -> None:
    """Each lane as if it were alone: a group is in one of them, or its rows are not merged."""
    spec = harness.describe(job)
    together = harness.run(spec, records, schedule)
    apart: list[Row] = []
    for lane in sorted({record.lane for record in records}):
        apart += harness.run(spec, [record for record in records if record.lane == lane]).rows
    assert sorted(together.rows, key=str) == sorted(apart, key=str)


def _time(record: Record) -> int:
    assert isinstance(record.content, Event)
    return record.content.time
