"""Owns which topic feeds the sinks that no transaction takes in: Redis and webhooks under `exactly_once`.

Before it: a validated configuration. After it: `outboxes.py`, whose consumers read that topic, and whoever writes it.
Invariant: the topic has every result row whole, and rows of one Redis key are in one partition, so their offsets order them.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamcore.config.models import PipelineConfig
from streamcore.config.redis_key import KeyTemplate
from streamcore.config.sinks import KafkaSinkConfig, RedisSinkConfig, SinkConfig, WebhookSinkConfig
from streamcore.config.steps import (
    HoppingStep,
    JoinStep,
    MapBatchesStep,
    SelectStep,
    SessionStep,
    TumblingStep,
    WindowStep,
)


@dataclass(frozen=True, slots=True)
class OutboxTopic:
    """Where outboxes read."""

    topic: str
    writer: KafkaSinkConfig | None
    """The sink that has to be added for it; None: one of the pipeline's own writes it."""


def is_outbox(sink: SinkConfig) -> bool:
    """Whether a sink is fed from a committed topic under `exactly_once`."""
    return isinstance(sink, (RedisSinkConfig, WebhookSinkConfig))


def why_no_outbox(config: PipelineConfig, sink: SinkConfig) -> str | None:
    """Why rows for this sink cannot come from a topic; None: they can."""
    if sink.output != "result":
        return f"takes the output {sink.output}, and an outbox takes results"
    if not any(isinstance(step, (WindowStep, SelectStep, MapBatchesStep, JoinStep)) for step in config.steps):
        return "is an outbox of rows, and this pipeline forwards records; add a select"
    return None


def outbox_topic(config: PipelineConfig) -> OutboxTopic | None:
    """What the outboxes of the pipeline read; None where it has none."""
    sinks = [sink for sink in config.sinks if is_outbox(sink)]
    if not sinks:
        return None
    keys = [set(KeyTemplate(sink.key_template).columns) for sink in sinks if isinstance(sink, RedisSinkConfig)]
    for sink in config.sinks:
        if isinstance(sink, KafkaSinkConfig) and _is_whole(config, sink) and _orders(config, sink, keys):
            return OutboxTopic(sink.topic, None)
    shared = sorted(set.intersection(*keys)) if keys else list(config.window.by if config.window is not None else ())
    name = f"{config.name}.out"
    # Without a column that all keys have, only one partition keeps their rows in order. Those of a webhook keep that of
    # their group.
    partitions = {} if shared else {"partitions": 1}
    writer = {"topic": name, "mode": "append", "key": shared or None, "connection": _connection(config), **partitions}
    return OutboxTopic(name, KafkaSinkConfig.model_validate(writer))


def _connection(config: PipelineConfig) -> str | None:
    return getattr(config.source, "connection", None)


def _is_whole(config: PipelineConfig, sink: KafkaSinkConfig) -> bool:
    """Whether the topic of a sink has all rows as they are; one that was taken back is a null there, and says less."""
    takes_back = any(isinstance(step, SessionStep) and step.emit == "updates" for step in config.steps)
    plain = sink.columns is None and sink.timestamp_format == "iso" and sink.output == "result"
    return plain and not takes_back and sink.connection == _connection(config)


def _orders(config: PipelineConfig, sink: KafkaSinkConfig, keys: list[set[str]]) -> bool:
    """Whether rows with the same Redis key have the same record key."""
    window = config.window
    named = sink.key if sink.key is not None else (*window.by, "window_start") if window is not None else ()
    if isinstance(window, (TumblingStep, HoppingStep)):
        # Each bound tells the other.
        named = tuple("window_end" if name == "window_start" else name for name in named)
        keys = [{"window_end" if name == "window_start" else name for name in key} for key in keys]
    return bool(named) and all(set(named) <= key for key in keys)
