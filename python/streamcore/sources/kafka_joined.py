"""Owns reading several topics as one member of one group, which gives it the same partitions of each.

Before it: the group's coordinator, by the `range` assignor, and `kafka_member.py`, which is each topic by itself. After it:
`epochs.py`, to which a lane is partition p of every topic, and the runner, which knows the lanes of each input (`inputs.py`).
Invariant: all topics go by one `consume`, so what a callback commits is what was handed out before it; and no record of a
stream leaves before the tables of its partition were read to their end.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from streamcore.config import KafkaConnection, KafkaSourceConfig, PipelineConfig
from streamcore.errors import SourceError, StateError
from streamcore.kafka_client import REQUEST_TIMEOUT_S, Cluster, Topic, partition_list
from streamcore.sources.base import Polled, Position, Start
from streamcore.sources.inputs import Input, InputsSource, check_sizes
from streamcore.sources.kafka_member import Listener, MemberSource
from streamcore.sources.kafka_reader import ConsumerReader, Listening, Place, Taken, Wanted


class _Topic(MemberSource):
    """One of the topics; its reader is that of all."""

    def _seat_settings(self) -> dict[str, str]:
        # Of each topic the same partitions go to the same member; cooperative-sticky parts them.
        return {**super()._seat_settings(), "partition.assignment.strategy": "range"}

    def make_consumer(self) -> Any:
        """The consumer of all topics."""
        return self._new_consumer()

    def use(self, reader: ConsumerReader | None) -> None:
        """Reads by the reader of all topics, or by none."""
        self._open_reader = reader
        if reader is not None:
            self._ends = self._new_ends()

    def reader_of(self, consumer: Any, wanted: Wanted, source: Listening, *, name: str) -> ConsumerReader:
        """The reader of all topics, as this one's settings say."""
        return self._reader_of(consumer, wanted, source, name=name)

    def own(self, lanes: Iterable[int]) -> None:
        """These lanes are ours, and paused; it was all that is ours."""
        self._owned, self._fed = set(lanes), set()
        self._paused = set(lanes)

    def disown(self) -> None:
        """None is ours any more."""
        self._owned, self._fed, self._paused = set(), set(), set()

    def check_size(self, lanes: list[int]) -> None:
        """See `MemberSource`."""
        self._check_size(lanes)

    def first_parts(self, lanes: Sequence[int]) -> list[Any]:
        """Where the client is told to begin; it is sent elsewhere before anything is read."""
        return partition_list(self.topic, {lane: self._first[lane] for lane in lanes})

    def bounds(self) -> dict[Place, tuple[int, int | None]]:
        """See `KafkaSource`."""
        return self._bounds()

    @property
    def is_silent(self) -> bool:
        """Whether the client was told to bring nothing of it."""
        return self._owned <= self._paused

    def take(self, moved: Mapping[tuple[str, int], int]) -> None:
        """Records up to these offsets are handed out."""
        own = {place: offset for place, offset in moved.items() if place[0] == self.topic}
        self._next |= own
        if own:
            self._ends.heard()

    def read_again(self, moved: Mapping[tuple[str, int], int]) -> None:
        """Records up to these offsets are not."""
        lanes = [lane for lane in self._lanes() if (self.topic, lane) in moved]
        self.seek({lane: self._next[self.topic, lane] for lane in lanes})

    def polled(self) -> Polled:
        """What there is to say of it after a poll, but for its records."""
        self._skip_markers()
        self._mark_done()
        self._apply_pauses()
        caught_up = self._caught_up()
        self._watch_outage()
        return Polled(caught_up=caught_up, ended=self._stop is not None and self._is_read())

    def look_anew(self, lanes: Iterable[int]) -> None:
        """Where these lanes end is asked for anew."""
        self._ends.forget(lanes)

    @property
    def fed(self) -> set[int]:
        """The lanes that are read."""
        return set(self._fed)


