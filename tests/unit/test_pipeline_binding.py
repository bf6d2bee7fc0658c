"""The engine's door: errors by class, one thread at a time, pushing in the background, parts of refused records."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamcore import _core
from streamcore.errors import ConfigError, Error, ExpressionError, StateError
from tests.unit.test_intake import Message

NOW_MS = 1_790_000_000_000


def count_spec(*, piece_rows: int = 1 << 16, **window: Any) -> bytes:
    step = {
        "verb": "window",
        "kind": {"type": "tumbling", "size_ms": 60_000},
        "by": [{"name": "page", "text": "page"}],
        "aggregates": [{"name": "views", "text": "count()"}],
        **window,
    }
    source = {"event_time": "at", "event_time_unit": "ms", "out_of_orderness_ms": 0, "schema": {"page": "string"}}
    return json.dumps({"source": source, "steps": [step], "limits": {"piece_rows": piece_rows}}).encode()


def clicks(*times_ms: int, lane: int = 0, offset: int = 0) -> _core.Raw:
    lines = [json.dumps({"at": at, "page": "home"}).encode() for at in times_ms]
    records = [(line, b"k", None, NOW_MS, offset + place) for place, line in enumerate(lines)]
    return _core.Raw.from_records(lane, "clicks", records)


def test_rows_leave_when_the_clock_passes_the_window() -> None:
    pipeline = _core.Pipeline(count_spec())
    pipeline.assign([0])
    assert pipeline.push(clicks(0, 1, 59_999), NOW_MS) == []
    (batch,) = pipeline.push(clicks(60_000, offset=3), NOW_MS)
    assert [(row["page"], row["views"]) for row in batch.to_rows()] == [("home", 3)]
    assert pipeline.ledger()[0]["applied"] == 4
    reading = {"max_event_time_ms": 60_000, "watermark_ms": 59_999, "idle": False, "caught_up": False, "quiet_ms": 0}
    assert pipeline.clocks()[0] == reading
    (rest,) = pipeline.end()
    assert rest.to_rows()[0]["views"] == 1


@pytest.mark.parametrize("jump_ms", [86_400_000, -86_400_000])
def test_a_wall_clock_that_is_set_makes_no_lane_idle_or_busy(jump_ms: int) -> None:
    pipeline = _core.Pipeline(count_spec())
    pipeline.assign([0])
    pipeline.push(clicks(0), NOW_MS, 1_000)
    assert pipeline.push(clicks(1, offset=1), NOW_MS + jump_ms, 1_050) == []
    assert pipeline.advance(1_100, [0]) == []
    assert (pipeline.clocks()[0]["idle"], pipeline.clocks()[0]["quiet_ms"]) == (False, 50)
    (batch,) = pipeline.advance(1_050 + 60_000, [0])
    assert [row["views"] for row in batch.to_rows()] == [2]
    assert pipeline.clocks()[0]["idle"]


def test_a_clock_before_any_record_shows_nothing() -> None:
    pipeline = _core.Pipeline(count_spec())
    pipeline.assign([2])
    assert pipeline.clocks()[2]["watermark_ms"] is None
    assert pipeline.clocks()[-1] == {"watermark_ms": None}


def test_every_mistake_is_a_problem_with_its_caret() -> None:
    spec = count_spec(aggregates=[{"name": "a", "text": "sum(1 +)"}, {"name": "b", "text": "nope(page)"}])
    described = _core.describe(spec)
    assert len(described["problems"]) == 2
    assert all(problem["text"] and problem["start"] is not None for problem in described["problems"])
    assert described["columns"] == []
    with pytest.raises(ExpressionError) as caught:
        _core.Pipeline(spec)
    assert [problem.message for problem in caught.value.problems] == [
        problem["message"] for problem in described["problems"]
    ]


def test_a_description_that_cannot_be_read_is_a_problem() -> None:
    assert "cannot read" in _core.describe(b'{"source":')["problems"][0]["message"]
    with pytest.raises(ConfigError, match="cannot read"):
        _core.Pipeline(b'{"source":{},"stepps":[]}')


def test_float_parameters_arrive_to_the_last_digit() -> None:
    number = -3.2628244670573113e-156
    condition = {"text": "x == $number", "parameters": {"number": number}}
    spec = {"source": {"schema": {"x": "float64"}}, "steps": [{"verb": "filter", "condition": condition}]}
    pipeline = _core.Pipeline(json.dumps(spec).encode())
    pipeline.assign([0])
    pipeline.push(_core.Raw.from_records(0, "t", [(json.dumps({"x": number}).encode(), None, None, NOW_MS, 0)]), NOW_MS)
    assert pipeline.ledger()[0]["applied"] == 1


def test_a_raw_batch_is_pushed_once() -> None:
    pipeline = _core.Pipeline(count_spec())
    pipeline.assign([0])
    raw = clicks(1)
    pipeline.push(raw, NOW_MS)
    assert len(raw) == 0
    with pytest.raises(Error, match="pushed already"):
        pipeline.push(raw, NOW_MS)
    with pytest.raises(Error, match="pushed already"):
        raw.add(clicks(2))


def test_a_lane_must_be_assigned() -> None:
    pipeline = _core.Pipeline(count_spec())
    with pytest.raises(Error, match="lane 5 is not assigned"):
        pipeline.push(clicks(1, lane=5), NOW_MS)


def test_state_survives_saving_and_rolling_back() -> None:
    pipeline = _core.Pipeline(count_spec())
    pipeline.assign([0])
    pipeline.push(clicks(1, 2), NOW_MS)
    sealed = pipeline.seal()
    assert (sealed.epoch, pipeline.epoch, pipeline.open_windows) == (1, 1, 1)
    saved = pipeline.save()
    pipeline.committed()
    pipeline.push(clicks(3, offset=2), NOW_MS)
    pipeline.rollback()
    assert pipeline.ledger()[0]["read"] == 2
    assert pipeline.seal().digest == sealed.digest
    other = _core.Pipeline(count_spec())
    other.restore(saved)
    assert (other.epoch, other.seal().digest, other.fingerprint) == (2, sealed.digest, pipeline.fingerprint)
    (batch,) = other.end()
    assert batch.to_rows()[0]["views"] == 2


def test_state_of_another_pipeline_is_refused() -> None:
    pipeline = _core.Pipeline(count_spec())
    pipeline.assign([0])
    pipeline.seal()
    other = _core.Pipeline(count_spec(kind={"type": "tumbling", "size_ms": 1000}))
    with pytest.raises(StateError, match="another pipeline"):
        other.restore(pipeline.save())
    with pytest.raises(StateError):
        other.restore([(0, b"\x00")])


def test_updates_leave_at_the_seal() -> None:
    pipeline = _core.Pipeline(count_spec(emit="updates"))
    pipeline.assign([0])
    pipeline.push(clicks(1, 2), NOW_MS)
    outputs = pipeline.seal().outputs
    assert [row["views"] for batch in outputs for row in batch.to_rows()] == [2]


def test_refused_records_keep_key_and_headers_of_their_message() -> None:
    pipeline = _core.Pipeline(count_spec())
    pipeline.assign([0, 1])
    good, bad = b'{"at":1790000000000,"page":"x"}', b"nonsense"
    intake = _core.Intake({("t", 0): (0, None), ("t", 1): (0, None)}, keys=True, headers=True)
    intake.take([Message(0, good), Message(1, bad), Message(7, bad, partition=1), Message(2, good)])
    batches = pipeline.push(intake.finish()[0], NOW_MS)
    assert [batch.output for batch in batches] == ["rejected", "rejected"]
    for batch, offset in zip(batches, (1, 7), strict=True):
        (row,) = batch.to_rows()
        assert (row["_key"], row["_value"], row["_offset"]) == (b"k", bad, offset)
        assert batch.headers(0) == [("h", b"1"), ("none", None)]


def refused(batches: list[_core.Batch]) -> list[int]:
    return [row["_offset"] for batch in batches for row in batch.to_rows()]


def garbage(offset: int) -> _core.Raw:
    return _core.Raw.from_records(0, "t", [(b"nonsense", None, None, None, offset)])


def test_pushing_behind_gives_the_rows_of_earlier_pushes_in_order() -> None:
    pipeline = _core.Pipeline(count_spec())
    pipeline.assign([0])
    given: list[int] = []
    for offset in range(50):
        batches, taken = pipeline.push_behind(garbage(offset), NOW_MS)
        assert taken
        given += refused(batches)
        assert given == list(range(len(given)))
    given += refused(pipeline.settle())
    assert given == list(range(50))
    assert refused(pipeline.settle()) == []


def test_refused_records_are_counted_push_by_push_whenever_they_are_asked_for() -> None:
    pipeline = _core.Pipeline(count_spec())
    pipeline.assign([0])
    good = b'{"at":1790000000000,"page":"x"}\n'
    expected, found = [], []
    for step in range(40):
        raw = _core.Raw.from_lines(0, "t", good * 50 + b"no JSON\n" * (step % 7), step * 10_000)
        expected.append((50 + step % 7, step % 7))
        if step % 10 == 5:
            pipeline.push(raw, NOW_MS)
        else:
            pipeline.push_behind(raw, NOW_MS)
        found += pipeline.pushed()
        assert found == expected[: len(found)]
    pipeline.settle()
    assert found + pipeline.pushed() == expected
    assert pipeline.pushed() == []


def test_calls_with_rows_wait_for_what_is_pushed_behind() -> None:
    calls: list[Callable[[_core.Pipeline], list[_core.Batch]]] = [
        lambda pipeline: pipeline.push(garbage(9), NOW_MS),
        lambda pipeline: pipeline.advance(NOW_MS, []),
        lambda pipeline: pipeline.end(),
        lambda pipeline: pipeline.seal().outputs,
    ]
    for call in calls:
        pipeline = _core.Pipeline(count_spec())
        pipeline.assign([0])
        given = [row for offset in range(2) for row in refused(pipeline.push_behind(garbage(offset), NOW_MS)[0])]
        given += refused(call(pipeline))
        assert given[:2] == [0, 1]


def test_pushing_behind_comes_to_the_same_state() -> None:
    one, other = _core.Pipeline(count_spec()), _core.Pipeline(count_spec())
    rows = []
    pushes: list[Callable[[_core.Raw, int], list[_core.Batch]]] = [
        one.push,
        lambda raw, now: other.push_behind(raw, now)[0],
    ]
    for pipeline, push in zip((one, other), pushes, strict=True):
        pipeline.assign([0])
        batches = [
            batch
            for step in range(7)
            for batch in push(clicks(*range(step * 25_000, 90_000 + step * 25_000, 10_000)), NOW_MS)
        ]
        batches += pipeline.settle()
        batches += pipeline.end()
        rows.append([row for batch in batches for row in batch.to_rows()])
    assert rows[0] == rows[1]
    assert one.seal().digest == other.seal().digest


def test_a_rollback_drops_what_is_pushed_behind() -> None:
    pipeline = _core.Pipeline(count_spec())
    pipeline.assign([0])
    digest = pipeline.seal().digest
    pipeline.committed()
    for offset in range(3):
        pipeline.push_behind(clicks(offset), NOW_MS)
    assert pipeline.epoch == 2
    pipeline.rollback()
    assert pipeline.settle() == []
    assert pipeline.ledger()[0]["read"] == 0
    assert pipeline.seal().digest == digest


def test_a_failure_behind_is_raised_by_a_later_call_and_gone_after_a_rollback() -> None:
    pipeline = _core.Pipeline(count_spec())
    pipeline.assign([0])
    with pytest.raises(Error, match="lane 5 is not assigned"):  # noqa: PT012 - of either call
        pipeline.push_behind(_core.Raw.from_lines(5, "f", b"{}", 0), NOW_MS)
        pipeline.settle()
    with pytest.raises(Error, match="an earlier push failed"):
        pipeline.push_behind(garbage(0), NOW_MS)
    pipeline.rollback()
    with contextlib.suppress(Error):
        pipeline.push_behind(_core.Raw.from_lines(5, "f", b"{}", 0), NOW_MS)
    pipeline.rollback()
    batches, _ = pipeline.push_behind(garbage(0), NOW_MS)
    assert refused(batches + pipeline.settle()) == [0]


FORK = """
import gc, os, sys
from streamcore import _core

