from __future__ import annotations

import io

import pyarrow as pa

from streamcore.sinks.arrow import ArrowStreamSink
from streamcore.sinks.base import Version
from streamcore.tables import empty_schema
from tests.batches import pages

SCHEMA = empty_schema([("page", "string"), ("views", "int64"), ("at", "timestamp")])


class KeptBytes(io.BytesIO):
    """Keeps what was written when it is closed."""


def test_batches_leave_as_one_stream() -> None:
    file = KeptBytes()
    sink = ArrowStreamSink(file, SCHEMA)
    sink.write(pages(1, 2), Version(1, 1, 0))
    sink.flush()
    sink.write(pages(9), Version(1, 2, 0))
    sink.discard()
    sink.write(pages(3), Version(1, 2, 0))
    sink.flush()
    sink.close()
    table = pa.ipc.open_stream(file.getvalue()).read_all()
    assert table.column("views").to_pylist() == [1, 2, 3]


def test_a_stream_without_rows_still_has_its_columns() -> None:
    file = KeptBytes()
    sink = ArrowStreamSink(file, SCHEMA)
    sink.flush()
    sink.close()
    assert pa.ipc.open_stream(file.getvalue()).read_all().schema == SCHEMA


def test_the_declared_columns_are_those_of_real_batches() -> None:
    assert pa.record_batch(pages(1)).schema.names == SCHEMA.names
    assert pa.record_batch(pages(1)).schema.types == SCHEMA.types
