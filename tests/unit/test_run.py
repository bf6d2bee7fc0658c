from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import streamcore as sc
from streamcore import _core
from streamcore.errors import (
    ConfigError,
    ErrorRateError,
    FencedError,
    LateRowsWarning,
    RefusedRecordsWarning,
    SinkError,
    StateError,
)
from streamcore.memory_log import default_log
from streamcore.run import Run, start
from streamcore.sinks.base import Version
from tests.fakes import FakeSink

TYPES = {"page": "string"}


def event(second: int, page: str = "home") -> dict[str, object]:
    return {"page": page, "at": f"2026-01-01T00:{second // 60:02d}:{second % 60:02d}Z"}


def counted(source: sc.Pipeline) -> sc.Pipeline:
    return source.window(sc.tumbling("1m"), by="page").agg(views=sc.count())


def bounded(*seconds: int, **keys: Any) -> sc.Pipeline:
    return counted(sc.records([event(second) for second in seconds], event_time="at", schema=TYPES, **keys))


@pytest.fixture
def topic(unique: str) -> Iterator[str]:
    default_log.create(unique, partitions=1)
    yield unique
    default_log.delete(unique)


def append(topic: str, *seconds: int) -> None:
    for second in seconds:
        default_log.append(topic, json.dumps(event(second)).encode())


def views_of(topic: str) -> sc.Pipeline:
    return counted(sc.memory(topic, event_time="at", schema=TYPES, out_of_orderness="0s"))


def test_collect_gives_all_rows_of_a_bounded_input() -> None:
    table = bounded(1, 2, 61).collect()
    assert [(row["window_start"].minute, row["views"]) for row in table] == [(0, 2), (1, 1)]


def test_collect_of_nothing_has_the_columns() -> None:
    table = bounded().collect()
    assert pl.DataFrame(table).columns == ["page", "window_start", "window_end", "views", "revision", "is_final"]


def test_collect_warns_of_rows_that_came_too_late() -> None:
    with pytest.warns(LateRowsWarning, match="1 records came after their window had closed"):
        table = bounded(1, 200, 2, out_of_orderness="0s").collect()
    assert len(table) == 2


def test_collect_warns_of_records_that_could_not_be_used() -> None:
    pipeline = sc.records([{"at": 1, "page": "a"}, {"at": 2, "page": "b"}], event_time="moment")
    with pytest.warns(RefusedRecordsWarning, match=r"2 of 2 records .* MISSING_FIELD at offset 0 .*moment"):
        table = pipeline.window(sc.tumbling("1m"), by="page").agg(views=sc.count()).collect()
    assert len(table) == 0


@pytest.mark.parametrize("pipeline", [sc.generate(rate=5), sc.memory("t"), sc.kafka("t")])
def test_collect_needs_an_end(pipeline: sc.Pipeline) -> None:
    with pytest.raises(ConfigError, match="needs an input that ends"):
        pipeline.collect()


def test_collect_infers_types_and_leaves_sinks_alone(tmp_path: Path) -> None:
    records = [{"n": 1, "at": "2026-01-01T00:00:00Z"}, {"n": 2, "at": "2026-01-01T00:00:01Z"}]
    pipeline = sc.records(records, event_time="at").window(sc.tumbling("1m"), by="n").agg(total="sum(n)")
    table = pipeline.sink_parquet(tmp_path / "out").collect()
    assert pl.DataFrame(table)["total"].to_list() == [1, 2]
    assert not (tmp_path / "out").exists()


def test_lanes_of_an_iterator_may_come_with_the_sample() -> None:
    records = (sc.Record(event(number), partition=number) for number in range(3))
    table = counted(sc.records(records, event_time="at")).collect()
    assert [row["views"] for row in table] == [3]


def test_a_run_tells_what_it_inferred() -> None:
    pipeline = sc.records([event(1)], event_time="at").window(sc.tumbling("1m"), by="page").agg(views=sc.count())
    with pipeline.start() as run:
        assert '"page" = "string"' in "\n".join(run.notes)
        assert run.wait().rows == {"result": 1}


def test_batches_are_streamed_to_the_end() -> None:
    with bounded(1, 61).start() as run:
        batches = list(run.stream())
    assert [batch.output for batch in batches] == ["result"]
    assert pl.DataFrame(batches[0])["views"].to_list() == [1, 1]
    assert run.report.state == "ended"
    assert run.finished


def test_a_start_that_is_stopped_at_once_does_not_write_final_rows_again(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(event(second)) + "\n" for second in (1, 2, 61)))
    views = counted(sc.files(tmp_path / "in.jsonl", event_time="at", schema=TYPES)).sink_parquet(tmp_path / "out")
    named = views.configure(name="job", state_dir=str(tmp_path / "state"))
    assert named.run().rows == {"result": 2}
    assert named.run(for_="0s").state == "stopped"
    assert named.run().rows == {}
    assert pl.read_parquet(tmp_path / "out" / "*.parquet").height == 2


