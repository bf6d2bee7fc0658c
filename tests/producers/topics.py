"""Owns what is written for the transports to read: every kind of batch, each in a partition that is named after it.

Before it: `script.py`. After it: `tests/integration/test_kafka_producers.py`.
Invariant: the same script for all programs, but for the names of topics.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.producers.script import Header, Row, Script, Sent, Writer

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
MODES = ("plain", "idempotent", "transactional")
INTERLEAVED = ("interleaved-a", "interleaved-b", "interleaved-c")
LANES = (
    *(f"{codec}-{mode}" for codec in CODECS for mode in MODES),
    *INTERLEAVED,
    *("mixed", "aborted", "large", "long", "deleted", "deleted-aborted"),
)
APPENDED = ("none-plain", "zstd-idempotent", "gzip-transactional")
COMPACTED = ("plain", "idempotent", "compressed", "tombstones", "transactional")

TIME_MS = 1_700_000_000_000
LATER_MS = 4_102_444_800_000
"""Behind any clock: with such times it is the records that begin segments, not the markers, which have the broker's time."""
SEGMENT_MS = 1_000
LARGE_BYTES = 3 << 20
"""More than any fetch asks for."""
LONG_ROWS = 3_000
RECORD_BYTES_MAX = 8 << 20
DELETED = {"deleted": 50, "deleted-aborted": 25}
"""Where these partitions begin, in the middle of a batch."""


@dataclass
class Written:
    """Topics by one program."""

    prefix: str
    script: Script = field(default_factory=Script)

    @property
    def records(self) -> str:
        """Partitions are `LANES`."""
        return f"{self.prefix}-records"

    @property
    def appended(self) -> str:
        """Partitions are `APPENDED`; its times are those of the broker."""
        return f"{self.prefix}-appended"

    @property
    def compacted(self) -> str:
        """Partitions are `COMPACTED`."""
        return f"{self.prefix}-compacted"

    def lane(self, name: str) -> list[Row]:
        """What a reader of committed records finds in a partition of `records`."""
        start = DELETED.get(name, 0)
        return [row for row in self.script.written(self.records, LANES.index(name)) if row[0] >= start]


def write(prefix: str) -> Written:
    """The script of everything."""
    written = Written(prefix)
    writers = open_writers(written)
    compacted(written, writers)
    every_kind(written, writers)
    interleaved(written)
    aborted(written, writers["none-transactional"])
    large(written, writers)
    deleted(written, writers)
    appended(written, writers)
    return written


def open_writers(written: Written) -> dict[str, Writer]:
    found = {}
    for codec in CODECS:
        for mode in MODES:
            name = f"{codec}-{mode}"
            transactional_id = f"{written.prefix}-{codec}" if mode == "transactional" else None
            found[name] = written.script.producer(
                name, codec=codec, idempotent=mode != "plain", transactional_id=transactional_id
            )
    return found


def record(topic: str, partition: int, number: int, **parts: bytes | None) -> Sent:
    """The parts of a record, of every kind; times go forth and back."""
    key: bytes | None = (None, b"", b"k%d" % number)[number % 3]
    value = None if number % 7 == 3 else b"" if number % 11 == 5 else b"v%d " % number * (number % 50 + 1)
    headers: list[Header] = [("h", b"%d" % number), ("none", None), ("", b""), ("h", b"\x00\xff"), ("n\u00e9", b" ")]
    time_ms = 0 if number % 29 == 13 else TIME_MS + number * 37 % 1_000
    sent = Sent(topic, partition, time_ms, key, value, headers[: number * 3 % 7])
    for name, part in parts.items():
        setattr(sent, name, part)
    return sent


def send(writer: Writer, topic: str, partition: int, numbers: range) -> None:
    for number in numbers:
        writer.send(record(topic, partition, number))
    writer.flush()


def every_kind(written: Written, writers: dict[str, Writer]) -> None:
    """Four batches and more of each codec and kind of producer; the second of transactions is aborted."""
    topic = written.records
    for place, (name, writer) in enumerate(writers.items()):
        for turn in range(4):
            is_transactional = name.endswith("transactional")
            if is_transactional:
                writer.begin()
            send(writer, topic, LANES.index(name), range(turn * 30, turn * 30 + 30))
            if turn == place % 4:
                send(writer, topic, LANES.index("mixed"), range(place * 10, place * 10 + 10))
            if is_transactional and turn == 1:
                writer.abort()
            elif is_transactional:
                writer.commit()


