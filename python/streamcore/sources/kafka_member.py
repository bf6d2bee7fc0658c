"""Owns reading the partitions that a consumer group gives this worker, and only those it may feed.

Before it: the group's coordinator, whose rebalances arrive as callbacks inside `poll`. After it: `epochs.py`, which is told
of each and says which lanes are read from where.
Invariant: records leave only of lanes that are fed, and what a poll had in hand when a callback came is thrown away and
read again: no record is handed out by what was true before.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from streamcore import _core
from streamcore.config import KafkaConnection, KafkaSourceConfig
from streamcore.errors import StateError
from streamcore.kafka_client import REQUEST_TIMEOUT_S, Cluster, Topic, partition_list
from streamcore.sources.base import Polled, Start
from streamcore.sources.kafka import KafkaSource
from streamcore.sources.kafka_positions import check_same_topic, start_positions, stop_positions
from streamcore.topics import input_topic

METADATA_TIMEOUT_S = 2.0
"""How long a callback, for which the whole group waits, asks how many partitions there are."""


class Listener(Protocol):
    """Is told of rebalances, from inside the group's callbacks; must not raise."""

    def assigned(self, lanes: list[int], member: str) -> None:
        """These lanes are new, and paused."""

    def revoked(self, lanes: list[int]) -> None:
        """These lanes go when this returns."""

    def lost(self, lanes: list[int]) -> None:
        """These lanes are gone, perhaps for long."""


