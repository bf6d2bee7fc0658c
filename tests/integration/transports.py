"""What both transports hand out, record by record: for tests that hold one to the other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from streamcore import _core
from streamcore.sources.base import Polled
from streamcore.sources.kafka import KafkaSource
from streamcore.sources.kafka_native import NativeReader
from streamcore.sources.kafka_reader import ConsumerReader

TRANSPORTS = ("native", "librdkafka")
SPEC = json.dumps({"source": {"event_time": "at", "schema": {"at": "string"}}, "steps": []}).encode()
"""Refuses every record of ours, so that all parts of it are rows; a null value is counted alone."""

Row = tuple[int, int, int | None, bytes | None, bytes | None, Any]
"""Partition, offset, time, key, value and headers of a record."""


def parts(polled: Iterable[Polled], lanes: int) -> tuple[list[Row], dict[int, int]]:
    """Each record, in order of partitions; and by partition how many had no value, and so are none of them."""
    engine = _core.Pipeline(SPEC)
    engine.assign(list(range(lanes)))
    found: list[Row] = []
    for raw in (one.raw for one in polled if one.raw is not None):
        for batch in [*engine.push(raw, 0)]:
            found += rows(batch)
    by_lane = sorted(found, key=lambda row: row[0])  # within a lane as they came
    return by_lane, {lane: counts["tombstone"] for lane, counts in engine.ledger().items() if lane >= 0}


def rows(batch: _core.Batch) -> Iterator[Row]:
    assert batch.output == "rejected"
    for place, row in enumerate(batch.to_rows()):
        moment = row["_timestamp"]
        time_ms = None if moment is None else round(moment.timestamp() * 1000)
        yield row["_partition"], row["_offset"], time_ms, row["_key"], row["_value"], batch.headers(place)


def check_transport(source: KafkaSource, transport: str) -> None:
    assert type(source._reader) is (NativeReader if transport == "native" else ConsumerReader)
