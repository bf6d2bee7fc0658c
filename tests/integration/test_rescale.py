"""`streamcore state rescale` beside a real broker: an input that grew, another one, and what is refused."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import NewPartitions

from streamcore import _core, rescaling
from streamcore.committed_state import CommittedState
from streamcore.kafka_client import Cluster
from tests.integration.kafka_tools import TIMEOUT_S, committed_offsets, connection, create_topic
from tests.integration.state_job import PIPELINE, Job
from tests.servers.kafka import KafkaServer
from tests.servers.process import ServerProcess

KEYS = 40
OWN = ("--partitioner", "consistent_random")
"""That of librdkafka, where nothing else is said."""


class Growing(Job):
    """A job whose input changes its size; producers choose the partitions of keys themselves."""

    sent: dict[tuple[str, int], tuple[int, int]]

    def __init__(self, server: KafkaServer, name: str, folder: Path, **options: object) -> None:
        super().__init__(server, name, folder, **options)  # type: ignore[arg-type]
        self.input, self.sent = f"{name}-in", defaultdict(lambda: (0, 0))

    def put(
        self,
        times_s: range,
        *,
        partitioner: str = "consistent_random",
        keys: Sequence[int] = range(KEYS),
        counts: bool = True,
    ) -> None:
        """A record a second for each key, in the order of their times. Windows are to have them if it `counts`."""
        producer = Producer(
            {"bootstrap.servers": self.server.bootstrap_servers, "enable.idempotence": True, "partitioner": partitioner}
        )
        producer.list_topics(self.input, timeout=TIMEOUT_S)
        for at in times_s:
            for key in keys:
                value = json.dumps({"t": at * 1000, "k": f"key {key}", "v": at})
                producer.produce(self.input, key=f"key {key}", value=value)
                if counts:
                    count, total = self.sent[f"key {key}", at // 10 * 10]
                    self.sent[f"key {key}", at // 10 * 10] = count + 1, total + at
            assert producer.flush(TIMEOUT_S) == 0

    def grow(self, partitions: int) -> None:
        self.admin.create_partitions([NewPartitions(self.input, partitions)])[self.input].result(TIMEOUT_S)
        self.partitions = partitions

    def replace(self, partitions: int) -> None:
        """Another topic takes the place of the input."""
        text, before = self.file.read_text(), self.input
        self.input, self.partitions = f"{self.name}-in-{partitions}", partitions
        if before != self.input:
            create_topic(self.server, self.input, partitions)
        self.file.write_text(text.replace(f'"{before}"', f'"{self.input}"'))

    def read(self) -> None:
        """Reads what there is; windows stay open."""
        cluster = Cluster(connection(self.server))
        lanes, deadline = range(self.partitions), time.monotonic() + TIMEOUT_S
        ends = cluster.offsets(self.input, lanes, "latest")
        # As a consumer: the admin client's question ends the process while the broker is looking for the group.
        while committed_offsets(self.server, self.name, self.input, self.partitions) != ends:
            assert time.monotonic() < deadline
            answer = self("run", str(self.file), "--for", "4s")
            assert answer.code == 0, answer.err

    def rescale(self, to: int, *arguments: str) -> dict[str, object]:
        answer = self.state("rescale", "--to", str(to), *arguments, "--json")
        assert answer.code == 0, answer.err
        found: dict[str, object] = answer.json
        return found

    def ends(self) -> dict[int, int]:
        return Cluster(connection(self.server)).offsets(self.input, range(self.partitions), "latest")

    def refused(self, *arguments: str, code: int = 6) -> str:
        answer = self.state("rescale", *arguments)
        assert answer.code == code, answer.err
        return answer.err

    def check(self) -> None:
        """Each window has left once, and right, when the input has ended."""
        rows = self.rows()
        assert max(rows.values()) == 1
        assert len(rows) == len(self.sent), "a window has one row"
        final = {(key, _second(start)): row for (key, start), row in self.final().items()}
        assert final == self.sent


def keys_of(*places: tuple[int, int]) -> list[int]:
    """Keys that librdkafka's producers send to a partition of so many, for each of `places`."""

    def fits(key: int) -> bool:
        found = ((_core.partition_of("consistent_random", f"key {key}".encode(), size), lane) for lane, size in places)
        return all(there == lane for there, lane in found)

    return [key for key in range(KEYS) if fits(key)]


def _second(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp())


