"""Owns the functions that begin a pipeline, one a source.

Before it: the caller. After it: `pipeline.py`, which adds steps and sinks.
Invariant: nothing is opened, read or connected here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Literal, TypedDict, Unpack

from streamcore.config import KafkaConnection
from streamcore.config.validation import validated
from streamcore.pipeline import Pipeline


class SourceKeys(TypedDict, total=False):
    """Keywords that every source takes; `docs/pipeline-toml.md` explains each."""

    format: Literal["json", "raw"]
    schema: Mapping[str, str]
    event_time: str | None
    event_time_unit: Literal["iso", "s", "ms", "us", "ns"]
    where: str | None
    out_of_orderness: str | timedelta | None
    idle_timeout: str | timedelta
    on_idle: Literal["advance", "hold"]
    max_future_skew: str | timedelta
    max_lead: str | timedelta


class KeyedSourceKeys(SourceKeys, total=False):
    """And those of sources whose records have a key."""

    keyed_by: str | None


def kafka(
    topic: str,
    *,
    connection: KafkaConnection | Mapping[str, Any] | None = None,
    group_id: str | None = None,
    start: str = "earliest",
    poll_records_max: int | None = None,
    poll_timeout: str | timedelta | None = None,
    options: Mapping[str, Any] | None = None,
    **keys: Unpack[KeyedSourceKeys],
) -> Pipeline:
    """Reads a Kafka topic; one lane a partition.

    `connection` is a `sc.KafkaConnection` or its keys; unset, `KAFKA_BOOTSTRAP_SERVERS` or `localhost:9092`.
    Raises `ConfigError`.
    """
    own: dict[str, Any] = {"topic": topic, "group_id": group_id, "start": start, "options": options}
    own |= {"poll_records_max": poll_records_max, "poll_timeout": poll_timeout}
    return _begin("kafka", own, keys, {} if connection is None else {"kafka": connection})


def files(
    path: str | os.PathLike[str],
    *,
    framing: Literal["lines", "varint", "u32be"] = "lines",
    piece_bytes: int | None = None,
    **keys: Unpack[SourceKeys],
) -> Pipeline:
    """Reads files of records; `path` may be a glob. One lane a file.

    `framing` says how records are told apart: one a line, or each behind its length as a varint or in four bytes, the
    highest first. Raises `ConfigError`.
    """
    return _begin("files", {"path": os.fspath(path), "framing": framing, "piece_bytes": piece_bytes}, keys, {})


def generate(
    generator: str = "clickstream",
    *,
    rate: float = 0.0,
    count: int | None = None,
    seed: int = 1,
    speed: float = 1.0,
    lanes: int = 1,
    out_of_order: str | timedelta = "0s",
    duplicate_rate: float = 0.0,
    **keys: Unpack[KeyedSourceKeys],
) -> Pipeline:
    """Makes events up from a seed, `rate` a second of wall time (0: as fast as possible), `count` in all.

    Event time passes `speed` times as fast as wall time. Raises `ConfigError`.
    """
    own = {"generator": generator, "rate": rate, "count": count, "seed": seed, "speed": speed, "lanes": lanes}
    own |= {"out_of_order": out_of_order, "duplicate_rate": duplicate_rate}
    return _begin("generate", own, keys, {})


def records(iterable: Iterable[Any], **keys: Unpack[KeyedSourceKeys]) -> Pipeline:
    """Reads Python objects: bytes, text, mappings or `sc.Record`. Raises `ConfigError`."""
    return Pipeline(_begin("records", {}, keys, {}).config, inputs=iterable)


def memory(topic: str, **keys: Unpack[KeyedSourceKeys]) -> Pipeline:
    """Reads a topic of the in-process log. Raises `ConfigError`."""
    return _begin("memory", {"topic": topic}, keys, {})


def _begin(kind: str, own: Mapping[str, Any], shared: SourceKeys, rest: Mapping[str, Any]) -> Pipeline:
    source = {"type": kind, **{name: value for name, value in {**own, **shared}.items() if value is not None}}
    return Pipeline(validated(None, {"source": source, **rest}))
