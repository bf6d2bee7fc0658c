"""Sessions that never end cost about what others do, by the time that the process has computed.

Each of these took the square of its events, or worse: 5 to 20 seconds here, and now a fraction of one.
"""

from __future__ import annotations

import time
from pathlib import Path

import streamcore as sc

START_S = 1_767_225_600
EVENTS = 200_000


def rows_and_seconds(pipeline: sc.Pipeline) -> tuple[int, int, float]:
    """Rows, the events in them, and seconds of all threads."""
    before = time.process_time()
    with pipeline.start() as run:
        rows = [row for batch in run.stream() for row in batch.to_rows()]
    return len(rows), sum(row["n"] for row in rows), time.process_time() - before


def source(path: Path, times: list[tuple[str, int]], out_of_orderness: str) -> sc.Pipeline:
    path.write_text("".join(f'{{"page":"{page}","s":{START_S + second}}}\n' for page, second in times))
    schema = {"page": "string"}
    return sc.files(path, event_time="s", event_time_unit="s", out_of_orderness=out_of_orderness, schema=schema)


def test_a_session_that_is_cut_often_costs_what_one_does_that_is_not(tmp_path: Path) -> None:
    events = source(tmp_path / "events.jsonl", [("a", second) for second in range(EVENTS)], "5s")
    cut = events.window(sc.session("30s", max_length="1m"), by="page").agg(n=sc.count())
    whole = events.window(sc.session("30s"), by="page").agg(n=sc.count())
    rows, counted, cut_s = rows_and_seconds(cut)
    assert (rows, counted) == (EVENTS // 60 + 1, EVENTS)
    rows, counted, whole_s = rows_and_seconds(whole)
    assert (rows, counted) == (1, EVENTS)
    assert cut_s < 1 + 3 * whole_s


def test_a_session_whose_events_are_all_behind_the_clock_costs_what_others_do(tmp_path: Path) -> None:
    events = 16_000
    times = [("a" if place % 2 else "b", place // 2 - 10 * (place % 2)) for place in range(events)]
    behind = source(tmp_path / "events.jsonl", times, "5s").window(sc.session("30s"), by="page").agg(n=sc.count())
    rows, counted, seconds = rows_and_seconds(behind)
    assert (rows, counted) == (2, events)
    assert seconds < 3
