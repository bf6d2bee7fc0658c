"""`combine = "topic"` on a real broker: clicks keyed by user and counted by page, by one worker and by several.

Held against `combine = "local"`, which merges in one process, and against plain Python. Crashes are in `tests/faults`.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from confluent_kafka import Producer

import streamcore as sc
from streamcore.config import KafkaSourceConfig
from streamcore.errors import StateError
from streamcore.run import Run
from streamcore.sources.base import Start
from streamcore.sources.kafka_partials import PartialsSource
from tests.integration.kafka_tools import TIMEOUT_S, committed_offsets, connection, create_topic, produce, read_topic
from tests.servers.kafka import KafkaServer

LANES = 4
SIZE_MS = 10_000
BOUND_MS = 500

Row = tuple[Any, ...]


class Clicks:
    """A topic of clicks and pipelines that read it, each with topics and state of its own."""

    def __init__(self, server: KafkaServer, name: str, folder: Path) -> None:
        self.server, self.name, self.folder = server, name, folder
        self.sent: list[dict[str, Any]] = []
        create_topic(server, f"{name}-in", LANES)

    def send(self, seed: int, seconds: range, *, users: int = 30, pages: int = 12, late: int = 0) -> None:
        """Some clicks in each second, out of order within the bound; `late` of them a minute too late."""
        chance = random.Random(seed)
        producer = Producer(
            {"bootstrap.servers": self.server.bootstrap_servers, "enable.idempotence": True, "linger.ms": 5}
        )
        rows: list[dict[str, Any]] = []
        for second in seconds:
            for number in range(10):
                user = chance.randrange(users)
                at = second * 1_000 + number * 100 + chance.randrange(BOUND_MS - 100)
                page = None if chance.random() < 0.02 else f"p{chance.randrange(pages)}"
                rows.append({"t": at, "u": f"u{user}", "p": page, "v": chance.randint(-99, 99), "f": chance.random()})
        for number in range(late):
            row = chance.choice(rows)
            rows.append({**row, "t": max(0, row["t"] - 60_000), "v": 1_000_000 + number})
        for row in rows:
            value = json.dumps(row).encode()
            producer.produce(f"{self.name}-in", key=row["u"].encode(), value=value, partition=int(row["u"][1:]) % LANES)
        assert producer.flush(TIMEOUT_S) == 0
        self.sent += rows

    def flow(self, run: str, *, combine: str, window: Any = None, idle: str = "1h", **settings: Any) -> sc.Pipeline:
        source = sc.kafka(
            f"{self.name}-in",
            connection=connection(self.server, session_timeout="6s"),
            event_time="t",
            event_time_unit="ms",
            out_of_orderness=f"{BOUND_MS}ms",
            idle_timeout=idle,
            schema={"u": "string", "p": "string", "v": "int64", "f": "float64"},
            keyed_by="u",
        )
        counted = source.filter("v != 13").window(window or sc.tumbling("10s"), by="p")
        flow = counted.agg(n=sc.count(), s="sum(v)", m="mean(f)", users=sc.count_distinct("u"))
        flow = flow.sink_kafka(f"{self.name}-{run}-out", mode="append").sink_kafka(
            f"{self.name}-{run}-late", output="late"
        )
        kept = {"delivery": "exactly_once", "commit_interval": "100ms", "combine": combine}
        return flow.configure(name=f"{self.name}-{run}", **{**kept, **settings})

    def start(self, run: str, worker: str, *, combine: str = "auto", stop: str | None = "end", **more: Any) -> Run:
        options: dict[str, Any] = {"stop": stop} if stop else {}
        flow = self.flow(run, combine=combine, state_dir=str(self.folder / run / worker), **more)
        return flow.start(instance_id=worker, **options)

    def run(self, run: str, *, workers: int = 1, combine: str = "auto", **more: Any) -> list[Any]:
        """Lets so many workers read to the end; gives their reports."""
        with ExitStack() as stack:
            runs = [
                stack.enter_context(self.start(run, f"w{number}", combine=combine, **more)) for number in range(workers)
            ]
            return [each.wait(120) for each in runs]

    def committed(self, run: str) -> int:
        """How many clicks are, whoever read them."""
        return sum(committed_offsets(self.server, f"{self.name}-{run}", f"{self.name}-in", LANES).values())

    def rows(self, run: str) -> list[Row]:
        """All rows, in order of key and window."""
        found = [json.loads(message.value()) for message in read_topic(self.server, f"{self.name}-{run}-out")]
        return sorted(map(_row, found), key=str)

    def final(self, run: str) -> dict[Row, Row]:
        """The last row of each key and window, by revision."""
        found: dict[Row, Row] = {}
        for row in sorted(self.rows(run), key=lambda row: row[-1]):
            found[row[:3]] = row[3:-1]
        return found

    def late(self, run: str) -> Counter[int]:
        return Counter(
            json.loads(message.value())["v"] for message in read_topic(self.server, f"{self.name}-{run}-late")
        )

    def expected(self) -> dict[tuple[str | None, int], tuple[int, int, int]]:
        """By page and window: clicks, the sum, users; in plain Python, of clicks none of which is late."""
        found: dict[tuple[str | None, int], list[dict[str, Any]]] = {}
        for row in self.sent:
            if row["v"] != 13:
                found.setdefault((row["p"], row["t"] // SIZE_MS * SIZE_MS), []).append(row)
        return {
            window: (len(rows), sum(row["v"] for row in rows), len({row["u"] for row in rows}))
            for window, rows in found.items()
        }

    def counted(self, run: str) -> dict[tuple[str | None, int], tuple[int, int, int]]:
        """The same as `expected`, of the last rows that were written."""
        return {(row[0], _ms(row[1])): (values[0], values[1], values[3]) for row, values in self.final(run).items()}


def _row(row: dict[str, Any]) -> Row:
    return tuple(row[name] for name in ("p", "window_start", "window_end", "n", "s", "m", "users", "revision"))


def _ms(text: str) -> int:
    from datetime import datetime

    return round(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.fixture
def clicks(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Clicks:
    return Clicks(kafka_server, unique, tmp_path)


def test_one_worker_gives_what_one_process_gives_and_what_is_right(clicks: Clicks) -> None:
    clicks.send(1, range(95))
    (through,) = clicks.run("topic")
    (here,) = clicks.run("local", combine="local")
    assert clicks.rows("topic") == clicks.rows("local")
    assert clicks.counted("topic") == clicks.expected()
    assert (through.state, here.state) == ("ended", "ended")
    assert through.ledger == here.ledger
    assert through.rows == here.rows
    applied = through.ledger.applied
    assert through.lanes[-1]["merged"] == applied > 800
    assert through.watermark_ms == here.watermark_ms
    # The last window is kept for what may come, in each partition of partials.
    assert (through.open_windows, here.open_windows) == (LANES, 1)


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_so_many_workers_give_the_windows_of_one(clicks: Clicks, workers: int) -> None:
    clicks.send(workers, range(150), pages=40)
    reports = clicks.run("many", workers=workers)
    clicks.run("one")
    assert clicks.rows("many") == clicks.rows("one")
    assert clicks.counted("many") == clicks.expected()
    # What a worker has counted of a partition goes with it when another gets it.
    assert 0 < sum(report.ledger.read for report in reports) <= len(clicks.sent)


def test_a_worker_that_leaves_hands_over_and_the_other_goes_on(clicks: Clicks) -> None:
    clicks.send(1, range(40))
    with clicks.start("two", "w0", stop=None) as first, clicks.start("two", "w1", stop=None) as second:
        _until(lambda: clicks.committed("two") == 400)
        begun_s = time.monotonic()
        first.stop()
        first.wait(30)
        handed_over_s = time.monotonic() - begun_s
        clicks.send(2, range(40, 80))
        _until(lambda: clicks.committed("two") == 800)
        second.stop()
        second.wait(30)
    assert handed_over_s < 3, f"{handed_over_s:.1f} s"
    clicks.send(3, range(80, 90))
    clicks.run("two")
    assert clicks.counted("two") == clicks.expected()
    assert {row[-1] for row in clicks.rows("two")} == {0}, "a window left before all of its clicks were merged"


def test_a_restart_goes_on_and_so_do_windows_that_the_end_had_closed(clicks: Clicks) -> None:
    clicks.send(1, range(25))
    clicks.run("again")
    assert clicks.counted("again") == clicks.expected()
    rows = clicks.rows("again")
    (idle,) = clicks.run("again", workers=1)
    assert (idle.ledger.read, clicks.rows("again")) == (0, rows)
    clicks.send(2, range(25, 55))
    clicks.run("again", workers=2)
    assert clicks.counted("again") == clicks.expected()
    clicks.run("local", combine="local")
    assert clicks.final("again") == clicks.final("local")


def test_windows_close_where_lanes_are_idle_and_where_all_are(clicks: Clicks) -> None:
    producer = Producer({"bootstrap.servers": clicks.server.bootstrap_servers, "enable.idempotence": True})
    now_ms = time.time_ns() // 1_000_000

    def click(lane: int, at_ms: int) -> None:
        value = json.dumps({"t": at_ms, "u": f"u{lane}", "p": "p", "v": 1, "f": 0.5}).encode()
        producer.produce(f"{clicks.name}-in", key=f"u{lane}".encode(), value=value, partition=lane)
        assert producer.flush(TIMEOUT_S) == 0

    begin = now_ms // SIZE_MS * SIZE_MS - 60_000
    with clicks.start("idle", "w0", stop=None, idle="1s") as run:
        for lane in range(LANES):
            click(lane, begin)
        # Lane 0 goes on; the others are silent, and hold it until they are idle.
        click(0, begin + SIZE_MS + BOUND_MS + 1)
        _until(lambda: clicks.counted("idle") == {("p", begin): (LANES, LANES, LANES)})
        # Nothing comes anywhere: the second window closes by the wall clock, when its end has passed by it.
        _until(lambda: ("p", begin + SIZE_MS) in clicks.counted("idle"), within_s=40)
        assert run.report.ledger.read == LANES + 1
        # A lane that comes back with a window that has left opens it once more.
        click(1, begin + BOUND_MS)
        _until(lambda: clicks.counted("idle")["p", begin] == (LANES + 1, LANES + 1, LANES))
        assert run.report.ledger.late == 0


@pytest.mark.parametrize("workers", [1, 3])
def test_sessions_meet_across_lanes(clicks: Clicks, workers: int) -> None:
    window = sc.session("2s", max_length="30s")
    clicks.send(5, range(120), pages=60)
    clicks.run("topic", window=window, workers=workers)
    clicks.run("local", window=window, combine="local")
    assert clicks.rows("topic") == clicks.rows("local")
    assert len(clicks.rows("topic")) > 200


def test_hopping_windows_and_partitions_of_another_number(clicks: Clicks) -> None:
    window = sc.hopping("10s", slide="5s")
    clicks.send(6, range(60))
    clicks.run("topic", window=window, workers=2, combine_partitions=3)
    clicks.run("local", window=window, combine="local")
    assert clicks.rows("topic") == clicks.rows("local")
    with pytest.raises(StateError, match="has 3 partitions, and combine_partitions is 5"):
        clicks.run("topic", window=window, combine_partitions=5)


def test_late_clicks_are_told_apart_by_their_lane_as_ever(clicks: Clicks) -> None:
    clicks.send(7, range(120), late=25)
    (through,) = clicks.run("topic")
    (here,) = clicks.run("local", combine="local")
    assert through.ledger == here.ledger
    assert through.ledger.late > 0
    assert clicks.late("topic") == clicks.late("local")
    assert clicks.rows("topic") == clicks.rows("local")


def test_steps_behind_the_window_see_merged_windows(clicks: Clicks) -> None:
    clicks.send(8, range(60))

    def flow(run: str, combine: str) -> sc.Pipeline:
        counted = sc.kafka(
            f"{clicks.name}-in",
            connection=connection(clicks.server, session_timeout="6s"),
            event_time="t",
            event_time_unit="ms",
            out_of_orderness=f"{BOUND_MS}ms",
            schema={"u": "string", "p": "string"},
        ).window(sc.tumbling("10s"), by="p")
        busy = counted.agg(n=sc.count()).filter("n > 5").select(page="p", clicks="n", start="window_start")
        return busy.sink_kafka(f"{clicks.name}-{run}-out").configure(
            name=f"{clicks.name}-{run}", delivery="exactly_once", combine=combine, state_dir=str(clicks.folder / run)
        )

    found = {}
    for run, combine in (("behind", "auto"), ("here", "local")):
        report = flow(run, combine).run(stop="end")
        rows = [json.loads(message.value()) for message in read_topic(clicks.server, f"{clicks.name}-{run}-out")]
        found[run] = (Counter(json.dumps(row, sort_keys=True) for row in rows), report.stages)
    assert found["behind"] == found["here"]
    assert found["behind"][0]


def test_what_is_no_partial_ends_both_phases(clicks: Clicks) -> None:
    clicks.send(9, range(30))
    clicks.run("bad")
    topic = f"{clicks.name}-bad.0.partials.g1"
    produce(clicks.server, topic, [b"greetings"], partition=2)
    clicks.send(10, range(30, 60))
    with pytest.raises(StateError, match=rf"partition 2 of {topic} at offset \d+: it is no partial of streamcore"):
        clicks.run("bad")


def _until(done: Any, *, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.1)


def test_partials_whose_commit_is_on_its_way_are_waited_for(kafka_server: KafkaServer, unique: str) -> None:
    """A run ended well without the rows of its last transaction: that was committed, but its markers were not in the topic yet."""
    topic = f"{unique}.0.partials.g1"
    create_topic(kafka_server, topic, 1)
    producer = Producer(
        {"bootstrap.servers": kafka_server.bootstrap_servers, "enable.idempotence": True, "transactional.id": unique}
    )
    producer.init_transactions(TIMEOUT_S)
    producer.begin_transaction()
    producer.produce(topic, key=b"0", value=b"partial")
    assert producer.flush(TIMEOUT_S) == 0
    source = PartialsSource(
        connection(kafka_server),
        KafkaSourceConfig(topic=topic),
        group=unique,
        until_ended=True,
        have_ended=lambda: True,  # as a run that goes on from one that had ended
    )
    source.open(Start(default="earliest"))
    try:
        source.join(Mock())
        source.finish()
        deadline = time.monotonic() + TIMEOUT_S
        while not source.owned:
            assert time.monotonic() < deadline
            assert not source.poll(0.05).ended
        source.place({0: None})
        source.feed([0])
        for _ in range(40):
            assert not source.poll(0.05).ended
        producer.commit_transaction(TIMEOUT_S)
        records = 0
        while not (polled := source.poll(0.05)).ended:
            assert time.monotonic() < deadline
            records += polled.raw is not None
        assert records == 1
    finally:
        source.close()
