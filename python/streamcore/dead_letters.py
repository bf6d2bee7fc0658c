"""Owns what becomes of refused records: a topic or a file that keeps every byte, and the limit on their share.

Before it: batches of the output `rejected`. After it: a person, or a redrive.
Invariant: key, value and headers of a dead letter are those of the record, unless that is over
`limits.max_record_bytes` or the topic of dead letters refuses the size; then the value is cut and `dlq.truncated_len`
says how long it was.

Headers added to a record: `dlq.reason` (a closed list), `dlq.detail`, `dlq.topic`, `dlq.partition`, `dlq.offset`,
`dlq.index` (place in an envelope, 0 without one), `dlq.timestamp` (ms), `dlq.schema_id` (null without a registry),
`dlq.pipeline`, `dlq.version` (of streamcore) and `dlq.sha256` (of the whole value; null where only the beginning of it
was ever held). Its identity is (topic, partition,
offset, index): under `effectively_once` it may come twice.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from streamcore import _core
from streamcore.config import DeadLettersConfig, KafkaConnection, PipelineConfig, kafka_connection
from streamcore.errors import ErrorRateError, SinkError, StateError
from streamcore.kafka_client import Cluster
from streamcore.kafka_producer import Delivery
from streamcore.topics import TopicPlan, dead_letter_topic
from streamcore.transactions import InTransaction

CUT_BYTES = (500_000, 0)
"""Lengths tried for a value whose size is refused: the first fits a topic with Kafka's default limit."""

LINES_AT_ONCE = 1_000
"""Letters of a file that are put together for one write."""

KEPT_MAX = 100
"""Letters a file keeps of a run that breaks off because of them: restarted again and again, it must not fill a disk."""

COLUMNS = ("_topic", "_partition", "_offset", "_timestamp", "_key", "_value", "reason", "detail", "truncated_len")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused record and why."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int | None
    pipeline: str
    sha256: str | None
    truncated_len: int | None = None

    def facts(self) -> dict[str, str | int | None]:
        """What the record did not carry itself, in the order of the headers."""
        facts: dict[str, str | int | None] = {
            "reason": self.reason,
            "detail": self.detail,
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
            "index": 0,
            "timestamp": self.timestamp_ms,
            "schema_id": None,
            "pipeline": self.pipeline,
            "version": _core.__version__,
            "sha256": self.sha256,
        }
        return facts if self.truncated_len is None else {**facts, "truncated_len": self.truncated_len}

    def all_headers(self) -> list[tuple[str, bytes | None]]:
        """The record's own headers, untouched, and ours behind them."""
        ours = ((f"dlq.{name}", None if fact is None else str(fact).encode()) for name, fact in self.facts().items())
        return [*self.headers, *ours]

    def cut(self, length: int) -> DeadLetter:
        """The letter with at most `length` bytes of its value."""
        if self.value is None or len(self.value) <= length:
            return self
        whole = self.truncated_len if self.truncated_len is not None else len(self.value)
        return replace(self, value=self.value[:length], truncated_len=whole)


def letters(batch: _core.Batch, pipeline: str) -> Iterator[DeadLetter]:
    """The dead letters of a batch of the output `rejected`."""
    for number, row in enumerate(batch.select(COLUMNS).to_rows()):
        moment, truncated_len = row["_timestamp"], row["truncated_len"]
        yield DeadLetter(
            key=row["_key"],
            value=row["_value"],
            headers=tuple(batch.headers(number)),
            reason=row["reason"],
            detail=row["detail"],
            topic=row["_topic"],
            partition=row["_partition"],
            offset=row["_offset"],
            timestamp_ms=None if moment is None else round(moment.timestamp() * 1000),
            pipeline=pipeline,
            sha256=hashlib.sha256(row["_value"] or b"").hexdigest() if truncated_len is None else None,
            truncated_len=truncated_len,
        )


