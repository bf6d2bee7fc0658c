from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from streamcore.progress import CaptionProgress, JsonProgress, Rate, TerminalProgress, summary_text, time_text
from streamcore.report import Report

LANES = {0: {"read": 2_000, "applied": 1_900, "duplicate": 60, "late": 30, "rejected": 10}}
REPORT = Report(
    name="job",
    state="running",
    elapsed_s=2.0,
    epoch=3,
    rows={"result": 7},
    watermark_ms=1_767_225_600_000,
    open_windows=4,
    lanes=LANES,
    lags={
        0: {"lag": 1_200, "end": 3_200, "high_watermark": 3_300, "age_s": 0.1},
        3: {"lag": 34, "end": 34, "high_watermark": None, "age_s": 0.5},
    },
)
ENDED = Report(state="ended", elapsed_s=2.0, lanes={0: {"read": 2_000}}, rows={"result": 7}, open_windows=4)


def test_elsewhere_it_is_json_lines() -> None:
    file = io.StringIO()
    progress = JsonProgress(file)
    progress.update(REPORT)
    progress.finish(ENDED)
    first, last = (json.loads(line) for line in file.getvalue().splitlines())
    assert first["progress"] == {
        "elapsed_s": 2.0,
        "records": 2_000,
        "records_per_second": 1_000,
        "result_rows": 7,
        "watermark": "2026-01-01T00:00:00.000Z",
        "open_windows": 4,
        "late": 30,
        "duplicate": 60,
        "rejected": 10,
        "epoch": 3,
        "lags": {
            "0": {"lag": 1_200, "end": 3_200, "high_watermark": 3_300, "age_s": 0.1},
            "3": {"lag": 34, "end": 34, "high_watermark": None, "age_s": 0.5},
        },
    }
    assert last["report"]["ledger"]["read"] == 2_000


def test_elsewhere_a_line_comes_at_first_and_then_seldom() -> None:
    file = io.StringIO()
    progress = JsonProgress(file)
    for second in range(100):
        progress.update(replace(REPORT, elapsed_s=float(second), lanes={0: {"read": 1_000 * second}}))
    progress.finish(ENDED)
    *lines, last = (json.loads(line) for line in file.getvalue().splitlines())
    assert [line["progress"]["elapsed_s"] for line in lines] == [0.0, 30.0, 60.0, 90.0]
    assert [line["progress"]["records_per_second"] for line in lines] == [0, 1_000, 1_000, 1_000]
    assert list(last) == ["report"]


def test_on_a_terminal_it_is_one_line_and_a_summary() -> None:
    file = io.StringIO()
    progress = TerminalProgress(Console(file=file, force_terminal=True, width=200, color_system=None))
    progress.update(REPORT)
    progress.finish(ENDED)
    shown = file.getvalue()
    assert "2,000 records · 1,000/s · watermark 2026-01-01T00:00:00.000Z" in shown
    assert shown.endswith("ended: 2,000 records in 2.0 s (1,000/s), 7 result rows\n")


def test_under_a_table_it_is_the_caption() -> None:
    file, captions = io.StringIO(), list[str]()
    progress = CaptionProgress(captions.append, Console(file=file, width=200))
    progress.update(REPORT)
    assert captions[0].endswith("4 open windows · lag 1,234 ([0] 1,200) · 60 duplicate · 30 late · 10 rejected")
    assert file.getvalue() == ""
    progress.update(replace(REPORT, retries=2))
    assert captions[1].endswith("10 rejected · 2 epochs tried again")
    progress.finish(ENDED)
    assert file.getvalue().startswith("ended: ")


def test_the_rate_is_that_of_the_last_interval() -> None:
    rate = Rate()
    assert rate.update(REPORT) == 1_000
    assert rate.update(REPORT) == 0
    assert rate.update(replace(REPORT, elapsed_s=2.05, lanes={0: {"read": 2_400}})) == 0
    assert rate.update(Report(elapsed_s=3.05, lanes={0: {"read": 2_900}})) == 500


def test_one_is_not_many() -> None:
    stopped = Report(state="stopped", elapsed_s=2.0, open_windows=1, rows={"result": 1})
    assert summary_text(stopped) == "stopped: 0 records in 2.0 s (0/s), 1 result row, 1 open window"


def test_the_summary_says_what_was_left_out_and_what_is_open() -> None:
    stopped = Report(state="stopped", elapsed_s=2.0, open_windows=4, lanes=LANES)
    first, second = summary_text(stopped).splitlines()
    assert first == "stopped: 2,000 records in 2.0 s (1,000/s), 0 result rows, 4 open windows"
    assert second == "left out: 60 duplicate, 30 late, 10 rejected"
    _, second = summary_text(replace(stopped, skipped={0: 4, 3: 1})).splitlines()
    assert second == "left out: 60 duplicate, 30 late, 10 rejected, 5 offsets of accepted gaps"


@pytest.mark.parametrize(
    ("place", "told"), [("bad.jsonl", "bad.jsonl"), (None, "none are kept; [dead_letters] keeps them")]
)
def test_the_summary_shows_the_first_refusal_and_where_the_others_are(place: str | None, told: str) -> None:
    file = io.StringIO()
    refusal = "MISSING_FIELD at offset 0 of [/x] [0]: " + "moment " * 20
    report = replace(ENDED, lanes=LANES, first_refusal=refusal, dead_letters=place)
    TerminalProgress(Console(file=file, force_terminal=True, width=80, color_system=None)).finish(report)
    assert file.getvalue().splitlines()[2:] == [f"first rejected: {refusal}", f"dead letters: {told}"]


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(None, None), (0, "1970-01-01T00:00:00.000Z"), (-1, "1969-12-31T23:59:59.999Z"), (2**62, f"{2**62} ms")],
)
def test_times(milliseconds: int | None, text: str | None) -> None:
    assert time_text(milliseconds) == text
