"""One live worker a group: who is refused, whose seat is waited for, and what happens when partitions are taken."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from streamcore.errors import ConfigError, FencedError, StateError
from streamcore.kafka_client import Cluster
from streamcore.sources.base import Start
from tests.integration.kafka_tools import (
    caught_up,
    committed_offsets,
    connection,
    create_topic,
    make_source,
    opened,
    poll_until,
    produce,
    records,
)
from tests.servers.kafka import KafkaServer
from tests.servers.process import ServerProcess

SHORT_SESSION = {"session_timeout": "2s"}

WORKER = """
import json, sys
from streamcore.config import KafkaConnection, KafkaSourceConfig
from streamcore.sources.base import Start
from streamcore.sources.kafka import KafkaSource
servers, topic = sys.argv[1:]
connection = KafkaConnection(bootstrap_servers=servers, session_timeout="2s")
source = KafkaSource(connection, KafkaSourceConfig(topic=topic), group=topic, instance_id="the-first")
source.open(Start())
while True:
    source.poll(0.05)
    print(json.dumps(source.positions()), flush=True)
"""


def start_worker(server: KafkaServer, topic: str, folder: Path) -> ServerProcess:
    """Another process with the seat in group `topic`; it has it once it prints positions."""
    command = [sys.executable, "-c", WORKER, server.bootstrap_servers, topic]
    worker = ServerProcess(command, folder / "worker.log")
    worker.wait_until(lambda: "}\n" in worker.log.read_text(), "the worker", timeout_s=30.0)
    return worker


def test_a_second_worker_is_refused_and_told_who_has_the_seat(
    kafka_server: KafkaServer, unique: str, tmp_path: Path
) -> None:
    create_topic(kafka_server, unique, partitions=2)
    first = start_worker(kafka_server, unique, tmp_path)
    try:
        second = make_source(kafka_server, unique, group=unique, kafka=SHORT_SESSION)
        with pytest.raises(FencedError, match=f"group {unique} has another live member .streamcore-the-first") as error:
            second.open(Start())
        second.close()
        assert error.value.exit_code == 7
        # The first one never noticed: it goes on with what comes.
        produce(kafka_server, unique, [b"{}"] * 10, partition=1)
        first.wait_until(lambda: _last_positions(first.log) == {"0": 0, "1": 10}, "the first worker", timeout_s=30.0)
    finally:
        first.stop()


def _last_positions(log: Path) -> dict[str, int]:
    """What the worker printed last; its log lines, which go to the same file, are passed over."""
    whole_lines = log.read_text().rpartition("\n")[0].splitlines()
    positions: dict[str, int] = json.loads(next(line for line in reversed(whole_lines) if line.startswith("{")))
    return positions


def test_the_seat_of_a_killed_worker_is_waited_for(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> None:
    create_topic(kafka_server, unique)
    produce(kafka_server, unique, [b"{}"] * 10)
    start_worker(kafka_server, unique, tmp_path).kill()
    with opened(kafka_server, unique, group=unique, kafka=SHORT_SESSION) as source:
        poll_until(source, records(10))


def test_a_worker_that_leaves_in_order_leaves_its_seat_at_once(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique)
    for _ in range(2):
        # With a session of a minute, a seat that had to be waited for would time the test out.
        with opened(kafka_server, unique, group=unique, kafka={"session_timeout": "60s"}) as source:
            source.poll(0.05)


def test_partitions_taken_away_end_the_run_and_nothing_is_committed_after(
    kafka_server: KafkaServer, unique: str
) -> None:
    create_topic(kafka_server, unique, partitions=2)
    produce(kafka_server, unique, [b"{}"] * 10)
    settings = {"bootstrap.servers": kafka_server.bootstrap_servers, "group.id": unique}
    intruder = Consumer(
        {**settings, "partition.assignment.strategy": "cooperative-sticky", "auto.offset.reset": "error"}
    )
    with opened(kafka_server, unique, group=unique) as source:
        poll_until(source, records(10))
        source.committed({0: 5, 1: 0})
        intruder.subscribe([unique])
        with pytest.raises(FencedError, match=rf"group {unique} took partitions \[\d\] of {unique} away") as error:
            poll_until(source, lambda _: intruder.poll(0.01) is not None)
        assert error.value.exit_code == 7
        source.committed({0: 10, 1: 0})
    intruder.close()
    assert committed_offsets(kafka_server, unique, unique, 2) == {0: 5, 1: 0}


def test_a_topic_that_grew_under_a_running_worker_is_refused(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique)
    fast = {"options": {"topic.metadata.refresh.interval.ms": 100}}
    with opened(kafka_server, unique, group=unique, source=fast) as source:
        admin = AdminClient({"bootstrap.servers": kafka_server.bootstrap_servers})
        admin.create_partitions([NewPartitions(unique, 3)])[unique].result()
        with pytest.raises(StateError, match=r"now has partitions \[1, 2\]"):
            poll_until(source, lambda _: False)


def test_a_source_that_failed_to_open_can_be_closed(kafka_server: KafkaServer, unique: str) -> None:
    source = make_source(kafka_server, unique)
    with pytest.raises(ConfigError):
        source.open(Start())
    source.close()
    source.close()


def test_after_an_outage_the_work_goes_on_only_if_nobody_else_worked(
    kafka_server: KafkaServer, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real way there is in test_kafka_traps.py; here the broker's answer is made up."""
    create_topic(kafka_server, unique, partitions=2)
    with opened(kafka_server, unique, group=unique) as source:
        source.committed({0: 5})
        source.committed({0: 7})
        seat = source._seat
        assert seat is not None
        # An outage may swallow what the group was told last: what it held before is no sign of another worker.
        for found in ({0: 7}, {0: 5}, {}):
            seat.lost_s = 0.0
            with monkeypatch.context() as patch:
                patch.setattr(source, "_committed_offsets", lambda found=found: found)
                source.poll(0.0)
            assert not seat.regained
        for found in ({0: 6}, {0: 7, 1: 3}):
            seat.lost_s = 0.0
            monkeypatch.setattr(source, "_committed_offsets", lambda found=found: found)
            with pytest.raises(FencedError, match="another worker read"):
                source.poll(0.0)


