"""The engine against the naive model: nothing but the records and their order decides the rows.

Batch cuts, lanes, checkpoints, restarts and rollbacks are drawn at random and must change nothing; the model
in `model.py` says what the rows are.
"""

from __future__ import annotations

import zlib
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.property import harness, model, strategies
from tests.property.harness import LEDGER_CLASSES, Step
from tests.property.model import Event, Job, Record, Row, Window
from tests.property.strategies import arrivals, cuts, jobs, schedules, session, windows

settings.register_profile("streamcore", deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("streamcore")

one_lane = arrivals(lanes_max=1)


def at(*times: int) -> list[Record]:
    """One lane, one key, these event times in this order."""
    return [Record(0, Event(time, "k", str(place), None, 0.5)) for place, time in enumerate(times)]


# The second event puts the clock on the first session's end; the third touches what is over by then, and is in time
# for a session of its own. What is over stays over, also when all three come in one batch.
OVER_BEFORE_TOUCHED = (Job(Window("session", 2, inclusive=False), 2), at(0, 4, 1))


# In the combine stage both parts of the cut session leave at its end, behind a session that ends between them; a clock
# that jumped over all three ends at once, which batch cuts decide, once put the first part in front.
CUT_AROUND_ANOTHER = (
    Job(Window("session", 250, longest=416), 0),
    [
        Record(0, Event(time, key, str(time), None, 0.5))
        for time, key in ((686, "x"), (771, "a"), (975, "a"), (5000, "z"))
    ],
)


def columns(rows: list[Row]) -> list[Row]:
    """Rows without the bookkeeping columns."""
    return [{name: row[name] for name in row if name not in {"revision", "is_final", "retracted"}} for row in rows]


def sorted_rows(rows: list[Row]) -> list[Row]:
    return sorted(columns(rows), key=model.row_order)


@given(jobs(), one_lane)
@example(*OVER_BEFORE_TOUCHED)
@example(*CUT_AROUND_ANOTHER)
def test_one_lane_answers_as_the_model_does(job: Job, records: list[Record]) -> None:
    answer, outcome = model.run(job, records), harness.run(harness.describe(job), records)
    assert columns(outcome.rows) == answer.rows
    assert outcome.late == answer.late


@given(jobs(strategies.aligned), arrivals())
def test_lanes_answer_as_the_model_does(job: Job, records: list[Record]) -> None:
    """Sessions in several lanes are left out here: late pieces of one session may lie in two of them."""
    answer, outcome = model.run(job, records), harness.run(harness.describe(job), records)
    assert sorted_rows(outcome.rows) == answer.rows
    assert sorted(outcome.late) == sorted(answer.late)


@given(jobs(), arrivals())
def test_the_ledger_says_what_became_of_each_record(job: Job, records: list[Record]) -> None:
    answer, outcome = model.run(job, records), harness.run(harness.describe(job), records)
    for lane, ledger in answer.ledgers.items():
        told = outcome.ledgers[lane]
        assert {name: told[name] for name in ("read", *LEDGER_CLASSES, "no_window", "late_windows")} == {
            name: ledger.get(name, 0) for name in ("read", *LEDGER_CLASSES, "no_window", "late_windows")
        }
        assert told["read"] == sum(told[name] for name in LEDGER_CLASSES)


@given(jobs(), arrivals(), cuts)
@example(*OVER_BEFORE_TOUCHED, [Step(1), Step(1)])
@example(*CUT_AROUND_ANOTHER, [Step(3)])
def test_batch_cuts_change_no_byte(job: Job, records: list[Record], schedule: list[Step]) -> None:
    spec = harness.describe(job)
    whole, cut = harness.run(spec, records), harness.run(spec, records, schedule)
    assert cut.rows == whole.rows
    assert sorted(cut.late) == sorted(whole.late)
    assert (cut.ledgers, cut.digest) == (whole.ledgers, whole.digest)


@given(jobs(), arrivals(), schedules)
def test_restarts_and_rollbacks_change_nothing(job: Job, records: list[Record], schedule: list[Step]) -> None:
    spec = harness.describe(job)
    whole, hurt = harness.run(spec, records), harness.run(spec, records, schedule)
    assert hurt.rows == whole.rows
    assert sorted(hurt.late) == sorted(whole.late)
    assert (hurt.ledgers, hurt.digest) == (whole.ledgers, whole.digest)


@given(st.data(), st.integers(0, 150), windows, st.randoms(use_true_random=False))
def test_order_within_the_bound_changes_nothing(
    data: st.DataObject, bound: int, window: model.Window, random: Any
) -> None:
    """Events sorted by a time that is off by at most the bound arrive out of order by at most the bound."""
    job = Job(window, bound)
    records = [record for record in data.draw(arrivals(lanes_max=1, disorder=0)) if isinstance(record.content, Event)]
    shuffled = sorted(records, key=lambda record: _time(record) + random.uniform(0, bound))
    spec = harness.describe(job)
    in_order, out_of_order = harness.run(spec, records), harness.run(spec, shuffled)
    assert out_of_order.rows == in_order.rows
    assert out_of_order.late == []


def _time(record: Record) -> int:
    assert isinstance(record.content, Event)
    return record.content.time


@given(st.data(), st.integers(0, 150), windows, st.integers(2, 5), schedules)
def test_the_number_of_lanes_changes_nothing(
    data: st.DataObject, bound: int, window: model.Window, lanes: int, schedule: list[Step]
) -> None:
    job = Job(window, bound, within=800)
    records = data.draw(arrivals(lanes_max=1, disorder=bound))
    apart = strategies.spread(records, lanes, lambda name: zlib.crc32(name.encode()))
    spec = harness.describe(job)
    alone, together = harness.run(spec, records), harness.run(spec, apart, schedule)
    assert together.rows == alone.rows
    assert together.late == []
    assert columns(alone.rows) == model.run(job, records).rows


@given(jobs(strategies.aligned), arrivals(), schedules)
def test_updates_end_where_final_does(job: Job, records: list[Record], schedule: list[Step]) -> None:
    final = harness.run(harness.describe(job), records)
    updates = harness.run(harness.describe(job, emit="updates"), records, schedule)
    table: dict[tuple[Any, ...], Row] = {}
    for row in updates.rows:
        place = (row["key"], row["window_start"], row["window_end"])
        before = table.pop(place, None)
        assert row["revision"] == 0 or before is None or row["revision"] > before["revision"]
        assert before is None or not before["is_final"]
        if not row.get("retracted"):
            table[place] = row
    assert all(row["is_final"] for row in table.values())
    assert sorted_rows(list(table.values())) == sorted_rows(final.rows)


@given(jobs(session), arrivals(), schedules)
def test_sessions_of_several_lanes_do_not_depend_on_cuts(job: Job, records: list[Record], schedule: list[Step]) -> None:
    spec = harness.describe(job)
    whole, hurt = harness.run(spec, records), harness.run(spec, records, schedule)
    assert hurt.rows == whole.rows
    counted = sum(row["events"] for row in whole.rows) + whole.ledgers[-1]["late_after_combine"] if records else 0
    assert counted == sum(ledger["applied"] for lane, ledger in whole.ledgers.items() if lane >= 0)
