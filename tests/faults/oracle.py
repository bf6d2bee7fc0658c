"""What the output must be, worked out from the input topic alone by plain Python, and what it is.

Shares no code with the engine. Windows of ten seconds by key; ids seen before in the partition count once; what is no JSON
is a dead letter. Invariant: `differences` names every row that is lost, doubled or wrong.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

SIZE_MS = 10_000
TIMEOUT_S = 120.0
REQUEST_S = 5.0
MARKERS_S = 3.0


Row = tuple[str, int, int, int]
"""Key, beginning of the window, count and sum."""


@dataclass
class Expected:
    """Of everything in the input topic."""

    rows: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    """By key and window: count and sum."""
    dead: set[tuple[int, int]] = field(default_factory=set)
    """Partition and offset of the records that are none."""
    ends: dict[int, int] = field(default_factory=dict)
    """By partition: how many records."""

    def counted(self) -> Counter[Row]:
        """Its rows, each once."""
        return Counter({(key, start, count, total): 1 for (key, start), (count, total) in self.rows.items()})


def read(servers: str, topic: str) -> list[Any]:
    """Every committed message of a topic, partition by partition in order.

    The markers of a transaction that was committed a moment ago may not be there yet: they are waited for, as long as they take at most. What is
    left open behind them is not told.
    """
    markers_s = time.monotonic() + MARKERS_S
    while hanging(servers, [topic]) and time.monotonic() < markers_s:
        time.sleep(0.05)
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"oracle-{time.monotonic_ns()}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    partitions = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
    found: list[Any] = []
    ended: set[int] = set()
    deadline = time.monotonic() + TIMEOUT_S
    while len(ended) < len(partitions):
        assert time.monotonic() < deadline, f"{topic} was not read to its end in time"
        for message in consumer.consume(10_000, 0.1):
            if message.error() is None:
                found.append(message)
            else:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                ended.add(message.partition())
    consumer.close()
    return found


def expected(servers: str, topic: str, *, by: str = "k", without: frozenset[tuple[int, int]] = frozenset()) -> Expected:
    """Goes through the input record by record; windows are those of the field `by`.

    `without` are those that found no room, by partition and offset.
    """
    answer, seen = Expected(), set()
    for message in read(servers, topic):
        partition = message.partition()
        answer.ends[partition] = message.offset() + 1
        if (partition, message.offset()) in without:
            answer.dead.add((partition, message.offset()))
            continue
        try:
            row = json.loads(message.value())
        except ValueError:
            answer.dead.add((partition, message.offset()))
            continue
        if (partition, row["id"]) in seen:
            continue
        seen.add((partition, row["id"]))
        window = row[by], row["t"] // SIZE_MS * SIZE_MS
        count, total = answer.rows.get(window, (0, 0))
        answer.rows[window] = count + 1, total + row["v"]
    return answer


def differences(servers: str, *, source: str, output: str, dead_letters: str, by: str = "k") -> list[str]:
    """What a reader of committed records finds wrong; nothing, where each row and letter is there once and right."""
    wanted = expected(servers, source, by=by, without=shed(servers, dead_letters))
    found = Counter(row_of(message, by) for message in read(servers, output))
    right = wanted.counted()
    wrong = [f"lost or wrong: {row}" for row in (right - found)]
    wrong += [f"doubled or wrong: {row} x{times}" for row, times in (found - right).items()]
    letters: Counter[tuple[int, int]] = Counter()
    for message in read(servers, dead_letters):
        letters[_place(message)] += 1
    wanted_letters = Counter(dict.fromkeys(wanted.dead, 1))
    wrong += [f"dead letter lost: {place}" for place in (wanted_letters - letters)]
    wrong += [f"dead letter doubled: {place}" for place in (letters - wanted_letters)]
    return wrong


def row_of(message: Any, by: str = "k") -> Row:
    """Of a message of the output; windows are those of the field `by`."""
    row = json.loads(message.value())
    return row[by], _ms(row["window_start"]), row["n"], row["s"]


def shed(servers: str, dead_letters: str) -> frozenset[tuple[int, int]]:
    """Records that found no room, by their partition and offset: which, only the engine's own measure can say."""
    letters = read(servers, dead_letters)
    return frozenset(_place(letter) for letter in letters if dict(letter.headers())["dlq.reason"] == b"STATE_FULL")


def _place(letter: Any) -> tuple[int, int]:
    headers = dict(letter.headers())
    return int(headers["dlq.partition"]), int(headers["dlq.offset"])


def _ms(text: str) -> int:
    from datetime import datetime

    return round(datetime.fromisoformat(text).timestamp() * 1000)


def hanging(servers: str, topics: list[str]) -> list[str]:
    """Partitions whose last stable offset is not their end: a transaction was left open."""
    admin = AdminClient({"bootstrap.servers": servers})
    found = []
    for topic in topics:
        partitions = admin.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions
        places = [TopicPartition(topic, partition) for partition in partitions]
        ends = {}
        for level in (IsolationLevel.READ_UNCOMMITTED, IsolationLevel.READ_COMMITTED):
            asked = admin.list_offsets({place: OffsetSpec.latest() for place in places}, isolation_level=level)
            ends[level] = {place.partition: future.result().offset for place, future in asked.items()}
        if ends[IsolationLevel.READ_UNCOMMITTED] != ends[IsolationLevel.READ_COMMITTED]:
            found.append(f"{topic}: {ends}")
    return found


def group_offsets(servers: str, group: str, topic: str, partitions: int) -> dict[int, int]:
    """What the group has committed; of a transaction that is open, nothing, and it is not waited for.

    By a consumer, which asks so where it does not read committed records alone: the admin client's question ended the process
    (`rd_kafka_enq_once_del_source_return`) where a broker died meanwhile.
    """
    settings = {"bootstrap.servers": servers, "group.id": group, "isolation.level": "read_uncommitted"}
    consumer = Consumer(settings)
    places = [TopicPartition(topic, lane) for lane in range(partitions)]
    deadline = time.monotonic() + TIMEOUT_S
    try:
        while True:
            try:
                parts = consumer.committed(places, timeout=REQUEST_S)
            except KafkaException:
                # A broker that has just started may not have its coordinator yet.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
                continue
            return {part.partition: part.offset for part in parts}
    finally:
        consumer.close()
