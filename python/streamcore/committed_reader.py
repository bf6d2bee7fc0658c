"""Owns reading a topic that transactions write, committed records only, as a member of a group of its own.

Before it: the topic, once transactions of workers are committed. After it: `outboxes.py`, one thread, which says where
each partition begins.
Invariant: records of a partition leave only after `place` said where it begins, and from there on without a gap. All calls come
from one thread. Not more than the queue of the client is ever held.

After a `SinkError` of any call the client may stand elsewhere than `placed` says: `back_to`, or `hold` and `go_on`, take it there.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamcore.config import KafkaConnection
from streamcore.errors import SinkError
from streamcore.kafka_client import RECONNECT_MS_MAX, Cluster, application, creating_client, is_passing, partition_list
from streamcore.kafka_consumer import member_settings, seek

if TYPE_CHECKING:
    from quixstreams.kafka import Consumer

log = logging.getLogger("streamcore.outbox")

READ_SETTINGS = {
    # What waits for a sink that is away lies in the topic, not here.
    "queued.max.messages.kbytes": 16 << 10,
    "queued.min.messages": 10_000,
    "fetch.wait.max.ms": 50,
    "reconnect.backoff.max.ms": RECONNECT_MS_MAX,
    "check.crcs": True,
}
REQUEST_S = 10.0


@dataclass(frozen=True, slots=True)
class Committed:
    """A record."""

    partition: int
    offset: int
    value: bytes | None


class CommittedReader:
    """A share of one topic's partitions."""

    def __init__(self, connection: KafkaConnection, topic: str, *, group: str) -> None:
        self._connection = connection
        self.topic = topic
        self.topic_id = ""
        self._group = group
        self._consumer: Consumer | None = None
        self._owned: set[int] = set()
        self._next: dict[int, int] = {}
        """Of partitions that are placed: the next offset to hand out."""
        self._lost: set[int] = set()
        """Partitions of ours that the client has given up, as their next record is gone."""
        self._sent: set[int] = set()
        """Partitions that were sent elsewhere, and have brought no record since."""
        self._paused = False
        self.joined = False
        """Whether the group has said which partitions are ours, be it none."""

    def open(self) -> None:
        """Asks the group for a share; it comes inside later polls. Raises `SinkError`."""
        self._cluster = Cluster(self._connection, error=SinkError)
        self._cluster.connect()
        found = self._cluster.topic(self.topic)
        if found is None:
            raise SinkError(f"topic {self.topic}, which feeds outboxes, is gone; start again to make it anew")
        self.topic_id = found.topic_id
        self._first = self._cluster.offsets(self.topic, found.partitions, "earliest")
        settings = member_settings(self._connection)
        with creating_client(self._connection):
            app = application(self._connection, group=self._group, defaults=READ_SETTINGS, settings=settings)
            self._consumer = app.get_consumer(auto_commit_enable=False)
            self._consumer.subscribe(
                [self.topic], on_assign=self._on_assign, on_revoke=self._on_gone, on_lost=self._on_gone
            )

    @property
    def _reader(self) -> Consumer:
        if self._consumer is None:
            raise SinkError("the topic of an outbox is not open", retriable=False)
        return self._consumer

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        lanes = [part.partition for part in partitions]
        # Where to read from is said later, by a seek. A number, and no `OFFSET_END`: the client would ask the broker for that,
        # and go there when it hears of it, though it was sent elsewhere meanwhile.
        consumer.incremental_assign(partition_list(self.topic, {lane: self._first.get(lane, 0) for lane in lanes}))
        consumer.pause(partition_list(self.topic, lanes))
        self._owned |= set(lanes)
        self.joined = True

    def _on_gone(self, consumer: Any, partitions: list[Any]) -> None:
        del consumer
        for part in partitions:
            self._owned.discard(part.partition)
            self._lost.discard(part.partition)
            self._next.pop(part.partition, None)

    @property
    def unplaced(self) -> list[int]:
        """Partitions that wait to be placed: they have just come, or what was to be read of them is not there any more."""
        return sorted(self._owned - set(self._next))

    @property
    def placed(self) -> dict[int, int]:
        """The next offset of each partition that is read."""
        return dict(self._next)

    def bounds(self, partition: int) -> tuple[int, int]:
        """The oldest offset that the topic has, and the one behind the newest. Raises `SinkError`."""
        first, end = (self._cluster.offsets(self.topic, [partition], at)[partition] for at in ("earliest", "latest"))
        return first, end

    def place(self, partition: int, offset: int) -> None:
        """Reads on from `offset`. Raises `SinkError`: it waits to be placed as before."""
        self._seek(partition, offset)
        if not self._paused:
            with self._asking("to resume"):
                self._reader.resume(partition_list(self.topic, [partition]))
        self._next[partition] = offset

    def group_offset(self, partition: int) -> int | None:
        """What the group has committed. Raises `SinkError`."""
        with self._asking("for its offsets"):
            (part,) = self._reader.committed(partition_list(self.topic, [partition]), timeout=REQUEST_S)
        return part.offset if part.offset >= 0 else None

    def commit(self, partition: int, offset: int) -> None:
        """Commits for the group, and waits for the answer. Raises `SinkError`."""
        with self._asking("to commit"):
            self._reader.commit(offsets=partition_list(self.topic, {partition: offset}), asynchronous=False)

    def poll(self, records_max: int, timeout_s: float) -> dict[int, list[Committed]]:
        """The next records, by partition. Raises `SinkError`, and then hands out none of those that came along."""
        if self._paused or not self._next:
            # A consumer that is paused waits for the whole time, and no callback is served meanwhile.
            time.sleep(min(timeout_s, 0.05))
            timeout_s = 0.0
        found: dict[int, list[Committed]] = {}
        with self._asking("for records"):
            messages: list[Any] = self._reader.consume(records_max, timeout_s)
        for message in messages:
            if message.error() is not None:
                self._check(message.error(), message.partition())
        for message in messages:
            partition, offset = message.partition(), message.offset()
            # The client may hand out what it held before a seek or of a partition that is gone.
            if message.error() is None and not self._paused and offset >= self._next.get(partition, offset + 1):
                found.setdefault(partition, []).append(Committed(partition, offset, message.value()))
                self._sent.discard(partition)
                self._next[partition] = offset + 1
        return found

    def _check(self, error: Any, partition: int) -> None:
        from confluent_kafka import KafkaError

        # A topic that was deleted does not come back by itself.
        if is_passing(error) and error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            return
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):  # noqa: SLF001
            position = self._next.pop(partition, None)
            self._lost |= {partition} & self._owned
            log.error("topic %s has no offset %s in partition %d: %s", self.topic, position, partition, error.str())
            return
        # After a fatal error the client does nothing any more.
        retriable = error.code() != KafkaError._FATAL  # noqa: SLF001
        raise SinkError(f"topic {self.topic}, which feeds outboxes, cannot be read: {error.str()}", retriable=retriable)

    def back_to(self, positions: Mapping[int, int]) -> None:
        """Reads these partitions, where they are still placed, from here again."""
        again = {partition: offset for partition, offset in positions.items() if partition in self._next}
        # All of them, whichever seek fails: what is not sought now is by `go_on`.
        self._next |= again
        for partition, offset in again.items():
            self._seek(partition, offset)

    def _seek(self, partition: int, offset: int) -> None:
        (part,) = partition_list(self.topic, {partition: offset})
        self._sent.add(partition)
        if partition not in self._lost and seek(self._reader, part) is None:
            return
        # The client refuses to seek what it has given up, be it that we have not heard of it and never will: a seek makes it forget
        # what it had to say.
        with self._asking(f"to go to {offset} of partition {partition}"):
            self._reader.incremental_unassign([part])
            self._reader.incremental_assign([part])
        self._lost.discard(partition)

    def hold(self) -> None:
        """Reads nothing until `go_on`; polls keep the seat in the group."""
        self._paused = True
        self._change(self._reader.pause)

    def go_on(self) -> None:
        """Reads again, from where it was."""
        self.back_to(self._next)
        self._change(self._reader.resume)
        self._paused = False

    def _change(self, change: Any) -> None:
        if self._next:
            with self._asking("to pause or resume"):
                change(partition_list(self.topic, sorted(self._next)))

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        from confluent_kafka import KafkaException

        try:
            yield
        except KafkaException as error:
            raise SinkError(f"the consumer of group {self._group} was asked {what}: {error.args[0].str()}") from error

    def passed(self) -> dict[int, int]:
        """The next offset of placed partitions, behind control records that were read there. Raises `SinkError`.

        Of one that was sent elsewhere, and has brought no record since, the client may tell where it was before: it is left out.
        """
        return self._positions(sorted(set(self._next) - self._sent))

    def _positions(self, lanes: Sequence[int]) -> dict[int, int]:
        with self._asking("where it is"):
            places: Sequence[Any] = self._reader.position(partition_list(self.topic, lanes)) if lanes else ()
        # Control records bring no message: the client's position passes them.
        return {part.partition: max(part.offset, self._next[part.partition]) for part in places}

    def waiting(self) -> int:
        """How many offsets of the placed partitions are not read. Raises `SinkError`."""
        lanes = sorted(self._next)
        at = self._positions(lanes)
        ends = self._cluster.offsets(self.topic, lanes, "latest") if lanes else {}
        return sum(max(0, ends[lane] - at[lane]) for lane in lanes)

    def close(self) -> None:
        """Leaves the group. Safe to call twice."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()  # type: ignore[no-untyped-call]