class JoinedSource(InputsSource):
    """The inputs of a join, co-partitioned; see `sources/base.py` and `kafka_member.py` for the contract.

    Lanes of the commit are partitions; the runner's are numbered as in `inputs.py`.
    """

    is_eager = True

    def __init__(self, topics: Sequence[_Topic], inputs: Sequence[Input], source: KafkaSourceConfig) -> None:
        super().__init__(inputs)
        self._topics = list(topics)
        self._settings = source
        self._record_bytes_max = topics[0]._record_bytes_max  # noqa: SLF001 - one of ours
        self._called_back = False
        self._failure: Exception | None = None
        self._closing = False
        self._open_reader: ConsumerReader | None = None

    def open(self, start: Start) -> list[int]:
        """Finds the topics; lanes come with the group. Raises `ConfigError` for topics that cannot be joined so."""
        first = self._topics[0]
        first.connect()
        for each, topic in zip(self.inputs, self._topics, strict=True):
            topic.find(first.cluster, replace(start, default=each.start))
            each.unread = set() if each.is_table else None
        check_sizes({topic.topic: len(topic.partitions) for topic in self._topics})
        inputs = {topic.topic: number for number, topic in enumerate(self._topics)}
        wanted = Wanted(keys=True, headers=True, record_bytes_max=self._record_bytes_max, inputs=inputs)
        self._open_reader = first.reader_of(first.make_consumer(), wanted, self, name=self.topic)
        for topic in self._topics:
            topic.use(self._open_reader)
        return []

    @property
    def _reader(self) -> ConsumerReader:
        if self._open_reader is None:
            raise SourceError("the Kafka source is not open")
        return self._open_reader

    @property
    def cluster(self) -> Cluster:
        """The cluster of the topics."""
        return self._topics[0].cluster

    @property
    def partitions(self) -> tuple[int, ...]:
        """Of each topic, whoever reads them."""
        return self._topics[0].partitions

    @property
    def owns_all(self) -> bool:
        """Whether the group gives this worker every partition."""
        return all(topic.owns_all for topic in self._topics)

    @property
    def owned(self) -> set[int]:
        """The partitions that the group gives this worker, of each topic."""
        return set.intersection(*(topic.owned for topic in self._topics))

    @property
    def topic(self) -> str:
        """Their names, for people."""
        return " and ".join(self.topics)

    @property
    def found(self) -> tuple[Topic, ...]:
        """What they were when the source was opened."""
        return tuple(found for topic in self._topics for found in topic.found)

    @property
    def topics(self) -> tuple[str, ...]:
        """Their names, in the order of offsets of a lane."""
        return tuple(topic.topic for topic in self._topics)

    def numbers(self, lane: int) -> list[int]:
        """The runner's lanes of a lane of the commit; what lanes share has none."""
        return [] if lane < 0 else [self._number(number, lane) for number in range(len(self._topics))]

    def parts(self, offsets: Mapping[int, int]) -> list[Any]:
        """Offsets of the runner's lanes as the client takes them."""
        own = ((topic.topic, self._own(number, offsets)) for number, topic in enumerate(self._topics))
        return [part for name, of_topic in own for part in partition_list(name, of_topic)]

    # The group.

    def join(self, listener: Listener) -> None:
        """Asks for a share of the partitions; it comes inside later polls."""
        self._listener = listener
        self._reader.consumer.subscribe(
            list(self.topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        try:
            self._called_back = True
            lanes = aligned(self.topics, partitions)
            for topic in self._topics:
                topic.check_size(lanes)
            parts = [part for topic in self._topics for part in topic.first_parts(lanes)]
            self._reader.assign(parts, incremental=False, paused=True)
            for topic in self._topics:
                topic.own(lanes)
            self._paused = [None] * len(self._topics)
            self._listener.assigned(lanes, consumer.memberid() or "")
        except Exception as error:  # noqa: BLE001 - what a callback raises destroys what was fetched
            self._failure = self._failure or error

    def _on_revoke(self, consumer: Any, partitions: list[Any]) -> None:
        del consumer
        self._take_away(partitions, "revoked")

    def _on_lost(self, consumer: Any, partitions: list[Any]) -> None:
        del consumer
        self._take_away(partitions, "lost")

    def _take_away(self, partitions: list[Any], how: str) -> None:
        """All partitions go at once: the protocol of `range` knows no others."""
        try:
            self._called_back = True
            if not self._closing:
                tell = self._listener.revoked if how == "revoked" else self._listener.lost
                tell(sorted({part.partition for part in partitions}))
        except Exception as error:  # noqa: BLE001 - as above
            self._failure = self._failure or error
        self._reader.revoke(partitions)
        for topic in self._topics:
            topic.disown()
        for each in self.inputs:
            each.lanes = set()

    def membership(self) -> tuple[str, Any]:
        """See `MemberSource`."""
        return self._topics[0].membership()

    def foreign_metadata(self) -> Any:
        """See `MemberSource`."""
        return self._topics[0].foreign_metadata()

    def committed_offsets(self, lanes: Sequence[int], timeout_s: float) -> dict[int, int | None]:
        """The group's offsets by the runner's lanes; see `MemberSource`."""
        found: dict[int, int | None] = {}
        deadline = time.monotonic() + timeout_s
        for number, topic in enumerate(self._topics):
            own = sorted(self._own(number, dict.fromkeys(lanes, 0)))
            of_topic = topic.committed_offsets(own, max(0.1, deadline - time.monotonic())) if own else {}
            found |= {self._number(number, lane): offset for lane, offset in of_topic.items()}
        return found

    # What is read.

    @property
    def starts_late(self) -> bool:
        """Of any of them; see `MemberSource`."""
        return any(topic.starts_late for topic in self._topics)

    def feed(self, lanes: Iterable[int]) -> None:
        """These lanes are read from now on, and no others."""
        lanes = list(lanes)
        for each, topic in zip(self.inputs, self._topics, strict=True):
            topic.feed(lanes)
            each.lanes = topic.fed

    def place(self, offsets: Mapping[int, int | None], *, timeout_s: float = REQUEST_TIMEOUT_S) -> dict[int, int]:
        """Where the runner's lanes begin: as said, or, for None, by the policy; a table is to be read to its end from there.

        Raises `StateError` for records that are gone.
        """
        found: dict[int, int] = {}
        for number, (each, topic) in enumerate(zip(self.inputs, self._topics, strict=True)):
            own = self._own(number, offsets)
            if own:
                placed = topic.place(own, timeout_s=timeout_s / len(self.inputs))
                found |= {self._number(number, lane): offset for lane, offset in placed.items()}
                self._begin_again(each, topic, own)
        return found

    def seek(self, positions: Mapping[int, Position]) -> None:
        """Goes back; a table that is not at its end there is read to it again."""
        for number, (each, topic) in enumerate(zip(self.inputs, self._topics, strict=True)):
            own = self._own(number, positions)
            if own:
                topic.seek(own)
                self._begin_again(each, topic, own)
            self._paused[number] = None

    @staticmethod
    def _begin_again(each: Input, topic: _Topic, lanes: Iterable[int]) -> None:
        each.done, each.ended = set(), False
        if each.is_table:
            each.unread = {*(each.unread or ()), *lanes}
            topic.look_anew(lanes)

    def forget(self, lanes: Iterable[int]) -> None:
        """These lanes are not ours any more."""
        lanes = list(lanes)
        for each, topic in zip(self.inputs, self._topics, strict=True):
            topic.forget(lanes)
            each.lanes -= set(lanes)
            if each.unread is not None:
                each.unread -= set(lanes)

    def poll(self, timeout_s: float) -> Polled:
        """The next records of all topics."""
        self._called_back = False
        self._hold()
        raw, moved, refetched = self._take(min(timeout_s, self._settings.poll_timeout / 1000))
        if self._failure is not None:
            raise self._failure
        if self._called_back:
            for topic in self._topics:
                topic.read_again(moved)
            whole = Polled(None, refetched=refetched + len(raw))
        else:
            for topic in self._topics:
                topic.take(moved)
            whole = Polled(raw if len(raw) else None, refetched=refetched)
        for number, (each, topic) in enumerate(zip(self.inputs, self._topics, strict=True)):
            polled = topic.polled()
            self._note(each, polled)
            whole.caught_up += tuple(self._number(number, lane) for lane in polled.caught_up)
        self._note_ends(whole)
        return whole

    def _hold(self) -> None:
        """Tells each topic what to hold back: what the runner asked for, and streams whose table is not read yet."""
        held = [self._own_lanes(number) for number in range(len(self.inputs))]
        if all(each.lanes - each.done <= held[number] for number, each in enumerate(self.inputs)):
            held = [set() for _ in self.inputs]  # only what is over is behind
        unread = {lane for each in self.inputs for lane in each.unread or ()}
        for number, each in enumerate(self.inputs):
            wanted = held[number] - (each.unread or set()) if each.is_table else held[number] | (unread & each.lanes)
            if wanted != self._paused[number]:
                each.source.pause(sorted(wanted))
                self._paused[number] = wanted

    def _take(self, timeout_s: float) -> Taken:
        bounds = {place: bound for topic in self._topics for place, bound in topic.bounds().items()}
        is_silent = all(topic.is_silent for topic in self._topics)
        return self._reader.take(bounds, self._settings.poll_records_max, timeout_s, is_silent=is_silent)

    @property
    def is_disturbed(self) -> bool:
        """See `kafka_reader.Listening`."""
        return self._called_back

    def go_back(self) -> None:
        """See `kafka_reader.Listening`."""
        self.seek(self.positions())

    def refuse(self, error: Any, place: Place | None) -> None:
        """See `kafka_reader.Listening`."""
        self._topic_of(place).refuse(error, place)

    def stopped(self, place: Place, kind: str, why: str) -> None:
        """See `kafka_reader.Listening`."""
        self._topic_of(place).stopped(place, kind, why)

    def _topic_of(self, place: Place | None) -> _Topic:
        by_name = {topic.topic: topic for topic in self._topics}
        return by_name.get(place[0] if place else "", self._topics[0])

    def committed(self, positions: Mapping[int, Position]) -> None:
        """Nothing: offsets are part of the transaction."""

    def close(self) -> None:
        """Leaves the group."""
        self._closing = True
        if self._open_reader is not None:
            self._open_reader.close()  # calls back
            self._open_reader = None
        for topic in self._topics:
            topic.use(None)


def aligned(topics: Sequence[str], partitions: Iterable[Any]) -> list[int]:
    """The lanes of an assignment. Raises `StateError` where it has a partition of one topic and not of another."""
    by_topic: dict[str, set[int]] = {topic: set() for topic in topics}
    for part in partitions:
        by_topic.setdefault(part.topic, set()).add(part.partition)
    first = by_topic[topics[0]]
    if len(by_topic) != len(topics) or any(lanes != first for lanes in by_topic.values()):
        given = "; ".join(f"{topic}: {sorted(lanes)}" for topic, lanes in by_topic.items())
        raise StateError(
            f"the group gave this worker partitions that do not go together ({given}): a join needs the same ones of each "
            "topic; all members of the group must be workers of this pipeline, with the range assignor"
        )
    return sorted(first)


def member_source(
    config: PipelineConfig,
    connection: KafkaConnection,
    *,
    start: str | None = None,
    **options: Any,
) -> MemberSource | JoinedSource:
    """The input of a pipeline, of one topic or of several, as a member of a group. `options` as `MemberSource` has them.

    `start` is where streams begin that nothing is known of, in place of what their sources say.
    """
    sources = {name: source for name, source in config.all_sources.items() if isinstance(source, KafkaSourceConfig)}
    own = sources[None]
    if len(sources) == 1:
        return MemberSource(connection, own, **options)
    topics = [_Topic(connection, source, **options) for source in sources.values()]
    inputs = [
        Input(
            name=name or "",
            source=topic,
            start="earliest" if config.is_table(name) else start or sources[name].start,
            is_table=config.is_table(name),
            must_be_polled=True,
        )
        for name, topic in zip(sources, topics, strict=True)
    ]
    return JoinedSource(topics, inputs, own)