class MemberSource(KafkaSource):
    """A topic whose partitions come and go; see `sources/base.py` for the contract."""

    is_eager = False
    """Whether a rebalance takes all partitions away before it gives any."""

    def __init__(
        self,
        connection: KafkaConnection,
        source: KafkaSourceConfig,
        *,
        group: str,
        keep_seat: bool = False,
        **options: Any,
    ) -> None:
        """`options` as `KafkaSource` has them. With `keep_seat` the group keeps this instance's partitions for its return."""
        super().__init__(connection, source, group=group, **options)
        self._keep_seat = keep_seat
        self._owned: set[int] = set()
        self._fed: set[int] = set()
        self._called_back = False
        """A callback came since the poll began."""
        self._failure: Exception | None = None
        self._closing = False

    def open(self, start: Start) -> list[int]:
        """Finds the topic; lanes come with the group, when it is joined."""
        self.connect()
        self.find(self._cluster, start)
        self._open_reader = self._new_reader()
        self._ends = self._new_ends()
        return []

    def connect(self) -> None:
        """First contact."""
        self._cluster = Cluster(self._connection)
        self._cluster.connect()

    def find(self, cluster: Cluster, start: Start) -> None:
        """Finds out about the topic."""
        self._cluster = cluster
        self._topic = self._cluster.input_topic(input_topic(self._source))
        check_same_topic(self._topic, start.previous)
        self._first = self._cluster.offsets(self._topic.name, self._topic.partitions, "earliest")
        self._default = start.default
        self._stops = stop_positions(self._cluster, self._topic, self._stop, _now_ms())

    @property
    def cluster(self) -> Cluster:
        """The cluster of the topic."""
        return self._cluster

    @property
    def partitions(self) -> tuple[int, ...]:
        """Of the topic, whoever reads them."""
        return self._topic.partitions

    @property
    def owns_all(self) -> bool:
        """Whether the group gives this worker every partition."""
        return self._owned == set(self._topic.partitions)

    @property
    def owned(self) -> set[int]:
        """The partitions that the group gives this worker."""
        return self._owned

    @property
    def topic(self) -> str:
        """Its name."""
        return self._topic.name

    @property
    def found(self) -> tuple[Topic, ...]:
        """What it was when the source was opened."""
        return (self._topic,)

    @property
    def topics(self) -> tuple[str, ...]:
        """It alone: of several topics, in the order of offsets of a lane, tells `kafka_joined.py`."""
        return (self._topic.name,)

    def numbers(self, lane: int) -> list[int]:
        """The runner's lanes of a lane of the commit: it itself; what lanes share has none."""
        return [] if lane < 0 else [lane]

    def parts(self, offsets: Mapping[int, int]) -> list[Any]:
        """Offsets of the runner's lanes as the client takes them."""
        return partition_list(self._topic.name, offsets)

    def _seat_settings(self) -> dict[str, str]:
        """A static member: closing it does not tell the group, which gives its partitions away when the session is over."""
        return {"group.instance.id": str(self._instance_id)} if self._keep_seat else {}

    def join(self, listener: Listener) -> None:
        """Asks for a share of the partitions; it comes inside later polls."""
        self._listener = listener
        self._reader.consumer.subscribe(
            [self._topic.name], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        try:
            lanes = [part.partition for part in partitions]
            self._called_back = True
            self._check_size(lanes)
            # Where to read from is said later, by a seek. A number, and no `OFFSET_END`: the client would ask the broker for
            # that, and go there when it hears of it, though it was sent elsewhere meanwhile.
            self._reader.assign(
                partition_list(self._topic.name, {lane: self._first[lane] for lane in lanes}),
                incremental=True,
                paused=True,
            )
            self._owned |= set(lanes)
            self._paused |= set(lanes)
            self._listener.assigned(lanes, consumer.memberid() or "")  # forgotten meanwhile: nobody
        except Exception as error:  # noqa: BLE001 - what a callback raises destroys what was fetched
            self._failure = self._failure or error

    def _check_size(self, lanes: list[int]) -> None:
        """A topic that grew sends keys elsewhere. The group is given out anew then, and every member comes by here.

        The consumer is not asked: a question inside its callback that may itself call back ends the process
        (`CallState_get`) where another callback comes in the same poll.
        """
        count = len(self._topic.partitions)
        told = self._cluster.partition_count(self._topic.name, METADATA_TIMEOUT_S)
        # What is given out is there, whatever the broker that was asked knows of it.
        found = max(told or count, *(lane + 1 for lane in [*self._topic.partitions, *lanes]))
        if found != count:
            raise StateError(
                f"STATE_PARTITION_MISMATCH: {self._topic.name} has {found} partitions now and had {count} when this worker "
                "started: keys have moved between them, so the state no longer fits; nothing was committed since; "
                f"streamcore state rescale FILE --to {found} moves it, or says why it cannot"
            )

    def _on_revoke(self, consumer: Any, partitions: list[Any]) -> None:
        del consumer
        self._take_away([part.partition for part in partitions], "revoked")

    def _on_lost(self, consumer: Any, partitions: list[Any]) -> None:
        del consumer
        self._take_away([part.partition for part in partitions], "lost")

    def _take_away(self, lanes: list[int], how: str) -> None:
        try:
            self._called_back = True
            if not self._closing:
                tell = self._listener.revoked if how == "revoked" else self._listener.lost
                tell(lanes)
        except Exception as error:  # noqa: BLE001 - as above
            self._failure = self._failure or error
        self._reader.revoke(partition_list(self._topic.name, lanes))
        self._owned -= set(lanes)
        self._paused -= set(lanes)
        self._fed -= set(lanes)

    def poll(self, timeout_s: float) -> Polled:
        """The next records of the lanes that are fed."""
        self._called_back = False
        return super().poll(timeout_s)

    def _check_membership(self) -> None:
        if self._failure is not None:
            raise self._failure

    @property
    def is_disturbed(self) -> bool:
        """See `kafka_reader.Listening`."""
        return self._called_back

    def _check_error(self, error: Any, lane: int | None) -> None:
        # Partitions that a callback has refused are read nevertheless, from nowhere.
        self._check_membership()
        super()._check_error(error, lane)

    def _is_read(self) -> bool:
        return bool(self._fed) and self._fed == self._owned <= self._done

    def _taken(self, raw: _core.Raw, moved: dict[tuple[str, int], int], refetched: int) -> Polled:
        if not self._called_back:
            return super()._taken(raw, moved, refetched)
        lanes = [lane for lane in self._lanes() if (self._topic.name, lane) in moved]
        self.seek({lane: self._next[self._topic.name, lane] for lane in lanes})
        return Polled(None, refetched=refetched + len(raw))

    def _lanes(self) -> Sequence[int]:
        return sorted(self._fed)

    def _readable_lanes(self) -> list[int]:
        return sorted(self._owned)

    @property
    def starts_late(self) -> bool:
        """Whether a lane without state begins where only this moment knows: not at its oldest record."""
        return self._default != "earliest"

    def feed(self, lanes: Iterable[int]) -> None:
        """These lanes are read from now on, and no others."""
        self._fed = set(lanes) & self._owned
        self._apply_pauses()

    def _apply_pauses(self) -> None:
        wanted = (self._held | self._done | (self._owned - self._fed)) & self._owned
        paused = self._paused & self._owned
        for change, lanes in ((self._reader.pause, wanted - paused), (self._reader.resume, paused - wanted)):
            if lanes:
                change(partition_list(self._topic.name, sorted(lanes)))
        self._paused = wanted

    def place(self, offsets: Mapping[int, int | None], *, timeout_s: float = REQUEST_TIMEOUT_S) -> dict[int, int]:
        """Where lanes begin: as said, or, for None, by the policy. Raises `StateError` for records that are gone."""
        lanes = [lane for lane in offsets if lane in self._topic.partitions]
        known = {lane: offset for lane, offset in offsets.items() if offset is not None}
        found = start_positions(
            self._cluster,
            self._topic,
            known,
            self._default,
            _now_ms(),
            lanes=lanes,
            accept_gap=self._accept_gap,
            timeout_s=timeout_s,
        )
        self.seek(found)
        return found

    def forget(self, lanes: Iterable[int]) -> None:
        """These lanes are not ours any more."""
        for lane in lanes:
            self._next.pop((self._topic.name, lane), None)
            self._fed.discard(lane)
        self._mark_done()

    def committed_offsets(self, lanes: Sequence[int], timeout_s: float) -> dict[int, int | None]:
        """The group's offsets; asks again later while a transaction on them is pending. Raises `KafkaException`."""
        found = self._reader.consumer.committed(partition_list(self._topic.name, lanes), timeout=timeout_s)
        for part in found:
            if part.error is not None:
                from confluent_kafka import KafkaException

                raise KafkaException(part.error)
        return {part.partition: part.offset if part.offset >= 0 else None for part in found}

    def membership(self) -> tuple[str, Any]:
        """The member id, and the metadata that fences; "" where the membership moved meanwhile."""
        consumer = self._reader.consumer
        before = consumer.memberid()
        metadata = consumer.consumer_group_metadata()
        return (before if before == consumer.memberid() else "") or "", metadata

    def foreign_metadata(self) -> Any:
        """Metadata of the group by a consumer that is no member of it: only as a seeded bug of the commit machine."""
        consumer = self._new_consumer()
        try:
            return consumer.consumer_group_metadata()
        finally:
            consumer.close()  # type: ignore[no-untyped-call]

    def committed(self, positions: Mapping[int, int]) -> None:
        """Nothing: offsets are part of the transaction."""

    def close(self) -> None:
        """Leaves the group."""
        self._closing = True
        if self._open_reader is not None:
            self._open_reader.close()  # calls back
            self._open_reader = None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def generation_of(metadata: Any) -> int:
    """The group's generation, which the client has in the bytes that metadata are; -1 where they are of another form."""
    prefix = b"CGMDv2:"
    found = metadata if isinstance(metadata, bytes) else b""
    if not found.startswith(prefix) or len(found) < len(prefix) + 4:
        return -1
    return int.from_bytes(found[len(prefix) : len(prefix) + 4], "little", signed=True)
