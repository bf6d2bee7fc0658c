"""Owns the building of a run that commits in Kafka transactions.

Before it: `assemble.py`, which found out that the pipeline asks for `exactly_once`. After it: `runner.py`, with `epochs.py` to
commit.
Invariant: everything that goes to Kafka goes through one producer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from streamcore import _core
from streamcore.assemble_outboxes import make_outboxes
from streamcore.clock import Clock
from streamcore.config import (
    DeadLettersConfig,
    KafkaSinkConfig,
    KafkaSourceConfig,
    ParquetSinkConfig,
    PipelineConfig,
    engine_json,
    is_outbox,
    kafka_connection,
    outbox_topic,
    sink_mode,
)
from streamcore.copy_files import NO_COUNTS, CopyFiles, copies_folder
from streamcore.dead_letters import open_dead_letters
from streamcore.epochs import Epochs
from streamcore.errors import StateError
from streamcore.functions import functions_of
from streamcore.held_outputs import HeldOutputs
from streamcore.inference import Undeclared, describe_types, infer_types, with_types
from streamcore.instance import lease_instance
from streamcore.kafka_client import Cluster
from streamcore.lane_files import LaneFiles
from streamcore.lane_states import LaneStates
from streamcore.layouts import MEETING_LANE, refuse_state
from streamcore.manifests import Identity
from streamcore.membership import ALONE, Meeting
from streamcore.outboxes import Outboxes
from streamcore.outputs import Outputs
from streamcore.phases import FINAL, STATE_GENERATION, Phase, partials_plan, partials_source, phases_of
from streamcore.sinks.base import Sink
from streamcore.sinks.kafka import KafkaSink
from streamcore.sinks.parquet_lanes import LaneParquetSink
from streamcore.sources.base import Start
from streamcore.sources.kafka import KafkaSource
from streamcore.sources.kafka_group import wait_for_free_group
from streamcore.sources.kafka_joined import JoinedSource, member_source
from streamcore.sources.kafka_member import MemberSource
from streamcore.sources.kafka_old_layout import OldLayoutSource
from streamcore.sources.kafka_partials import PartialsSource
from streamcore.state_topics import StateTopics
from streamcore.topic_watch import TopicWatch
from streamcore.transactions import OPEN_MAX_MS, InTransaction, Transactions, transactional_id

if TYPE_CHECKING:
    from streamcore.assemble import Plan

TRACE_VARIABLE = "STREAMCORE_COMMIT_TRACE"
"""A folder in which each worker writes what the commit machine was told and answered, as JSON lines."""

BUGS_VARIABLE = "STREAMCORE_COMMIT_BUGS"
"""Mistakes that the commit machine makes on purpose, with commas; only where the engine was built for it."""

TRANSACTION_INTERVALS = 5
"""Commit intervals that a transaction may stay open, at least the session's timeout: as long a dead worker's rows may hold
up its successor and whoever reads committed rows alone."""

TRANSACTION_MIN_MS = 1_000
"""The shortest that the client takes."""

_Opened = TypeVar("_Opened", bound="MemberSource | JoinedSource")


@dataclass(slots=True)
class OpenPhase:
    """A phase of which everything is open."""

    phase: Phase
    engine: _core.Pipeline
    source: MemberSource | JoinedSource
    outputs: HeldOutputs
    states: LaneStates
    epochs: Epochs


class Parts:
    """What a transactional run has in the place of others' parts."""

    def __init__(self, plan: Plan, clock: Clock, stopping: Event, stack: ExitStack, folder: Path) -> None:
        """Opens everything; `stack` closes it. Raises `SourceError`, `StateError`, `SinkError`, `ConfigError`."""
        assert isinstance(plan.config.source, KafkaSourceConfig)  # noqa: S101 - checked by `choose_delivery`
        self._plan, self._stack = plan, stack
        self._connection = kafka_connection(plan.config, plan.config.source.connection)
        self._group = plan.config.source.group_id or plan.config.name or ""
        self._generation = clock.wall_ms() // 1_000
        outboxes = Outboxes()
        # Closed last: while they come up to date, others have this worker's partitions already.
        stack.callback(outboxes.close)
        instance = lease_instance(folder, plan.config.instance_id)
        stack.callback(instance.close)
        # Closed behind the sources: nobody waits for the disk.
        self._folder, self._copies = folder, stack.enter_context(ExitStack())
        self._instance = instance.name
        self.notes = [f"delivery: {plan.delivery}, as worker {instance.name}"]
        self.phases: list[OpenPhase] = []
        input_source = self._input()
        self.config, note = typed_by_its_topic(plan, stopping)
        self.notes += [] if note is None else [note]
        first, *others = phases_of(self.config)
        lanes = len(input_source.partitions)
        engine = self._engine(first)
        if others:
            partitions = self._partials(input_source.cluster, lanes)
            engine.hand_over(partitions=partitions, generation=STATE_GENERATION, lanes=lanes)
        self.phases.append(self._open(first, input_source, engine, outboxes))
        for phase in others:
            engine = self._engine(phase)
            self.phases.append(self._open(phase, self._partials_source(engine), engine, outboxes))
        for outbox in make_outboxes(self.config, group=self._group, accept_gap=plan.options.accept_gap):
            outboxes.add(outbox)
            self.notes.append(f"outbox: {outbox.place}, fed from topic {outbox.topic}")
        outboxes.start()

    def partials_are_over(self) -> None:
        """The partial phase has ended well: others may have its partitions, and the final one ends behind it."""
        partial, final = self.phases
        partial.source.close()
        assert isinstance(final.source, PartialsSource)  # noqa: S101 - made so above
        final.source.finish()

    def _input(self) -> MemberSource | JoinedSource:
        """The topic that the pipeline reads, or those that it joins, open."""
        config, options = self._plan.config, self._plan.options
        assert isinstance(config.source, KafkaSourceConfig)  # noqa: S101 - as above
        settings: dict[str, Any] = {
            "group": self._group,
            "stop": options.stop,
            "keys": True,
            "headers": True,
            "instance_id": self._instance,
            "record_bytes_max": config.limits.max_record_bytes,
            "accept_gap": options.accept_gap,
            "keep_seat": options.keep_seat,
        }
        source: MemberSource | JoinedSource
        if options.old_ends is not None:
            source = OldLayoutSource(self._connection, config.source, ends=options.old_ends, **settings)
        else:
            source = member_source(config, self._connection, start=options.start, **settings)
        return self._opened(source, options.start or config.source.start)

    def _partials_source(self, engine: _core.Pipeline) -> PartialsSource:
        """The topic of partials, open."""
        options = self._plan.options
        if options.accept_gap:
            engine.accept_gaps()
        source = PartialsSource(
            self._connection,
            partials_source(self.config),
            group=FINAL.group(self._group),
            instance_id=self._instance,
            accept_gap=options.accept_gap,
            keep_seat=options.keep_seat,
            until_ended=options.stop == "end",
            have_ended=lambda: all(told["over"] for told in engine.inputs().values()),
        )
        self._opened(source, "earliest")
        return source

    def _opened(self, source: _Opened, start: str) -> _Opened:
        self._stack.callback(source.close)
        source.open(Start(default=start, stop=self._plan.options.stop))
        return source

    def _partials(self, cluster: Cluster, lanes: int) -> int:
        """Makes sure of the topic of partials; gives how many partitions it has. Raises `StateError`."""
        topic = cluster.ensure_topic(partials_plan(self.config, lanes), create=self.config.auto_create_topics)
        wanted = self.config.combine_partitions
        if wanted not in (None, len(topic.partitions)):
            raise StateError(
                f"STATE_PARTITION_MISMATCH: {topic.name} has {len(topic.partitions)} partitions, and combine_partitions is "
                f"{wanted}: keys would move between them; say {len(topic.partitions)}, or begin anew under another name"
            )
        policy = cluster.topic_setting(topic.name, "cleanup.policy") or ""
        if "compact" in policy:
            raise StateError(
                f"{topic.name} has cleanup.policy={policy}: compaction keeps the last record of each epoch alone, and windows would "
                "lack the others; set it to delete (kafka-configs.sh --alter --add-config cleanup.policy=delete)"
            )
        return len(topic.partitions)

    def _engine(self, phase: Phase) -> _core.Pipeline:
        return _core.Pipeline(engine_json(self.config, phase=phase.name), functions_of(self.config))

    def _open(
        self, phase: Phase, source: MemberSource | JoinedSource, engine: _core.Pipeline, outboxes: Outboxes
    ) -> OpenPhase:
        """Everything of a phase; `outboxes` are told of rows by the one that has them."""
        config, stack = self.config, self._stack
        meets = MEETING_LANE in engine.sealed_lanes()
        group = phase.group(self._group)
        if meets:
            # Before anything is done in its name: beside another worker each would take partitions away that are of use only together.
            wait_for_free_group(
                source.cluster,
                group,
                self._connection.session_timeout,
                seat=self._instance if self._plan.options.keep_seat else None,
                advice=ALONE,
            )
        transactions = Transactions(
            self._connection,
            transactional_id=transactional_id(group, self._instance),
            timeout_ms=_transaction_ms(config.commit_interval, self._connection.session_timeout),
        )
        stack.callback(transactions.close)
        states = LaneStates(
            self._connection,
            pipeline=config.name or "",
            partitions=len(source.partitions),
            meets=meets,
            stage=phase.stage,
            files=self._open_copies(phase) if config.state_cache else None,
            facts={"fingerprint": engine.fingerprint},
        )
        stack.callback(states.close)
        states.open(source.cluster, create=config.auto_create_topics)
        states.watch = transactions.watch = TopicWatch(source.cluster, read=source.found, state=states.found)
        sinks = _sinks(config, InTransaction(transactions), phase)
        outputs = HeldOutputs(
            _outputs(config, sinks, InTransaction(transactions), self._generation),
            outboxes if phase.takes("result") else Outboxes(),
        )
        stack.callback(outputs.close)
        outputs.open({})
        settings = _settings(len(source.topics))
        epochs = Epochs(
            engine=engine,
            source=source,
            outputs=outputs,
            transactions=transactions,
            states=states,
            machine=_core.CommitMachine(settings),
            identity=Identity(config.name or "", engine.fingerprint, self._generation, self._group),
            meeting=Meeting(source, group=group, meets=meets, session_timeout_ms=self._connection.session_timeout),
            files=LaneFiles(sinks),
            trace=_trace(settings, f"{phase.prefix}{self._instance}", stack),
            phase=phase,
        )
        return OpenPhase(phase, engine, source, outputs, states, epochs)

    def _open_copies(self, phase: Phase) -> CopyFiles:
        copies = CopyFiles(copies_folder(self._folder, self._instance, phase.stage), dict(NO_COUNTS))
        self._copies.callback(copies.close)
        copies.open()
        return copies


