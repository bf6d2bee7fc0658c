"""What the Kafka tests share: topics, records, sources, and reading a topic back with a plain consumer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, TopicMetadata

from streamcore.config import KafkaConnection, KafkaSourceConfig
from streamcore.sources.base import Polled, Start
from streamcore.sources.kafka import KafkaSource
from tests.faults import oracle
from tests.servers.kafka import KafkaServer

TIMEOUT_S = 30.0


def connection(server: KafkaServer, **settings: Any) -> KafkaConnection:
    return KafkaConnection(**{"bootstrap_servers": server.bootstrap_servers, **settings})


def create_topic(server: KafkaServer, name: str, partitions: int = 1, **settings: str) -> str:
    admin = AdminClient({"bootstrap.servers": server.bootstrap_servers})
    config = {key.replace("_", "."): value for key, value in settings.items()}
    admin.create_topics([NewTopic(name, num_partitions=partitions, config=config)])[name].result()
    # The broker answers before it knows of the topic itself.
    deadline = time.monotonic() + TIMEOUT_S
    while len(admin.list_topics(timeout=TIMEOUT_S).topics.get(name, TopicMetadata()).partitions or ()) < partitions:
        assert time.monotonic() < deadline, f"topic {name} was created and is not there"
        time.sleep(0.02)
    return name


def produce(server: KafkaServer, topic: str, values: Iterable[bytes | None], partition: int = 0, **fields: Any) -> None:
    settings = {
        "bootstrap.servers": server.bootstrap_servers,
        "linger.ms": 5,
        "message.max.bytes": 8 << 20,
        "enable.idempotence": True,
    }
    producer = Producer(settings)
    for value in values:
        try:
            producer.produce(topic, value=value, partition=partition, **fields)
        except BufferError:  # the broker is slower
            producer.flush(TIMEOUT_S)
            producer.produce(topic, value=value, partition=partition, **fields)
        producer.poll(0)
    assert producer.flush(TIMEOUT_S) == 0


def delete_records(server: KafkaServer, topic: str, partition: int, before: int) -> None:
    """Retention, at once."""
    part = TopicPartition(topic, partition, before)
    admin = AdminClient({"bootstrap.servers": server.bootstrap_servers})
    admin.delete_records([part])[part].result(TIMEOUT_S)


def transaction(server: KafkaServer, topic: str, values: Iterable[bytes], *, commit: bool) -> None:
    """Writes values to partition 0 in one transaction; its marker takes an offset of its own."""
    producer = open_transaction(server, topic, values)
    if commit:
        producer.commit_transaction(TIMEOUT_S)
    else:
        producer.abort_transaction(TIMEOUT_S)


def open_transaction(server: KafkaServer, topic: str, values: Iterable[bytes]) -> Producer:
    producer = Producer({"bootstrap.servers": server.bootstrap_servers, "transactional.id": f"{topic}-transaction"})
    producer.init_transactions(TIMEOUT_S)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value=value, partition=0)
    assert producer.flush(TIMEOUT_S) == 0
    return producer


def read_topic(server: KafkaServer, topic: str) -> list[Any]:
    """Every committed message of a topic up to its end, by a reader of its own."""
    return oracle.read(server.bootstrap_servers, topic)


def committed_offsets(server: KafkaServer, group: str, topic: str, partitions: int) -> dict[int, int]:
    return oracle.group_offsets(server.bootstrap_servers, group, topic, partitions)


@contextmanager
def opened(server: KafkaServer, topic: str, start: Start | None = None, **options: Any) -> Iterator[KafkaSource]:
    """An open source of a topic; settings of the `[source]` go in `source`, of `[kafka]` in `kafka`."""
    source = make_source(server, topic, **options)
    try:
        source.open(start or Start())
        yield source
    finally:
        source.close()


def make_source(server: KafkaServer, topic: str, **options: Any) -> KafkaSource:
    config = KafkaSourceConfig(topic=topic, **options.pop("source", {}))
    return KafkaSource(connection(server, **options.pop("kafka", {})), config, **{"group": None, **options})


def poll_until(source: KafkaSource, done: Callable[[list[Polled]], bool]) -> list[Polled]:
    """Polls until `done` of everything polled; returns that."""
    polled: list[Polled] = []
    deadline = time.monotonic() + TIMEOUT_S
    while not done(polled):
        assert time.monotonic() < deadline, f"not reached in time; positions {source.positions()}"
        polled.append(source.poll(0.05))
    return polled


def ended(polled: list[Polled]) -> bool:
    return bool(polled) and polled[-1].ended


def caught_up(*lanes: int) -> Callable[[list[Polled]], bool]:
    return lambda polled: bool(polled) and polled[-1].caught_up == lanes


def records(count: int) -> Callable[[list[Polled]], bool]:
    return lambda polled: record_count(polled) >= count


def record_count(polled: Iterable[Polled]) -> int:
    return sum(len(one.raw) for one in polled if one.raw is not None)


def byte_count(polled: Iterable[Polled]) -> int:
    return sum(one.raw.byte_len for one in polled if one.raw is not None)
