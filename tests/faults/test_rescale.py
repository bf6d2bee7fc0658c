"""F21: an input of 3 partitions gets 8, then another of 5 takes its place; `state rescale` is killed on the way each time.

CP15: until the new layout is committed the old one is the truth, and the next try does it all. Records are sent by a producer that
chooses partitions by itself, copies of some come after the growth, and no window may leave twice.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

from tests.faults import oracle, traffic
from tests.faults.workers import RUN_S, Job
from tests.integration.kafka_tools import create_topic

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
RECORDS, KEYS = 35_000, 20_000
"""Of each of three parts."""

POINTS = [
    ("rescale-topics-made", "claim-half"),
    ("claim-offsets", "claim-committed"),
    ("claim-sent", "rescale-moved"),
]
"""Where the first and the second rescale die; in turn."""

PARTITIONERS = ("consistent_random", "murmur2_random")


class Rescaled:
    """A job whose input changes, and all that was sent to it."""

    def __init__(self, job: Job, seed: int) -> None:
        self.job, self.partitioner = job, PARTITIONERS[seed % 2]
        self.servers = job.server.bootstrap_servers
        self.topics, self.partitions = [job.input], 3
        self._records = traffic.records(seed, 3 * RECORDS, partitions=1, keys=KEYS)

    def send(self) -> None:
        producer = Producer(
            {"bootstrap.servers": self.servers, "partitioner": self.partitioner, "enable.idempotence": True}
        )
        producer.list_topics(self.topics[-1], timeout=RUN_S)
        for _, key, value in islice(self._records, RECORDS):
            while True:
                try:
                    producer.produce(self.topics[-1], key=key, value=value)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(RUN_S) == 0

    def work(self, workers: int, *, kill: bool = False) -> None:
        """Workers read all there is, and leave; one is killed on the way and started again."""
        running = {f"w{number}": self.job.start(worker=f"w{number}") for number in range(workers)}
        self.send()
        ends = self._expected_ends()
        deadline = time.monotonic() + RUN_S
        while (found := self._offsets()) != ends:
            assert time.monotonic() < deadline, f"{found} of {ends}:\n{self.job.log()}"
            if kill and sum(max(0, offset) for offset in found.values()) > RECORDS // 4:
                running["w0"].kill()
                running["w0"].wait()
                running["w0"], kill = self.job.start(worker="w0"), False
            self.job.revive(running)
            time.sleep(0.2)
        assert not kill, "the worker was not killed"
        self.job.leave(running)

    def _offsets(self) -> dict[int, int]:
        return oracle.group_offsets(self.servers, self.job.name, self.topics[-1], self.partitions)

    def _expected_ends(self) -> dict[int, int]:
        ends = dict.fromkeys(range(self.partitions), 0)
        for message in oracle.read(self.servers, self.topics[-1]):
            ends[message.partition()] = message.offset() + 1
        return ends

    def grow(self, partitions: int) -> None:
        admin = AdminClient({"bootstrap.servers": self.servers})
        admin.create_partitions([NewPartitions(self.topics[-1], partitions)])[self.topics[-1]].result(RUN_S)
        self.partitions = partitions

    def replace(self, partitions: int) -> None:
        topic = create_topic(self.job.server, f"{self.job.name}.in.{partitions}", partitions)
        self.job.file.write_text(self.job.file.read_text().replace(f'"{self.topics[-1]}"', f'"{topic}"'))
        self.topics.append(topic)
        self.partitions = partitions

    def command(self, *arguments: str, faults: str = "") -> subprocess.CompletedProcess[str]:
        begun = self.begin(*arguments, faults=faults)
        out, err = begun.communicate(timeout=RUN_S)
        return subprocess.CompletedProcess(begun.args, begun.returncode, out, err)

    def begin(self, *arguments: str, faults: str = "") -> subprocess.Popen[str]:
        environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": self.servers, "STREAMCORE_FAULTS": faults}
        command = [sys.executable, "-m", "streamcore", "state", *arguments]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def lanes(self) -> list[dict[str, Any]]:
        found = self.command("inspect", str(self.job.file), "--json")
        assert found.returncode == 0, found.stderr
        lanes: list[dict[str, Any]] = json.loads(found.stdout)["lanes"]
        return lanes

    def state_topics(self) -> list[str]:
        """Of all layouts that are there."""
        names = AdminClient({"bootstrap.servers": self.servers}).list_topics(timeout=RUN_S).topics
        return sorted(name for name in names if name.startswith(f"{self.job.name}.0.state."))

    def contents(self) -> tuple[int, int, int]:
        """A6: lanes, rows of windows, and what they come to."""
        lanes = self.lanes()
        digest = sum(int(lane["contents"], 16) for lane in lanes if lane["rows"]) % 2**64
        return len(lanes), sum(lane["rows"] or 0 for lane in lanes), digest

    def asked(self) -> list[str]:
        to = ["--to", str(self.partitions), "--partitioner", self.partitioner]
        return ["rescale", str(self.job.file), *to, "--json"]

    def rescale(self, point: str) -> None:
        """Dies at the point, and is started again; a worker that is started between them changes nothing."""
        lanes, rows, digest = self.contents()
        arguments = self.asked()
        died = self.command(*arguments, faults=f"{point}:1:kill")
        assert died.returncode == -signal.SIGKILL, died.stderr
        is_done = point == "claim-committed"
        assert self.contents() == ((self.partitions if is_done else lanes), rows, digest), "one or the other"
        if not is_done:
            refused = self.job.start(worker="early")
            assert refused.wait(RUN_S) == 6, self.job.log("early")
        done = self.again(arguments)
        if is_done:
            assert (done.returncode, "there is nothing to move" in done.stderr) == (6, True), done.stderr
        else:
            assert done.returncode == 0, done.stderr
            moved = json.loads(done.stdout)
            assert (moved["rows"], moved["merged"], moved["early"]) == (rows, 0, 0)
            assert moved["digest"] == f"{digest:016x}"
        assert self.contents() == (self.partitions, rows, digest)
        verified = self.command("verify", str(self.job.file))
        assert verified.returncode == 0, verified.stderr

    def again(self, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        """Again, as soon as the group has noticed that the one before has died."""
        deadline = time.monotonic() + RUN_S
        while True:
            done = self.command(*arguments)
            if done.returncode != 7 or "has 1 member" not in done.stderr:
                return done
            assert time.monotonic() < deadline, done.stderr
            time.sleep(1)

    def check(self) -> None:
        """A1, A2, A4, A5 and A7: each window and dead letter once and right, all that was read is accounted for."""
        rows: dict[tuple[str, int], tuple[int, int]] = {}
        dead: Counter[tuple[str, int, int]] = Counter()
        seen: set[str] = set()
        for message in self._read():
            try:
                row = json.loads(message.value())
            except ValueError:
                dead[message.topic(), message.partition(), message.offset()] += 1
                continue
            if row["id"] in seen:
                continue
            seen.add(row["id"])
            window = row["k"], row["t"] // oracle.SIZE_MS * oracle.SIZE_MS
            count, total = rows.get(window, (0, 0))
            rows[window] = count + 1, total + row["v"]
        found = Counter(map(_row, oracle.read(self.servers, f"{self.job.name}.out")))
        assert found == Counter({(*window, *values): 1 for window, values in rows.items()})
        letters = Counter(map(_letter, oracle.read(self.servers, f"{self.job.name}.dead-letters")))
        assert letters == dead
        self.job.check_ended([f"{self.job.name}.out", f"{self.job.name}.dead-letters", *self.state_topics()])
        audit = subprocess.run(
            [sys.executable, "-m", "streamcore", "audit", str(self.job.file), "--json"],
            env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": self.servers},
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )
        assert audit.returncode == 0, audit.stdout + audit.stderr
        assert json.loads(audit.stdout)["total"]["read"] == 3 * RECORDS

    def _read(self) -> Iterator[Any]:
        for topic in self.topics:
            yield from oracle.read(self.servers, topic)


def _row(message: Any) -> tuple[str, int, int, int]:
    from datetime import datetime

    row = json.loads(message.value())
    return row["k"], round(datetime.fromisoformat(row["window_start"]).timestamp() * 1000), row["n"], row["s"]


def _letter(message: Any) -> tuple[str, int, int]:
    headers = dict(message.headers())
    return headers["dlq.topic"].decode(), int(headers["dlq.partition"]), int(headers["dlq.offset"])


@pytest.mark.column("pull")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", range(RUNS))
def test_state_that_is_moved_to_8_and_to_5_partitions_loses_and_repeats_nothing(job: Job, run: int) -> None:
    rescaled = Rescaled(job, run)
    rescaled.work(2)
    rescaled.grow(8)
    rescaled.rescale(POINTS[run % len(POINTS)][0])
    rescaled.work(3, kill=True)
    rescaled.replace(5)
    rescaled.rescale(POINTS[run % len(POINTS)][1])
    rescaled.work(2)
    job.finish()
    rescaled.check()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize(
    "point",
    [
        pytest.param("rescale-moved", marks=pytest.mark.column("pull")),
        pytest.param("rescale-topics-made", marks=pytest.mark.column("nightly")),
    ],
)
def test_a_rescale_that_stood_still_deletes_nothing_of_the_one_after_it(job: Job, run: int, point: str) -> None:
    rescaled = Rescaled(job, run)
    rescaled.work(1)
    rescaled.grow(5)
    asleep = rescaled.begin(*rescaled.asked(), faults=f"{point}:1:stop")
    job.await_stopped(asleep)  # type: ignore[arg-type]
    try:
        done = rescaled.again(rescaled.asked())
        assert done.returncode == 0, done.stderr
        rescaled.work(1)
        before, topics = rescaled.contents(), rescaled.state_topics()
        asleep.send_signal(signal.SIGCONT)
        _, told = asleep.communicate(timeout=RUN_S)
    finally:
        asleep.kill()
    assert (asleep.returncode, "the state was not changed" in told) == (7, True), told
    assert (rescaled.contents(), rescaled.state_topics()) == (before, topics)
    # What never came to count is gone with the commit of what did.
    assert topics == [f"{job.name}.0.state.g{layout}" for layout in (1, json.loads(done.stdout)["layout"])]
    rescaled.work(2)
    job.finish()
    rescaled.check()
