"""`--stop end` by several workers of one group: together they write the rows that one would, each once.

Partitions each by themselves: windows by the record key, and joins. A worker that reads on takes over partitions whose end
another has given already. Kills are in `tests/faults/test_stop_end.py`.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

import streamcore as sc
from streamcore.run import Run
from streamcore.runner import Runner
from streamcore.transactions import Transactions
from tests.integration.kafka_tools import TIMEOUT_S, connection, create_topic, read_topic
from tests.servers.kafka import KafkaServer

LANES = 4
KEYS = 24
STEP_MS = 50
SIZE_MS = 10_000
SLOW_RECORDS, SLOW_S = 40, 0.25
"""A slow worker takes so many records at once, and so long for them."""

Rows = Counter[tuple[Any, ...]]


class Input:
    """Two topics, and pipelines that read one or both, each with topics and state of its own."""

    def __init__(self, server: KafkaServer, name: str, folder: Path) -> None:
        self.server, self.name, self.folder = server, name, folder
        self.sent: dict[str, list[dict[str, Any]]] = {"left": [], "right": []}
        for side in self.sent:
            create_topic(server, f"{name}-{side}", LANES)

    def send(self, side: str, numbers: range, *, keys: range = range(KEYS)) -> None:
        """A record a number; the right side has no partner for every third of the left one."""
        producer = Producer(
            {"bootstrap.servers": self.server.bootstrap_servers, "enable.idempotence": True, "linger.ms": 5}
        )
        for number in numbers:
            key = keys[number % len(keys)]
            if side == "right" and number % 3 == 0:
                continue
            row = {"t": number * STEP_MS, "k": f"k{key}", "v": number}
            producer.produce(f"{self.name}-{side}", key=row["k"], value=json.dumps(row), partition=key % LANES)
            producer.poll(0)
            self.sent[side].append(row)
        assert producer.flush(TIMEOUT_S) == 0

    def source(self, side: str, *, slow: bool, keyed_by: str | None = "k") -> sc.Pipeline:
        settings: dict[str, Any] = {"poll_records_max": SLOW_RECORDS} if slow else {}
        return sc.kafka(
            f"{self.name}-{side}",
            connection=connection(self.server, session_timeout="6s"),
            event_time="t",
            event_time_unit="ms",
            out_of_orderness="0s",
            idle_timeout="30s",
            schema={"k": "string", "v": "int64"},
            keyed_by=keyed_by,
            **settings,
        )

    def start(self, what: str, run: str, worker: str, *, slow: bool = False) -> Run:
        left = self.source("left", slow=slow, keyed_by=None if what == "windows that meet" else "k")
        if what != "joins":
            flow = left.window(sc.tumbling("10s"), by="k").agg(n=sc.count(), s="sum(v)")
        else:
            right = self.source("right", slow=slow)
            flow = left.join(right, on="k", how="left", within="20ms", name="right").select(
                k="k", v="v", v_right="v_right"
            )
        combine = "topic" if what == "windows that meet" else "none"
        settings = {"delivery": "exactly_once", "commit_interval": "100ms", "combine": combine}
        flow = flow.sink_kafka(f"{self.name}-{run}-out", mode="append").configure(
            name=f"{self.name}-{run}", state_dir=str(self.folder / run / worker), **settings
        )
        return flow.start(instance_id=worker, stop="end")

    def run(self, what: str, run: str, *, workers: int = 1, **slow: bool) -> list[Any]:
        """Lets so many workers, all at once, read to the end; gives their reports."""
        with ExitStack() as stack:
            started = [stack.enter_context(self.start(what, run, f"w{number}", **slow)) for number in range(workers)]
            return [each.wait(120) for each in started]

    def rows(self, what: str, run: str) -> Rows:
        found = (json.loads(message.value()) for message in read_topic(self.server, f"{self.name}-{run}-out"))
        if what == "joins":
            return Counter((row["k"], row["v"], row["v_right"]) for row in found)
        return Counter((row["k"], row["window_start"][11:19], row["n"], row["s"], row["revision"]) for row in found)

    def expected(self, what: str) -> Rows:
        """Of all that was sent, as if it came at once, in plain Python."""
        if what == "joins":
            right = {(row["k"], row["t"]): row["v"] for row in self.sent["right"]}
            return Counter((row["k"], row["v"], right.get((row["k"], row["t"]))) for row in self.sent["left"])
        windows: dict[tuple[str, int], list[int]] = {}
        for row in self.sent["left"]:
            windows.setdefault((row["k"], row["t"] // SIZE_MS), []).append(row["v"])
        return Counter((key, _time(at), len(values), sum(values), 0) for (key, at), values in windows.items())


@pytest.fixture
def data(kafka_server: KafkaServer, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Input:
    """Its slow workers are."""
    poll = Runner._poll

    def slowly(runner: Runner) -> Any:
        first = getattr(runner._source, "_topics", [runner._source])[0]
        if first._source.poll_records_max == SLOW_RECORDS:
            time.sleep(SLOW_S)
        return poll(runner)

    monkeypatch.setattr(Runner, "_poll", slowly)
    data = Input(kafka_server, unique, tmp_path)
    data.send("left", range(4_000))
    # It ends before the left side does.
    data.send("right", range(3_900))
    return data


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("what", ["windows", "joins"])
def test_so_many_workers_give_the_rows_of_one(data: Input, what: str, workers: int) -> None:
    reports = data.run(what, "run", workers=workers)
    assert [report.state for report in reports] == ["ended"] * workers
    assert data.rows(what, "run") == data.expected(what)


@pytest.mark.parametrize("what", ["windows", "joins", "windows that meet"])
def test_an_end_whose_commit_is_in_doubt_is_given_once(data: Input, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that takes over two seconds is looked up, and is found to be one."""
    commit = Transactions.commit

    def slowly(transactions: Transactions, timeout_s: float) -> bool:
        lost = commit(transactions, timeout_s)
        time.sleep(2.1)
        return lost

    monkeypatch.setattr(Transactions, "commit", slowly)
    (report,) = data.run(what, "run")
    assert report.state == "ended"
    assert data.rows(what, "run") == data.expected(what)


