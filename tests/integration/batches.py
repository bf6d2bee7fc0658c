"""Batches for the sinks' tests: real ones out of the engine, and made-up ones for what the engine cannot yet emit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from streamcore import _core

Record = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes | None]] | None, int | None, int]
"""Value, key, headers, timestamp in ms, offset."""

WINDOWED: dict[str, Any] = {
    "source": {
        "event_time": "time",
        "event_time_unit": "ms",
        "out_of_orderness_ms": 0,
        "schema": {"page": "string", "price": "decimal(10,2)"},
    },
    "steps": [
        {
            "verb": "window",
            "kind": {"type": "tumbling", "size_ms": 60_000},
            "by": [{"name": "page", "text": "page"}],
            "aggregates": [{"name": "views", "text": "count()"}, {"name": "paid", "text": "sum(price)"}],
            "emit": "updates",
        }
    ],
}
RAW: dict[str, Any] = {"source": {"format": "raw", "out_of_orderness_ms": 0}, "steps": []}
JSON_RECORDS: dict[str, Any] = {"source": {"format": "json", "out_of_orderness_ms": 0}, "steps": []}


def click(offset: int, time_ms: int, page: str | None, price: str = "0.10") -> Record:
    value = f'{{"time":{time_ms},"page":{json.dumps(page)},"price":{price}}}'.encode()
    return value, b"user", None, time_ms, offset


class Engine:
    """An engine with one lane whose batches are taken as they come."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._pipeline = _core.Pipeline(json.dumps(spec).encode())
        self._pipeline.assign([0])

    def push(self, *records: Record) -> list[_core.Batch]:
        raw = _core.Raw.from_records(0, "clicks", records)
        return [batch for batch in self._pipeline.push(raw, 10**15) if len(batch)]

    def seal(self) -> list[_core.Batch]:
        batches = [batch for batch in self._pipeline.seal().outputs if len(batch)]
        self._pipeline.committed()
        return batches


class MadeUpBatch:
    """Rows with any columns, as a `Batch` shows them."""

    output = "result"

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows
        self.column_names = list(rows[0])
        self.num_rows = len(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def to_rows(self) -> list[dict[str, Any]]:
        return self._rows

    def select(self, columns: Sequence[str]) -> MadeUpBatch:
        return MadeUpBatch([{name: row[name] for name in columns} for row in self._rows])

    def to_json(self, *, columns: Sequence[str] | None = None, timestamp_format: str = "iso") -> list[bytes]:
        assert timestamp_format == "iso"
        rows = self._rows if columns is None else self.select(columns).to_rows()
        return [json.dumps(row, separators=(",", ":")).encode() for row in rows]


def made_up(*rows: dict[str, Any]) -> _core.Batch:
    return cast("_core.Batch", MadeUpBatch(list(rows)))
