"""Batches leave as Arrow capsules, Python values and JSON, any number of times."""

from __future__ import annotations

import gc
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from streamcore import _core
from streamcore.errors import ConfigError, Error

NOW_MS = 1_790_000_000_000
TYPES = {
    "flag": "bool",
    "count": "int64",
    "mean": "float64",
    "name": "string",
    "price": "decimal(12,2)",
    "at": "timestamp",
}
RECORDS: list[dict[str, Any]] = [
    {
        "flag": True,
        "count": -(2**63),
        "mean": 0.1,
        "name": 'é"\n',
        "price": "-0.05",
        "at": "2026-01-01T00:00:00.250Z",
    },
    {"flag": None, "count": None, "mean": None, "name": None, "price": None, "at": None},
    {
        "flag": False,
        "count": 2**63 - 1,
        "mean": -1e300,
        "name": "",
        "price": "1234567890.12",
        "at": "1969-12-31T23:59:59.999Z",
    },
]
EXPECTED: list[dict[str, Any]] = [
    {
        "flag": True,
        "count": -(2**63),
        "mean": 0.1,
        "name": 'é"\n',
        "price": Decimal("-0.05"),
        "at": datetime(2026, 1, 1, 0, 0, 0, 250_000, UTC),
    },
    dict.fromkeys(TYPES),
    {
        "flag": False,
        "count": 2**63 - 1,
        "mean": -1e300,
        "name": "",
        "price": Decimal("1234567890.12"),
        "at": datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC),
    },
]
SCHEMA = pa.schema(
    [
        ("flag", pa.bool_()),
        ("count", pa.int64()),
        ("mean", pa.float64()),
        ("name", pa.string()),
        ("price", pa.decimal128(12, 2)),
        ("at", pa.timestamp("ms", tz="UTC")),
    ]
)


def push(spec: dict[str, Any], raw: _core.Raw) -> list[_core.Batch]:
    pipeline = _core.Pipeline(json.dumps(spec).encode())
    pipeline.assign([0])
    return pipeline.push(raw, NOW_MS)


def raw_of(values: list[bytes | None]) -> _core.Raw:
    headers = [("trace", b"\xff"), ("trace", None)]
    return _core.Raw.from_records(
        0, "events", [(value, b"key", headers, NOW_MS, offset) for offset, value in enumerate(values)]
    )


@pytest.fixture
def batch() -> _core.Batch:
    columns = [{"name": name, "text": name} for name in TYPES]
    spec = {"source": {"schema": TYPES}, "steps": [{"verb": "select", "columns": columns}]}
    (batch,) = push(spec, raw_of([json.dumps(record).encode() for record in RECORDS]))
    return batch


@pytest.fixture
def records() -> _core.Batch:
    """Records as they came: no step touched them."""
    (batch,) = push({"source": {"format": "raw"}}, raw_of([b"\xff\x00", b"", b"{}"]))
    return batch


def test_pyarrow_takes_the_batch_the_stream_and_the_schema(batch: _core.Batch) -> None:
    assert pa.record_batch(batch).to_pylist() == EXPECTED
    assert pa.table(batch).to_pylist() == EXPECTED
    assert pa.schema(batch) == SCHEMA
    assert pa.table(batch).schema == SCHEMA


def test_polars_takes_the_batch(batch: _core.Batch) -> None:
    frame = pl.DataFrame(batch)
    assert frame.to_dicts() == EXPECTED
    assert frame.schema["at"] == pl.Datetime("ms", "UTC")
    assert frame.schema["price"] == pl.Decimal(12, 2)


def test_export_is_repeatable_and_outlives_the_batch(batch: _core.Batch) -> None:
    tables = [pa.table(batch) for _ in range(3)]
    stream = pa.RecordBatchReader.from_stream(batch)
    del batch
    gc.collect()
    assert [table.to_pylist() for table in tables] == [EXPECTED] * 3
    assert stream.read_all().to_pylist() == EXPECTED


def test_a_capsule_nobody_takes_is_released(batch: _core.Batch) -> None:
    before = pa.total_allocated_bytes()
    for _ in range(100):
        batch.__arrow_c_array__()
        batch.__arrow_c_stream__()
        batch.__arrow_c_schema__()
    gc.collect()
    assert pa.total_allocated_bytes() == before
    assert pa.table(batch).to_pylist() == EXPECTED


def test_a_requested_schema_is_not_honoured(batch: _core.Batch) -> None:
    requested = pa.schema([("count", pa.string())]).__arrow_c_schema__()
    schema, array = batch.__arrow_c_array__(requested)
    assert pa.RecordBatch._import_from_c_capsule(schema, array).schema == SCHEMA


def test_rows_are_python_values(batch: _core.Batch) -> None:
    assert batch.to_rows() == EXPECTED
    assert list(batch.to_rows()[0]) == list(TYPES)


