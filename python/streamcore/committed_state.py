"""Owns reading the committed state of an exactly-once pipeline, lane by lane, for whoever looks at it from outside a run.

Before it: a configuration and the broker. After it: `audit.py`, `savepoints.py`, `state_changes.py` and the commands.
Invariant: nothing is written, created or consumed in the pipeline's group; what is read is committed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Any

import orjson

from streamcore import _core
from streamcore._core import LANES_PER_INPUT
from streamcore.assemble import Plan, make_plan
from streamcore.assemble_exactly_once import typed_by_its_topic
from streamcore.config import (
    KafkaSourceConfig,
    PipelineConfig,
    SourceConfig,
    engine_json,
    in_transactions,
    kafka_connection,
)
from streamcore.config.suggest import closest
from streamcore.errors import ConfigError, SourceError, StateError
from streamcore.functions import functions_of
from streamcore.kafka_client import Cluster, Topic
from streamcore.layouts import MEETING_LANE, partials_topic, pipelines_there, topics_there
from streamcore.manifests import (
    ANEW,
    PUT_BACK,
    Identity,
    check_group,
    groups_of,
    lost_partials,
    mismatch,
    told,
)
from streamcore.options import RunOptions
from streamcore.phases import FINAL, PARTIAL, STATE_GENERATION, Phase, partials_plan, phases_of
from streamcore.sources.inputs import check_sizes
from streamcore.state_topics import StateTopics, gone
from streamcore.topics import input_topic

READS_MAX = 20
"""How often a lane is read again that looks wrong, and otherwise each time."""

READ_TIMEOUT_S = 120.0
"""How long the state of one lane may take to be read: until then an open transaction has ended."""


NAMES_MAX = 10
"""Names of other pipelines that are told."""


@dataclass(frozen=True, slots=True)
class InputPlace:
    """Where a partition of one topic of the input stands."""

    group_offset: int | None
    """Of the consumer group; None: nowhere."""
    begin: int
    """The first offset that is still there."""
    end: int
    """Where it ends for a reader of committed records."""


@dataclass(frozen=True, slots=True)
class LaneState:
    """What was read of one lane."""

    lane: int
    records: _core.StateRecords
    found: dict[str, Any]
    """See `_core.StateRecords.inspect`."""
    inputs: dict[str, InputPlace]
    """By topic; none for what lanes share."""
    written_ms: int = 0
    """When its newest record was written."""

    @property
    def positions(self) -> dict[str, int]:
        """Where the newest manifest stands, by topic."""
        positions: dict[str, int] = {} if self.manifest is None else self.manifest["facts"]["positions"]
        return positions

    @property
    def manifest(self) -> dict[str, Any] | None:
        """The newest manifest, whole or not; None without one."""
        newest: list[Any] = self.found["manifests"][:1]
        return newest[0][0] if newest else None


@dataclass(frozen=True, slots=True)
class Described:
    """The input, as manifests name it."""

    topics: tuple[str, ...]
    description: dict[str, object]

    def numbers(self, lane: int) -> list[int]:
        """The engine's lanes of a lane; see `manifests.Input`."""
        return [] if lane < 0 else [number * LANES_PER_INPUT + lane for number in range(len(self.topics))]

    def describe(self) -> dict[str, object]:
        """Facts that identify it."""
        return self.description