def test_other_outputs_are_streamed_too() -> None:
    with bounded(1, 200, 2, out_of_orderness="0s").start() as run:
        outputs = {batch.output: batch.num_rows for batch in run.stream(outputs=("late",))}
    assert outputs == {"late": 1}


def test_an_unknown_output_is_refused() -> None:
    with bounded().start() as run, pytest.raises(ConfigError, match="there is no output lates"):
        run.stream(outputs=("lates",))


def test_asyncio_gets_the_same_batches() -> None:
    async def take() -> list[int]:
        with bounded(1, 61).start() as run:
            return [batch.num_rows async for batch in run.astream()]

    assert asyncio.run(take()) == [2]


def test_a_cancelled_asyncio_task_leaves_the_run(topic: str) -> None:
    async def cancel() -> str:
        with views_of(topic).start() as run:
            task = asyncio.ensure_future(anext(run.astream()))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            run.stop()
        return run.report.state

    assert asyncio.run(cancel()) == "stopped"


def test_a_named_run_hands_out_again_what_was_not_followed_up(topic: str, tmp_path: Path) -> None:
    pipeline = views_of(topic).configure(state_dir=str(tmp_path))
    append(topic, 1, 61, 121)

    def take(batches: int) -> list[list[int]]:
        taken = []
        run = pipeline.start(name="job", stop="end") if batches > 1 else pipeline.start(name="job")
        with run:
            for batch in run.stream():
                taken.append(batch.to_polars()["views"].to_list())
                if len(taken) == batches:
                    break
        return taken

    assert take(1) == [[1, 1]]
    append(topic, 122)
    assert sum(sum(counts) for counts in take(100)) == 4
    assert take(100) == []


def test_a_checkpoint_that_waits_for_its_own_caller_is_refused(topic: str, tmp_path: Path) -> None:
    append(topic, 1, 61, 121)
    with views_of(topic).configure(state_dir=str(tmp_path)).start(name="job") as run:
        stream = run.stream()
        next(stream)
        with pytest.raises(StateError, match="counts as delivered when the next one is asked for"):
            run.checkpoint()
        stream.close()
        with pytest.raises(StateError, match="counts as delivered"):
            run.checkpoint()


def test_a_checkpoint_inside_an_asyncio_loop_is_refused(topic: str, tmp_path: Path) -> None:
    async def take() -> None:
        with views_of(topic).configure(state_dir=str(tmp_path)).start(name="job") as run:
            async for _ in run.astream():
                run.checkpoint()

    append(topic, 1, 61, 121)
    with pytest.raises(StateError, match="counts as delivered"):
        asyncio.run(take())


def test_another_thread_may_ask_for_a_checkpoint_while_rows_are_taken(topic: str, tmp_path: Path) -> None:
    append(topic, 1, 61, 121)
    with views_of(topic).configure(state_dir=str(tmp_path)).start(name="job", commit_interval="1h") as run:
        stream = run.stream()
        next(stream)
        names: list[str | None] = []
        asking = threading.Thread(target=lambda: names.append(run.checkpoint().name))
        asking.start()
        threading.Thread(target=lambda: list(stream), daemon=True).start()
        asking.join(60)
        assert names == ["job"]


def test_without_a_name_a_checkpoint_waits_for_no_row(topic: str) -> None:
    append(topic, 1, 61, 121)
    with views_of(topic).start() as run:
        next(run.stream())
        assert run.checkpoint().name is None


def test_the_newest_rows_can_be_asked_for(topic: str) -> None:
    append(topic, 1, 2, 61)
    with views_of(topic).start() as run:
        assert run.query().columns == ["page", "window_start", "window_end", "views", "revision", "is_final"]
        report = run.checkpoint()
        while report.ledger.read < 3:
            report = run.checkpoint()
        assert run.query({"page": "home"})["views"].to_list() == [2]
        with pytest.raises(ConfigError, match="no column pag"):
            run.query({"pag": "home"})
        assert "3 records read" in repr(run)
        assert "<td>ephemeral</td>" in run._repr_html_()


def test_a_query_needs_a_window() -> None:
    with sc.records([]).start() as run, pytest.raises(ConfigError, match="needs a pipeline with a window"):
        run.query()


def test_a_run_without_sinks_misses_nothing_before_the_first_stream() -> None:
    with bounded(1, 61).start() as run:
        assert not run.finished
        assert sum(batch.num_rows for batch in run.stream()) == 2