def refused(call):
    try:
        call()
    except Exception as error:
        return "this one was forked from" in str(error)
    return False

path, spec = sys.argv[1:]
pipeline, reader = _core.Pipeline(spec.encode()), _core.FileReader(path, 0, "x")
pipeline.assign([0])
reader.read_ahead(4096, 3)
push = lambda: pipeline.push_behind(_core.Raw.from_lines(0, "t", b"no JSON\\n" * 10_000, 0), 0)
push()
child = os.fork()
if child == 0:
    calls = [push, pipeline.settle, pipeline.ledger, pipeline.rollback, lambda: reader.read(4096)]
    told = [refused(call) for call in calls]
    del pipeline, reader, push, calls
    gc.collect()
    os._exit(0 if all(told) else 1)
_, status = os.waitpid(child, 0)
pipeline.settle()
assert pipeline.ledger()[0]["rejected"] == 10_000
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_forked_process_is_told_that_it_has_no_threads(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"{}\n" * 100_000)
    command = [sys.executable, "-c", FORK, str(path), count_spec().decode()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_two_threads_at_once_are_told() -> None:
    pipeline = _core.Pipeline(count_spec())
    pipeline.assign(range(4))
    lines = b"\n".join(b'{"at":%d,"page":"p%d"}' % (at, at % 1000) for at in range(200_000))
    done = threading.Event()
    failures: list[Exception] = []

    def ask() -> None:
        while not done.is_set():
            try:
                pipeline.ledger()
            except Error as error:
                failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(50):
            other = _core.Raw.from_lines(0, "f", lines, 0)
            try:
                pipeline.push(other, NOW_MS)
            except Error as error:
                failures.append(error)
            if failures:
                break
    finally:
        done.set()
        asking.join()
    assert failures, "one of the two must have been refused"
    assert all("in use by another thread" in str(error) for error in failures)
    assert pipeline.ledger()[0]["read"] >= 0


def views(*pages: str, at: int = 0, offset: int = 0) -> _core.Raw:
    lines = [json.dumps({"at": at, "page": page}).encode() for page in pages]
    return _core.Raw.from_records(0, "views", [(line, b"k", None, NOW_MS, offset + n) for n, line in enumerate(lines)])


def pages_of(batches: list[_core.Batch]) -> list[str]:
    return [row["page"] for batch in batches for row in batch.to_rows()]


def test_rows_leave_in_pieces_and_an_epoch_may_end_between_two() -> None:
    pipeline = _core.Pipeline(count_spec(piece_rows=2))
    pipeline.assign([0])
    assert pipeline.push(views(*"abcde"), NOW_MS) == []
    assert pages_of(pipeline.push(views("f", at=60_000, offset=5), NOW_MS)) == ["a", "b"]
    pipeline.seal()
    pipeline.committed()
    other = _core.Pipeline(count_spec(piece_rows=2))
    other.restore(pipeline.save())
    for each in (pipeline, other):
        batches, under_way, more = each.go_on()
        assert (pages_of(batches), under_way, more) == (["c", "d"], 0, True)
        each.rollback()
        batches, under_way, more = each.go_on()
        assert (pages_of(batches), under_way, more) == (["c", "d"], 0, True)
        batches, _, more = each.go_on()
        assert (pages_of(batches), more) == (["e"], False)
        assert pages_of([*each.end(), *each.settle()]) == ["f"]


def test_an_epoch_cannot_end_in_the_middle_of_the_end_of_the_input() -> None:
    pipeline = _core.Pipeline(count_spec(piece_rows=2))
    pipeline.assign([0])
    pipeline.push(views(*"abc"), NOW_MS)
    assert pages_of(pipeline.end()) == ["a", "b"]
    with pytest.raises(Error, match="rows of the end of the input are still to leave"):
        pipeline.seal()
    assert pages_of(pipeline.settle()) == ["c"]
    pipeline.seal()


def test_pushes_behind_wait_until_the_rows_of_those_before_have_left() -> None:
    pipeline = _core.Pipeline(count_spec(piece_rows=3))
    pipeline.assign([0])
    found: list[str] = []
    names = [f"{number:02}" for number in range(20)]
    for minute in range(40):
        raw, taken = views(*names, at=minute * 60_000, offset=minute * 20), False
        while not taken:
            batches, taken = pipeline.push_behind(raw, NOW_MS)
            found += pages_of(batches)
    more = True
    while more:
        batches, _, more = pipeline.go_on()
        # The last piece of a push, and the first of the next.
        assert len(pages_of(batches)) <= 2 * 3
        found += pages_of(batches)
    found += pages_of([*pipeline.end(), *pipeline.settle()])
    assert found == names * 40
