"""Owns reading a topic as a reader of committed records sees it, to check answers by."""

from __future__ import annotations

import datetime as dt
import json
import uuid

from confluent_kafka import Consumer, KafkaError

WAIT_S = 10
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def windows(bootstrap: str, topic: str) -> list[tuple[str, int, int]]:
    """Page, start of the window (ms) and views: of each key the last row."""
    rows = map(json.loads, last_values(bootstrap, topic).values())
    return [(row["page_id"], milliseconds(row["window_start"]), row["views"]) for row in rows]


def milliseconds(text: str) -> int:
    """A time in a row."""
    return round((dt.datetime.fromisoformat(text) - EPOCH).total_seconds() * 1000)


def last_values(bootstrap: str, topic: str) -> dict[bytes, bytes]:
    """The last value of each key, once every partition is at its end."""
    settings = {"auto.offset.reset": "earliest", "enable.partition.eof": True, "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex, **settings})
    partitions = set(consumer.list_topics(topic, WAIT_S).topics[topic].partitions)
    consumer.subscribe([topic])
    values: dict[bytes, bytes] = {}
    ended: set[int] = set()
    while ended != partitions:
        messages = consumer.consume(500, WAIT_S)
        if not messages:
            raise RuntimeError(f"{topic} gave neither a record nor its end for {WAIT_S} s")
        for message in messages:
            error = message.error()
            if error is None:
                values[message.key()] = message.value()
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                ended.add(message.partition())
            else:
                raise RuntimeError(error.str())
    consumer.close()
    return values