@pytest.mark.parametrize("what", ["windows", "joins"])
def test_who_reads_on_takes_over_what_has_ended_and_does_not_give_it_again(data: Input, what: str) -> None:
    """The one that starts late ends first."""
    with ExitStack() as stack:
        slow = stack.enter_context(data.start(what, "run", "slow", slow=True))
        _until(lambda: slow.report.ledger.read > 0)
        quick = stack.enter_context(data.start(what, "run", "quick"))
        first = quick.wait(60)
        assert first.ledger.read > 0, "it had no partitions"
        ended_s = time.monotonic()
        last = slow.wait(120)
    assert (first.state, last.state) == ("ended", "ended")
    assert time.monotonic() - ended_s > 4, "the slow one was not slow"
    assert data.rows(what, "run") == data.expected(what)


@pytest.mark.parametrize("what", ["windows", "joins"])
def test_a_partition_that_goes_on_gives_its_last_rows_again_whoever_reads_it(data: Input, what: str) -> None:
    before = data.expected(what)
    runs = {"one": 1, "two": 2}
    for run, workers in runs.items():
        data.run(what, run, workers=workers)
    # Only keys of partition 1 go on.
    data.send("left", range(4_000, 4_001), keys=range(1, 2))
    for run, workers in runs.items():
        data.run(what, run, workers=workers)
        # Nothing is new: no row.
        data.run(what, run, workers=workers)
    one, two = (data.rows(what, run) for run in runs)
    assert one == two
    assert before - one == Counter()
    again = one - before
    assert again.total() > 0
    assert {int(row[0][1:]) % LANES for row in again} == {1}


def _time(window: int) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(window * SIZE_MS / 1000))


def _until(done: Any, *, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.05)