@pytest.fixture
def job(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Growing:
    return Growing(kafka_server, unique, tmp_path, text=PIPELINE.replace('filter = "v >= 0"', 'filter = "v > -9"'))


def test_an_input_that_grew_and_then_shrank_goes_on_as_if_nothing_had_happened(job: Growing) -> None:
    job.put(range(25))
    job.read()
    before = job.state("inspect", "--json").json["lanes"]
    job.grow(5)
    refused = job.run()
    assert (refused.code, "streamcore state rescale FILE --to 5 moves it" in refused.err) == (6, True), refused.err
    assert "murmur2_random for Java's clients" in job.refused("--to", "5")
    other = job.refused("--to", "5", "--partitioner", "murmur2_random")
    assert "rows are not in the partition where murmur2 puts their key among 2" in other
    assert "the input" in job.refused("--to", "4", *OWN)
    done = job.rescale(5, *OWN)
    assert (done["before"], done["after"], done["layout"], done["rows"]) == (2, 5, 2, KEYS)
    assert (done["merged"], done["early"], done["drained"]) == (0, 0, 0)
    assert done["offsets"] == {"0": before[0]["input_end"], "1": before[1]["input_end"], "2": 0, "3": 0, "4": 0}
    after = job.state("inspect", "--json").json["lanes"]
    assert [lane["keys"] for lane in after].count(0) < 5
    assert sum(lane["keys"] for lane in after) == sum(lane["keys"] for lane in before) == KEYS
    assert {lane["epoch"] for lane in after} == {max(lane["epoch"] for lane in before) + 1}
    assert job.state("verify").code == 0
    audit = job("audit", str(job.file), "--json").json
    assert (audit["adds_up"], audit["total"]["read"]) == (True, 25 * KEYS)
    assert "there is nothing to move" in job.refused("--to", "5", *OWN)
    topics = job("topics", "plan", str(job.file)).out
    assert f"{job.name}.0.state.g2  state  exists: 5 partitions" in topics
    assert f"{job.name}.0.state.g1  state  not used: its state has gone to the one above" in topics

    job.put(range(25, 45))
    job.read()
    # It cannot lose partitions: another topic takes its place, once the old one is read.
    text = job.file.read_text()
    job.put(range(45, 46))
    old = job.input
    job.replace(3)
    new = job.file.read_text()
    assert "are not read" in job.refused("--to", "3", *OWN)
    job.file.write_text(text)
    job.input, job.partitions = old, 5
    job.read()
    job.file.write_text(new)
    job.input, job.partitions = f"{job.name}-in-3", 3
    done = job.rescale(3, *OWN)
    assert (done["before"], done["after"], done["layout"]) == (5, 3, 3)
    job.put(range(46, 60))
    assert job.run().code == 0
    job.check()
    audit = job("audit", str(job.file), "--json").json
    assert (audit["adds_up"], audit["total"]["read"]) == (True, 60 * KEYS)


def test_what_the_old_partitions_have_left_is_read_with_the_state_as_it_was(job: Growing) -> None:
    job.put(range(15), partitioner="murmur2_random")
    job.read()
    job.put(range(15, 24), partitioner="murmur2_random")
    job.grow(4)
    # Producers know of the growth, and nobody has read since.
    job.put(range(24, 33), partitioner="murmur2_random")
    refused = job.refused("--to", "4", "--partitioner", "murmur2_random")
    assert "--drain reads them first" in refused
    assert "not read yet have keys that go elsewhere now (the last is at" in refused
    done = job.rescale(4, "--partitioner", "murmur2_random", "--drain")
    assert 8 * KEYS < int(str(done["drained"])) <= 9 * KEYS, "no further than to the last that has to be"
    job.put(range(33, 50), partitioner="murmur2_random")
    assert job.run().code == 0
    job.check()


def test_records_of_producers_that_knew_and_of_others_are_refused(job: Growing) -> None:
    job.put(range(12))
    job.read()
    late = Producer(
        {
            "bootstrap.servers": job.server.bootstrap_servers,
            "enable.idempotence": True,
            "topic.metadata.refresh.interval.ms": -1,
        }
    )
    late.list_topics(job.input, timeout=TIMEOUT_S)
    job.grow(3)
    job.put(range(12, 14))
    # These do not know of the growth yet.
    for key in range(KEYS):
        late.produce(job.input, key=f"key {key}", value=json.dumps({"t": 14_000, "k": f"key {key}", "v": 1}))
    assert late.flush(TIMEOUT_S) == 0
    refused = job.refused("--to", "3", *OWN, "--drain")
    assert "came after the growth" in refused


def test_a_topic_that_was_made_again_has_to_be_said_to_have_been_read(job: Growing) -> None:
    job.put(range(25))
    job.read()
    job.make_again(job.input, 3)
    job.partitions = 3
    refused = job.refused("--to", "3", *OWN)
    assert "is gone, so whether it was read to its end cannot be seen" in refused
    job.rescale(3, *OWN, "--drained")
    job.put(range(25, 40))
    assert job.run().code == 0
    job.check()


def test_lanes_that_meet_are_moved_without_a_partitioner(
    kafka_server: KafkaServer, unique: str, tmp_path: Path
) -> None:
    job = Growing(kafka_server, unique, tmp_path, keyed=False)
    job.put(range(25))
    job.read()
    job.grow(3)
    job.put(range(25, 27))
    assert job.rescale(3)["rows"] == KEYS
    job.put(range(27, 40))
    assert job.run().code == 0
    job.check()
    topics = job("topics", "plan", str(job.file)).out
    assert f"{unique}.0.combine.g2  state  exists: 1 partitions" in topics
    assert f"{unique}.0.combine.g1  state  not used: its state has gone to the one above" in topics


def test_nothing_is_moved_while_a_worker_lives_or_where_there_is_nothing(job: Growing, tmp_path: Path) -> None:
    assert "there is no state of" in job.refused("--to", "2", *OWN)
    job.put(range(25))
    command = [sys.executable, "-m", "streamcore", "run", str(job.file)]
    process = ServerProcess(command, tmp_path / "log", env=dict(os.environ))
    try:
        cluster = Cluster(connection(job.server))

        def has_committed() -> bool:
            return max(committed_offsets(job.server, job.name, job.input, 2).values()) > 0

        process.wait_until(has_committed, "an epoch", TIMEOUT_S)
        assert len(cluster.members(job.name)) == 1
        job.grow(4)
        assert f"group {job.name} has 1 member" in job.refused("--to", "4", *OWN, code=7)
    finally:
        process.stop()
    assert job.rescale(4, *OWN)["after"] == 4


def test_partitions_that_an_old_topic_got_meanwhile_are_read_before_it_is_left(job: Growing) -> None:
    job.put(range(25))
    job.read()
    job.grow(4)
    # Producers know of the growth, the old partitions have nothing new, and nobody reads the others.
    job.put(range(25, 27), keys=[*keys_of((2, 4)), *keys_of((3, 4))])
    text, old = job.file.read_text(), job.input
    job.replace(3)
    new = job.file.read_text()
    refused = job.refused("--to", "3", *OWN)
    assert "records from 0 on are not read, and the state has no such partition" in refused
    assert f"set topic to {old} again" in refused
    job.file.write_text(text)
    job.input, job.partitions = old, 4
    job.rescale(4, *OWN)
    job.read()
    job.file.write_text(new)
    job.input, job.partitions = f"{job.name}-in-3", 3
    job.rescale(3, *OWN)
    job.put(range(27, 40))
    assert job.run().code == 0
    job.check()


def test_a_lane_that_nobody_has_committed_goes_on_where_a_run_would_begin(job: Growing, tmp_path: Path) -> None:
    job.put(range(5), counts=False)
    time.sleep(0.1)
    start = datetime.now(UTC).isoformat()
    job.file.write_text(job.file.read_text().replace('event_time = "t"', f'event_time = "t"\nstart = "{start}"'))
    time.sleep(0.1)
    history = job.ends()
    assert min(history.values()) > 0
    mine = _run_beside_a_member_that_commits_nothing(job, tmp_path / "log")
    job.grow(4)
    done = job.rescale(4, *OWN)
    offsets = {mine: job.ends()[mine], 1 - mine: history[1 - mine], 2: 0, 3: 0}
    assert done["offsets"] == {str(lane): offset for lane, offset in offsets.items()}
    job.put(range(25, 40))
    assert job.run().code == 0
    job.check()


def _run_beside_a_member_that_commits_nothing(job: Growing, log: Path) -> int:
    """Reads records of one lane, while another member, as one that dies early, has the other; gives the lane."""
    settings = {"bootstrap.servers": job.server.bootstrap_servers, "group.id": job.name, "enable.auto.commit": False}
    other = Consumer({**settings, "partition.assignment.strategy": "cooperative-sticky"})
    other.subscribe([job.input])
    process: ServerProcess | None = None
    try:
        _poll_until(other, lambda: len(other.assignment()) == 2)
        process = ServerProcess([sys.executable, "-m", "streamcore", "run", str(job.file)], log, env=dict(os.environ))
        _poll_until(other, lambda: len(other.assignment()) == 1)
        mine = 1 - int(other.assignment()[0].partition)
        job.put(range(5, 25), keys=keys_of((mine, 2)))
        _poll_until(other, lambda: committed_offsets(job.server, job.name, job.input, 2)[mine] == job.ends()[mine])
        process.stop()
    finally:
        if process is not None:
            process.stop()
        other.close()
    return mine


def _poll_until(consumer: Consumer, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < deadline
        consumer.poll(0.1)


def test_what_retention_took_from_the_old_partitions_is_for_the_next_run_to_judge(job: Growing) -> None:
    job.put(range(25))
    job.read()
    before = job.ends()[0]
    job.put(range(25, 30), keys=keys_of((0, 2)), counts=False)
    deleted = job.ends()[0]
    job.delete_records(0, deleted)
    text = job.file.read_text()
    job.replace(3)
    refused = job.refused("--to", "3", *OWN)
    assert f"records {before} to {deleted - 1} of partition 0 were deleted, and nobody has read them" in refused
    assert "say --drained" in refused
    job.file.write_text(text)
    job.input = f"{job.name}-in"
    job.grow(4)
    offsets = job.rescale(4, *OWN)["offsets"]
    assert isinstance(offsets, dict)
    assert offsets["0"] == before
    refused_run = job.run()
    assert (refused_run.code, "were deleted before they were read" in refused_run.err) == (6, True), refused_run.err
    job.put(range(30, 45))
    assert job.run("--accept-gap").code == 0
    job.check()


def test_what_is_left_behind_a_gap_is_read_where_that_is_asked_for(job: Growing) -> None:
    job.put(range(25))
    job.read()
    moving = keys_of((0, 2), (2, 4))
    job.put(range(25, 28), keys=moving, counts=False)
    job.delete_records(0, job.ends()[0])
    job.put(range(28, 30), keys=moving)
    job.grow(4)
    assert "--drain reads them first" in job.refused("--to", "4", *OWN)
    assert "--drain --accept-gap" in job.refused("--to", "4", *OWN, "--drain")
    assert job.rescale(4, *OWN, "--drain", "--accept-gap")["drained"] == 2 * len(moving)
    skipped = job("audit", str(job.file), "--json").json["skipped"]
    assert skipped["0"][job.input]["offsets"] == 3 * len(moving)
    job.put(range(30, 45))
    assert job.run().code == 0
    job.check()


def test_a_worker_that_is_started_again_waits_until_what_was_written_is_read(
    job: Growing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.put(range(25))
    job.read()
    job.grow(4)
    job.put(range(25, 40), keys=keys_of((2, 4)))
    started: list[ServerProcess] = []
    check = rescaling._check_written

    def check_late(committed: CommittedState, layout: int) -> None:
        """A supervisor starts the worker as soon as the state fits; it has all the time that it could want."""
        command = [sys.executable, "-m", "streamcore", "run", str(job.file)]
        started.append(ServerProcess(command, tmp_path / "log", env=dict(os.environ)))
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline and committed_offsets(job.server, job.name, job.input, 4)[2] <= 0:
            time.sleep(0.2)
        check(committed, layout)

    monkeypatch.setattr(rescaling, "_check_written", check_late)
    try:
        done = job.rescale(4, *OWN)
        assert done["rows"] == KEYS
        started[0].wait_until(
            lambda: committed_offsets(job.server, job.name, job.input, 4) == job.ends(), "all", TIMEOUT_S
        )
    finally:
        for process in started:
            process.stop()
    job.put(range(40, 50))
    assert job.run().code == 0
    job.check()


def test_a_reset_lets_a_run_begin_anew_whatever_the_partitions(job: Growing) -> None:
    job.put(range(15))
    job.read()
    job.grow(3)
    job.rescale(3, *OWN)
    job.put(range(15, 25))
    job.read()
    job.grow(5)
    assert job.run().code == 6
    assert job.state("reset", "--yes").code == 0
    topics = job("topics", "plan", str(job.file)).out
    assert "not used" not in topics
    assert f"{job.name}.0.state.g3  state  exists: 5 partitions\n" in topics
    job.put(range(25, 40))
    again = job.run()
    assert again.code == 0, again.err
    # All of it is read again, by the clocks of five partitions.
    audit = job("audit", str(job.file), "--json").json
    assert (audit["adds_up"], audit["total"]["read"]) == (True, 40 * KEYS)
    # And what is moved from here on goes on from there: a number is used once.
    job.grow(6)
    assert job.rescale(6, *OWN)["layout"] == 4
    audit = job("audit", str(job.file), "--json").json
    assert (audit["adds_up"], audit["total"]["read"]) == (True, 40 * KEYS)
    # Where it fits, too, nothing is left of what was moved before.
    assert job.state("reset", "--yes").code == 0
    assert job.run().code == 0
    audit = job("audit", str(job.file), "--json").json
    assert (audit["adds_up"], audit["total"]["read"]) == (True, 40 * KEYS)