def typed_by_its_topic(plan: Plan, stopping: Event) -> tuple[PipelineConfig, str | None]:
    """The configuration with the types of all fields, and what to say of those that nobody declared.

    They are found by the first records that the topic has: every worker finds the same, wherever it goes on.
    """
    config, notes = plan.config, []
    for name, input_config in plan.config.all_sources.items():
        assert isinstance(input_config, KafkaSourceConfig)  # noqa: S101 - checked by `choose_delivery`
        fields = Undeclared.of(plan.description, name)
        if not fields.paths:
            continue
        source = KafkaSource(
            kafka_connection(config, input_config.connection), input_config, group=None, stop=plan.options.stop
        )
        try:
            source.open(Start(default="earliest", stop=plan.options.stop))
            types = infer_types(source, fields, stopping)
        finally:
            source.close()
        config = with_types(config, name, types or fields.as_text())
        notes.append(describe_types(types, fields.table))
    return config, "\n".join(notes) or None


def _transaction_ms(commit_interval_ms: int, session_ms: int) -> int:
    return min(OPEN_MAX_MS, max(TRANSACTION_MIN_MS, TRANSACTION_INTERVALS * commit_interval_ms, session_ms))


def _sinks(config: PipelineConfig, delivery: InTransaction, phase: Phase) -> list[Sink]:
    """The sinks whose rows may leave the phase."""
    sinks: list[Sink] = []
    topic = outbox_topic(config)
    if topic is not None and topic.writer is not None and phase.takes(topic.writer.output):
        connection = kafka_connection(config, topic.writer.connection)
        outbox = KafkaSink(
            connection, topic.writer, pipeline=config, mode="append", delivery=delivery, keeps_retracted=True
        )
        sinks.append(outbox)
    for sink in config.sinks:
        if is_outbox(sink) or not phase.takes(sink.output):
            continue
        if isinstance(sink, ParquetSinkConfig):
            sinks.append(LaneParquetSink(sink, pipeline=config.name or "", prefix=phase.prefix))
            continue
        assert isinstance(sink, KafkaSinkConfig)  # noqa: S101 - checked by `choose_delivery`
        connection = kafka_connection(config, sink.connection)
        mode = sink_mode(config, sink)
        sinks.append(KafkaSink(connection, sink, pipeline=config, mode=mode, delivery=delivery))
    return sinks


