from __future__ import annotations

from typing import Any

import pytest

from streamcore._core import LANES_PER_INPUT
from streamcore.errors import Error
from streamcore.report import COMBINE_LANE
from streamcore.why import ClockRules, explain_window, to_json, to_lines

RULES = ClockRules(out_of_orderness_ms=5_000, idle_timeout_ms=30_000, advances_when_idle=True)
END_MS = 60_000


def clock(last_ms: int | None, **more: Any) -> dict[str, Any]:
    watermark_ms = None if last_ms is None else last_ms - 5_001
    given = {"max_event_time_ms": last_ms, "watermark_ms": watermark_ms, "idle": False, "caught_up": False}
    return {**given, "quiet_ms": 1_000, **more}


def status(*clocks: dict[str, Any], combined: bool = True, **more: Any) -> dict[str, Any]:
    """Of lanes at position 10 of a topic that ends at 10; one window is open, in lane 0 or where lanes meet."""
    lanes = dict(enumerate(clocks))
    readings = [lane["watermark_ms"] for lane in clocks if not lane["idle"]]
    meeting = None if None in readings or not readings else min(readings)
    known = {COMBINE_LANE: {"watermark_ms": meeting}} if combined else {}
    window = {"step": "steps[0] (window)", "lane": None if combined else 0, "start_ms": 0, "over_at_ms": END_MS - 1}
    given = {
        "live": True,
        "clocks": {**lanes, **known},
        "positions": dict.fromkeys(lanes, 10),
        "ends": {lane: {"position": 10, "age_s": 0.5} for lane in lanes},
        "paused": [],
        "future": dict.fromkeys(lanes, 0),
        "source": {"type": "kafka", "topic": "clicks"},
        "windows": [{**window, "inputs_ms": [END_MS - 1], "keys": 2, "keys_estimated": False, "nearest_ms": []}],
    }
    return {**given, **more}


def closes(described: dict[str, Any], rules: ClockRules = RULES) -> str:
    (window,) = explain_window(described, END_MS, [rules])
    return window.closes_when


CAUGHT_UP = {"caught_up": True}


def test_the_slowest_active_lane_holds_the_window() -> None:
    described = status(
        clock(64_999), clock(50_000, **CAUGHT_UP), clock(1_000, idle=True, caught_up=True), clock(90_000)
    )
    (window,) = explain_window(described, END_MS, [RULES])
    assert [lane.lane for lane in window.held_by] == [1, 0]
    assert (window.closes_at_ms, window.watermark_ms) == (59_999, 44_999)
    lines = list(to_lines([window]))
    assert lines[0] == "steps[0] (window): window 1970-01-01T00:00:00.000Z to 1970-01-01T00:01:00.000Z, 2 keys, open"
    assert lines[1] == "  watermark    1970-01-01T00:00:44.999Z, 15s before 1970-01-01T00:00:59.999Z, where it closes"
    assert lines[2] == "  held by      clicks [1], last event 1970-01-01T00:00:50.000Z, caught up, quiet for 1s"
    assert lines[3] == "  held by      clicks [0], last event 1970-01-01T00:01:04.999Z, caught up, quiet for 1s"


def test_an_event_or_silence_closes_it_where_another_lane_is_ahead() -> None:
    described = status(clock(50_000, **CAUGHT_UP), clock(90_000))
    assert closes(described) == (
        "with an event of 1970-01-01T00:01:05.000Z or later in clicks [0], or 29s more without any there (idle_timeout)"
    )


def test_the_idle_clock_of_the_only_lane_runs_on() -> None:
    # It stood at 44,999 when the last event came, a second ago: 15 s on it has passed, but not before the timeout.
    described = status(clock(50_000, **CAUGHT_UP), combined=False)
    assert closes(described) == (
        "with an event of 1970-01-01T00:01:05.000Z or later in clicks [0], "
        "or in 29s if nothing comes there: the clock of idle lanes runs on"
    )
    described = status(clock(10_000, **CAUGHT_UP), combined=False)
    assert "or in 54s if nothing comes there" in closes(described)
    described = status(clock(10_000, idle=True, caught_up=True, quiet_ms=40_000), combined=False)
    assert "or in 15s if nothing comes there" in closes(described)
    held = ClockRules(5_000, 30_000, advances_when_idle=False)
    assert closes(described, held) == "with an event of 1970-01-01T00:01:05.000Z or later in clicks [0]"


def test_a_lane_that_lags_has_to_be_read_on() -> None:
    described = status(clock(50_000), clock(90_000), ends={0: {"position": 1_234, "age_s": 3.0}})
    (window,) = explain_window(described, END_MS, [RULES])
    assert window.closes_when == (
        "when clicks [0] has been read on to an event of 1970-01-01T00:01:05.000Z or later (1,224 records to go)"
    )
    assert "1,224 records behind (as of 3 s ago)" in "\n".join(to_lines([window]))


def test_a_lane_that_never_spoke_holds_everything_until_it_is_idle() -> None:
    described = status(clock(None, **CAUGHT_UP), clock(90_000))
    (window,) = explain_window(described, END_MS, [RULES])
    assert window.watermark_ms is None
    assert "29s more without any there" in window.closes_when
    assert "clicks [0], no event yet, caught up" in "\n".join(to_lines([window]))


def test_more_lanes_that_hold_it_are_counted() -> None:
    described = status(*[clock(50_000 + lane, **CAUGHT_UP) for lane in range(7)], clock(90_000))
    (window,) = explain_window(described, END_MS, [RULES])
    assert "in clicks [0], and the same of 6 more" in window.closes_when
    assert "  held by      2 more lanes" in list(to_lines([window]))


