"""Owns reading one Kafka topic, one lane a partition, in whole batches, beside quixstreams' consumer or through it.

Before it: the broker. After it: the runner, which gets a `Raw` without a Python object per record of ours.
Invariant: `positions` says exactly what `poll` handed out; whatever the client does, the next record handed out of a
lane is the one at its position, or, where the log has holes, the first after it.

The parts: `kafka_reader.py` (how records come), `kafka_positions.py` (where lanes begin and end), `kafka_group.py` (the
seat in the group), `kafka_ends.py` (what is read to its end).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from streamcore import _core
from streamcore.config import KafkaConnection, KafkaSourceConfig, format_duration
from streamcore.errors import ConfigError, FencedError, Problem, SourceError, StateError
from streamcore.gaps import Span, found_gaps
from streamcore.kafka_client import (
    RECONNECT_MS_MAX,
    Cluster,
    Topic,
    application,
    client_settings,
    creating_client,
    is_passing,
    log,
    partition_list,
)
from streamcore.kafka_consumer import member_settings
from streamcore.kafka_errors import denied
from streamcore.kafka_questions import RETRY_INTERVAL_S
from streamcore.kafka_tokens import ask_for_token
from streamcore.sources.base import End, Polled, Start
from streamcore.sources.kafka_ends import Ends
from streamcore.sources.kafka_group import JOIN_TIMEOUT_S, Seat, wait_for_free_group
from streamcore.sources.kafka_positions import (
    AFRESH,
    check_same_topic,
    check_still_there,
    start_positions,
    stop_positions,
)
from streamcore.sources.kafka_reader import ConsumerReader, Listening, Place, Wanted
from streamcore.sources.kafka_transport import make_reader
from streamcore.topics import input_topic

if TYPE_CHECKING:
    from quixstreams.kafka import Consumer

FETCH_SETTINGS = {
    # A response holds this much of each partition: large enough for a distant broker, small enough that its
    # messages are still in the cache when they are taken.
    "max.partition.fetch.bytes": 1 << 20,
    "fetch.max.bytes": 64 << 20,
    # What the client may hold ahead of us, of all lanes: bounds memory, and covers the time of one push.
    "queued.max.messages.kbytes": 128 << 10,
    "queued.min.messages": 50_000,
    # Answers come as soon as there is anything; a quiet topic is asked again after this.
    "fetch.wait.max.ms": 100,
    # A full queue is looked at again after this; the default of a second starves a fast reader.
    "fetch.queue.backoff.ms": 5,
    "reconnect.backoff.max.ms": RECONNECT_MS_MAX,
    # That the topic got more partitions, which moves keys, is noticed within this; the default is five minutes.
    "topic.metadata.refresh.interval.ms": 30_000,
    # A batch damaged on disk must stop the lane, not be decoded.
    "check.crcs": True,
}
"""Settings of the client, sized for throughput where it is read through; `options` of the source may set others."""

OUTAGE_MAX_S = 120.0
"""How long no broker may answer before the run ends with exit code 4; until then it waits for one to come back."""

UNKNOWN_MAX_S = 5.0
"""How long a topic may be unknown to the brokers; nothing is polled meanwhile."""


class KafkaSource:
    """A topic; see `sources/base.py` for the contract.

    With a `group` the source takes a seat in it and commits positions there after each checkpoint; without, it
    reads by itself under a throw-away name and leaves nothing behind.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        source: KafkaSourceConfig,
        *,
        group: str | None,
        stop: str | None = None,
        keys: bool = False,
        headers: bool = False,
        instance_id: str | None = None,
        record_bytes_max: int | None = None,
        accept_gap: bool = False,
    ) -> None:
        self.bounded = stop in ("end", "latest")
        self._connection = connection
        self._source = source
        self._group = group
        self._stop = stop
        self._keys = keys
        self._headers = headers
        self._instance_id = instance_id
        self._record_bytes_max = record_bytes_max
        self._accept_gap = accept_gap
        """Whether records that retention deleted are gone on without."""
        self._open_reader: ConsumerReader | None = None
        self._seat: Seat | None = None
        self._next: dict[tuple[str, int], int] = {}
        """Per (topic, partition) the next offset to hand out: as `Intake` tells them."""
        self._stops: dict[int, int] = {}
        self._done: set[int] = set()
        """Lanes of a bounded read that have reached their stop."""
        self._held: set[int] = set()
        """Lanes the runner asked to hold back."""
        self._paused: set[int] = set()
        """Lanes the consumer was told to pause: those held back or done."""
        self._committed: dict[int, int] = {}
        self._gaps: dict[int, Span] = {}

    def open(self, start: Start) -> list[int]:
        """Finds the topic, takes the seat and places every lane."""
        self._cluster = cluster = Cluster(self._connection)
        cluster.connect()
        self._topic = cluster.input_topic(input_topic(self._source))
        check_same_topic(self._topic, start.previous)
        if self._group is not None:
            wait_for_free_group(cluster, self._group, self._connection.session_timeout)
        self._open_reader = self._new_reader()
        self._place(cluster, start)
        self._ends = self._new_ends()
        if self._group is None:
            self._reader.assign(partition_list(self._topic.name, self.positions()), incremental=False)
        else:
            self._join(self._group, cluster)
        self._apply_pauses()
        return list(self._topic.partitions)

    def _new_reader(self) -> ConsumerReader:
        wanted = Wanted(keys=self._keys, headers=self._headers, record_bytes_max=self._record_bytes_max)
        return self._reader_of(self._new_consumer(), wanted, self, name=self._topic.name)

    def _reader_of(self, consumer: Consumer, wanted: Wanted, source: Listening, *, name: str) -> ConsumerReader:
        """By the transport of this source."""
        name_of_client = {"client.id": f"streamcore-{self._instance_id}"} if self._instance_id else {}
        settings = {**name_of_client, **client_settings(self._connection), **self._source.options}
        return make_reader(consumer, settings, wanted, source, name=name, transport=self._source.transport)

    def _new_ends(self) -> Ends:
        topic = self._topic.name
        return self._reader.ends(topic, lambda lanes: self._cluster.offsets_later(topic, lanes, "latest"))

    def _new_consumer(self) -> Consumer:
        group = self._group or f"streamcore-ephemeral-{uuid.uuid4().hex}"
        name = {"client.id": f"streamcore-{self._instance_id}"} if self._instance_id else {}
        settings = {
            **self._source.options,
            **member_settings(self._connection),
            **self._seat_settings(),
        }
        with creating_client(self._connection):
            consumer = application(
                self._connection, group=group, defaults={**FETCH_SETTINGS, **name}, settings=settings
            ).get_consumer(auto_commit_enable=False)
            consumer.assignment()  # quixstreams makes the client at its first use
        ask_for_token(consumer, self._connection.options)
        return consumer

    def _seat_settings(self) -> dict[str, str]:
        """How the seat in the group is kept: not, when the consumer is closed."""
        return {}

    def _place(self, cluster: Cluster, start: Start) -> None:
        known = dict(start.positions)
        lanes = self._topic.partitions
        if self._group is not None and len(known) < len(lanes):
            known = self._committed_offsets() | known
        now_ms = time.time_ns() // 1_000_000
        positions = start_positions(cluster, self._topic, known, start.default, now_ms, accept_gap=self._accept_gap)
        self._gaps = found_gaps(known, positions)
        self._next = {(self._topic.name, lane): offset for lane, offset in positions.items()}
        self._stops = stop_positions(cluster, self._topic, self._stop, now_ms)
        self._mark_done()

    def _committed_offsets(self) -> dict[int, int]:
        """The group's offsets. With `read_committed` the broker answers only once a pending transaction is decided."""
        from confluent_kafka import KafkaException

        parts = partition_list(self._topic.name, self._topic.partitions)
        try:
            found = self._reader.consumer.committed(parts, timeout=self._connection.connect_timeout / 1000)
        except KafkaException as error:
            reason = error.args[0].str()
            raise SourceError(f"offsets of group {self._group} cannot be read: {reason}") from error
        return {part.partition: part.offset for part in found if part.offset >= 0}

    def _join(self, group: str, cluster: Cluster) -> None:
        """Waits until all partitions are ours; a poll that brings records goes back to where it began."""
        self._seat = Seat(self._reader, self._topic.name, group, cluster, self.positions)
        self._seat.join()
        deadline = time.monotonic() + JOIN_TIMEOUT_S
        while not self._seat.whole:
            if self._reader.discard(self._source.poll_timeout / 1000):
                self.go_back()
            self._seat.check()
            if time.monotonic() > deadline:
                raise SourceError(
                    f"group {group} gave this worker only partitions {sorted(self._seat.owned)} of {self._topic.name} "
                    f"within {JOIN_TIMEOUT_S:.0f} s: another member joined at the same time, or READ is not allowed"
                )
        found = self._committed_offsets()
        self._seat.tell({lane: found.get(lane) for lane in self._topic.partitions})

    def gaps(self) -> dict[int, Span]:
        """Of lanes that went on behind a gap: its first offset, and the one behind it."""
        return self._gaps

    @property
    def _reader(self) -> ConsumerReader:
        if self._open_reader is None:
            raise SourceError("the Kafka source is not open")
        return self._open_reader

    def poll(self, timeout_s: float) -> Polled:
        """The next records, at most `poll_records_max`."""
        polled = self._take(min(timeout_s, self._source.poll_timeout / 1000))
        self._check_membership()
        if polled.raw is not None:
            self._ends.heard()
        self._skip_markers()
        self._mark_done()
        self._apply_pauses()
        polled.caught_up = self._caught_up()
        self._watch_outage()
        polled.ended = self._stop is not None and self._is_read()
        return polled

    def _check_membership(self) -> None:
        if self._seat is not None:
            self._check_seat(self._seat)

    def _is_read(self) -> bool:
        return len(self._done) == len(self._lanes())

    def _lanes(self) -> Sequence[int]:
        """Lanes that are read from here."""
        return self._topic.partitions

    def _take(self, timeout_s: float) -> Polled:
        is_silent = bool(self._paused) and len(self._paused) == len(self._next)
        return self._taken(
            *self._reader.take(self._bounds(), self._source.poll_records_max, timeout_s, is_silent=is_silent)
        )

    def _bounds(self) -> dict[Place, tuple[int, int | None]]:
        """Of each lane that is read: where to go on, and where to stop."""
        lanes = [lane for lane in self._lanes() if lane not in self._done]
        return {(self._topic.name, lane): (self._next[self._topic.name, lane], self._stops.get(lane)) for lane in lanes}

    def _taken(self, raw: _core.Raw, moved: dict[tuple[str, int], int], refetched: int) -> Polled:
        self._next |= moved
        return Polled(raw if len(raw) else None, refetched=refetched)

    @property
    def is_disturbed(self) -> bool:
        """See `kafka_reader.Listening`: a seat that is taken ends the run, so what came with it does no harm."""
        return False

    def go_back(self) -> None:
        """See `kafka_reader.Listening`."""
        self.seek(self.positions())

    def refuse(self, error: Any, place: Place | None) -> None:
        """See `kafka_reader.Listening`."""
        self._check_error(error, None if place is None else place[1])

    def stopped(self, place: Place, kind: str, why: str) -> None:
        """See `kafka_reader.Listening`."""
        topic, lane = place
        if kind == "out_of_range":
            check_still_there(self._cluster, topic, lane, self._next[place])
        where = f"partition {lane} of {topic}"
        if kind in ("truncated", "other_topic"):
            raise StateError(f"{where}: {why}; {AFRESH}")
        if kind == "denied":
            from confluent_kafka import KafkaError

            self._check_error(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, why), lane)
        raise SourceError(f"{where} cannot be read: {why}", unreachable=kind in ("out_of_range", "failed"))

    def _check_seat(self, seat: Seat) -> None:
        """After an outage the work goes on only if the group's offsets are where we left them."""
        seat.check()
        if seat.regained:
            if not seat.undisturbed(self._committed_offsets()):
                raise FencedError(
                    f"another worker read {self._topic.name} in group {self._group} while this one had lost its seat; "
                    "restart to go on"
                )
            log.warning("group %s: joined again; nobody else had read meanwhile", self._group)
            seat.lost_s = None
        elif seat.lost_s is not None and time.monotonic() - seat.lost_s > OUTAGE_MAX_S:
            raise FencedError(
                f"group {self._group} has given back only partitions {sorted(seat.owned)} of {self._topic.name} "
                f"{OUTAGE_MAX_S:.0f} s after the broker was away; stop its other members, or restart"
            )

    def _refused_session(self) -> ConfigError:
        """The error for a `session_timeout` outside the broker's bounds."""
        names = ("group.min.session.timeout.ms", "group.max.session.timeout.ms")
        least_ms, most_ms = (self._cluster.broker_setting(name) for name in names)
        bounds = (
            ""
            if least_ms is None or most_ms is None
            else f", {format_duration(least_ms)} to {format_duration(most_ms)}"
        )
        named = self._source.connection
        message = (
            f"the broker refuses {format_duration(self._connection.session_timeout)}: it is outside its bounds{bounds}"
        )
        hint = f"set one within them, or change the broker's {' and '.join(names)}"
        path = f"{'kafka' if named is None else f'connections.{named}'}.session_timeout"
        return ConfigError("Kafka settings are refused", [Problem(path, message, hint=hint)])

    def _check_error(self, error: Any, lane: int | None) -> None:
        """Errors that come in place of a record: those that pass by themselves are left to the client."""
        from confluent_kafka import KafkaError

        gone = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001
        where = f"partition {lane} of {self._topic.name}" if lane is not None and lane >= 0 else self._topic.name
        if error.code() in gone:
            position = self._next.get((self._topic.name, lane if lane is not None else -1))
            if lane is not None and position is not None:
                check_still_there(self._cluster, self._topic.name, lane, position)
            raise SourceError(f"position {position} of {where} was refused: {error.str()}", unreachable=True)
        # The client gives the reason of a fatal error in words alone.
        if error.code() == KafkaError._FATAL and "fenced" in error.str():  # noqa: SLF001
            raise FencedError(
                f"another worker has taken the seat of {self._instance_id} in group {self._group}: give each worker an "
                "instance_id of its own, in the pipeline file or by STREAMCORE_INSTANCE_ID"
            )
        if error.code() == KafkaError.INVALID_SESSION_TIMEOUT:
            raise self._refused_session()
        if is_passing(error) and (error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART or self._is_back()):
            log.warning("%s: %s", where, error.str())
            return
        doing = f"{where} cannot be read"
        refusal = denied(error, doing, group=self._group or "of this name", topics=[self._topic.name])
        raise refusal or SourceError(f"{doing}: {error.str()}")

    def _is_back(self) -> bool:
        """Whether a topic that a broker did not know is there, as brokers that begin anew may not know theirs for a moment.

        One that was made again is another, in which positions mean nothing.
        """
        until_s = time.monotonic() + UNKNOWN_MAX_S
        while (found := self._cluster.topic(self._topic.name)) is None and time.monotonic() < until_s:
            time.sleep(RETRY_INTERVAL_S)
        return found is not None and found.topic_id == self._topic.topic_id

    def _watch_outage(self) -> None:
        if self._ends.outage_s(time.monotonic()) > OUTAGE_MAX_S:
            raise SourceError(
                f"Kafka at {self._connection.bootstrap_servers} has not answered for {OUTAGE_MAX_S:.0f} s; "
                "restart the run once the broker is back, and it goes on from its last checkpoint",
                unreachable=True,
            )
        stalled = self._ends.stalled(self._source.stall_timeout / 1000)
        if stalled is not None:
            lane, why = stalled
            raise SourceError(
                f"partition {lane} of {self._topic.name} has not been answered for {format_duration(self._source.stall_timeout)} "
                f"(stall_timeout): {why}; look at its leader (kafka-topics.sh --describe), and restart the run"
            )

    def _caught_up(self) -> tuple[int, ...]:
        """Lanes with nothing left to read; one that is held back has only been told to wait."""
        reading = [lane for lane in self._lanes() if lane not in self._paused | self._done]
        positions = {lane: self._next[self._topic.name, lane] for lane in reading}
        ends = self._ends.caught_up(positions, time.monotonic())
        return tuple(sorted({*self._done, *ends} & {*self._readable_lanes()}))

    def _skip_markers(self) -> None:
        """Control records and holes move the consumer's position but bring no message: they are read too."""
        lanes = [lane for lane in self._lanes() if lane not in self._paused | self._done]
        for place, offset in self._reader.positions(partition_list(self._topic.name, lanes)).items():
            self._next[place] = max(self._next[place], min(offset, self._stops.get(place[1], offset)))

    def _mark_done(self) -> None:
        at = {lane: offset for (_, lane), offset in self._next.items()}
        self._done = {lane for lane, stop in self._stops.items() if lane in at and at[lane] >= stop}

    def positions(self) -> dict[int, int]:
        """The next offset of each lane."""
        return {lane: offset for (_, lane), offset in self._next.items()}

    def ends(self) -> dict[int, End]:
        """The last stable offsets, as the broker last said."""
        return self._ends.ends(time.monotonic())

    def seek(self, positions: Mapping[int, int]) -> None:
        """Goes back; lanes whose stop lies ahead again are read on."""
        self._next |= {(self._topic.name, lane): offset for lane, offset in positions.items()}
        self._mark_done()
        lanes = [lane for lane in self._readable_lanes() if lane in positions]
        for part in partition_list(self._topic.name, {lane: positions[lane] for lane in lanes}):
            self._seek(part)
        self._apply_pauses()

    def _seek(self, part: Any) -> None:
        failure = self._reader.seek(part)
        if failure is not None:
            # Refused too where the client has given up the partition for records that are not there any more.
            check_still_there(self._cluster, self._topic.name, part.partition, part.offset)
            raise SourceError(f"cannot go back to {part.offset} of {self._topic.name}: {failure}")

    def _readable_lanes(self) -> list[int]:
        """Lanes that the group gives us now: all but those lost in an outage."""
        return [lane for lane in self._topic.partitions if self._seat is None or lane in self._seat.owned]

    def pause(self, lanes: list[int]) -> None:
        """Holds these lanes back until the next call."""
        self._held = set(lanes)
        self._apply_pauses()

    def _apply_pauses(self) -> None:
        readable = set(self._readable_lanes())  # a lane that was lost comes back unpaused
        wanted, paused = (self._held | self._done) & readable, self._paused & readable
        for change, lanes in ((self._reader.pause, wanted - paused), (self._reader.resume, paused - wanted)):
            if lanes:
                change(partition_list(self._topic.name, sorted(lanes)))
        self._paused = wanted

    def committed(self, positions: Mapping[int, int]) -> None:
        """Tells the group where we are; the checkpoint is the truth, so nobody waits for the answer."""
        if self._seat is None or not self._seat.whole or self._seat.lost_s is not None:
            return
        moved = {lane: offset for lane, offset in positions.items() if self._committed.get(lane) != offset}
        if moved:
            self._reader.consumer.commit(offsets=partition_list(self._topic.name, moved), asynchronous=True)
            self._committed |= moved
            self._seat.tell(moved)

    def describe(self) -> dict[str, object]:
        """The topic, its identity and its size."""
        topic: Topic = self._topic
        return {
            "type": "kafka",
            "topic": topic.name,
            "topic_id": topic.topic_id,
            "partitions": len(topic.partitions),
        }

    def close(self) -> None:
        """Leaves the group at once, so that a successor need not wait for the seat."""
        reader, self._open_reader = self._open_reader, None
        if reader is None:
            return
        if self._seat is not None:
            if self._committed and self._seat.whole and self._seat.lost_s is None:
                self._commit_now(reader.consumer)
            self._seat.leave()
        reader.close()

    def _commit_now(self, consumer: Consumer) -> None:
        from confluent_kafka import KafkaException

        try:
            consumer.commit(offsets=partition_list(self._topic.name, self._committed), asynchronous=False)
        except KafkaException as error:
            # The checkpoint holds the same positions; only tools that watch the group see older ones.
            log.warning("the group's offsets could not be committed at the end: %s", error.args[0].str())
