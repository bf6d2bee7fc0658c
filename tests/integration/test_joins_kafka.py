"""Joins of Kafka topics: different numbers of partitions, a compacted topic as a table, a restart in the middle."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

import streamcore as sc
from tests.integration.kafka_tools import committed_offsets, connection, create_topic, read_topic
from tests.servers.kafka import KafkaServer

KEYS: dict[str, Any] = {"event_time": "t", "event_time_unit": "ms", "out_of_orderness": "1s"}


def send(server: KafkaServer, topic: str, rows: Iterable[tuple[str, dict[str, Any] | None]]) -> None:
    producer = Producer({"bootstrap.servers": server.bootstrap_servers, "enable.idempotence": True})
    for key, row in rows:
        producer.produce(topic, key=key.encode(), value=None if row is None else json.dumps(row).encode())
        producer.poll(0)
    assert producer.flush(30) == 0


def source(server: KafkaServer, topic: str, schema: dict[str, str], **keys: Any) -> sc.Pipeline:
    return sc.kafka(topic, connection=connection(server), schema=schema, **{**KEYS, **keys})


def orders(first: int, last: int) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"k{number % 50}", {"t": number * 100, "k": f"k{number % 50}", "n": number}) for number in range(first, last)
    ]


def payments(first: int, last: int) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"k{number % 50}", {"t": number * 100 + 40, "k": f"k{number % 50}", "m": number})
        for number in range(first, last)
        if number % 3
    ]


def test_topics_of_different_partition_counts_are_joined_and_a_restart_loses_nothing(
    kafka_server: KafkaServer, unique: str, tmp_path: Path
) -> None:
    left, right, out = f"{unique}-l", f"{unique}-r", f"{unique}-out"
    create_topic(kafka_server, left, partitions=4)
    create_topic(kafka_server, right, partitions=3)
    flow = source(kafka_server, left, {"k": "string", "n": "int64"}).join(
        source(kafka_server, right, {"k": "string", "m": "int64"}),
        on="k",
        how="left",
        within=("0s", "1s"),
        name="payments",
    )
    flow = flow.sink_kafka(out, mode="append").configure(state_dir=str(tmp_path))
    send(kafka_server, left, orders(0, 1000))
    send(kafka_server, right, payments(0, 700))
    flow.run(name=unique, for_="6s")
    half = len(read_topic(kafka_server, out))
    assert 0 < half < 1000, "the rest waits for the other side"
    send(kafka_server, right, payments(700, 1000))
    report = flow.run(name=unique, stop="end")
    rows = [json.loads(message.value()) for message in read_topic(kafka_server, out)]
    expected = [{"k": f"k{number % 50}", "n": number, "m": number if number % 3 else None} for number in range(1000)]
    assert sorted(rows, key=lambda row: row["n"]) == expected
    assert report.state == "ended"
    assert report.inputs["payments"]["read"] == len(payments(700, 1000))
    assert sum(committed_offsets(kafka_server, unique, left, 4).values()) == 1000
    assert sum(committed_offsets(kafka_server, f"{unique}.payments", right, 3).values()) == len(payments(0, 1000))


def test_a_compacted_topic_is_a_table(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> None:
    users, clicks = f"{unique}-users", f"{unique}-clicks"
    create_topic(kafka_server, users, partitions=3, cleanup_policy="compact")
    create_topic(kafka_server, clicks, partitions=2)
    send(kafka_server, users, [(f"u{number}", {"id": f"u{number}", "city": f"old{number}"}) for number in range(500)])
    send(kafka_server, users, [(f"u{number}", {"id": f"u{number}", "city": f"c{number}"}) for number in range(500)])
    send(kafka_server, users, [("u7", None)])
    send(kafka_server, clicks, [(f"u{number}", {"t": number, "user": f"u{number}"}) for number in range(500)])
    table = source(kafka_server, users, {"id": "string", "city": "string"}, event_time=None, keyed_by="id")
    flow = source(kafka_server, clicks, {"user": "string"}).join_table(
        table, left_on="user", right_on="id", how="left", name="users"
    )
    rows = flow.collect(stop="end").to_rows()
    assert {row["user"]: row["city"] for row in rows} == {
        f"u{number}": None if number == 7 else f"c{number}" for number in range(500)
    }
    out = f"{unique}-out"
    named = flow.sink_kafka(out, mode="append").configure(state_dir=str(tmp_path))
    named.run(name=unique, stop="end")
    send(kafka_server, users, [("u1", {"id": "u1", "city": "new"}), ("u2", None)])
    send(kafka_server, clicks, [(f"u{number}", {"t": 1000, "user": f"u{number}"}) for number in range(4)])
    named.run(name=unique, stop="end")
    later = [json.loads(message.value()) for message in read_topic(kafka_server, out)][500:]
    assert {row["user"]: row["city"] for row in later} == {"u0": "c0", "u1": "new", "u2": None, "u3": "c3"}