class KafkaDeadLetters:
    """Dead letters in a topic."""

    def __init__(
        self,
        connection: KafkaConnection,
        plan: TopicPlan,
        *,
        pipeline: str,
        create_topic: bool,
        delivery: Delivery | InTransaction | None = None,
    ) -> None:
        self._connection = connection
        self._plan = plan
        self._pipeline = pipeline
        self._create_topic = create_topic
        self._delivery = delivery or Delivery(connection)
        self._too_large: list[DeadLetter] = []

    @property
    def place(self) -> str:
        """The topic."""
        return f"topic {self._plan.name}"

    def open(self) -> None:
        """Makes sure of the topic."""
        cluster = Cluster(self._connection, error=SinkError)
        cluster.connect()
        cluster.ensure_topic(self._plan, create=self._create_topic)
        self._delivery.open()

    def write(self, batch: _core.Batch) -> None:
        """Queues the letters."""
        for letter in letters(batch, self._pipeline):
            self._send(letter)

    def add(self, letter: DeadLetter) -> None:
        """Queues a letter that is no record: a row that a sink does not get rid of."""
        self._send(letter)

    def _send(self, letter: DeadLetter) -> None:
        self._delivery.send(
            self._plan.name,
            key=letter.key,
            value=letter.value,
            headers=letter.all_headers(),
            on_too_large=lambda: self._too_large.append(letter),
        )

    def flush(self) -> None:
        """Waits for every acknowledgement; a letter whose size is refused goes out alone, cut if it must be."""
        self._delivery.flush()
        refused, self._too_large = self._too_large, []
        for letter in refused:
            self._send_alone(letter)

    def keep_some(self) -> None:
        """All of them: the client has begun to send what is queued."""
        self.flush()

    def _send_alone(self, letter: DeadLetter) -> None:
        """A batch that is too large is refused whole, so by itself the letter may fit as it is."""
        for attempt in (letter, *(letter.cut(length) for length in CUT_BYTES)):
            self._send(attempt)
            self._delivery.flush()
            if not self._too_large:
                return
            self._too_large.clear()
        raise SinkError(
            f"topic {self._plan.name} refuses the dead letter of {letter.topic}[{letter.partition}] offset "
            f"{letter.offset} even without its value; raise max.message.bytes of the topic",
            retriable=False,
        )

    def discard(self) -> None:
        """Drops what is queued."""
        self._delivery.discard()
        self._too_large.clear()

    def close(self) -> None:
        """Lets go of the connection."""
        self._delivery.close()


class FileDeadLetters:
    """Dead letters in a file, one JSON object a line; `key`, `value` and header values are text.

    Bytes that are no UTF-8 are base64 instead, under `key_base64`, `value_base64` or, in a header, `base64`.
    """

    def __init__(self, path: Path, *, pipeline: str) -> None:
        self._path = path
        self._pipeline = pipeline
        self._descriptor: int | None = None
        self._lines: list[bytes] = []

    @property
    def place(self) -> str:
        """The file."""
        return str(self._path)

    def open(self) -> None:
        """Opens the file for appending; only its owner may read it, since it holds user data."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o600)
            self._end_cut_line(self._descriptor)
        except OSError as error:
            raise SinkError(f"dead letters cannot be written to {self._path}: {error.strerror}") from error

    @staticmethod
    def _end_cut_line(descriptor: int) -> None:
        """A crash may have cut the last line; its letter comes again, on a line of its own."""
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.write(descriptor, b"\n")

    def write(self, batch: _core.Batch) -> None:
        """Holds the letters until the flush."""
        # Copied: what orjson gives keeps the kilobytes that it was written into.
        self._lines += (bytes(memoryview(_line(letter))) for letter in letters(batch, self._pipeline))

    def add(self, letter: DeadLetter) -> None:
        """Holds a letter that is no record: a row that a sink does not get rid of."""
        self._lines.append(_line(letter))

    def flush(self) -> None:
        """Appends and syncs."""
        if not self._lines:
            return
        if self._descriptor is None:
            raise SinkError(f"dead letters in {self._path} are not open", retriable=False)
        size = os.fstat(self._descriptor).st_size
        try:
            for first in range(0, len(self._lines), LINES_AT_ONCE):
                data = b"".join(self._lines[first : first + LINES_AT_ONCE])
                while data:
                    data = data[os.write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError as error:
            self._cut(self._descriptor, size)
            raise SinkError(f"dead letters cannot be written to {self._path}: {error.strerror}") from error
        self._lines.clear()

    def _cut(self, descriptor: int, size: int) -> None:
        """Makes the file end where it did: the next try must not go on behind half a line."""
        try:
            os.ftruncate(descriptor, size)
        except OSError as error:
            message = (
                f"{self._path} ends in half a line that cannot be cut off: {error.strerror}; cut it at byte {size}"
            )
            raise SinkError(message, retriable=False) from error

    def keep_some(self) -> None:
        """Appends the first `KEPT_MAX` of those held, and forgets the others."""
        del self._lines[KEPT_MAX:]
        self.flush()

    def discard(self) -> None:
        """Drops what is held."""
        self._lines.clear()

    def close(self) -> None:
        """Closes the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class ExactFileDeadLetters(FileDeadLetters):
    """The same, each of them once: the checkpoint says how long the file is, and a restart cuts off what came after."""

    def durable_bytes(self) -> int:
        """How long the file is."""
        return self._path.stat().st_size

    def cut_back(self, length: int) -> None:
        """Takes away letters behind `length`, which come again. Raises `StateError` where they are not this pipeline's.

        A file that is shorter by now was taken away by somebody, and goes on as it is.
        """
        assert self._descriptor is not None  # noqa: S101 - opened by `Outputs.open`
        size = os.fstat(self._descriptor).st_size
        for line in os.pread(self._descriptor, max(0, size - length), length).splitlines():
            if not line.startswith(b"{") or not line.endswith(b"}"):
                continue  # cut by the crash
            if (owner := orjson.loads(line).get("pipeline")) != self._pipeline:
                raise StateError(
                    f"{self._path} holds letters of {owner} behind those of {self._pipeline}: what a crash left there cannot "
                    "be cut off; give each pipeline a file of its own"
                )
        if size > length:
            os.ftruncate(self._descriptor, length)
            os.fsync(self._descriptor)