def test_while_the_seat_is_lost_nothing_is_committed_and_no_lane_is_caught_up(
    kafka_server: KafkaServer, unique: str
) -> None:
    create_topic(kafka_server, unique)
    with opened(kafka_server, unique, group=unique) as source:
        poll_until(source, caught_up(0))
        seat = source._seat
        assert seat is not None
        seat._on_lost(None, [TopicPartition(unique, 0)])
        source.committed({0: 5})
        assert source.poll(0.0).caught_up == ()
    assert committed_offsets(kafka_server, unique, unique, 1) == {0: -1001}


def test_a_stopped_worker_goes_on_where_it_was_if_nobody_took_its_seat(
    kafka_server: KafkaServer, unique: str, tmp_path: Path
) -> None:
    create_topic(kafka_server, unique, partitions=2)
    worker = start_worker(kafka_server, unique, tmp_path)
    try:
        _hold_up(worker, kafka_server, unique)
        worker.process.send_signal(signal.SIGCONT)
        produce(kafka_server, unique, [b"{}"] * 10, partition=1)
        worker.wait_until(lambda: _last_positions(worker.log) == {"0": 0, "1": 10}, "the worker", timeout_s=30.0)
    finally:
        worker.kill()


def test_a_stopped_worker_leaves_its_successor_in_peace(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> None:
    create_topic(kafka_server, unique, partitions=2)
    worker = start_worker(kafka_server, unique, tmp_path)
    try:
        _hold_up(worker, kafka_server, unique)
        with opened(kafka_server, unique, group=unique, kafka=SHORT_SESSION) as successor:
            worker.process.send_signal(signal.SIGCONT)
            poll_until(successor, lambda _: worker.process.poll() is not None)
            assert "has joined while this worker was out of contact" in worker.log_tail()
            produce(kafka_server, unique, [b"{}"] * 10, partition=1)
            poll_until(successor, records(10))
    finally:
        worker.kill()


def _hold_up(worker: ServerProcess, server: KafkaServer, group: str) -> None:
    """Stops the process until the group has given up its seat."""
    worker.process.send_signal(signal.SIGSTOP)
    cluster = Cluster(connection(server))
    cluster.connect()
    worker.wait_until(lambda: not cluster.members(group), "the end of the session", timeout_s=30.0)
