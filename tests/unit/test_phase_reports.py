"""What is said of two phases as of one run."""

from __future__ import annotations

from typing import Any

from streamcore.phase_reports import merged_report, merged_status, merged_windows
from streamcore.report import COMBINE_LANE, Ledger, Report

PARTIAL = Report(
    name="p",
    delivery="exactly_once",
    state="ended",
    epoch=7,
    retries=1,
    rows={"late": 2},
    watermark_ms=90,
    open_windows=11,
    state_bytes=100,
    held={"steps[0] (dedupe)": {"keys": 5, "bytes": 60}, "steps[1] (window)": {"keys": 3, "bytes": 40}},
    lanes={0: {"read": 6, "applied": 4, "late": 2}, 1: {"read": 1, "applied": 1}},
    skipped={1: 7},
)
FINAL = Report(
    state="ended",
    epoch=9,
    retries=2,
    rows={"result": 3, "late": 1},
    watermark_ms=80,
    open_windows=2,
    state_bytes=10,
    held={"steps[1] (window)": {"keys": 2, "bytes": 10}},
    lanes={0: {"partials": 3, "merged": 2, "late_after_combine": 1}, 1: {"partials": 2, "merged": 2}},
    skipped={0: 2, 1: 3},
)


def test_records_are_counted_where_they_are_read_and_windows_where_they_are_merged() -> None:
    both = merged_report(PARTIAL, FINAL, state="running")
    assert (both.name, both.state, both.epoch, both.retries) == ("p", "running", 7, 3)
    assert (both.rows, both.watermark_ms, both.open_windows, both.state_bytes) == ({"late": 3, "result": 3}, 80, 2, 110)
    assert both.held["steps[1] (window)"] == {"keys": 5, "bytes": 50}
    assert both.ledger == Ledger(read=7, applied=5, late=2, late_after_combine=1)
    assert both.skipped == {1: 7, COMBINE_LANE: 5}
    assert both.lanes[COMBINE_LANE] == {"late_after_combine": 1, "merged": 4, "partials": 5}


def test_before_the_final_phase_has_told_anything_no_window_is_known() -> None:
    early = merged_report(PARTIAL, None, state="running")
    assert (early.watermark_ms, early.open_windows, early.ledger.read) == (None, 0, 7)


def window(lane: int, **more: Any) -> dict[str, Any]:
    given = {"step": "steps[0] (window)", "lane": lane, "start_ms": 0, "over_at_ms": 9, "inputs_ms": [9]}
    return {**given, "keys": 2, "keys_estimated": False, "nearest_ms": [10], **more}


def test_a_window_has_the_keys_of_all_partitions() -> None:
    missing = window(1, start_ms=None, over_at_ms=None, keys=None, keys_estimated=None, nearest_ms=[20])
    (found,) = merged_windows([missing, window(0), window(2, keys=3, keys_estimated=True)])
    assert found == {**window(0), "lane": None, "keys": 5, "keys_estimated": True, "nearest_ms": [10, 20]}
    (absent,) = merged_windows([missing, missing])
    assert (absent["start_ms"], absent["keys"], absent["lane"]) == (None, None, None)


def test_lanes_of_other_workers_are_known_by_what_they_told() -> None:
    own = {"max_event_time_ms": 50, "watermark_ms": 40, "idle": False, "caught_up": True, "quiet_ms": 5}
    other = {"generation": 1, "number": 4, "seal": 1, "watermark_ms": 30, "max_event_time_ms": 31, "idle": False}
    newer = {**other, "number": 5, "watermark_ms": 35}
    partial = {
        "report": PARTIAL.to_dict(),
        "clocks": {0: own},
        "inputs": {},
        "windows": [],
        "positions": {0: 3},
        "source": {"topic": "in"},
    }
    final = {
        "report": FINAL.to_dict(),
        "clocks": {0: {"watermark_ms": 30}, 1: {"watermark_ms": 29}},
        "inputs": {0: {"table": {0: other, 1: newer}}, 1: {"table": {1: other}}},
        "windows": [window(0)],
        "positions": {0: 99},
        "source": {"topic": "partials"},
    }
    both = merged_status(partial, final)
    assert both["clocks"][0] == own
    assert both["clocks"][1] == {**other, "caught_up": False, "quiet_ms": None, "elsewhere": True}
    assert both["clocks"][COMBINE_LANE] == {"watermark_ms": 29}
    assert (both["positions"], both["source"]) == ({0: 3}, {"topic": "in"})
    assert [one["lane"] for one in both["windows"]] == [None]
    assert both["report"]["lanes"]["-1"]["merged"] == 4
    assert both["report"]["rows"] == {"late": 3, "result": 3}