def _outputs(config: PipelineConfig, sinks: list[Sink], delivery: InTransaction, generation: int) -> Outputs:
    letters = open_dead_letters(config, config.dead_letters or DeadLettersConfig(), delivery)
    return Outputs(sinks, letters, generation=generation)


def _settings(topics: int) -> bytes:
    bugs = [bug for bug in os.environ.get(BUGS_VARIABLE, "").split(",") if bug]
    return orjson.dumps({"inputs": topics, **({"bugs": bugs} if bugs and _core.FAULTS else {})})


def _trace(settings: bytes, instance: str, stack: ExitStack) -> Callable[[bytes, bytes, int], None] | None:
    folder = os.environ.get(TRACE_VARIABLE)
    if folder is None:
        return None
    path = Path(folder) / f"{instance}-{os.getpid()}.jsonl"
    file: Any = stack.enter_context(path.open("wb", buffering=0))
    file.write(b'{"settings":%b}\n' % settings)

    def write(event: bytes, actions: bytes, now_ms: int) -> None:
        file.write(b'{"now_ms":%d,"event":%b,"actions":%b}\n' % (now_ms, event, actions))

    return write


def refuse_committed_state(plan: Plan) -> None:
    """Raises `StateError` where a named run that does not commit in transactions would pass over state that one of its name has committed."""
    for source in plan.config.all_sources.values():
        if isinstance(source, KafkaSourceConfig):
            connection, name = kafka_connection(plan.config, source.connection), plan.config.name or ""
            cluster = Cluster(connection)
            cluster.connect()
            with closing(StateTopics(connection, pipeline=name, partitions=0, meets=False)) as states:
                states.attach(cluster)
                refuse_state(cluster, name, plan.delivery, (states.layout, states.begun))