class CommittedState:
    """The state of one pipeline as the broker has it."""

    def __init__(self, plan: Plan, stack: ExitStack, phase: Phase | None = None) -> None:
        """Connects; `stack` closes it. `phase` is the first one where nothing is said. Raises `SourceError`, `ConfigError`."""
        config = plan.config
        assert isinstance(config.source, KafkaSourceConfig)  # noqa: S101 - checked by `make_plan`
        self.plan = plan
        self.phase = phase or phases_of(config)[0]
        self.connection = kafka_connection(config, config.source.connection)
        self.name = config.name or ""
        self.pipeline_group = config.source.group_id or self.name
        self.group = self.phase.group(self.pipeline_group)
        self.cluster = Cluster(self.connection)
        self.cluster.connect()
        self._find_input(config)
        self.config: PipelineConfig = typed_by_its_topic(plan, Event())[0]
        self.engine = self.new_engine()
        self.meets = MEETING_LANE in self.engine.sealed_lanes()
        self.states = self._new_states()
        stack.callback(self._close)
        self._sizes: dict[str, int] = {}
        self.lost_next: tuple[int, str] | None = None
        """The layout that the state has gone to, and its topic, where nothing is left of it; looked for where sizes differ."""
        self.look_again()

    def _find_input(self, config: PipelineConfig) -> None:
        found = self._topics(config)
        self.topics: list[Topic] = list(found.values())
        check_sizes({topic.name: len(topic.partitions) for topic in self.topics})
        self.source = Described(tuple(topic.name for topic in self.topics), described(found))

    def _close(self) -> None:
        self.states.close()

    def _new_states(self) -> StateTopics:
        return StateTopics(
            self.connection,
            pipeline=self.name,
            partitions=len(self.partitions),
            meets=self.meets,
            stage=self.phase.stage,
        )

    def partials_made(self) -> None:
        """The topic of partials was made since the beginning."""
        self._find_input(self.config)
        self.engine = self.new_engine()
        self.states.close()
        self.states = self._new_states()
        self.look_again()

    def _topics(self, config: PipelineConfig) -> dict[str | None, Topic]:
        """What the phase reads, by input; partials that there are none of yet have no partitions."""
        if self.phase is FINAL:
            name = partials_topic(self.name)
            return {None: self.cluster.topic(name) or Topic(name, "", ())}
        return {name: self._input(source) for name, source in config.all_sources.items()}

    def _input(self, source: SourceConfig) -> Topic:
        assert isinstance(source, KafkaSourceConfig)  # noqa: S101 - checked by `make_plan`
        return self.cluster.input_topic(input_topic(source))

    @property
    def topic(self) -> Topic:
        """The pipeline's own, which is the first of several."""
        return self.topics[0]

    @property
    def partitions(self) -> tuple[int, ...]:
        """Of each topic of the input."""
        return self.topic.partitions

    def look_again(self) -> None:
        """Finds out which topics of the state there are."""
        self.states.close()  # a topic may have been made again under the name that its consumer knows
        self.states.attach(self.cluster)
        self._find_sizes()
        self.lost_next = self.states.lost_next() if self.size not in (0, len(self.partitions)) else None

    def go_on_in(self, layout: int) -> None:
        """The topics of this layout were made, and nothing says yet that it counts."""
        self.states.layout, self.states.begun, self.lost_next = layout, {}, None
        self._find_sizes()

    def _find_sizes(self) -> None:
        self._sizes = {name: self._size(name) for name, _ in map(self.states.place, (0, MEETING_LANE))}

    def _size(self, topic: str) -> int:
        found = self.cluster.topic(topic)
        return 0 if found is None else len(found.partitions)

    def new_engine(self) -> _core.Pipeline:
        """An engine of the pipeline, without lanes."""
        engine = _core.Pipeline(engine_json(self.config, phase=self.phase.name), functions_of(self.config))
        if self.phase is PARTIAL:
            # Nothing is handed over here, and an engine that seals wants to know where to.
            partitions = max(1, self._size(partials_topic(self.name)))
            engine.hand_over(partitions=partitions, generation=STATE_GENERATION, lanes=len(self.topic.partitions))
        return engine

    def called(self, lane: int) -> str:
        """A lane's name, for a person."""
        return "where lanes meet" if lane == MEETING_LANE else f"{self.phase.prefix.replace('-', ' ')}lane {lane}"

    def identity(self, generation: int = 0) -> Identity:
        """Of the pipeline as it is now."""
        return Identity(self.name, self.engine.fingerprint, generation, self.pipeline_group)

    @property
    def lanes(self) -> list[int]:
        """Lanes that have a place for their state, and what lanes share last."""
        return [*range(self.size), *([MEETING_LANE] if self._is_there(MEETING_LANE) else [])]

    @property
    def has_offsets(self) -> bool:
        """Whether the group stands anywhere in what the phase reads."""
        return any(
            offset is not None
            for topic in self.topics
            if topic.partitions
            for offset in self.cluster.group_offsets(self.group, topic.name, topic.partitions).values()
        )

    @property
    def size(self) -> int:
        """Partitions that the state has; 0: none yet."""
        return self._sizes[self.states.place(0)[0]]

    def _is_there(self, lane: int) -> bool:
        topic, partition = self.states.place(lane)
        return self.meets and partition < self._sizes[topic]

    def check_size(self) -> str | None:
        """In words, that the state's topic has other partitions than the input."""
        size, count = self.size, len(self.partitions)
        if size in (0, count):
            return None
        if self.lost_next is not None:
            return gone(self.lost_next[1])
        if self.phase is FINAL and not count:
            return lost_partials(self.name, is_there=False)
        return mismatch(size, self.topic.name, count)

    def read(self, lane: int) -> LaneState:
        """Reads all there is of a lane. Raises `SourceError`.

        Beside a worker a reading may have a part of an epoch that was committed meanwhile: what looks wrong and is something else
        each time is read again.
        """
        state, before = self._read_once(lane), None
        for _ in range(READS_MAX):
            if state.found == before or not self._is_behind(state):
                break
            before, state = state.found, self._read_once(lane)
        return state

    def _is_behind(self, state: LaneState) -> bool:
        """Whether it looks wrong as it would if an epoch was committed during the reading."""
        manifests = state.found["manifests"]
        if state.found["problems"] or (manifests and manifests[0][1]):
            return True
        return any((place.group_offset or 0) > state.positions.get(topic, 0) for topic, place in state.inputs.items())

    def _read_once(self, lane: int) -> LaneState:
        # Before the state, which is never behind what the group had then.
        topics = [topic for topic in self.topics if lane in topic.partitions]
        of_group = {topic.name: self.cluster.group_offsets(self.group, topic.name, [lane])[lane] for topic in topics}
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
        reading = self.states.reading(lane)
        assert reading is not None  # noqa: S101 - it was read
        self.states.forget([lane])
        inputs = {topic.name: self._place(topic, lane, of_group[topic.name]) for topic in topics}
        return LaneState(lane, reading.records, orjson.loads(reading.records.inspect()), inputs, reading.written_ms)

    def _place(self, topic: Topic, lane: int, group_offset: int | None) -> InputPlace:
        return InputPlace(
            group_offset=group_offset,
            begin=self.cluster.offsets(topic.name, [lane], "earliest")[lane],
            end=self.cluster.offsets(topic.name, [lane], "latest")[lane],
        )

    def read_all(self) -> Iterator[LaneState]:
        """One lane after the other."""
        return (self.read(lane) for lane in self.lanes)

    def problems(self, state: LaneState) -> list[str]:
        """What is wrong with a lane before anything is loaded."""
        manifests = state.found["manifests"]
        manifest = state.manifest
        found = list(state.found["problems"])
        if manifests and manifests[0][1] and not self._is_of_other_steps(manifest):
            found.append(manifests[0][1])
        if manifest is None:
            at = {topic: place.group_offset for topic, place in state.inputs.items() if place.group_offset}
            if at:
                told_at = ", ".join(
                    str(offset) if len(self.topics) == 1 else f"{offset} of {topic}" for topic, offset in at.items()
                )
                found.append(
                    f"the group is at {told_at}, and the state has no manifest: its topic was emptied or made again"
                )
            return found
        try:
            check_group(self.identity(), groups_of(one for one, _ in manifests))
            told(orjson.dumps(manifest), self.identity(), self.source, is_whole=True)
        except StateError as error:
            found.append(str(error))
        for topic, position in state.positions.items():
            if topic in state.inputs:
                found += self._position_problems(state.lane, topic, state.inputs[topic], position)
        return found

    def _position_problems(self, lane: int, topic: str, place: InputPlace, position: int) -> list[str]:
        found = []
        if place.group_offset is not None and place.group_offset > position:
            of_topic = "" if len(self.topics) == 1 else f" of {topic}"
            found.append(
                f"the group is at {place.group_offset}{of_topic}, past the newest manifest, which is at {position}"
            )
        if position < place.begin:
            found.append(
                f"records {position} to {place.begin - 1} of partition {lane} of {topic} were deleted before they were read; "
                "streamcore run FILE --accept-gap goes on without them"
            )
        if position > place.end:
            found.append(f"partition {lane} of {topic} ends at {place.end}, before the position {position}")
        return found

    def _is_of_other_steps(self, manifest: Mapping[str, Any] | None) -> bool:
        """Of such a lane the engine says in other words what `told` says."""
        return manifest is not None and manifest["fingerprint"] != self.engine.fingerprint

    def recover(self, state: LaneState) -> list[str]:
        """Puts the lane's state into `engine`, comparing its digest; gives what is wrong with it."""
        found = self.problems(state)
        if self._is_of_other_steps(state.manifest):
            return found
        try:
            self.engine.recover(state.lane, state.records)
        except StateError as error:
            text = str(error)
            return found if any(text in known or known in text for known in found) else [*found, text]
        return found


