"""Reading a topic of transactions as a member of a group of one's own."""

from __future__ import annotations

import threading
import time

import pytest
from confluent_kafka import Producer

from streamcore.committed_reader import CommittedReader
from streamcore.errors import SinkError
from tests.integration.kafka_tools import connection, create_topic, delete_records, produce, transaction
from tests.servers.kafka import KafkaServer

JOIN_S = 20.0


def opened(server: KafkaServer, topic: str, group: str) -> CommittedReader:
    reader = CommittedReader(connection(server, session_timeout="6s"), topic, group=group)
    reader.open()
    return reader


def read(reader: CommittedReader, count: int, at: dict[int, int] | None = None) -> dict[int, list[int]]:
    """The offsets of `count` records, partition by partition, each of which begins as `at` says, or at its beginning."""
    found: dict[int, list[int]] = {}
    deadline = time.monotonic() + JOIN_S
    while sum(map(len, found.values())) < count:
        assert time.monotonic() < deadline, f"{found}, at {reader.placed}"
        for partition in reader.unplaced:
            reader.place(partition, (at or {}).get(partition, reader.bounds(partition)[0]))
        for partition, records in reader.poll(100, 0.1).items():
            found.setdefault(partition, []).extend(record.offset for record in records)
    return found


def test_every_partition_is_read_from_where_it_was_placed(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique, 4)
    for partition in range(4):
        produce(kafka_server, unique, [b"%d" % number for number in range(50)], partition=partition)
    reader = opened(kafka_server, unique, f"{unique}-readers")
    found = read(reader, 200 - 7 - 50, {0: 7, 1: 50})
    assert found == {0: list(range(7, 50)), 2: list(range(50)), 3: list(range(50))}
    assert (reader.waiting(), reader.placed) == (0, dict.fromkeys(range(4), 50))
    reader.back_to({2: 48, 9: 3})
    assert read(reader, 2) == {2: [48, 49]}
    reader.close()


def test_a_partition_that_grows_is_read_from_where_it_was_placed(kafka_server: KafkaServer, unique: str) -> None:
    """The client must not go to the end, of which it may hear when it was sent elsewhere already: one in four times it did."""
    create_topic(kafka_server, unique, 4)
    for partition in range(4):
        produce(kafka_server, unique, [b"old"] * 200, partition=partition)
    stopping = threading.Event()
    traffic = threading.Thread(target=_grow, args=(kafka_server, unique, stopping))
    traffic.start()
    try:
        for number in range(8):
            reader = opened(kafka_server, unique, f"{unique}-{number}")
            first: dict[int, int] = {}
            while len(first) < 4:
                for partition, offsets in read(reader, 1, dict.fromkeys(range(4), 100)).items():
                    first.setdefault(partition, offsets[0])
            reader.close()
            assert first == dict.fromkeys(range(4), 100)
    finally:
        stopping.set()
        traffic.join()


def _grow(server: KafkaServer, topic: str, stopping: threading.Event) -> None:
    producer = Producer({"bootstrap.servers": server.bootstrap_servers, "enable.idempotence": True, "linger.ms": 1})
    number = 0
    while not stopping.wait(0.001):
        producer.produce(topic, b"new", partition=number % 4)
        producer.poll(0)
        number += 1
    producer.flush(10)


def test_what_is_held_back_comes_later_and_only_committed_records_do(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique)
    transaction(kafka_server, unique, [b"a", b"b"], commit=False)
    transaction(kafka_server, unique, [b"c", b"d"], commit=True)
    reader = opened(kafka_server, unique, f"{unique}-readers")
    assert read(reader, 2) == {0: [3, 4]}
    while reader.waiting():
        assert reader.poll(10, 0.1) == {}
    assert reader.placed == {0: 5}, "the marker is no record"
    reader.hold()
    transaction(kafka_server, unique, [b"e"], commit=True)
    assert [reader.poll(10, 0.05) for _ in range(20)] == [{}] * 20
    assert reader.waiting() == 2
    reader.go_on()
    assert read(reader, 1) == {0: [6]}
    reader.close()


def test_a_partition_whose_next_record_was_deleted_is_placed_anew(kafka_server: KafkaServer, unique: str) -> None:
    """The client went back to the same offset, and was refused it, again and again."""
    create_topic(kafka_server, unique)
    produce(kafka_server, unique, [b"%d" % number for number in range(30)])
    reader = opened(kafka_server, unique, f"{unique}-readers")
    assert read(reader, 30) == {0: list(range(30))}
    reader.hold()
    delete_records(kafka_server, unique, 0, 25)
    reader.back_to({0: 10})
    reader.go_on()
    deadline = time.monotonic() + JOIN_S
    while not reader.unplaced:
        assert time.monotonic() < deadline
        assert reader.poll(100, 0.1) == {}
    assert (reader.placed, reader.bounds(0)) == ({}, (25, 30))
    assert read(reader, 5) == {0: list(range(25, 30))}
    reader.close()


def test_the_group_keeps_the_place_of_those_who_ask_for_it(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique)
    produce(kafka_server, unique, [b"a", b"b", b"c"])
    for begins, ends in ((None, 2), (2, 3)):
        reader = opened(kafka_server, unique, f"{unique}-readers")
        while not reader.unplaced:
            reader.poll(10, 0.1)
        assert reader.group_offset(0) == begins
        reader.commit(0, ends)
        reader.close()


def test_a_topic_that_is_gone_is_said(kafka_server: KafkaServer, unique: str) -> None:
    with pytest.raises(SinkError, match="is gone"):
        opened(kafka_server, unique, unique)
