"""The functions that begin a pipeline."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import streamcore as sc
from streamcore.config import FilesSourceConfig, GenerateSourceConfig, KafkaSourceConfig, MemorySourceConfig


def test_kafka() -> None:
    connection = sc.KafkaConnection(bootstrap_servers="a:1")
    config = sc.kafka("t", connection=connection, start="-2h", poll_records_max=10, keyed_by="id").config
    assert isinstance(config.source, KafkaSourceConfig)
    assert (config.source.start, config.source.poll_records_max, config.source.keyed_by) == ("-2h", 10, "id")
    assert config.kafka is connection
    assert sc.kafka("t", connection={"bootstrap_servers": "a:1"}).config.kafka == connection


def test_files_generate_and_memory() -> None:
    assert isinstance(sc.files(Path("x") / "*.jsonl").config.source, FilesSourceConfig)
    generated = sc.generate(rate=100, count=5, seed=3, speed=60, out_of_order="2s").config.source
    assert isinstance(generated, GenerateSourceConfig)
    assert (generated.rate, generated.count, generated.out_of_order) == (100.0, 5, 2_000)
    assert isinstance(sc.memory("m").config.source, MemorySourceConfig)


def test_records_ride_in_the_pipeline() -> None:
    rows = [{"a": 1}]
    pipeline = sc.records(rows)
    assert pipeline.inputs is rows
    assert pipeline.filter("a > 0").inputs is rows


@pytest.mark.parametrize(
    "begin",
    [
        lambda **keys: sc.kafka("t", **keys),
        lambda **keys: sc.files("x", **keys),
        sc.generate,
        lambda **keys: sc.records([], **keys),
    ],
)
def test_every_source_takes_the_same_keys(begin: Callable[..., sc.Pipeline]) -> None:
    keys: dict[str, Any] = {
        "format": "json",
        "schema": {"a": "int64"},
        "event_time": "at",
        "event_time_unit": "ms",
        "where": "a > 0",
        "out_of_orderness": timedelta(seconds=7),
        "idle_timeout": "1m",
        "on_idle": "hold",
        "max_future_skew": "5m",
        "max_lead": "1h",
    }
    source = begin(**keys).config.source
    assert source.types == {"a": "int64"}
    assert (source.out_of_orderness_ms, source.idle_timeout, source.on_idle) == (7_000, 60_000, "hold")
    assert (source.event_time_unit, source.where, source.max_lead) == ("ms", "a > 0", 3_600_000)


@pytest.mark.parametrize(
    ("begin", "text"),
    [
        (lambda: sc.kafka("a b"), "source.topic"),
        (lambda: sc.kafka("t", out_of_ordernes="5s"), 'did you mean "out_of_orderness"?'),  # type: ignore[call-arg]
        (lambda: sc.kafka("t", idle_timeout=5), 'write "5s"'),  # type: ignore[arg-type]
        (lambda: sc.kafka("t", start="end"), "a place to stop at"),
        (lambda: sc.kafka("t", schema={"a": "strin"}), "there is no type strin"),
        (lambda: sc.files("f", keyed_by="a"), "has no record keys: leave keyed_by out"),  # type: ignore[call-arg]
        (lambda: sc.kafka("t", where="a ="), "source.where"),
        (lambda: sc.generate("clicks"), "source.generator"),
        (lambda: sc.kafka("t", connection={"security_protocol": "sasl_ssl"}), "needs sasl_mechanism"),
    ],
)
def test_a_mistake_is_raised_at_once(begin: Callable[[], sc.Pipeline], text: str) -> None:
    with pytest.raises(sc.ConfigError) as caught:
        begin()
    assert text in str(caught.value)