def described(topics: Mapping[str | None, Topic]) -> dict[str, object]:
    """What a source of these topics says of itself; `topics` are by input."""
    facts: dict[str, object] = {}
    for name, topic in topics.items():
        of_topic = {
            "type": "kafka",
            "topic": topic.name,
            "topic_id": topic.topic_id,
            "partitions": len(topic.partitions),
        }
        facts |= {f"{name}.{fact}" if name else fact: value for fact, value in of_topic.items()}
    return facts


def choose_committed(config: PipelineConfig) -> Plan:
    """A plan of the pipeline, which keeps its state in topics. Raises `ConfigError` where it does not."""
    plan = make_plan(config, RunOptions(stop="end"))
    if plan.delivery == "exactly_once" and not in_transactions(config):
        raise ConfigError(
            f"{config.name} has no state in topics: it is a checkpoint on this machine, since the source is of files; state commands "
            "are for pipelines that read from Kafka"
        )
    if plan.delivery != "exactly_once":
        raise ConfigError(
            f"{config.name or 'this pipeline'} has no state in topics: its delivery is {plan.delivery}; state commands are "
            'for delivery = "exactly_once"'
        )
    return plan


@contextmanager
def committed_phases(config: PipelineConfig) -> Iterator[list[CommittedState]]:
    """The committed state of each phase of a pipeline, in the order of the data. Raises `ConfigError`, `SourceError`."""
    plan = choose_committed(config)
    with ExitStack() as stack:
        yield [CommittedState(plan, stack, phase) for phase in phases_of(plan.config)]


