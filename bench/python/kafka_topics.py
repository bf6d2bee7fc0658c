"""Owns filling topics: whose events, in how many partitions, how large and how compressed.

Before it: the events of `clickstream.py`. After it: benches that read the topic, and hold a reader to `Sent`.
Invariant: a record's partition is the one that Java's clients give its user, and offsets are those of the order it was sent in.
"""

from __future__ import annotations

import itertools
import random
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.python.clickstream import user_of
from bench.python.measure import say

PARTITIONS = 4
AT_ONCE = 2_000
UNSENT_BYTES_MAX = 64 << 20
SETTINGS = {
    "partitioner": "murmur2",
    "linger.ms": 50,
    "acks": "all",
    "enable.idempotence": True,
    "queue.buffering.max.messages": 1_000_000,
    "log_level": 3,
}
NOTES_BYTES = 16 << 20
WORDS = 5_000
GOLDEN = np.uint64(0x9E37_79B9_7F4A_7C15)


@dataclass(frozen=True)
class Shape:
    """What may be other than in the base case."""

    compression: str = "lz4"
    partitions: int = PARTITIONS
    event_bytes: int | None = None
    """How large each event is made; None: as it is."""


@dataclass(frozen=True)
class Sent:
    """What a reader of the whole topic must find."""

    events: int
    bytes: int
    checksum: str
    """By `fetch_limit.rs`: of places and lengths of all values."""


@dataclass
class _Tally:
    """Where records go, and what they come to."""

    partitions: int
    of_users: dict[bytes, int] = field(default_factory=dict)
    lanes: array[int] = field(default_factory=lambda: array("H"))
    lengths: array[int] = field(default_factory=lambda: array("I"))

    def message(self, value: bytes) -> dict[str, object]:
        """A record for `produce_batch`."""
        user = user_of(value)
        lane = self.of_users.get(user)
        if lane is None:
            lane = self.of_users[user] = (murmur2(user) & 0x7FFF_FFFF) % self.partitions
        self.lanes.append(lane)
        self.lengths.append(len(value))
        return {"value": value, "key": user}

    def sent(self) -> Sent:
        lanes, lengths = np.frombuffer(self.lanes, np.uint16), np.frombuffer(self.lengths, np.uint32)
        checksum = 0
        for lane in range(self.partitions):
            sizes = lengths[lanes == lane].astype(np.uint64)
            offsets = np.arange(len(sizes), dtype=np.uint64) << np.uint64(8) | np.uint64(lane & 0xFF)
            checksum += int(((offsets ^ sizes << np.uint64(40)) * GOLDEN).sum(dtype=np.uint64))
        return Sent(len(lanes), int(lengths.sum(dtype=np.uint64)), f"{checksum & 0xFFFF_FFFF_FFFF_FFFF:016x}")


def fill(bootstrap: str, topic: str, events: Iterable[bytes], shape: Shape | None = None) -> Sent:
    """Makes the topic and sends the events, each with its user as the key."""
    from confluent_kafka import Producer

    shape = shape or Shape()
    say(f"  filling {topic}")
    create_topic(bootstrap, topic, shape.partitions)
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": shape.compression, **SETTINGS})
    tally = _Tally(shape.partitions)
    if shape.event_bytes is not None:
        events = padded(events, shape.event_bytes)
    for messages in _batches(map(tally.message, events)):
        if producer.produce_batch(topic, messages) != len(messages):
            raise RuntimeError(f"not every record of {topic} could be sent")
        while len(producer) * tally.lengths[-1] > UNSENT_BYTES_MAX:
            producer.poll(0.01)
    if producer.flush(120):
        raise RuntimeError(f"the broker did not take every record of {topic}")
    return tally.sent()


def _batches(messages: Iterator[dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    while batch := list(itertools.islice(messages, AT_ONCE)):
        yield batch


def padded(events: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Events of `size` bytes: a note in their `metadata`, of words by chance, makes them so."""
    notes, draw = _notes(), random.Random(3)
    begin = b',"note":"'
    for value in events:
        missing = max(0, size - len(value) - len(begin) - 1)
        at = draw.randrange(len(notes) - missing)
        yield value[:-2] + begin + notes[at : at + missing] + b'"}}'


def _notes() -> bytes:
    draw = random.Random(2)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 10))) for _ in range(WORDS)]
    return " ".join(draw.choices(words, k=NOTES_BYTES // 7)).encode()


def create_topic(bootstrap: str, topic: str, partitions: int = PARTITIONS) -> None:
    """With a replica on the only broker."""
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, num_partitions=partitions, replication_factor=1)])[topic].result(30)


def delete_topics(bootstrap: str, topics: Sequence[str]) -> None:
    """So that what the next case sends finds the memory free."""
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": bootstrap})
    for done in admin.delete_topics(list(topics)).values():
        done.result(30)


def murmur2(key: bytes) -> int:
    """The hash of Java's clients."""
    mask, mix = 0xFFFF_FFFF, 0x5BD1_E995
    hashed = 0x9747_B28C ^ len(key)
    whole = len(key) & ~3
    for at in range(0, whole, 4):
        word = int.from_bytes(key[at : at + 4], "little") * mix & mask
        word = (word ^ word >> 24) * mix & mask
        hashed = (hashed * mix & mask) ^ word
    if whole < len(key):
        hashed = (hashed ^ int.from_bytes(key[whole:], "little")) * mix & mask
    hashed = (hashed ^ hashed >> 13) * mix & mask
    return hashed ^ hashed >> 15