def test_an_unbounded_clock_waits_for_the_end() -> None:
    rules = ClockRules(None, 30_000, advances_when_idle=True)
    described = status(clock(50_000, watermark_ms=None), combined=False)
    assert "at the end of the input" in closes(described, rules)


def test_a_lane_held_back_waits_for_the_slowest() -> None:
    assert "held back by max_lead" in closes(status(clock(50_000), clock(50_000, idle=True), paused=[0]))


def test_a_checkpoint_tells_what_would_happen_once_the_run_goes_on() -> None:
    described = status(clock(50_000, quiet_ms=None), live=False)
    (window,) = explain_window(described, END_MS, [RULES])
    assert window.closes_when.startswith("once the run goes on: with an event of 1970-01-01T00:01:05.000Z")
    assert window.held_by[0].quiet_ms is None
    unknown = status(clock(50_000, quiet_ms=None), live=False, ends={})
    assert "once the run goes on: when clicks [0] has been read on" in closes(unknown)
    assert "not known" in "\n".join(to_lines(explain_window(unknown, END_MS, [RULES])))
    over = status(clock(90_000, quiet_ms=None), live=False, combined=False)
    assert closes(over) == "once the run goes on: at once: the clock has passed it"


def test_future_records_are_counted_and_files_measured_in_bytes() -> None:
    source = {"type": "files", "files": [{"path": "a.jsonl"}]}
    described = status(
        clock(50_000), combined=False, source=source, future={0: 3}, ends={0: {"position": 99, "age_s": 0}}
    )
    lines = "\n".join(to_lines(explain_window(described, END_MS, [RULES])))
    assert "in a.jsonl, 2 keys, open" in lines
    assert "89 bytes behind" in lines
    assert "3 records further ahead than max_future_skew" in lines


def test_a_number_of_keys_that_is_an_estimate_says_so() -> None:
    described = status(clock(50_000))
    described["windows"][0] |= {"keys": 1_234_567, "keys_estimated": True}
    windows = explain_window(described, END_MS, [RULES])
    assert "about 1,234,567 keys, open" in next(to_lines(windows))
    (plain,) = to_json(windows, {"run": "127.0.0.1:1"})["windows"]
    assert (plain["keys"], plain["keys_estimated"]) == (1_234_567, True)


def test_numbers_that_json_made_text_are_the_same() -> None:
    described = status(clock(50_000, **CAUGHT_UP), clock(90_000))
    texts = {
        name: {str(lane): value for lane, value in described[name].items()}
        for name in ("clocks", "positions", "ends", "future")
    }
    assert explain_window({**described, **texts}, END_MS, [RULES]) == explain_window(described, END_MS, [RULES])


def test_as_json_times_are_text() -> None:
    windows = explain_window(status(clock(50_000, **CAUGHT_UP), clock(90_000)), END_MS, [RULES])
    (window,) = to_json(windows, {"run": "127.0.0.1:1"})["windows"]
    assert (window["end"], window["closes_at"]) == ("1970-01-01T00:01:00.000Z", "1970-01-01T00:00:59.999Z")
    assert window["held_by"][0]["last_event"] == "1970-01-01T00:00:50.000Z"
    assert window["held_by"][0]["quiet_ms"] == 1_000


def test_windows_that_are_not_open_are_told_from_those_that_never_were() -> None:
    closed = {"step": "s", "lane": None, "start_ms": None, "over_at_ms": None, "keys": None, "nearest_ms": [120_000]}
    with pytest.raises(Error, match=r"the clock has passed it .*; open windows end at 1970-01-01T00:02:00"):
        explain_window(status(clock(90_000), windows=[closed]), END_MS, [RULES])
    with pytest.raises(Error, match="no rows so far, or no window ends then; no window is open"):
        explain_window(status(clock(50_000), windows=[{**closed, "nearest_ms": []}]), END_MS, [RULES])
    with pytest.raises(Error, match="no window step"):
        explain_window(status(clock(50_000), windows=[]), END_MS, [RULES])


def test_behind_a_join_each_input_has_its_own_clock_to_reach() -> None:
    other = LANES_PER_INPUT + 1
    rules = [RULES, ClockRules(1_000, 30_000, advances_when_idle=True, name="orders")]
    described = status(clock(66_000, **CAUGHT_UP))
    described["clocks"][other] = clock(60_000, watermark_ms=58_999)
    described["positions"][other] = 10
    described["ends"][other] = {"position": 40, "age_s": 0.0}
    described["source"] |= {"orders.type": "kafka", "orders.topic": "placed"}
    described["windows"][0]["inputs_ms"] = [60_999, 63_999]

    def explained(rules: list[ClockRules]) -> str:
        (window,) = explain_window(described, END_MS, rules)
        return window.closes_when

    assert explained(rules) == (
        "when placed [1] has been read on to an event of 1970-01-01T00:01:05.000Z or later (30 records to go)"
    )
    described["clocks"][0] |= {"watermark_ms": 50_000, "max_event_time_ms": 55_001}
    assert explained(rules) == (
        "with an event of 1970-01-01T00:01:06.000Z or later in clicks [0], and 1 more as far as the window needs them, "
        "or in 29s if nothing comes anywhere: the clock of idle lanes runs on"
    )
    unbounded = ClockRules(None, 30_000, advances_when_idle=True, name="orders")
    assert explained([RULES, unbounded]).endswith("no event moves the clock of orders")
    described["windows"][0]["inputs_ms"] = [60_999, None]
    assert "placed" not in explained(rules)