def test_a_failing_sink_fails_the_run_and_whoever_waits() -> None:
    sink = FakeSink([], failures=[SinkError("no disk", retriable=False)])
    run = bounded(1).sink(sink).start()
    with pytest.raises(SinkError, match="no disk"):
        run.wait()
    with pytest.raises(SinkError, match="no disk"):
        list(run.stream())
    with pytest.raises(SinkError, match="no disk"):
        run.checkpoint()
    run.close()
    assert run.report.state == "failed"
    assert "sink close" in sink.log


def test_too_many_refusals_are_explained(tmp_path: Path) -> None:
    lines = [json.dumps(event(second % 60)) + "\n" for second in range(200)]
    (tmp_path / "in.jsonl").write_text("".join(lines))
    letters = {"path": str(tmp_path / "bad.jsonl"), "error_rate_window": 100}
    pipeline = counted(sc.files(tmp_path / "in.jsonl", event_time="att", schema=TYPES)).sink_parquet(tmp_path / "out")
    run = pipeline.configure(dead_letters=letters, state_dir=str(tmp_path / "state")).start(name="job")
    with pytest.raises(ErrorRateError, match=r"(?s)DLQ_STORM.*\nthe first: MISSING_FIELD at offset 0 .*att.*bad.jsonl"):
        run.wait()
    assert (run.report.state, run.report.ledger.read, run.report.ledger.rejected) == ("failed", 200, 200)
    assert run.report.first_refusal is not None
    first = json.loads((tmp_path / "bad.jsonl").read_text().splitlines()[0])
    assert (first["reason"], first["value"]) == ("MISSING_FIELD", lines[0].strip())


def test_what_cannot_be_opened_fails_the_start() -> None:
    class Unreachable(FakeSink):
        def open(self) -> None:
            raise SinkError("nobody answers", retriable=False)

    log: list[str] = []
    with pytest.raises(SinkError, match="nobody answers"):
        bounded(1).sink(FakeSink(log)).sink(Unreachable(log)).start()
    assert log == ["sink open", "sink close", "sink close"]


def test_even_a_panic_reaches_the_caller() -> None:
    class Panic(BaseException):
        pass

    class Panicking(FakeSink):
        def write(self, batch: _core.Batch, version: Version) -> None:
            raise Panic

    with pytest.raises(Panic):
        bounded(1).sink(Panicking([])).run()


def test_an_error_in_the_with_block_wins(topic: str) -> None:
    runs: list[Run] = []

    def fail_inside() -> None:
        with views_of(topic).start() as run:
            runs.append(run)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert runs[0].finished


def test_a_wait_may_be_limited(topic: str) -> None:
    with views_of(topic).start() as run:
        with pytest.raises(TimeoutError, match="still going on"):
            run.wait(timeout_s=0)
        run.stop()
        assert run.wait(timeout_s=60).state == "stopped"


def test_one_run_of_a_name_at_a_time(topic: str, tmp_path: Path) -> None:
    pipeline = views_of(topic).configure(name="job", state_dir=str(tmp_path))
    with pipeline.start(), pytest.raises(FencedError, match="is running this pipeline"):
        pipeline.start()
    with pipeline.start():
        pass


def test_a_start_beside_a_checkpoint_is_refused(topic: str, tmp_path: Path) -> None:
    pipeline = views_of(topic).configure(name="job", state_dir=str(tmp_path))
    pipeline.run(stop="end")
    with pytest.raises(StateError, match="so start = 'earliest' cannot hold"):
        pipeline.start(start="earliest")


def test_a_changed_pipeline_does_not_take_the_old_state(topic: str, tmp_path: Path) -> None:
    first = views_of(topic).configure(name="job", state_dir=str(tmp_path))
    first.run(stop="end")
    changed = sc.memory(topic, event_time="at", schema=TYPES).window(sc.tumbling("2m"), by="page").agg(views=sc.count())
    with pytest.raises(
        StateError, match=r"in \S+job was made by another version .*; undo the change, or give .* move \S+job away"
    ) as told:
        changed.configure(name="job", state_dir=str(tmp_path)).start()
    assert "its source, schema or steps have changed" in str(told.value)


def test_rows_of_a_run_whose_state_is_gone_are_not_mixed_with_new_ones(topic: str, tmp_path: Path) -> None:
    state, out = tmp_path / "state", tmp_path / "out"
    pipeline = views_of(topic).sink_parquet(out).configure(name="job", state_dir=str(state))
    append(topic, 1)
    pipeline.run(stop="end")
    files = sorted(path.name for path in out.iterdir())
    assert len(files) == 1
    pipeline.run(stop="end")  # goes on where it was
    (state / "job").rename(tmp_path / "away")
    with pytest.raises(
        StateError, match=r"out holds 1 file of an earlier run of job .*; move or empty the folder"
    ) as told:
        pipeline.run(stop="end")
    assert files[0] in str(told.value)
    assert sorted(path.name for path in out.iterdir()) == files
    pipeline.configure(name="other").run(stop="end")  # its files have other names
    with views_of(topic).sink_parquet(out).start(stop="end") as run:
        assert [note for note in run.notes if "the rows of this run go beside theirs" in note]
    out.rename(tmp_path / "old")
    pipeline.run(stop="end")
    assert len(list(out.iterdir())) == 1