def test_rows_as_json(batch: _core.Batch) -> None:
    rows = batch.to_json()
    assert (
        rows[0]
        == (
            '{"flag":true,"count":-9223372036854775808,"mean":0.1,"name":"é\\"\\n","price":-0.05,'
            '"at":"2026-01-01T00:00:00.250Z"}'
        ).encode()
    )
    assert json.loads(rows[1]) == dict.fromkeys(TYPES)
    assert json.loads(rows[2], parse_float=Decimal)["price"] == Decimal("1234567890.12")
    assert batch.to_json(columns=["at", "flag"], timestamp_format="epoch_ms") == [
        b'{"at":1767225600250,"flag":true}',
        b'{"at":null,"flag":null}',
        b'{"at":-1,"flag":false}',
    ]
    assert len(batch.to_json(skip_null_rows=True)) == 2


def test_select_and_slice_share_nothing_but_the_data(batch: _core.Batch) -> None:
    part = batch.select(["name", "count"]).slice(2, 99)
    assert (part.output, part.num_rows, len(part), part.column_names) == ("result", 1, 1, ["name", "count"])
    assert part.to_rows() == [{"name": "", "count": 2**63 - 1}]
    assert pa.table(part).to_pylist() == part.to_rows()
    assert pl.DataFrame(batch.slice(1, 1)).to_dicts() == EXPECTED[1:2]
    assert len(batch.slice(7, 1)) == 0
    assert pa.table(batch.slice(7, 1)).schema == SCHEMA
    assert len(batch) == 3


def test_bytes_are_those_of_its_own_rows(batch: _core.Batch) -> None:
    counts = batch.select(["count"])
    parts = [counts.slice(row, 1).nbytes for row in range(len(batch))]
    assert min(parts) >= 8
    # A part has a byte of its own for what is null.
    assert sum(parts) <= counts.nbytes + len(parts)
    assert batch.nbytes > counts.nbytes
    assert counts.slice(7, 1).nbytes == 0


def test_an_unknown_column_lists_the_known_ones(batch: _core.Batch) -> None:
    for call in (batch.select, lambda columns: batch.to_json(columns=columns)):
        with pytest.raises(ConfigError) as caught:
            call(["nome", "count", "prise"])
        assert [problem.message.split()[-1] for problem in caught.value.problems] == ['"nome"', '"prise"']
        assert caught.value.problems[0].hint == "the columns are: flag, count, mean, name, price, at"


def test_an_unknown_timestamp_format_is_named(batch: _core.Batch) -> None:
    with pytest.raises(ConfigError, match="epoch_s"):
        batch.to_json(timestamp_format="epoch_s")


def test_records_keep_their_bytes_and_headers(records: _core.Batch) -> None:
    rows = records.to_rows()
    assert [row["_value"] for row in rows] == [b"\xff\x00", b"", b"{}"]
    assert rows[2] == {
        "_key": b"key",
        "_value": b"{}",
        "_topic": "events",
        "_partition": 0,
        "_offset": 2,
        "_timestamp": datetime.fromtimestamp(NOW_MS / 1000, UTC),
    }
    assert pa.table(records).to_pylist() == rows
    assert json.loads(records.to_json(columns=["_value"])[0]) == {"_value": "/wA="}
    assert records.headers(1) == [("trace", b"\xff"), ("trace", None)]
    assert records.slice(2, 1).headers(0) == records.headers(2)
    with pytest.raises(Error, match="no row 3"):
        records.headers(3)


def test_describe_gives_the_columns_that_leave(batch: _core.Batch, records: _core.Batch) -> None:
    columns = [{"name": name, "text": name} for name in TYPES]
    spec = {"source": {"schema": TYPES}, "steps": [{"verb": "select", "columns": columns}]}
    described = _core.describe(json.dumps(spec).encode())
    assert dict(described["columns"]) == TYPES
    assert [name for name, _ in described["columns"]] == batch.column_names
    opaque = _core.describe(b'{"source":{"format":"raw"}}')
    assert [name for name, _ in opaque["columns"]] == records.column_names


def test_a_time_that_datetime_cannot_hold_is_told_apart() -> None:
    window = {
        "verb": "window",
        "kind": {"type": "tumbling", "size_ms": 86_400_000},
        "aggregates": [{"name": "n", "text": "count()"}],
    }
    pipeline = _core.Pipeline(json.dumps({"source": {"event_time": "at"}, "steps": [window]}).encode())
    pipeline.assign([0])
    raw = _core.Raw.from_lines(0, "f", b'{"at":"9999-12-31T23:00:00Z"}', 0)
    pipeline.push(raw, NOW_MS)
    (batch,) = pipeline.end()
    assert json.loads(batch.to_json()[0])["window_end"] == "+010000-01-01T00:00:00.000Z"
    with pytest.raises(Error, match="window_end of row 0 is outside the years 1 to 9999"):
        batch.to_rows()
