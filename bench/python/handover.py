"""How long lanes stand still that a worker gives up: two workers with a million keys, one of which is told to stop, or killed."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from bench.python.measure import Figure, WrongAnswerError, machine, say
from bench.python.state_worker import PARTITIONS, Sender, counts
from tests.servers.kafka import KafkaServer

KEYS = 1_000_000
SESSION_S = 6
SCAN_S = 1
"""How often the broker looks for transactions to abort."""

STOP_TARGET_S = 3.0
KILL_TARGET_S = SESSION_S + SCAN_S + 5.0
"""The transaction's timeout is the session's here, so an abort takes that and a scan at most."""

WAIT_S = 120.0
PAUSE_S = 0.02

PIPELINE = """
name = "{name}"
delivery = "exactly_once"
commit_interval = "1s"

[kafka]
session_timeout = "{session_s}s"

[source]
type = "kafka"
topic = "{name}.in"
event_time = "t"
event_time_unit = "ms"
keyed_by = "k"

[source.schema]
k = "string"

[[steps]]
window = "tumbling"
size = "1h"
by = "k"
[steps.aggregate]
n = "count()"

[[sinks]]
type = "kafka"
topic = "{name}.out"
"""


class Pair:
    """Two workers on one topic."""

    def __init__(self, server: KafkaServer, folder: Path) -> None:
        self.bootstrap, self.folder = server.bootstrap_servers, folder
        self.name = f"handover-{uuid.uuid4().hex[:8]}"
        self.topic = f"{self.name}.in"
        (folder / "pipeline.toml").write_text(PIPELINE.format(name=self.name, session_s=SESSION_S))
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap})
        self.admin.create_topics([NewTopic(self.topic, num_partitions=PARTITIONS, replication_factor=1)])[
            self.topic
        ].result(30)
        self.reader = Consumer({"bootstrap.servers": self.bootstrap, "group.id": self.name})
        self.sender = Sender(self.bootstrap, self.topic)
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.sent = 0

    def send(self, count: int) -> None:
        self.sender.send(number % KEYS for number in range(self.sent, self.sent + count))
        self.sent += count

    def start(self, worker: str, *more: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "STREAMCORE_STATE_DIR": str(self.folder / worker),
            "STREAMCORE_INSTANCE_ID": worker,
        }
        command = [sys.executable, "-m", "streamcore", "run", str(self.folder / "pipeline.toml"), *more]
        with (self.folder / f"{worker}.log").open("ab") as log:
            self.workers[worker] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        return self.workers[worker]

    def offsets(self) -> dict[int, int]:
        """What the group has committed: answered when no transaction on it is pending."""
        parts = self.reader.committed([TopicPartition(self.topic, lane) for lane in range(PARTITIONS)], timeout=WAIT_S)
        return {part.partition: max(0, part.offset) for part in parts}

    def await_all(self, beyond: dict[int, int]) -> None:
        """Until the group has committed more in every partition."""
        deadline = time.monotonic() + WAIT_S
        while any(at <= beyond[lane] for lane, at in self.offsets().items()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"lanes stood still for {WAIT_S:.0f} s:\n{self.log()}")
            time.sleep(PAUSE_S)

    def await_shared(self) -> None:
        """Until both workers have lanes, and every lane goes on."""
        deadline = time.monotonic() + WAIT_S
        while True:
            group = self.admin.describe_consumer_groups([self.name])[self.name].result(30)
            held = [len(member.assignment.topic_partitions) for member in group.members]
            if len(held) == 2 and all(held) and sum(held) == PARTITIONS:
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"the workers have {held} partitions:\n{self.log()}")
            time.sleep(0.2)
        self.await_all(self.ends())

    def ends(self) -> dict[int, int]:
        """Where the partitions end now."""
        parts = [TopicPartition(self.topic, lane) for lane in range(PARTITIONS)]
        return {part.partition: self.reader.get_watermark_offsets(part, 10)[1] for part in parts}

    def gap_s(self, how: signal.Signals) -> float:
        """From a signal to the first worker until all that came up to it, and more, is committed in every partition."""
        leaving = self.workers["first"]
        beyond, began = self.ends(), time.monotonic()
        leaving.send_signal(how)
        self.await_all(beyond)
        seconds = time.monotonic() - began
        leaving.wait(WAIT_S)
        return seconds

    def log(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in sorted(self.folder.glob("*.log")))

    @contextmanager
    def traffic(self) -> Iterator[None]:
        """A thousand events a second."""
        stopping = threading.Event()

        def go() -> None:
            while not stopping.wait(0.1):
                self.send(100)

        thread = threading.Thread(target=go, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()

    def close(self) -> None:
        for process in self.workers.values():
            if process.poll() is None:
                process.kill()
            process.wait()
        self.reader.close()


def run(server: KafkaServer, rounds: int) -> list[Figure]:
    """Both ways of leaving, round after round; then the answer: every event counted once. Raises `WrongAnswerError`."""
    gaps: dict[signal.Signals, list[float]] = {signal.SIGTERM: [], signal.SIGKILL: []}
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(server, Path(folder))
        try:
            pair.send(KEYS)
            pair.start("second")
            pair.await_all({lane: end - 1 for lane, end in pair.ends().items()})
            with pair.traffic():
                for number in range(rounds):
                    for how, found in gaps.items():
                        pair.start("first")
                        pair.await_shared()
                        found.append(pair.gap_s(how))
                        say(f"  round {number + 1}: {how.name}: lanes stood still for {found[-1]:.2f} s")
            pair.workers["second"].send_signal(signal.SIGTERM)
            pair.workers["second"].wait(WAIT_S)
            if pair.start("first", "--stop", "end").wait(WAIT_S):
                raise RuntimeError(pair.log())
            rows = counts(server.bootstrap_servers, f"{pair.name}.out")
        finally:
            pair.close()
    if [len(rows), sum(rows)] != [KEYS, pair.sent]:
        raise WrongAnswerError(f"{len(rows):,} keys with {sum(rows):,} events; {pair.sent:,} were sent")
    return [
        _figure("hand-over, told to stop", gaps[signal.SIGTERM], STOP_TARGET_S),
        _figure("hand-over, killed", gaps[signal.SIGKILL], KILL_TARGET_S),
    ]


def _figure(name: str, gaps: list[float], target_s: float) -> Figure:
    """The median; the target is held by the longest."""
    holds = max(gaps) <= target_s
    return Figure("state", name, round(statistics.median(gaps), 2), "s", None, None, target_s, holds, machine())
