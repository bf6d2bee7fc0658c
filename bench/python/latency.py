"""How long a row takes at a steady rate, exactly once, and what a worker costs that has nothing to do.

A worker process that has joined its group counts pages in windows of a second while another sends 100,000 events a second. Of each row is
measured from when the record was handed to the producer by which the clocks of all partitions are past its window's end, until a reader of
committed records has it. Then nothing is sent any more, and the processor time that the worker takes all the same is read.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, KafkaException
from confluent_kafka.admin import AdminClient

from bench.python.clickstream import EVENTS_PER_MS, MINUTE_MS, START_MS, Input
from bench.python.committed_topic import milliseconds
from bench.python.kafka_topics import create_topic
from bench.python.measure import BENCH, Figure, Measured, WrongAnswerError, machine, say
from bench.python.paced_sender import BATCH_EVENTS
from tests.servers.kafka import KafkaServer

NAME = "latency"
RATE = 101_000
"""Not a multiple of a window's events: windows end at all times between two commits."""
WINDOW_MS = 1_000
WINDOW_EVENTS = WINDOW_MS * EVENTS_PER_MS
"""In each window; a multiple of `BATCH_EVENTS`, so that a window ends with the first record of a batch."""
COMMIT_MS = 1_000
WARM_UP_S = 5.0
EVENTS_MIN = 2 * round(WARM_UP_S * RATE)
LAST_ROWS_S = 30.0
SEAT_S = 60.0
LATE_S = 0.05
"""Who sends later than this is said so."""
IDLE_AFTER_S, IDLE_S = 3.0, 20.0

TARGETS_MS = {"local": COMMIT_MS + 100.0, "topic": 2 * COMMIT_MS + 150.0}
"""By how windows meet."""
IDLE_TARGET = 2.0

PIPELINE = """
name = "{name}"
delivery = "exactly_once"
commit_interval = "{commit_ms}ms"
combine = "{combine}"

[source]
type = "kafka"
topic = "{name}.in"
event_time = "timestamp"
out_of_orderness = "0s"

[source.schema]
"payload.page_id" = "string"

[[steps]]
window = "tumbling"
size = "{window_ms}ms"
by = "payload.page_id"
[steps.aggregate]
views = "count()"

[[sinks]]
type = "kafka"
topic = "{name}.out"

[dead_letters]
topic = "{name}.dead-letters"
"""


@dataclass(frozen=True)
class Row:
    """One that a reader had."""

    page: str
    start_ms: int
    views: int
    seen_s: float


@dataclass
class Reader:
    """Takes rows as they come, on a thread of its own."""

    bootstrap: str
    topic: str

    def __post_init__(self) -> None:
        self.taken: list[tuple[float, bytes]] = []
        """Values, and when they were here: read as rows once all are."""
        self.error = ""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        settings = {"auto.offset.reset": "earliest", "isolation.level": "read_committed", "enable.auto.commit": False}
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": uuid.uuid4().hex, **settings})
        consumer.subscribe([self.topic])
        while not self._ending.is_set():
            messages = consumer.consume(1_000, 0.002)
            seen_s = time.time()
            self.taken += [(seen_s, message.value()) for message in messages if message.error() is None]
            self.error = next((found.error().str() for found in messages if found.error() is not None), self.error)
        consumer.close()

    def rows(self, first: int = 0) -> list[Row]:
        """Those taken so far, from the `first`-th on. Raises where the topic could not be read."""
        if self.error:
            raise RuntimeError(f"{self.topic} cannot be read: {self.error}")
        rows = ((seen_s, json.loads(value)) for seen_s, value in self.taken[first:])
        return [Row(row["page_id"], milliseconds(row["window_start"]), row["views"], seen_s) for seen_s, row in rows]

    def await_window(self, start_ms: int) -> None:
        """Until there is a row of that window, which is the last to come."""
        deadline, looked_at = time.monotonic() + LAST_ROWS_S, 0
        while True:
            fresh = self.rows(looked_at)
            if any(row.start_ms == start_ms for row in fresh):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"no row of the last window came within {LAST_ROWS_S:.0f} s")
            looked_at += len(fresh)
            time.sleep(0.1)

    def close(self) -> None:
        self._ending.set()
        self._thread.join()


