"""Records that make every mistake show: keys in their partitions, copies, disorder within the bound, and poison.

What is sent is a function of the seed; the oracle does not use this file, it reads the topic.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from typing import NamedTuple

from confluent_kafka import Producer

RECORDS_AT_ONCE, PAUSE_S = 100, 0.03
"""Of a stream: about 3,000 a second."""

PAGES = 40
"""The field `p` is one of so many, in any partition."""

BOUND_MS = 100
"""Disorder within a partition stays below this, so no record is late."""


def records(seed: int, count: int, *, partitions: int, keys: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Partition, key and value of `count` records, of which about one in ten is a copy and one in a hundred poison."""
    chance = random.Random(seed)
    sent: dict[int, list[bytes]] = {partition: [] for partition in range(partitions)}
    for number in range(count):
        key = chance.randrange(keys)
        partition = key % partitions
        name = f"k{key}".encode()
        recent = sent[partition]
        kind = chance.random()
        if kind < 0.01:
            yield partition, name, b'{"t": not a number'
        elif kind < 0.1 and recent:
            copy = chance.choice(recent)
            yield partition, json.loads(copy)["k"].encode(), copy
        else:
            time_ms = number * 10 - chance.randrange(BOUND_MS - 10)
            amount = chance.randint(-1000, 1000)
            row = {"t": time_ms, "k": name.decode(), "v": amount, "id": f"{seed}-{number}", "p": f"p{amount % PAGES}"}
            value = json.dumps(row).encode()
            recent.append(value)
            del recent[:-50]
            yield partition, name, value


class Sent(NamedTuple):
    """What a producer is given."""

    partition: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int = 0
    """0: the producer's clock."""
    headers: tuple[tuple[str, bytes], ...] = ()


class Sender:
    """Records that are sent a few at a time, from a thread of its own, until all are or `close`."""

    def __init__(self, servers: str, topic: str, sent: Iterator[Sent], *, pause_s: float = PAUSE_S) -> None:
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 5, "enable.idempotence": True})
        self._topic = topic
        self._pause_s = pause_s
        self._records = sent
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for number, sent in enumerate(self._records):
            while True:
                try:
                    self._producer.produce(
                        self._topic,
                        key=sent.key,
                        value=sent.value,
                        partition=sent.partition,
                        timestamp=sent.timestamp_ms,
                        headers=list(sent.headers),
                    )
                    break
                except BufferError:  # the broker is away
                    self._producer.poll(0.1)
                    if self._stopping.is_set():
                        return
            self._producer.poll(0)
            if number % RECORDS_AT_ONCE == 0 and self._stopping.wait(self._pause_s):
                return

    def close(self, *, finish: bool = False) -> None:
        """Stops, at once or when all are sent; what was sent is with the broker then."""
        if not finish:
            self._stopping.set()
        self._thread.join()
        assert self._producer.flush(60) == 0


class Stream(Sender):
    """Those of `records`."""

    def __init__(
        self,
        servers: str,
        topic: str,
        seed: int,
        count: int,
        *,
        partitions: int,
        keys: int,
        pause_s: float = PAUSE_S,
    ) -> None:
        made = records(seed, count, partitions=partitions, keys=keys)
        super().__init__(servers, topic, (Sent(*record) for record in made), pause_s=pause_s)
