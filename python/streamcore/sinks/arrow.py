"""Owns rows on standard output as an Arrow IPC stream, for another program to read.

Before it: the runner. After it: whoever reads the stream (`pyarrow.ipc.open_stream`, polars, DuckDB).
Invariant: the stream has one schema, and ends properly also when there were no rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from streamcore import _core
from streamcore.sinks.base import Version

if TYPE_CHECKING:
    import pyarrow as pa


class ArrowStreamSink:
    """Writes result rows to a binary file as one Arrow IPC stream."""

    output = "result"

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        """`schema` is written where no row ever comes."""
        self._file = file
        self._schema = schema
        self._writer: pa.RecordBatchStreamWriter | None = None
        self._pending: list[_core.Batch] = []

    def open(self) -> None:
        """Nothing to connect; the schema is known with the first rows."""

    def write(self, batch: _core.Batch, version: Version) -> None:
        """Keeps the batch until the flush."""
        self._pending.append(batch)

    def flush(self) -> None:
        """Writes the batches."""
        import pyarrow as pa

        for batch in self._pending:
            record_batch = pa.record_batch(batch)
            self._writer_for(record_batch.schema).write_batch(record_batch)
        if self._pending:
            self._file.flush()
        self._pending.clear()

    def committed(self, epoch: int) -> None:
        """Nothing waits for the checkpoint."""

    def discard(self) -> None:
        """Forgets the rolled back rows."""
        self._pending.clear()

    def close(self) -> None:
        """Ends the stream."""
        if not self._file.closed:
            self._writer_for(self._schema).close()
            self._file.flush()

    def _writer_for(self, schema: pa.Schema) -> pa.RecordBatchStreamWriter:
        import pyarrow as pa

        if self._writer is None:
            self._writer = pa.ipc.new_stream(self._file, schema)
        return self._writer
