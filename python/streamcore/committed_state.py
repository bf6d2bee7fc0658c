"""Owns reading the committed state of an exactly-once pipeline, lane by lane, for whoever looks at it from outside a run.

Before it: a configuration and the broker. After it: `audit.py`, `savepoints.py`, `state_changes.py` and the commands.
Invariant: nothing is written, created or consumed in the pipeline's group; what is read is committed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Any

import orjson

from streamcore import _core
from streamcore.assemble import Plan, make_plan
from streamcore.assemble_exactly_once import typed_by_its_topic
from streamcore.config import KafkaSourceConfig, PipelineConfig, engine_json, kafka_connection
from streamcore.errors import ConfigError, SourceError, StateError
from streamcore.functions import functions_of
from streamcore.kafka_client import Cluster, Topic
from streamcore.layouts import MEETING_LANE
from streamcore.manifests import Identity, told
from streamcore.options import RunOptions
from streamcore.state_topics import StateTopics
from streamcore.topics import input_topic

READ_TIMEOUT_S = 120.0
"""How long the state of one lane may take to be read: until then an open transaction has ended."""


@dataclass(frozen=True, slots=True)
class LaneState:
    """What was read of one lane."""

    lane: int
    records: _core.StateRecords
    found: dict[str, Any]
    """See `_core.StateRecords.inspect`."""
    group_offset: int | None
    """Where the consumer group stands; None: nowhere."""
    input_begin: int | None
    """The first offset of the input that is still there; None for what lanes share."""
    input_end: int | None
    """Where the input ends for a reader of committed records."""

    @property
    def manifest(self) -> dict[str, Any] | None:
        """The newest manifest, whole or not; None without one."""
        newest: list[Any] = self.found["manifests"][:1]
        return newest[0][0] if newest else None


@dataclass(frozen=True, slots=True)
class Described:
    """The input, as manifests name it."""

    topic: str
    description: dict[str, object]

    def describe(self) -> dict[str, object]:
        """Facts that identify it."""
        return self.description


class CommittedState:
    """The state of one pipeline as the broker has it."""

    def __init__(self, plan: Plan, stack: ExitStack) -> None:
        """Connects; `stack` closes it. Raises `SourceError`, `ConfigError`."""
        config = plan.config
        assert isinstance(config.source, KafkaSourceConfig)  # noqa: S101 - checked by `make_plan`
        self.plan = plan
        self.connection = kafka_connection(config, config.source.connection)
        self.name = config.name or ""
        self.group = config.source.group_id or self.name
        self.cluster = Cluster(self.connection)
        self.cluster.connect()
        self.topic: Topic = self.cluster.input_topic(input_topic(config.source))
        self.config: PipelineConfig = typed_by_its_topic(plan, Event())[0]
        self.engine = self.new_engine()
        self.meets = MEETING_LANE in self.engine.sealed_lanes()
        count = len(self.topic.partitions)
        description = {"type": "kafka", "topic": self.topic.name, "topic_id": self.topic.topic_id, "partitions": count}
        self.source = Described(self.topic.name, description)
        self.states = StateTopics(self.connection, pipeline=self.name, partitions=count, meets=self.meets)
        stack.callback(self.states.close)
        self._sizes: dict[str, int] = {}
        self.look_again()

    def look_again(self) -> None:
        """Finds out which topics of the state there are."""
        self.states.close()  # a topic may have been made again under the name that its consumer knows
        self.states.attach(self.cluster)
        self._sizes = {name: self._size(name) for name, _ in map(self.states.place, (0, MEETING_LANE))}

    def _size(self, topic: str) -> int:
        found = self.cluster.topic(topic)
        return 0 if found is None else len(found.partitions)

    def new_engine(self) -> _core.Pipeline:
        """An engine of the pipeline, without lanes."""
        return _core.Pipeline(engine_json(self.config), functions_of(self.config))

    def identity(self, generation: int = 0) -> Identity:
        """Of the pipeline as it is now."""
        return Identity(self.name, self.engine.fingerprint, generation)

    @property
    def lanes(self) -> list[int]:
        """Lanes that have a place for their state, and what lanes share last."""
        return [*range(self.size), *([MEETING_LANE] if self._is_there(MEETING_LANE) else [])]

    @property
    def size(self) -> int:
        """Partitions that the state has; 0: none yet."""
        return self._sizes[self.states.place(0)[0]]

    def _is_there(self, lane: int) -> bool:
        topic, partition = self.states.place(lane)
        return partition < self._sizes[topic]

    def check_size(self) -> str | None:
        """In words, that the state's topic has other partitions than the input."""
        size, count = self.size, len(self.topic.partitions)
        if size in (0, count):
            return None
        return (
            f"STATE_PARTITION_MISMATCH: the state has {size} partitions, and the input {self.topic.name} has {count}: keys "
            f"have moved between them; streamcore state rescale FILE --to {count} moves it"
        )

    def read(self, lane: int) -> LaneState:
        """Reads all there is of a lane. Raises `SourceError`."""
        self.states.forget([lane])
        reached = self.states.read(
            [lane], until="high_watermark", timeout_s=READ_TIMEOUT_S, records=self.engine.state_records
        )
        if not reached[lane]:
            topic, partition = self.states.place(lane)
            raise SourceError(
                f"the end of partition {partition} of {topic} was not reached within {READ_TIMEOUT_S:.0f} s: a transaction on "
                "it is still open; try again"
            )
        records = self.states.records(lane)
        self.states.forget([lane])
        in_input = lane in self.topic.partitions
        begin = self.cluster.offsets(self.topic.name, [lane], "earliest")[lane] if in_input else None
        end = self.cluster.offsets(self.topic.name, [lane], "latest")[lane] if in_input else None
        group = self.cluster.group_offsets(self.group, self.topic.name, [lane])[lane] if in_input else None
        return LaneState(lane, records, orjson.loads(records.inspect()), group, begin, end)

    def read_all(self) -> Iterator[LaneState]:
        """One lane after the other."""
        return (self.read(lane) for lane in self.lanes)

    def problems(self, state: LaneState) -> list[str]:
        """What is wrong with a lane before anything is loaded."""
        manifests = state.found["manifests"]
        found = [*state.found["problems"], *([manifests[0][1]] if manifests and manifests[0][1] else [])]
        manifest = state.manifest
        if manifest is None:
            if state.group_offset:
                found.append(
                    f"the group is at {state.group_offset}, and the state has no manifest: its topic was emptied or made again"
                )
            return found
        try:
            told(orjson.dumps(manifest), self.identity(), self.source, is_whole=True)
        except StateError as error:
            found.append(str(error))
        position = manifest["facts"]["positions"].get(self.topic.name)
        return found if position is None else [*found, *self._position_problems(state, position)]

    def _position_problems(self, state: LaneState, position: int) -> list[str]:
        found = []
        if state.group_offset is not None and state.group_offset > position:
            found.append(f"the group is at {state.group_offset}, past the newest manifest, which is at {position}")
        if state.input_begin is not None and position < state.input_begin:
            found.append(
                f"records {position} to {state.input_begin - 1} of partition {state.lane} of {self.topic.name} were deleted "
                "before they were read"
            )
        if state.input_end is not None and position > state.input_end:
            found.append(
                f"partition {state.lane} of {self.topic.name} ends at {state.input_end}, before the position {position}"
            )
        return found

    def recover(self, state: LaneState) -> list[str]:
        """Puts the lane's state into `engine`, comparing its digest; gives what is wrong with it."""
        found = self.problems(state)
        try:
            self.engine.recover(state.lane, state.records)
        except StateError as error:
            text = str(error)
            return found if any(text in known or known in text for known in found) else [*found, text]
        return found


def choose_committed(config: PipelineConfig) -> Plan:
    """A plan of the pipeline, which keeps its state in topics. Raises `ConfigError` where it does not."""
    plan = make_plan(config, RunOptions(stop="end"))
    if plan.delivery != "exactly_once":
        raise ConfigError(
            f"{config.name or 'this pipeline'} has no state in topics: its delivery is {plan.delivery}; state commands are "
            'for delivery = "exactly_once"'
        )
    return plan


@contextmanager
def committed_state(config: PipelineConfig) -> Iterator[CommittedState]:
    """The committed state of a pipeline. Raises `ConfigError`, `SourceError`."""
    plan = choose_committed(config)
    with ExitStack() as stack:
        yield CommittedState(plan, stack)