def check_there(phases: Sequence[CommittedState], *, is_reset: bool = False) -> None:
    """Raises `StateError`, with the names of pipelines that have some, where the broker has no state of this one.

    `is_reset`: what a run would be refused for is enough, a layout that does not count or offsets of the group.
    """
    first = phases[0]
    if first.lost_next is not None and not is_reset:
        raise StateError(gone(first.lost_next[1]))
    if any(committed.size for committed in phases):
        return
    has_offsets = any(committed.has_offsets for committed in phases)
    if is_reset and (has_offsets or any(topics_there(first.cluster, first.name, each.phase.stage) for each in phases)):
        return
    topic = first.states.place(0)[0]
    if has_offsets:
        raise StateError(
            f"there is no state of {first.name}, though group {first.group} has offsets: topic {topic} was deleted; {PUT_BACK}"
        )
    raise StateError(f"there is no state of {first.name}: topic {topic} does not exist; {_others(first)}")


def make_partials(phases: Sequence[CommittedState]) -> None:
    """Makes the topic between two stages of state, where it is lost. Raises `ConfigError` where it may not be made."""
    first, final = phases[0], phases[-1]
    if final.phase is FINAL and not final.partitions:
        plan = partials_plan(first.config, len(first.partitions))
        first.cluster.ensure_topic(plan, create=first.config.auto_create_topics)
        for committed in phases:
            committed.partials_made()


def _others(committed: CommittedState) -> str:
    """Which pipelines there is state of, for who asks for one that has none."""
    names = pipelines_there(committed.cluster)
    if not names:
        return "its first run makes it (this broker has state of no pipeline)"
    near = closest(committed.name, names)
    ordered = names if near is None else [near, *(name for name in names if name != near)]
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return (
        f"its first run makes it; if it ran under another name, set name to that: this broker has state of "
        f"{', '.join(ordered[:NAMES_MAX])}{more}"
    )


def of_one_stage(phases: Sequence[CommittedState]) -> CommittedState:
    """The state where all of it is of one stage. Raises `ConfigError` where it is not."""
    first, *others = phases
    if others:
        raise ConfigError(
            f'{first.name} has its state in two stages (combine = "topic"): moving it to other partitions is not built; {ANEW}'
            '; with combine = "local" then, it can be moved'
        )
    return first
