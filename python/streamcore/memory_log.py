"""Owns the in-process log: topics with partitions, append-only, for tests and for pipelines without a broker.

Before it: whoever appends, a `memory` sink among them. After it: `sources/memory.py`.
Invariant: an offset, once given, names the same record until the topic is deleted.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from streamcore.errors import Error

RECORDS_MAX = 5_000_000
"""Records one topic holds; the log never forgets by itself, so it refuses more."""

Headers = Sequence[tuple[str, bytes | None]]


class Entry(NamedTuple):
    """One record, in the order `_core.Raw.from_records` takes its parts."""

    value: bytes | None
    key: bytes | None
    headers: Headers | None
    timestamp_ms: int | None
    offset: int


class MemoryLog:
    """A set of topics. `default_log` is the one that pipelines use."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._topics: dict[str, list[list[Entry]]] = {}

    def create(self, topic: str, *, partitions: int = 1) -> None:
        """Makes an empty topic. Raises `Error` if it exists."""
        if partitions < 1:
            raise Error(f"{topic}: a topic has at least one partition, not {partitions}")
        with self._changed:
            if topic in self._topics:
                raise Error(f"the in-process topic {topic} exists already; delete it first, or choose another name")
            self._topics[topic] = [[] for _ in range(partitions)]

    def delete(self, topic: str) -> None:
        """Forgets a topic and its records; none of that name is fine."""
        with self._changed:
            self._topics.pop(topic, None)

    def append(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
        partition: int | None = None,
    ) -> tuple[int, int]:
        """Adds a record and returns its (partition, offset). A topic that is not there is made with one partition.

        Records with equal keys share a partition. Raises `Error` when the topic is full.
        """
        with self._changed:
            partitions = self._topics.setdefault(topic, [[]])
            if partition is None:
                partition = zlib.crc32(key) % len(partitions) if key is not None else 0
            elif not 0 <= partition < len(partitions):
                raise Error(f"the in-process topic {topic} has {len(partitions)} partitions; there is no {partition}")
            if sum(len(entries) for entries in partitions) >= RECORDS_MAX:
                raise Error(f"the in-process topic {topic} is full ({RECORDS_MAX} records); delete it, or use Kafka")
            offset = len(partitions[partition])
            partitions[partition].append(Entry(value, key, headers, timestamp_ms, offset))
            self._changed.notify_all()
            return partition, offset

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has; one that is not there is made with one."""
        with self._changed:
            return len(self._topics.setdefault(topic, [[]]))

    def read(self, topic: str, partition: int, offset: int, records_max: int) -> list[Entry]:
        """Records from `offset` on; empty at the end."""
        with self._changed:
            return self._topics.get(topic, [[]])[partition][offset : offset + records_max]

    def ends(self, topic: str) -> list[int]:
        """The next offset of each partition."""
        with self._changed:
            return [len(entries) for entries in self._topics.get(topic, [[]])]

    def wait(self, topic: str, known_ends: Sequence[int], timeout_s: float) -> None:
        """Returns when a partition has grown beyond `known_ends`, or after `timeout_s`."""

        def grown() -> bool:
            return [len(entries) for entries in self._topics.get(topic, [[]])] != list(known_ends)

        with self._changed:
            self._changed.wait_for(grown, timeout_s)


default_log = MemoryLog()
