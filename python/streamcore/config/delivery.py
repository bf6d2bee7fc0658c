"""Owns what a pipeline promises about each record, worked out from its source and sinks.

Before it: a validated configuration. After it: the runner prints and keeps the promise.
Invariant: nothing downgrades silently; an explicit promise that cannot be kept is a `ConfigError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from streamcore.config.models import Delivery, PipelineConfig
from streamcore.config.outbox import is_outbox, why_no_outbox
from streamcore.config.sinks import KafkaSinkConfig, ParquetSinkConfig, SinkConfig
from streamcore.config.sources import FilesSourceConfig, KafkaSourceConfig, SourceConfig
from streamcore.errors import ConfigError, Problem

REPLAYABLE = frozenset({"kafka", "files", "generate", "memory"})
"""Sources that can be read again from a position."""


EFFECTIVE_SINKS = "sinks that replace rows (Kafka upsert, Redis) or publish files once (Parquet)"
"""What `effectively_once` needs, as messages say it."""


def sink_mode(config: PipelineConfig, sink: KafkaSinkConfig) -> Literal["upsert", "append"]:
    """The mode of a Kafka sink when the default is filled in."""
    if sink.mode is not None:
        return sink.mode
    return "upsert" if sink.output == "result" and config.window is not None else "append"


def appending_sinks(config: PipelineConfig) -> list[str]:
    """Paths of the sinks that may show a row twice after a crash.

    Parquet is none of them though its files are never replaced: a commit's files appear after the checkpoint that
    lists them, or never.
    """
    return [f"sinks[{index}]" for index, sink in enumerate(config.sinks) if _appends(config, sink)]


def _appends(config: PipelineConfig, sink: SinkConfig) -> bool:
    if isinstance(sink, KafkaSinkConfig):
        return sink_mode(config, sink) == "append"
    return sink.type in ("console", "memory", "webhook")


def choose_delivery(config: PipelineConfig, *, appends: Sequence[str] = ()) -> Delivery:
    """The promise that holds: the one stated, or else the strongest that source and sinks allow.

    `appends` names sinks outside the configuration that append. A run without a name keeps nothing, so it
    is `at_least_once`. Raises `ConfigError` when the stated promise cannot be kept.
    """
    obstacles = _obstacles(config, appends)
    if config.delivery is None:
        return "at_least_once" if obstacles else "effectively_once"
    if config.delivery == "exactly_once":
        hint = f'use delivery = "effectively_once" with {EFFECTIVE_SINKS}'
        found = _against_exactly_once(config, appends)
        if found:
            problem = Problem("delivery", f"exactly_once cannot be kept: {'; '.join(found)}", hint=hint)
            raise ConfigError("the delivery asked for cannot be kept", [problem])
        return config.delivery
    if config.delivery == "effectively_once" and obstacles:
        hint = 'use delivery = "at_least_once", or leave the key out to get the strongest that is possible'
        problems = [Problem("delivery", f"effectively_once cannot be kept: {what}", hint=hint) for what in obstacles]
        raise ConfigError("the delivery asked for cannot be kept", problems)
    return config.delivery


def in_transactions(config: PipelineConfig) -> bool:
    """Whether `exactly_once` is kept by Kafka's transactions; otherwise by a checkpoint that lists files, on one machine."""
    return any(not isinstance(source, FilesSourceConfig) for source in config.all_sources.values())


def _against_exactly_once(config: PipelineConfig, appends: Sequence[str]) -> list[str]:
    """What no commit of rows, state and positions takes in."""
    found = [f"{name} takes rows outside Kafka and files" for name in appends]
    if config.name is None:
        found.append("a run without a name keeps no state")
    return found + (_outside_a_transaction(config) if in_transactions(config) else _outside_a_checkpoint(config))


def _outside_a_transaction(config: PipelineConfig) -> list[str]:
    """What is no part of one Kafka transaction."""
    found: list[str] = []
    if not isinstance(config.source, KafkaSourceConfig):
        return [
            *found,
            f"its source is Kafka, or files where no other is, and this one is of type {config.source.type}",
        ]
    found += _against_one_group(config, config.source)
    cluster = config.source.connection
    for index, sink in enumerate(config.sinks):
        if why := why_no_outbox(config, sink) if is_outbox(sink) else _why_outside(sink, cluster):
            found.append(f"sinks[{index}] {why}")
    letters = config.dead_letters
    if letters is not None and letters.path is not None:
        found.append("dead_letters go to a file; give them a topic")
    elif letters is not None and letters.connection != cluster:
        found.append("dead_letters go to another cluster than the source's")
    return found


def _against_one_group(config: PipelineConfig, own: KafkaSourceConfig) -> list[str]:
    """Why one member of one group cannot read all inputs, the same partitions of each."""
    if not config.sources:
        return []
    found = []
    if config.combine != "none":
        found.append(
            'it joins inputs, and each partition has to be joined by itself: say so with combine = "none", which needs topics with as '
            "many partitions, filled by one partitioner, and the record key as the key of the join"
        )
    for name, source in config.sources.items():
        why = _why_not_with(source, own)
        if why is not None:
            found.append(f"sources.{name} {why}")
    topics = [source.topic for source in config.all_sources.values() if isinstance(source, KafkaSourceConfig)]
    found += [f"two inputs read topic {topic}" for topic in sorted({one for one in topics if topics.count(one) > 1})]
    return found


def _why_not_with(source: SourceConfig, own: KafkaSourceConfig) -> str | None:
    if not isinstance(source, KafkaSourceConfig):
        return f"is of type {source.type}, and all inputs are to be topics"
    if source.connection != own.connection:
        return "is on another cluster than the source's"
    if source.group_id not in (None, own.group_id):
        return "has a group of its own, and one group reads all topics"
    if source.transport not in ("auto", own.transport):
        return f"has a transport of its own ({source.transport}), and one reader brings the records of all topics"
    return (
        "has options of its own, and one consumer reads all topics" if source.options not in ({}, own.options) else None
    )


def _why_outside(sink: SinkConfig, cluster: str | None) -> str | None:
    if isinstance(sink, ParquetSinkConfig):
        return None
    if not isinstance(sink, KafkaSinkConfig):
        return f"is of type {sink.type}, and exactly_once is for topics, Parquet files, Redis and webhooks"
    if sink.connection != cluster:
        return "writes to another cluster than the source's"
    return "has options of its own, and all topics share one producer" if sink.options else None


def _outside_a_checkpoint(config: PipelineConfig) -> list[str]:
    """What a checkpoint of a pipeline that reads files cannot list."""
    found = [
        f"sinks[{index}] is of type {sink.type}, and of files only Parquet files are written once"
        for index, sink in enumerate(config.sinks)
        if not isinstance(sink, ParquetSinkConfig)
    ]
    if config.dead_letters is not None and config.dead_letters.path is None:
        found.append("dead_letters go to a topic; give them a path")
    return found


def _obstacles(config: PipelineConfig, appends: Sequence[str]) -> list[str]:
    found = [f"{sink} appends, so rows may come twice after a crash" for sink in [*appending_sinks(config), *appends]]
    for source in config.all_sources.values():
        if source.type not in REPLAYABLE:
            found.insert(0, f"a source of type {source.type} cannot be read again after a crash")
    if config.name is None:
        found.insert(0, "a run without a name keeps no state")
    return found
