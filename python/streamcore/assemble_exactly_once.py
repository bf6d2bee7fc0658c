"""Owns the building of a run that commits in Kafka transactions.

Before it: `assemble.py`, which found out that the pipeline asks for `exactly_once`. After it: `runner.py`, with `epochs.py` to
commit.
Invariant: everything that goes to Kafka goes through one producer.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

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
from streamcore.dead_letters import open_dead_letters
from streamcore.epochs import Epochs
from streamcore.functions import functions_of
from streamcore.held_outputs import HeldOutputs
from streamcore.inference import Undeclared, describe_types, infer_types
from streamcore.instance import lease_instance
from streamcore.lane_files import LaneFiles
from streamcore.layouts import MEETING_LANE
from streamcore.manifests import Identity
from streamcore.options import RunOptions
from streamcore.outboxes import Outboxes
from streamcore.outputs import Outputs
from streamcore.sinks.base import Sink
from streamcore.sinks.kafka import KafkaSink
from streamcore.sinks.parquet_lanes import LaneParquetSink
from streamcore.sources.base import Start
from streamcore.sources.kafka import KafkaSource
from streamcore.sources.kafka_member import MemberSource
from streamcore.sources.kafka_old_layout import OldLayoutSource
from streamcore.state_topics import StateTopics
from streamcore.transactions import InTransaction, Transactions

if TYPE_CHECKING:
    from streamcore.assemble import Plan

TRACE_VARIABLE = "STREAMCORE_COMMIT_TRACE"
"""A folder in which each worker writes what the commit machine was told and answered, as JSON lines."""

BUGS_VARIABLE = "STREAMCORE_COMMIT_BUGS"
"""Mistakes that the commit machine makes on purpose, with commas; only where the engine was built for it."""

TRANSACTION_INTERVALS = 5
"""Commit intervals that a transaction may stay open, at least the session's timeout: as long a dead worker's rows may hold
up its successor and whoever reads committed rows alone."""


class Parts:
    """What a transactional run has in the place of others' parts."""

    def __init__(self, plan: Plan, clock: Clock, stopping: Event, stack: ExitStack, folder: Path) -> None:
        """Opens everything; `stack` closes it. Raises `SourceError`, `StateError`, `SinkError`, `ConfigError`."""
        config = plan.config
        assert isinstance(config.source, KafkaSourceConfig)  # noqa: S101 - checked by `choose_delivery`
        connection = kafka_connection(config, config.source.connection)
        group = config.source.group_id or config.name or ""
        outboxes = Outboxes()
        # Closed last: while they come up to date, others have this worker's partitions already.
        stack.callback(outboxes.close)
        instance = lease_instance(folder, config.instance_id)
        stack.callback(instance.close)
        self.source = _source(
            plan.options,
            connection,
            config.source,
            group=group,
            stop=plan.options.stop,
            keys=True,
            headers=True,
            instance_id=instance.name,
            record_bytes_max=config.limits.max_record_bytes,
            accept_gap=plan.options.accept_gap,
            keep_seat=plan.options.keep_seat,
        )
        stack.callback(self.source.close)
        default = plan.options.start or config.source.start
        self.source.open(Start(default=default, stop=plan.options.stop))
        self.notes = [f"delivery: {plan.delivery}, as worker {instance.name}"]
        config, note = typed_by_its_topic(plan, stopping)
        self.notes += [] if note is None else [note]
        self.config = config
        self.engine = _core.Pipeline(engine_json(config), functions_of(config))
        meets = MEETING_LANE in self.engine.sealed_lanes()
        transactions = Transactions(
            connection,
            transactional_id=f"streamcore-{group}-{instance.name}",
            timeout_ms=max(TRANSACTION_INTERVALS * config.commit_interval, connection.session_timeout),
        )
        stack.callback(transactions.close)
        states = StateTopics(
            connection, pipeline=config.name or "", partitions=len(self.source.partitions), meets=meets
        )
        stack.callback(states.close)
        states.open(self.source.cluster, create=config.auto_create_topics)
        generation, settings = clock.wall_ms() // 1_000, _settings()
        sinks = _sinks(config, InTransaction(transactions))
        self.outputs = HeldOutputs(_outputs(config, sinks, InTransaction(transactions), generation), outboxes)
        stack.callback(self.outputs.close)
        self.outputs.open({})
        for outbox in make_outboxes(config, group=group):
            outboxes.add(outbox)
            self.notes.append(f"outbox: {outbox.place}, fed from topic {outbox.topic}")
        self.epochs = Epochs(
            engine=self.engine,
            source=self.source,
            outputs=self.outputs,
            transactions=transactions,
            states=states,
            machine=_core.CommitMachine(settings),
            identity=Identity(config.name or "", self.engine.fingerprint, generation),
            meets=meets,
            files=LaneFiles(sinks),
            trace=_trace(settings, instance.name, stack),
        )
        outboxes.start()


def _source(options: RunOptions, *arguments: Any, **settings: Any) -> MemberSource:
    if options.old_ends is None:
        return MemberSource(*arguments, **settings)
    return OldLayoutSource(*arguments, ends=options.old_ends, **settings)


def typed_by_its_topic(plan: Plan, stopping: Event) -> tuple[PipelineConfig, str | None]:
    """The configuration with the types of all fields, and what to say of those that nobody declared.

    They are found by the first records that the topic has: every worker finds the same, wherever it goes on.
    """
    config = plan.config
    assert isinstance(config.source, KafkaSourceConfig)  # noqa: S101 - checked by `choose_delivery`
    fields = Undeclared.of(plan.description, None)
    if not fields.paths:
        return config, None
    source = KafkaSource(
        kafka_connection(config, config.source.connection), config.source, group=None, stop=plan.options.stop
    )
    try:
        source.open(Start(default="earliest", stop=plan.options.stop))
        types = infer_types(source, fields, stopping)
    finally:
        source.close()
    typed = config.source.model_copy(update={"types": {**config.source.types, **(types or fields.as_text())}})
    return config.model_copy(update={"source": typed}), describe_types(types, fields.table)


def _sinks(config: PipelineConfig, delivery: InTransaction) -> list[Sink]:
    sinks: list[Sink] = []
    topic = outbox_topic(config)
    if topic is not None and topic.writer is not None:
        connection = kafka_connection(config, topic.writer.connection)
        outbox = KafkaSink(
            connection, topic.writer, pipeline=config, mode="append", delivery=delivery, keeps_retracted=True
        )
        sinks.append(outbox)
    for sink in config.sinks:
        if is_outbox(sink):
            continue
        if isinstance(sink, ParquetSinkConfig):
            sinks.append(LaneParquetSink(sink, pipeline=config.name or ""))
            continue
        assert isinstance(sink, KafkaSinkConfig)  # noqa: S101 - checked by `choose_delivery`
        connection = kafka_connection(config, sink.connection)
        mode = sink_mode(config, sink)
        sinks.append(KafkaSink(connection, sink, pipeline=config, mode=mode, delivery=delivery))
    return sinks


def _outputs(config: PipelineConfig, sinks: list[Sink], delivery: InTransaction, generation: int) -> Outputs:
    letters = open_dead_letters(config, config.dead_letters or DeadLettersConfig(), delivery)
    return Outputs(sinks, letters, generation=generation)


def _settings() -> bytes:
    bugs = [bug for bug in os.environ.get(BUGS_VARIABLE, "").split(",") if bug]
    return orjson.dumps({"bugs": bugs} if bugs and _core.FAULTS else {})


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
