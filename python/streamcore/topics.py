"""Owns which Kafka topics a pipeline needs and how each is made.

Before it: a validated configuration. After it: `streamcore topics`, and the source, sinks and dead letters, which
make sure of their own topic when they open.
Invariant: a topic is described here and nowhere else, so the command and the run create the same one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from streamcore.config import (
    DeadLettersConfig,
    KafkaConnection,
    KafkaSinkConfig,
    KafkaSourceConfig,
    PipelineConfig,
    kafka_connection,
    outbox_topic,
    sink_mode,
)
from streamcore.errors import ConfigError, Problem

REPLICATION_MAX = 3
"""Copies of a topic where the cluster has that many brokers: one may be lost while another restarts."""

DEAD_LETTER_RETENTION_MS = 7 * 86_400_000
"""Dead letters hold user data: long enough for somebody to look after a week-end, not for ever."""

MESSAGE_BYTES_MAX = 20 << 20
"""Largest record of a dead-letter topic: the default of `max_record_bytes`, key and headers fit."""


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as it should be where it has to be created."""

    name: str
    role: Literal["input", "output", "dead letters", "state", "partials"]
    partitions: int | None
    """None: as many as the cluster's default says (inputs belong to somebody else)."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Topic settings of the broker."""


def input_topic(source: KafkaSourceConfig) -> TopicPlan:
    """The topic a source reads."""
    return TopicPlan(source.topic, "input", None)


def output_topic(sink: KafkaSinkConfig, mode: Literal["upsert", "append"]) -> TopicPlan:
    """The topic a sink writes; compacted where a later row replaces an earlier one."""
    settings = {"cleanup.policy": "compact"} if mode == "upsert" else {}
    return TopicPlan(sink.topic, "output", sink.partitions, settings)


def dead_letter_topic(config: DeadLettersConfig, pipeline_name: str | None) -> TopicPlan:
    """The topic of refused records. Raises `ConfigError` when it has no name."""
    name = config.topic or (f"{pipeline_name}.dead-letters" if pipeline_name else None)
    if name is None:
        raise ConfigError("dead_letters has no topic; give it one, or give the pipeline a name")
    settings = {"retention.ms": str(DEAD_LETTER_RETENTION_MS), "max.message.bytes": str(MESSAGE_BYTES_MAX)}
    return TopicPlan(name, "dead letters", 1, settings)


def topic_plans(config: PipelineConfig) -> list[tuple[KafkaConnection, TopicPlan]]:
    """Every topic of a pipeline with the cluster it belongs to, inputs first."""
    plans = [
        (kafka_connection(config, source.connection), input_topic(source))
        for source in config.all_sources.values()
        if isinstance(source, KafkaSourceConfig)
    ]
    for sink in config.sinks:
        if isinstance(sink, KafkaSinkConfig):
            plan = output_topic(sink, sink_mode(config, sink))
            plans.append((kafka_connection(config, sink.connection), plan))
    outbox = outbox_topic(config) if config.delivery == "exactly_once" else None
    if outbox is not None and outbox.writer is not None:
        plans.append((kafka_connection(config, outbox.writer.connection), output_topic(outbox.writer, "append")))
    letters = config.dead_letters
    if letters is None and config.name is not None and isinstance(config.source, KafkaSourceConfig):
        letters = DeadLettersConfig()
    if letters is not None and letters.kind == "kafka":
        plans.append((kafka_connection(config, letters.connection), dead_letter_topic(letters, config.name)))
    return plans


def missing_topic(plan: TopicPlan, connection: KafkaConnection, reason: str, *, near: str | None = None) -> ConfigError:
    """The error for a topic that is not there and is not made; `near` asks whether another one was meant."""
    message = f"topic {plan.name} ({plan.role}) cannot be used at {connection.bootstrap_servers}: {reason}"
    make = "create it with the rights it takes: streamcore topics create FILE"
    problem = Problem("kafka", message, hint=make if near is None else f"{near} Otherwise {make}")
    return ConfigError("a topic is missing", [problem])