def interleaved(written: Written) -> None:
    """Two transactions at a time over three partitions, beside records of none; aborts come last, and some hold nothing."""
    script, topic = written.script, written.records
    one, two = (
        script.producer(f"turns-{name}", codec=codec, transactional_id=f"{written.prefix}-turns-{name}")
        for name, codec in (("one", "none"), ("two", "lz4"))
    )
    beside = script.producer("turns-beside")
    for turn in range(8):
        one.begin()
        if turn % 2 == 0:
            two.begin()  # goes on in the next turn
        for name in INTERLEAVED[: 1 + turn % 3]:
            for step, writer in enumerate((one, two, beside, one, two)):
                send(writer, topic, LANES.index(name), range(turn * 100 + step * 10, turn * 100 + step * 10 + 5))
        if turn % 3 == 1:
            one.abort()
        else:
            one.commit()
        if turn in (1, 7):
            two.abort()
        elif turn % 2:
            two.commit()
        one.begin()
        if turn % 2:
            one.abort()
        else:
            one.commit()
    one.begin()
    for name in INTERLEAVED:
        send(one, topic, LANES.index(name), range(900, 950))
    one.abort()


def aborted(written: Written, writer: Writer) -> None:
    """A partition of which nothing is left for a reader."""
    for turn in range(3):
        writer.begin()
        send(writer, written.records, LANES.index("aborted"), range(turn * 20, turn * 20 + 20))
        writer.abort()


def large(written: Written, writers: dict[str, Writer]) -> None:
    """Records, and a batch, of more bytes than a fetch has."""
    topic, lane = written.records, LANES.index("large")
    noise = random.Random(7)
    for codec in ("none", "zstd"):
        writer = written.script.producer(f"large-{codec}", codec=codec, batch_bytes=RECORD_BYTES_MAX)
        for number in range(3):
            value = noise.randbytes(1024) * (LARGE_BYTES >> 10) if number == 1 else b"small"
            writer.send(record(topic, lane, number, value=value))
            writer.flush()
        if codec == "none":
            for number in range(LONG_ROWS):
                value = b"%d" % number * 150
                writer.send(record(topic, LANES.index("long"), number, value=value))
            writer.flush()
    send(writers["gzip-plain"], topic, lane, range(10))


def deleted(written: Written, writers: dict[str, Writer]) -> None:
    """Batches of forty, for records to be deleted in the middle of them."""
    topic = written.records
    for turn in range(3):
        send(writers["none-idempotent"], topic, LANES.index("deleted"), range(turn * 40, turn * 40 + 40))
    writer = writers["none-transactional"]
    for commit in (False, True):
        writer.begin()
        for turn in range(2):
            send(writer, topic, LANES.index("deleted-aborted"), range(turn * 40, turn * 40 + 40))
        if commit:
            writer.commit()
        else:
            writer.abort()


def appended(written: Written, writers: dict[str, Writer]) -> None:
    for lane, name in enumerate(APPENDED):
        writer = writers[name]
        for turn in range(3):
            if name.endswith("transactional"):
                writer.begin()
            send(writer, written.appended, lane, range(turn * 30, turn * 30 + 30))
            if name.endswith("transactional"):
                writer.commit()


def compacted(written: Written, writers: dict[str, Writer]) -> None:
    """A segment a turn: all keys, all of them again by another producer, and then some; the last segment is never compacted."""

    def keyed(writer: Writer, name: str, turn: int, keys: range, *, with_values: bool = True) -> None:
        lane = COMPACTED.index(name)
        for key in keys:
            value = b"%d of turn %d" % (key, turn) * 5 if with_values else None
            one = record(written.compacted, lane, key, key=b"k%d" % key, value=value)
            one.time_ms = LATER_MS + 10 * SEGMENT_MS * turn + key % 5
            writer.send(one)
        writer.flush()

    pairs = {
        "plain": ("none-plain", "none-plain"),
        "idempotent": ("none-idempotent", "lz4-idempotent"),
        "compressed": ("gzip-idempotent", "zstd-plain"),
        "tombstones": ("snappy-idempotent", "snappy-idempotent"),
    }
    for name, (first, second) in pairs.items():
        keyed(writers[first], name, 0, range(20))
        keyed(writers[second], name, 1, range(20))
        keyed(writers[second], name, 2, range(5, 15), with_values=name != "tombstones")
        keyed(writers[second], name, 3, range(7, 8))
    for turn, keys in enumerate((range(20), range(5, 20), range(10), range(12, 15), range(3))):
        writer = writers["none-transactional" if turn < 3 else "lz4-transactional"]
        writer.begin()
        keyed(writer, "transactional", turn, keys)
        if turn == 1:
            writer.abort()
        else:
            writer.commit()
