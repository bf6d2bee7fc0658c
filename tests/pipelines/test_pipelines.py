"""Whole pipelines over small inputs worked out by hand: each runs in one go, cut into polls, stopped and restarted,
and through a chain of crashes, and every time the answer is the one in `expected.jsonl`.

A case is a folder: `pipeline.toml`, `input.jsonl` (rows as in `[[tests]]`) and `expected.jsonl` (rows with the output
they belong to; only the columns given are compared). Of `updates`, the last row of each window counts.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from streamcore import _core, epoch_size, memory_log, runner
from streamcore.assemble import assemble, make_plan
from streamcore.checkpoint import Checkpoint
from streamcore.config import MemorySinkConfig, PipelineConfig, load
from streamcore.errors import SinkError
from streamcore.memory_log import MemoryLog
from streamcore.options import RunOptions
from streamcore.report import Ledger, Report
from streamcore.sinks.base import Sink, Version
from streamcore.sources import memory
from streamcore.sources.iterable import encode_value
from streamcore.testing import ManualClock, record_of

CASES = sorted(path.parent for path in Path(__file__).parent.glob("*/pipeline.toml"))
OUTPUTS = ("result", "late", "future", "rejected")
CRASHES_MAX = 100

Rows = list[dict[str, Any]]


class NoSink:
    """Takes rows and does nothing with them."""

    output = "result"
    flushes = 0

    def open(self) -> None: ...
    def write(self, batch: _core.Batch, version: Version) -> None: ...
    def flush(self) -> None: ...
    def committed(self, epoch: int) -> None: ...
    def discard(self) -> None: ...
    def close(self) -> None: ...


class CrashingSink(NoSink):
    """Lets one epoch through and breaks at the flush of the next, when its rows are written and nothing is durable."""

    def flush(self) -> None:
        self.flushes += 1
        if self.flushes > 1:
            raise SinkError("the power went", retriable=False)


class FlakySink(NoSink):
    """Refuses every other flush."""

    def flush(self) -> None:
        self.flushes += 1
        if self.flushes % 2:
            raise SinkError("busy")


class CaughtUpLog(MemoryLog):
    """Sets `stopping` when a reader finds nothing more to read, instead of waiting."""

    stopping = threading.Event()

    def wait(self, topic: str, known_ends: Sequence[int], timeout_s: float) -> None:
        self.stopping.set()


class Case:
    """A pipeline with its log, kept over restarts."""

    def __init__(self, folder: Path, log: CaughtUpLog, state_dir: Path) -> None:
        sinks = tuple(MemorySinkConfig(topic=output, output=output) for output in OUTPUTS)
        config = load(folder / "pipeline.toml")
        self.config: PipelineConfig = config.model_copy(
            update={"name": "case", "state_dir": str(state_dir), "sinks": sinks}
        )
        self.log = log
        self.rows = read_lines(folder / "input.jsonl")
        self.expected = read_lines(folder / "expected.jsonl")
        self.clock = ManualClock()
        partitions = 1 + max(row.get("_partition", 0) for row in self.rows)
        log.create("input", partitions=partitions)

    def feed(self, rows: Rows) -> None:
        for row in rows:
            record = record_of(row)
            key = record.key.encode() if isinstance(record.key, str) else record.key
            self.log.append("input", encode_value(record.value), key=key, partition=record.partition)

    def run(self, *sinks: Sink, stop: str | None = "end") -> Report:
        """To the end of the input, or, without `stop`, until everything that is there has been read."""
        plan = make_plan(self.config, RunOptions(stop=stop), sinks=sinks)
        self.log.stopping.clear()
        assembled = assemble(plan, clock=self.clock, stopping=self.log.stopping)
        try:
            return assembled.runner.run()
        finally:
            assembled.close()

    def output(self) -> Rows:
        """All rows, with the output they came from; of a window that was updated, the last."""
        found: dict[Any, dict[str, Any]] = {}
        for output in OUTPUTS:
            self.log.partitions(output)
            for entry in self.log.read(output, 0, 0, 10_000):
                assert entry.value is not None
                row = {"output": output, **json.loads(entry.value)}
                found[self.identity(row, entry.offset)] = row
        return list(found.values())

    def identity(self, row: Mapping[str, Any], offset: int) -> Any:
        """What a later row must share with an earlier one to replace it."""
        window = self.config.window
        if row["output"] != "result" or window is None or window.emit == "final":
            return row["output"], offset
        return tuple(row[name] for name in (*window.by, "window_start", "window_end"))

    def lifetime_ledger(self) -> Ledger:
        assert self.config.state_dir is not None
        checkpoint = Checkpoint(Path(self.config.state_dir) / "case")
        saved = checkpoint.read(pipeline="case")
        assert saved is not None
        return Ledger.total(saved.header.ledger)

    def check(self) -> None:
        assert unmatched(self.expected, self.output()) == ([], [])
        ledger = self.lifetime_ledger()
        assert ledger.read == len(self.rows)
        counted = {name: sum(row["output"] == name for row in self.expected) for name in ("late", "rejected")}
        assert {name: getattr(ledger, name) for name in counted} == counted


def read_lines(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text().splitlines()]


def unmatched(expected: Rows, rows: Rows) -> tuple[Rows, Rows]:
    """Expected rows that are missing, and rows that are too much."""
    left = list(rows)
    missing = []
    for wanted in expected:
        match = next((row for row in left if {name: row.get(name, ...) for name in wanted} == wanted), None)
        if match is None:
            missing.append(wanted)
        else:
            left.remove(match)
    return missing, left


@pytest.fixture(params=CASES, ids=lambda folder: folder.name)
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    log = CaughtUpLog()
    monkeypatch.setattr(memory_log, "default_log", log)
    return Case(request.param, log, tmp_path)


def test_in_one_go(case: Case) -> None:
    case.feed(case.rows)
    assert case.run().state == "ended"
    case.check()


@pytest.mark.parametrize("records", [1, 7, 1_000])
def test_cut_into_polls(case: Case, records: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "POLL_RECORDS_MAX", records)
    case.feed(case.rows)
    case.run()
    case.check()


@pytest.mark.parametrize("records", [1, 1_000])
def test_a_commit_after_every_poll(case: Case, records: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "POLL_RECORDS_MAX", records)
    monkeypatch.setattr(epoch_size, "EPOCH_RECORDS_MAX", 1)
    case.feed(case.rows)
    case.run()
    case.check()


@pytest.mark.parametrize("records", [1, 3])
def test_pushed_behind(case: Case, records: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "POLL_RECORDS_MAX", records)
    monkeypatch.setattr(runner, "PUSH_BEHIND_RECORDS_MIN", 1)
    monkeypatch.setattr(epoch_size, "EPOCH_RECORDS_MAX", 4)
    case.feed(case.rows)
    case.run()
    case.check()


@pytest.mark.parametrize("parts", [2, 3, 100])
def test_stopped_and_restarted(case: Case, parts: int) -> None:
    size = max(1, len(case.rows) // parts)
    for first in range(0, len(case.rows), size):
        case.feed(case.rows[first : first + size])
        assert case.run(stop=None).state == "stopped"
    case.run()
    case.check()


@pytest.mark.parametrize("records", [1, 3])
def test_through_a_chain_of_crashes(case: Case, records: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "POLL_RECORDS_MAX", records)
    monkeypatch.setattr(epoch_size, "EPOCH_RECORDS_MAX", 1)
    case.feed(case.rows)
    for _ in range(CRASHES_MAX):
        try:
            case.run(CrashingSink())
        except SinkError:
            continue
        break
    else:
        pytest.fail("every run must get one epoch further")
    case.check()


def test_through_failures_that_pass(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "POLL_RECORDS_MAX", 2)
    monkeypatch.setattr(epoch_size, "EPOCH_RECORDS_MAX", 1)
    case.feed(case.rows)
    assert case.run(FlakySink()).retries > 0
    case.check()


def test_an_ended_input_gives_nothing_twice(case: Case) -> None:
    case.feed(case.rows)
    case.run()
    rows = case.output()
    assert case.run().state == "ended"
    assert case.output() == rows
    case.check()
