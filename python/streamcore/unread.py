"""Owns what is left to be read of the partitions that a pipeline's state was made from, when the state is to be moved.

Before it: `rescaling.py`, with the positions of the old layout. After it: the broker.
Invariant: nothing is committed; what is told of a record is its place and its key.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from streamcore import _core
from streamcore.config import KafkaConnection
from streamcore.errors import SourceError
from streamcore.kafka_client import partition_list
from streamcore.kafka_errors import failed_reading
from streamcore.state_topics import group_of_nobody

READ_S = 120.0
"""How long a partition may stand still while it is read."""
WAIT_S = 0.05
AT_ONCE = 1_000

Range = tuple[int, int]
"""The first offset, and the one behind the last."""


@dataclass(slots=True)
class Unread:
    """Of one partition, from the position of its lane on."""

    end: int
    """Where it ended when that was looked at."""
    records: int = 0
    first: int | None = None
    """Offset of the first."""
    old: int = 0
    """Records whose key goes elsewhere now: the old layout has to read them."""
    last_old: tuple[int, bytes] | None = None
    """Offset and key of the last of them."""
    first_new: tuple[int, bytes] | None = None
    """Offset and key of the first record whose key went elsewhere before: the old layout must not read it."""

    @property
    def cut(self) -> int | None:
        """Where the old layout ends: no further than it has to, since clocks follow what is read. None: where it is."""
        return None if self.last_old is None else self.last_old[0] + 1

    @property
    def is_mixed(self) -> bool:
        """Whether records of both kinds are in an order that no cut parts."""
        return self.first_new is not None and self.last_old is not None and self.last_old[0] > self.first_new[0]


def unread(
    connection: KafkaConnection,
    topic: str,
    ranges: Mapping[int, Range],
    sizes: tuple[int, int],
    by: str | None,
) -> dict[int, Unread]:
    """What is between the two offsets of each partition, where the topic grew from one size to another.

    `by` is how producers choose partitions; None where it does not matter who reads a record. Raises `SourceError`.
    """
    found = {lane: Unread(end) for lane, (_, end) in ranges.items()}
    for lane, offset, key in _records(connection, topic, ranges):
        one = found[lane]
        one.records += 1
        one.first = offset if one.first is None else one.first
        if by is None or key is None:
            continue
        before, after = (_core.partition_of(by, key, size) for size in sizes)
        if after not in (None, lane):
            one.old, one.last_old = one.old + 1, (offset, key)
        elif before not in (None, lane) and one.first_new is None:
            one.first_new = (offset, key)
    return found


def _records(
    connection: KafkaConnection, topic: str, ranges: Mapping[int, Range]
) -> Iterator[tuple[int, int, bytes | None]]:
    """Partition, offset and key of the committed records in `ranges`."""
    for lane, messages in messages_of(connection, topic, ranges):
        yield from ((lane, message.offset(), message.key()) for message in messages)


def messages_of(
    connection: KafkaConnection, topic: str, ranges: Mapping[int, Range]
) -> Iterator[tuple[int, list[Any]]]:
    """The committed records in `ranges` as the client gives them, some at a time, one partition after the other."""
    settings: dict[str, Any] = {"isolation.level": "read_committed", "allow.auto.create.topics": False}
    if all(start >= end for start, end in ranges.values()):
        return
    consumer = group_of_nobody(connection, settings)
    try:
        for lane, (start, end) in ranges.items():
            if start >= end:
                continue
            consumer.assign(partition_list(topic, {lane: start}))
            deadline, position = time.monotonic() + READ_S, start
            while position < end:
                messages: list[Any] = consumer.consume(AT_ONCE, WAIT_S)
                for error in (message.error() for message in messages):
                    failure = None if error is None else failed_reading(error, f"partition {lane} of {topic}", topic)
                    if failure is not None:
                        raise failure
                wanted = [each for each in messages if each.error() is None and each.offset() < end]
                if wanted:
                    yield lane, wanted
                reached = consumer.position(partition_list(topic, [lane]))[0].offset
                if reached > position:
                    # Whoever takes the records may take long.
                    deadline, position = time.monotonic() + READ_S, reached
                elif time.monotonic() > deadline:
                    raise SourceError(
                        f"partition {lane} of {topic} was not read on from {position} towards {end} within {READ_S:.0f} s",
                        unreachable=True,
                    )
    finally:
        consumer.close()  # type: ignore[no-untyped-call]