def _line(letter: DeadLetter) -> bytes:
    headers = [{"name": name, **_text("value", "base64", value)} for name, value in letter.headers]
    record = {**_text("key", "key_base64", letter.key), **_text("value", "value_base64", letter.value)}
    return orjson.dumps({**letter.facts(), **record, "headers": headers}, option=orjson.OPT_APPEND_NEWLINE)


def _text(name: str, name_base64: str, data: bytes | None) -> dict[str, Any]:
    if data is None:
        return {name: None}
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {name_base64: base64.b64encode(data).decode()}


class ErrorRate:
    """The breaker: a share of refused records that means a wrong schema rather than a few bad records."""

    def __init__(self, share_max: float, window: int) -> None:
        self._share_max = share_max
        self._window = window
        self._counts: deque[tuple[int, int]] = deque()
        """(read, rejected) of the newest pushes that together cover the window."""
        self._read = 0
        self._rejected = 0

    def count(self, read: int, rejected: int) -> None:
        """Adds one push. Raises `ErrorRateError` when the share is over the limit for a whole window."""
        self._counts.append((read, rejected))
        self._read += read
        self._rejected += rejected
        while self._read - self._counts[0][0] >= self._window:
            oldest_read, oldest_rejected = self._counts.popleft()
            self._read -= oldest_read
            self._rejected -= oldest_rejected
        if self._read >= self._window and self._rejected > self._share_max * self._read:
            raise ErrorRateError(
                f"DLQ_STORM: {self._rejected} of the last {self._read} records were refused, more than the "
                f"{self._share_max:.0%} that dead_letters.error_rate_max allows; compare [source.schema] and event_time "
                "with a record of the input"
            )


def open_dead_letters(
    config: PipelineConfig, settings: DeadLettersConfig, delivery: InTransaction | None = None
) -> KafkaDeadLetters | FileDeadLetters:
    """The dead letters that `settings` describe, not yet opened. Raises `ConfigError`."""
    pipeline = config.name or ""
    if settings.path is not None:
        exact = config.delivery == "exactly_once"
        return (ExactFileDeadLetters if exact else FileDeadLetters)(Path(settings.path), pipeline=pipeline)
    return KafkaDeadLetters(
        kafka_connection(config, settings.connection),
        dead_letter_topic(settings, config.name),
        pipeline=pipeline,
        create_topic=config.auto_create_topics,
        delivery=delivery,
    )
