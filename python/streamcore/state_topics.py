"""Owns the topics that state is kept in: their making, and reading a lane's records to the end.

Before it: `epochs.py`, in recovery. After it: the broker, and the engine, which knows what the records say.
Invariant: records of a lane are handed over in order, committed ones only, and `reached` is said only when an end is behind
that was asked for after `ask_anew` was called last.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from streamcore import _core
from streamcore.config import KafkaConnection
from streamcore.errors import StateError
from streamcore.kafka_client import Cluster, Topic, application, creating_client, partition_list
from streamcore.kafka_errors import failed_reading
from streamcore.kafka_tokens import ask_for_token
from streamcore.layouts import (
    MEETING_LANE,
    find_layout,
    first_record,
    lost_next,
    meeting_topic,
    state_plans,
    state_topic,
)
from streamcore.manifests import PUT_BACK
from streamcore.state_bounds import Bounds

if TYPE_CHECKING:
    from quixstreams.kafka import Consumer

READ_RECORDS = 200
WAIT_S = 0.05

End = Literal["high_watermark", "last_stable"]


@dataclass(slots=True)
class Reading:
    """A lane's records, as far as they were read."""

    records: _core.StateRecords
    position: int = 0
    end: int = field(default=-1)
    count: int = 0
    """Records that were read."""
    written_ms: int = 0
    """When the newest of them was written."""

    def take(self, key: bytes, value: bytes | None, offset: int) -> None:
        """Takes the next record."""
        self.records.add([(key, value)])
        self.position = offset + 1
        self.count += 1


