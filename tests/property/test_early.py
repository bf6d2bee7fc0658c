"""Early rows against the naive model in `early.py`: which rows leave, with what revisions, in what order."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.property import harness, strategies
from tests.property.early import CONDITIONS, Emission, When, keyed
from tests.property.early_sessions import SessionEmission
from tests.property.harness import Step
from tests.property.model import Job, Record, Row
from tests.property.strategies import arrivals, jobs, keyed_jobs, schedules

everies = st.integers(1, 400)
conditions = st.sampled_from(CONDITIONS)
one_lane = arrivals(lanes_max=1).map(keyed)


@given(keyed_jobs(strategies.aligned), one_lane, st.none() | everies, st.none() | conditions, schedules)
def test_early_rows_are_those_of_the_model(
    job: Job, records: list[Record], every: int | None, when: When | None, schedule: list[Step]
) -> None:
    if every is None and when is None:
        return
    expected = list(Emission(job, every, when).run(records))
    text = None if when is None else when.text
    spec = harness.describe(job, emit="updates", every=every, when=text)
    whole = harness.run(spec, records)
    assert whole.rows == expected
    hurt = harness.run(spec, records, schedule)
    assert (hurt.rows, hurt.ledgers, hurt.digest) == (whole.rows, whole.ledgers, whole.digest)


@given(jobs(strategies.aligned), arrivals(), everies, st.none() | conditions, schedules)
def test_early_rows_of_several_lanes_end_where_final_ones_do(
    job: Job, records: list[Record], every: int, when: When | None, schedule: list[Step]
) -> None:
    combined = when is None
    records = records if combined else keyed(records)
    # A lane whose windows are its own has each group to itself.
    records = records if combined else [Record(0, record.content) for record in records]
    job = replace(job, keyed=not combined)
    final = harness.run(harness.describe(job), records)
    text = None if when is None else when.text
    spec = harness.describe(job, emit="updates", every=every, when=text)
    early = harness.run(spec, records, schedule)
    newest = {(row["key"], row["window_start"], row["window_end"]): row for row in early.rows}
    assert all(row["is_final"] for row in newest.values())
    without = [{**row, "revision": 0} for row in newest.values()]
    assert sorted(without, key=str) == sorted(({**row, "revision": 0} for row in final.rows), key=str)


@given(keyed_jobs(strategies.session), one_lane, everies, st.none() | conditions, schedules)
def test_early_sessions_are_those_of_the_model(
    job: Job, records: list[Record], every: int, when: When | None, schedule: list[Step]
) -> None:
    expected = list(SessionEmission(job, every, when).run(records))
    text = None if when is None else when.text
    spec = harness.describe(job, emit="updates", every=every, when=text)
    whole = harness.run(spec, records)
    assert whole.rows == expected
    hurt = harness.run(spec, records, schedule)
    assert (hurt.rows, hurt.ledgers, hurt.digest) == (whole.rows, whole.ledgers, whole.digest)


@given(keyed_jobs(strategies.session), one_lane, st.none() | everies, st.none() | conditions, schedules)
def test_whoever_applies_the_rows_of_sessions_holds_what_final_gives(
    job: Job, records: list[Record], every: int | None, when: When | None, schedule: list[Step]
) -> None:
    """A reader keeps a row for each group and start, as an upsert topic does, until the row is taken back."""
    final = harness.run(harness.describe(job), records)
    text = None if when is None or every is None else when.text
    early = harness.run(harness.describe(job, emit="updates", every=every, when=text), records, schedule)
    table: dict[tuple[object, ...], Row] = {}
    for row in early.rows:
        place = (row["key"], row["window_start"], row["window_end"])
        before = table.get(place)
        assert before is None or (row["revision"] > before["revision"] and not before["is_final"])
        assert before is not None or not row["retracted"]
        table[place] = row
        if row["retracted"]:
            del table[place]
    assert all(row["is_final"] for row in table.values())
    kept = [{**row, "revision": 0} for row in table.values()]
    for row in kept:
        del row["retracted"]
    assert sorted(kept, key=str) == sorted(({**row, "revision": 0} for row in final.rows), key=str)
