from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

import streamcore as sc
from streamcore import testing
from streamcore.errors import ConfigError
from streamcore.sources.iterable import Record
from streamcore.testing import ManualClock, record_of

VIEWS = (
    sc.records([], event_time="at", schema={"page": "string"}, out_of_orderness="0s")
    .window(sc.tumbling("1m"), by="page")
    .agg(views=sc.count())
)


def event(second: int, page: str = "home") -> dict[str, str]:
    return {"page": page, "at": f"2026-01-01T00:{second // 60:02d}:{second % 60:02d}Z"}


def counts(run: testing.TestRun) -> list[tuple[str, int]]:
    return [(row["page"], row["views"]) for row in run.rows()]


def test_windows_close_when_the_clock_passes_them() -> None:
    with testing.start(VIEWS) as run:
        run.push([event(1), event(2)])
        assert counts(run) == []
        run.push([event(61)])
        assert counts(run) == [("home", 2)]
        run.push([event(3)])
        assert [row["_partition"] for row in run.rows("late")] == [0]
        run.end()
        assert counts(run) == [("home", 2), ("home", 1)]
        assert (run.ledger.read, run.ledger.applied, run.ledger.late) == (4, 3, 1)


def test_time_passes_only_when_it_is_told_to() -> None:
    with testing.start(VIEWS) as run:
        run.push([event(1)])
        run.advance("29s")
        run.advance("10s")
        assert counts(run) == []
        run.advance("60s")
        assert counts(run) == [("home", 1)]


def test_updates_leave_at_a_commit() -> None:
    pipeline = sc.records([], event_time="at").window(sc.tumbling("1m"), emit="updates").agg(views=sc.count())
    with testing.start(pipeline) as run:
        run.push([event(1)])
        assert run.rows() == []
        run.commit()
        run.push([event(2)])
        run.commit()
        assert [row["views"] for row in run.rows()] == [1, 2]


def test_lanes_are_partitions() -> None:
    with testing.start(VIEWS) as run:
        run.push([Record(event(1)), Record(event(200), partition=3)])
        run.push([Record(event(300), partition=3)])
        assert counts(run) == []
        run.push([Record(event(301), partition=0)])
        assert counts(run) == [("home", 1), ("home", 1)]


def test_types_are_inferred_like_in_an_ephemeral_run() -> None:
    pipeline = sc.records([], event_time="at").window(sc.tumbling("1m")).agg(total="sum(n)")
    with testing.start(pipeline) as run:
        run.push([{**event(1), "n": 2}])
        run.end()
        assert [row["total"] for row in run.rows()] == [2]


def test_a_field_that_was_meant_otherwise_is_told_like_in_an_ephemeral_run(caplog: pytest.LogCaptureFixture) -> None:
    pipeline = sc.records([], event_time="at").window(sc.tumbling("1m")).agg(total="sum(price)")
    with testing.start(pipeline) as run, pytest.raises(ConfigError, match='did you mean "prices"'):
        run.push([{**event(1), "prices": 2}])
    with testing.start(pipeline) as run:
        run.push([event(1)])  # others may follow
        run.push([{**event(2), "price": 2}])
        run.end()
        assert [row["total"] for row in run.rows()] == [2.0]
    told = [record.args for record in caplog.records if record.name == "streamcore.fields"]
    assert told == [("price", "float64", "source.schema")]


def test_nothing_pushed_is_nothing_out() -> None:
    with testing.start(VIEWS) as run:
        run.push([])
        run.end()
        assert (run.rows(), run.ledger.read) == ([], 0)


def test_a_wrong_pipeline_is_refused_at_once() -> None:
    early = [step.model_copy(update={"emit": "updates"}) for step in VIEWS.config.steps]
    broken = VIEWS.config.model_copy(update={"steps": (*early, *VIEWS.config.steps)})
    with pytest.raises(ConfigError):
        testing.start(broken)


def test_a_manual_clock_moves_by_hand() -> None:
    clock = ManualClock(1_000)
    event = threading.Event()
    assert not clock.wait(event, 1.5)
    assert (clock.wall_ms(), clock.monotonic_s()) == (2_500, 1.5)


def test_a_test_row_may_carry_the_other_parts_of_a_record() -> None:
    row = {
        "a": 1,
        "_key": "k",
        "_headers": {"h": "x", "n": None},
        "_timestamp": "2026-01-01T00:00:00Z",
        "_partition": 2,
        "_offset": 9,
    }
    expected = Record(
        {"a": 1}, "k", [("h", b"x"), ("n", None)], round(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000, 2, 9
    )
    assert record_of(row) == expected
    assert record_of({"a": 1}) == Record({"a": 1})