@dataclass(frozen=True)
class LatencyBench:
    clicks: Input
    rounds: int

    def run(self) -> tuple[list[Measured], list[Figure]]:
        """Both ways in turn, round after round. Raises `WrongAnswerError`."""
        if self.clicks.events < EVENTS_MIN:
            raise SystemExit(
                f"latency needs {EVENTS_MIN:,} events or more, as rows of the first {WARM_UP_S:.0f} s do not count"
            )
        latencies: dict[str, list[float]] = {combine: [] for combine in TARGETS_MS}
        idle: dict[str, list[float]] = {combine: [] for combine in TARGETS_MS}
        with KafkaServer() as server:
            for number in range(self.rounds):
                for combine, found in latencies.items():
                    p99_ms, percent = self._round(server.bootstrap_servers, combine)
                    say(f"  round {number + 1}: combine {combine}: p99 {p99_ms:,.0f} ms; idle {percent:.1f} %")
                    found.append(p99_ms)
                    idle[combine].append(percent)
        figures = [
            _figure(f"a row at {RATE:,} events/s, combine {combine}, p99", found, "ms", TARGETS_MS[combine])
            for combine, found in latencies.items()
        ]
        figures += [
            _figure(f"a worker without events, combine {combine}", found, "% of a core", IDLE_TARGET)
            for combine, found in idle.items()
        ]
        return [], figures

    def _round(self, bootstrap: str, combine: str) -> tuple[float, float]:
        """The 99th percentile of rows (ms), and what the worker takes of a core afterwards (%)."""
        name = f"latency-{uuid.uuid4().hex[:8]}"
        for topic in ("in", "out"):
            create_topic(bootstrap, f"{name}.{topic}")
        reader = Reader(bootstrap, f"{name}.out")
        try:
            with worker(bootstrap, name, combine) as process:
                await_seat(bootstrap, name)
                sent_s = self._send(bootstrap, f"{name}.in")
                reader.await_window(START_MS + (self._windows - 2) * WINDOW_MS)
                time.sleep(IDLE_AFTER_S)
                percent = share_of_a_core(process.pid, IDLE_S)
        finally:
            reader.close()
        rows = reader.rows()
        self._check(rows)
        return percentile_ms(rows, sent_s), percent

    @property
    def _windows(self) -> int:
        """Those that have all their events."""
        return self.clicks.events // WINDOW_EVENTS

    def _send(self, bootstrap: str, topic: str) -> list[float]:
        arguments = {"path": str(self.clicks.path), "events": self._windows * WINDOW_EVENTS, "rate": RATE}
        arguments |= {"bootstrap": bootstrap, "topic": topic}
        command = [sys.executable, str(BENCH / "python" / "paced_sender.py"), json.dumps(arguments)]
        done = subprocess.run(command, capture_output=True, check=False, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"the events could not be sent:\n{done.stderr[-4000:]}")
        sent = json.loads(done.stdout)
        if sent["late_s"] > LATE_S:
            say(f"  this machine was late by {sent['late_s'] * 1000:.0f} ms in sending: the rate was not steady")
        sent_s: list[float] = sent["sent_s"]
        return sent_s

    def _check(self, rows: Sequence[Row]) -> None:
        """Every window but the last is closed: of minutes that are over, pages have their counts. Raises `WrongAnswerError`."""
        got: Counter[tuple[str, int]] = Counter()
        for row in rows:
            got[row.page, row.start_ms - row.start_ms % MINUTE_MS] += row.views
        end_ms = START_MS + (self._windows - 1) * WINDOW_MS
        over = {place: views for place, views in self.clicks.counts.items() if place[1] + MINUTE_MS <= end_ms}
        wrong = {place: views for place, views in over.items() if got[place] != views}
        if wrong or sum(got.values()) != (self._windows - 1) * WINDOW_EVENTS:
            raise WrongAnswerError(
                f"{sum(got.values()):,} events were counted, and {len(wrong)} counts of a minute are wrong"
            )


@contextmanager
def worker(bootstrap: str, name: str, combine: str) -> Iterator[subprocess.Popen[bytes]]:
    """One that runs until the block is over."""
    with tempfile.TemporaryDirectory() as folder:
        path, log = Path(folder) / "pipeline.toml", Path(folder) / "worker.log"
        path.write_text(PIPELINE.format(name=name, combine=combine, commit_ms=COMMIT_MS, window_ms=WINDOW_MS))
        environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": bootstrap, "STREAMCORE_STATE_DIR": folder}
        with log.open("wb") as output:
            command = [sys.executable, "-m", "streamcore", "run", str(path)]
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            ended = process.wait(60)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{log.read_text()[-4000:]}") from None
        finally:
            process.kill()
            process.wait()
        if ended:
            raise RuntimeError(f"the worker ended with {ended}:\n{log.read_text()[-4000:]}")


def await_seat(bootstrap: str, group: str) -> None:
    """Until the group has a member with partitions."""
    admin, deadline = AdminClient({"bootstrap.servers": bootstrap}), time.monotonic() + SEAT_S
    while True:
        with suppress(KafkaException):  # there is no such group yet
            members = admin.describe_consumer_groups([group])[group].result(SEAT_S).members
            if any(member.assignment.topic_partitions for member in members):
                return
        if time.monotonic() > deadline:
            raise RuntimeError(f"the worker has no partition after {SEAT_S:.0f} s")
        time.sleep(0.1)


def percentile_ms(rows: Sequence[Row], sent_s: Sequence[float]) -> float:
    """The 99th, of rows whose windows ended after the warm-up."""
    took_ms = []
    for row in rows:
        # The batch after the window's events brings its end to all partitions: of 500 records each has some.
        closed_s = sent_s[(row.start_ms + WINDOW_MS - START_MS) * EVENTS_PER_MS // BATCH_EVENTS]
        if closed_s >= sent_s[0] + WARM_UP_S:
            took_ms.append((row.seen_s - closed_s) * 1000)
    return statistics.quantiles(took_ms, n=100)[98]


def share_of_a_core(pid: int, seconds: float) -> float:
    """Processor time that a process takes meanwhile, in percent of a core."""
    before, began = processor_s(pid), time.monotonic()
    time.sleep(seconds)
    return 100 * (processor_s(pid) - before) / (time.monotonic() - began)


def processor_s(pid: int) -> float:
    """All that a process has taken of processors, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _figure(name: str, found: Sequence[float], unit: str, target: float) -> Figure:
    """The median of the rounds, which must not be above its target."""
    value = round(statistics.median(found), 1)
    return Figure(NAME, name, value, unit, None, None, target, value <= target, machine())