class StateTopics:
    """The state topics of one pipeline."""

    def __init__(
        self, connection: KafkaConnection, *, pipeline: str, partitions: int, meets: bool, stage: int = 0
    ) -> None:
        """`partitions` of what is read; `meets`: whether lanes share state."""
        self._connection = connection
        self._pipeline = pipeline
        self._partitions = partitions
        self._meets = meets
        self._stage = stage
        self._consumer: Consumer | None = None
        self._readings: dict[int, Reading] = {}
        self.found: list[Topic] = []
        """What the topics were when they were opened."""
        self.layout = 1
        """See `layouts.py`."""
        self.begun: Mapping[str, Any] = {}
        """What was said when this layout was written; nothing of the first."""
        self.between: Callable[[], None] = nothing
        """Called again and again while records are read, for whoever has to do something else as well."""

    def open(self, cluster: Cluster, *, create: bool) -> None:
        """Makes sure of the topics. Raises `StateError` where one has other partitions than the input."""
        self.attach(cluster)
        self.found = []
        for plan in state_plans(
            self._pipeline, self._partitions, meets=self._meets, stage=self._stage, layout=self.layout
        ):
            topic = cluster.ensure_topic(plan, create=create)
            if len(topic.partitions) != plan.partitions:
                if (lost := self.lost_next()) is not None:
                    raise StateError(gone(lost[1]))
                raise StateError(
                    f"STATE_PARTITION_MISMATCH: the state of {self._pipeline} in topic {topic.name} has "
                    f"{len(topic.partitions)} partitions, and the input has {plan.partitions}: keys have moved between "
                    f"them, so the state no longer fits; streamcore state rescale FILE --to {plan.partitions} moves it, or says why it cannot"
                )
            self.found.append(topic)
            policy = cluster.topic_setting(topic.name, "cleanup.policy")
            if policy not in (None, "compact"):
                raise StateError(
                    f"topic {topic.name}, which keeps the state, has cleanup.policy={policy}: retention would delete it; set it to "
                    "compact (kafka-configs.sh --alter --add-config cleanup.policy=compact)"
                )

    def attach(self, cluster: Cluster) -> None:
        """Goes on with the topics as they are, if they are there."""
        self._cluster = cluster
        self._bounds = Bounds(cluster, self.place)
        self.layout, self.begun = self._find()

    def lost_next(self) -> tuple[int, str] | None:
        """See `layouts.lost_next`."""
        return lost_next(self._cluster, self.place(0)[0], self._reader)

    def _find(self) -> tuple[int, Mapping[str, Any]]:
        cluster = self._cluster
        return find_layout(
            cluster, self._pipeline, self._stage, lambda topic: first_record(cluster, topic, self._reader)
        )

    def check_layout(self) -> None:
        """Raises `StateError` where another layout counts by now.

        To be called by whoever has a seat of the group: as long as it is theirs, nobody changes that.
        """
        layout, _ = self._find()
        if layout != self.layout:
            raise StateError(
                f"the state of {self._pipeline} has gone from {self.place(0)[0]} to {state_topic(self._pipeline, self._stage, layout)} since "
                "this worker began; start again, and that one is used"
            )

    def place(self, lane: int) -> tuple[str, int]:
        """Topic and partition of a lane's records."""
        if lane == MEETING_LANE:
            return meeting_topic(self._pipeline, self.layout), 0
        return state_topic(self._pipeline, self._stage, self.layout), lane

    def read(
        self, lanes: Sequence[int], *, until: End, timeout_s: float, records: Callable[[int], _core.StateRecords]
    ) -> dict[int, bool]:
        """Reads on towards the end that the lanes have now; gives for each whether it was reached.

        What was too much for one call, be it the broker's answer where the ends are, is gone on with in the next, to the same end.
        `records` makes what a lane's records are put into, where its reading begins. Raises `SourceError`, `ConfigError`.
        """
        deadline = time.monotonic() + timeout_s
        new = [lane for lane in lanes if lane not in self._readings]
        if not self._bounds.find(lanes, new, committed=until == "last_stable", until_s=deadline):
            return dict.fromkeys(lanes, False)
        for lane in lanes:
            if lane not in self._readings:
                reading = self._readings[lane] = self._begin(lane, records)
                reading.position = max(reading.position, self._bounds.begins[lane])
            self._readings[lane].end = self._bounds.end(lane)
        # What was read to its end, or from a copy that lies behind it, is not asked for: behind the end there is no offset to read from.
        readings = {self.place(lane): self._readings[lane] for lane in lanes}
        waiting = {place: one for place, one in readings.items() if one.position < one.end}
        consumer = self._reader
        consumer.assign(
            [part for place, one in waiting.items() for part in partition_list(place[0], {place[1]: one.position})]
        )
        while self._unread(waiting) and time.monotonic() < deadline:
            self._take(consumer.consume(READ_RECORDS, WAIT_S), waiting)
            self._pass_markers(consumer, waiting)
            self.between()
        consumer.unassign()  # type: ignore[no-untyped-call]
        reached = {lane: self._readings[lane].position >= self._readings[lane].end for lane in lanes}
        self._bounds.forget([lane for lane, done in reached.items() if done])
        return reached

    def ask_anew(self) -> None:
        """From now on ends are asked for that are not of before: somebody's commit may have been waited for."""
        self._bounds.ask_anew()

    def _begin(self, lane: int, records: Callable[[int], _core.StateRecords]) -> Reading:
        """Of a lane of which nothing was read yet."""
        return Reading(records(lane))

    def reading(self, lane: int) -> Reading | None:
        """What was read of a lane, and how far; None: nothing."""
        return self._readings.get(lane)

    def records(self, lane: int) -> _core.StateRecords:
        """What was read of a lane."""
        return self._readings[lane].records

    def forget(self, lanes: Sequence[int]) -> None:
        """Lets go of what was read; the next reading begins anew."""
        self._bounds.forget(lanes)
        for lane in lanes:
            self._readings.pop(lane, None)

    @staticmethod
    def _unread(waiting: Mapping[tuple[str, int], Reading]) -> bool:
        return any(one.position < one.end for one in waiting.values())

    @staticmethod
    def _take(messages: list[Any], waiting: Mapping[tuple[str, int], Reading]) -> None:
        for message in messages:
            error = message.error()
            if error is not None:
                failure = failed_reading(error, f"the state in topic {message.topic()}", message.topic())
                if failure is not None:
                    raise failure
                continue
            one = waiting[message.topic(), message.partition()]
            one.take(message.key() or b"", message.value(), message.offset())
            one.written_ms = max(one.written_ms, message.timestamp()[1])

    @staticmethod
    def _pass_markers(consumer: Consumer, waiting: Mapping[tuple[str, int], Reading]) -> None:
        """Control records and aborted ones bring no message, but the position moves past them."""
        places = [part for place in waiting for part in partition_list(place[0], [place[1]])]
        for part in consumer.position(places):
            one = waiting[part.topic, part.partition]
            one.position = max(one.position, part.offset)

    @property
    def _reader(self) -> Consumer:
        if self._consumer is None:
            settings = {
                "isolation.level": "read_committed",
                "allow.auto.create.topics": False,
                "fetch.wait.max.ms": 20,
                "check.crcs": True,
            }
            self._consumer = group_of_nobody(self._connection, settings)
        return self._consumer

    def close(self) -> None:
        """Lets go of the connection."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()  # type: ignore[no-untyped-call]


def nothing() -> None:
    """What is done in between where nothing is."""


def group_of_nobody(connection: KafkaConnection, settings: Mapping[str, Any]) -> Consumer:
    """A consumer that is told what to read, and commits nothing."""
    with creating_client(connection):
        group = f"streamcore-state-{uuid.uuid4().hex}"
        app = application(connection, group=group, defaults={}, settings=settings)
        consumer = app.get_consumer(auto_commit_enable=False)
        consumer.assignment()  # quixstreams makes the client at its first use
    ask_for_token(consumer, connection.options)
    return consumer


def gone(topic: str) -> str:
    """In words, that a rescale moved the state to `topic`, which is lost."""
    return f"{topic}, where the state went, is gone; {PUT_BACK}"


def check_shared(has_state: Mapping[int, bool], topic: str) -> None:
    """What lanes share, in `topic`, has a manifest from the first epoch of any of them on. Raises `StateError` where it is gone."""
    if has_state.get(MEETING_LANE, True) or not any(has_state.values()):
        return
    raise StateError(
        f"lanes have committed epochs, and what they share has none: topic {topic} was emptied or made again; "
        "restore a savepoint, or begin anew: streamcore state reset FILE"
    )
