from __future__ import annotations

import json

import pytest

import streamcore as sc
from streamcore.report import Ledger, Report, add_ledgers, watermark

LANES = {0: {"read": 5, "applied": 3, "late": 2}, 1: {"read": 1, "rejected": 1}, -1: {"late_after_combine": 4}}


def test_lanes_add_up() -> None:
    assert Report(lanes=LANES).ledger == Ledger(read=6, applied=3, late=2, rejected=1, late_after_combine=4)


def test_ledgers_are_added_and_taken_apart_lane_by_lane() -> None:
    more = {0: {"read": 1}, 2: {"read": 7}}
    total = add_ledgers(LANES, more)
    assert total[0] == {"read": 6, "applied": 3, "late": 2}
    assert total[2] == {"read": 7}
    back = add_ledgers(total, more, -1)
    assert {lane: back[lane] for lane in LANES} == LANES


def test_a_report_is_plain_json() -> None:
    written = json.loads(json.dumps(Report(name="job", lanes=LANES, elapsed_s=1.23456).to_dict()))
    assert (written["name"], written["elapsed_s"], written["ledger"]["read"]) == ("job", 1.235, 6)
    assert written["lanes"]["-1"] == {"late_after_combine": 4}


def test_a_failed_run_keeps_its_numbers() -> None:
    report = Report(name="job", state="running", lanes=LANES).failed()
    assert (report.state, report.lanes) == ("failed", LANES)


@pytest.mark.parametrize(
    ("clocks", "expected"),
    [
        ({}, None),
        ({0: {"watermark_ms": 5, "idle": False}, 1: {"watermark_ms": 3, "idle": False}}, 3),
        ({0: {"watermark_ms": 5, "idle": False}, 1: {"watermark_ms": 3, "idle": True}}, 5),
        ({0: {"watermark_ms": 5, "idle": False}, 1: {"watermark_ms": None, "idle": False}}, None),
        ({0: {"watermark_ms": 5, "idle": True}, 1: {"watermark_ms": 3, "idle": True}}, 3),
        ({0: {"watermark_ms": 5, "idle": True}, 1: {"watermark_ms": None, "idle": True}}, 5),
        ({0: {"watermark_ms": None, "idle": True}}, None),
        ({0: {"watermark_ms": 5, "idle": False}, -1: {"watermark_ms": 2}}, 2),
        ({0: {"watermark_ms": 5, "idle": False}, -1: {"watermark_ms": None}}, None),
    ],
)
def test_the_watermark_is_that_of_the_results(
    clocks: dict[int, dict[str, int | bool | None]], expected: int | None
) -> None:
    assert watermark(clocks) == expected


@pytest.mark.parametrize(("layouts", "some"), [(5, False), (200, True)])
def test_layouts_that_are_forgotten_are_counted_and_change_nothing(layouts: int, some: bool) -> None:
    rows = [{f"field{number % layouts}": 1, "at": number} for number in range(400)]
    source = sc.records(rows, event_time="at", event_time_unit="ms")
    with source.window(sc.tumbling("1s")).agg(n=sc.count()).start() as run:
        counts = [row["n"] for batch in run.stream() for row in batch.to_polars().to_dicts()]
    assert counts == [400]
    assert (run.report.layouts_forgotten > 0) == some
    assert run.report.to_dict()["layouts_forgotten"] == run.report.layouts_forgotten


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize(("keys", "some"), [(5, False), (20_000, True)])
def test_batches_whose_keys_are_not_interned_are_counted_and_change_nothing(
    keys: int, some: bool, filtered: bool
) -> None:
    rows = [{"key": number % keys, "at": 0} for number in range(40_000)]
    source = sc.records(rows, event_time="at", event_time_unit="ms", schema={"key": "int64"})
    source = source.filter("key >= 0") if filtered else source
    with source.window(sc.tumbling("1s"), by="key").agg(n=sc.count()).start() as run:
        counts = [(row["key"], row["n"]) for batch in run.stream() for row in batch.to_polars().to_dicts()]
    assert sorted(counts) == [(key, 40_000 // keys) for key in range(keys)]
    assert (run.report.batches_not_interned > 0) == some