def test_an_older_state_is_not_gone_on_from_beside_files_of_later_epochs(topic: str, tmp_path: Path) -> None:
    state, out = tmp_path / "state", tmp_path / "out"
    pipeline = views_of(topic).sink_parquet(out).configure(name="job", state_dir=str(state))
    append(topic, 1)
    pipeline.run(stop="end")
    backup = (state / "job" / "checkpoint").read_bytes()
    before = {path.name for path in out.iterdir()}
    append(topic, 200)
    pipeline.run(stop="end")
    newest = (state / "job" / "checkpoint").read_bytes()
    [later] = {path.name for path in out.iterdir()} - before
    (state / "job" / "checkpoint").write_bytes(backup)
    with pytest.raises(
        StateError, match=rf"out holds 1 file of job \(the first is {later}\) that came after the state"
    ):
        pipeline.run(stop="end")
    (state / "job" / "checkpoint").write_bytes(newest)
    pipeline.run(stop="end")
    assert {path.name for path in out.iterdir()} == {*before, later}
    (state / "job" / "checkpoint").write_bytes(backup)
    (out / later).rename(tmp_path / later)
    pipeline.run(stop="end")  # its rows come again, and only once
    assert len(list(out.iterdir())) == 2


def test_a_crash_before_files_have_their_names_is_gone_on_from(topic: str, tmp_path: Path) -> None:
    state, out = tmp_path / "state", tmp_path / "out"
    pipeline = views_of(topic).sink_parquet(out).configure(name="job", state_dir=str(state))
    append(topic, 1)
    pipeline.run(stop="end")
    [listed] = out.iterdir()
    unpublished = listed.with_name(f".{listed.name}.unfinished")
    listed.rename(unpublished)
    of_no_epoch = out / re.sub(r"-e\d+", "-e000000000000999", unpublished.name)
    of_no_epoch.write_bytes(b"")
    pipeline.run(stop="end")
    assert list(out.iterdir()) == [listed]


def test_options_are_checked_before_any_state_is_touched(topic: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"for: .*3x"):
        views_of(topic).configure(name="job", state_dir=str(tmp_path)).start(for_="3x")
    assert list(tmp_path.iterdir()) == []


def test_late_rows_of_a_named_run_are_counted_over_its_runs(topic: str, tmp_path: Path) -> None:
    pipeline = views_of(topic).configure(name="job", state_dir=str(tmp_path))
    append(topic, 200, 1)
    with pipeline.start() as run:
        while run.checkpoint().ledger.read < 2:
            continue
    append(topic, 2)
    report = pipeline.run(stop="end")
    assert (report.ledger.read, report.ledger.late) == (1, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_use_after_a_fork_is_refused(topic: str) -> None:
    with views_of(topic).start() as run:
        run._process += 1  # as a child would see it
        for use in (run.stream, run.query, run.wait, run.checkpoint):
            with pytest.raises(StateError, match="belongs to the process that started it"):
                use()
        run._process -= 1


def test_closing_after_a_fork_does_not_wait_for_a_thread_that_is_not_there(topic: str) -> None:
    with views_of(topic).start() as run:
        run._process += 1  # as a child would see it
        run.close()
        assert not run._stopping.is_set()
        run._process -= 1


def test_observers_hear_from_the_run() -> None:
    heard: list[str] = []
    run = start(bounded(1), observers=[lambda report: heard.append(report.state)], viewers=[FakeSink([])])
    run.wait()
    assert heard[0] == "running"


def test_nothing_is_left_behind() -> None:
    before = threading.active_count()
    with bounded(1).start() as run:
        run.wait()
    run._thread.join()
    assert threading.active_count() == before


PROGRAM = """
import signal
import streamcore as sc
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background hands down that it is ignored
run = sc.generate(rate=100, event_time="timestamp").window(sc.tumbling("1m")).agg(views="count()").start()
print("started", flush=True)
run.wait()
"""


def test_ctrl_c_ends_a_wait_and_the_process() -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert errors.rstrip().endswith(b"KeyboardInterrupt")


def test_a_client_that_a_sink_needs_is_missed_before_anything_is_opened(
    monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("something was opened")

    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.setattr("streamcore.run.assemble", opened)
    pipeline = views_of(topic).sink_redis("{page}")
    with pytest.raises(ConfigError, match="a Redis sink needs the Redis client"):
        start(pipeline)
