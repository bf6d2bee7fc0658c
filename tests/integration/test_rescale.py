"""`streamcore state rescale` beside a real broker: an input that grew, another one, and what is refused."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewPartitions

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

    def put(self, times_s: range, *, partitioner: str = "consistent_random", keys: int = KEYS) -> None:
        """A record a second for each key, in the order of their times."""
        producer = Producer({"bootstrap.servers": self.server.bootstrap_servers, "partitioner": partitioner})
        producer.list_topics(self.input, timeout=TIMEOUT_S)
        for at in times_s:
            for key in range(keys):
                value = json.dumps({"t": at * 1000, "k": f"key {key}", "v": at})
                producer.produce(self.input, key=f"key {key}", value=value)
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


def _second(text: str) -> int:
    from datetime import datetime

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
    late = Producer({"bootstrap.servers": job.server.bootstrap_servers, "topic.metadata.refresh.interval.ms": -1})
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
    assert f"{unique}.0.combine.g2  state  exists: 1 partitions" in job("topics", "plan", str(job.file)).out


def test_nothing_is_moved_while_a_worker_lives_or_where_there_is_nothing(job: Growing, tmp_path: Path) -> None:
    assert "has no state yet" in job.refused("--to", "2", *OWN)
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
