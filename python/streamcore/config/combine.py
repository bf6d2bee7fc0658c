"""Owns where the windows of several lanes meet: in this process, through a topic, or nowhere.

Before it: a validated configuration, and what the engine says of it. After it: `engine.py`, which tells the engine, and
`explain`.
Invariant: windows meet through a topic only in transactions: partials are increments, and one that is repeated is a wrong sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from streamcore.config.models import Combine, PipelineConfig
from streamcore.config.sources import KafkaSourceConfig
from streamcore.errors import Problem

Describe = Callable[[Combine], Mapping[str, Any]]
"""What the engine says of the pipeline, combined so."""


def combine_of(config: PipelineConfig, describe: Describe) -> Combine:
    """How the engine is to combine: as it is said, and where nothing is, through a topic if that is needed and possible."""
    if not may_use_topic(config):
        return "local" if config.combine == "topic" else config.combine
    if config.combine != "auto" or describe("auto")["combine"] != "local":
        return config.combine
    return "auto" if describe("auto")["topic_problems"] else "topic"


def may_use_topic(config: PipelineConfig) -> bool:
    """Whether the run commits in transactions, to which the partials can belong."""
    return config.delivery == "exactly_once" and isinstance(config.source, KafkaSourceConfig) and not config.sources


def why_combined(config: PipelineConfig, describe: Describe) -> str | None:
    """In words, why windows meet where they do; None where there is nothing to choose."""
    described = describe("auto")
    if not may_use_topic(config) or described["combine"] != "local":
        return None
    if config.combine == "auto":
        if against := described["topic_problems"]:
            return f"one worker has all partitions: {against[0]['message']}"
        return "the group key is not the record key, and under exactly_once workers share the partitions"
    if config.combine == "local":
        return 'combine = "local": one worker has all partitions'
    return f'combine = "{config.combine}"'


def combine_problems(config: PipelineConfig) -> list[Problem]:
    """Settings of `combine` that do not go with the rest."""
    if config.combine == "topic" and not may_use_topic(config):
        message = "partials are increments, and one that is repeated is a wrong sum: through a topic needs exactly_once from one Kafka topic"
        hint = 'set delivery = "exactly_once", or leave combine out to merge in this process'
        return [Problem("combine", message, hint=hint)]
    if config.combine_partitions is not None and not (may_use_topic(config) and config.combine in ("auto", "topic")):
        message = "there is no topic of partials that could have partitions"
        hint = 'it is for combine = "topic", with delivery = "exactly_once" from Kafka'
        return [Problem("combine_partitions", message, hint=hint)]
    return []


def unkept(config: PipelineConfig) -> PipelineConfig:
    """The pipeline for a run that keeps and writes nothing: without a name, a promise, sinks and dead letters."""
    without = {"name": None, "delivery": None, "sinks": (), "dead_letters": None, "combine_partitions": None}
    return config.model_copy(update=without | ({"combine": "auto"} if config.combine == "topic" else {}))
