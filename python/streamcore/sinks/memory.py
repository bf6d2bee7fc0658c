"""Owns rows that stay in the process: batches collected for Python, or records of the in-process log.

Before it: the runner. After it: `Pipeline.collect`, tests, or a `memory` source.
Invariant: rows of an epoch become visible together, when it is committed.
"""

from __future__ import annotations

from streamcore import _core
from streamcore.config import MemorySinkConfig
from streamcore.memory_log import MemoryLog
from streamcore.sinks.base import Version


class CollectSink:
    """Collects the batches of one output; `batches` holds those of committed epochs."""

    def __init__(self, output: str = "result") -> None:
        self.output = output
        self.batches: list[_core.Batch] = []
        self._pending: list[_core.Batch] = []

    def open(self) -> None:
        """Nothing to connect."""

    def write(self, batch: _core.Batch, version: Version) -> None:
        """Keeps the batch until the commit."""
        self._pending.append(batch)

    def flush(self) -> None:
        """Nothing to make durable."""

    def committed(self, epoch: int) -> None:
        """Shows the epoch's batches."""
        self.batches += self._pending
        self._pending = []

    def discard(self) -> None:
        """Forgets the rolled back batches."""
        self._pending = []

    def close(self) -> None:
        """The batches stay readable."""


class MemorySink:
    """Appends each row as a JSON object to a topic of the in-process log."""

    def __init__(self, config: MemorySinkConfig, log: MemoryLog) -> None:
        self.output: str = config.output
        self._topic = config.topic
        self._columns = config.columns
        self._timestamp_format = config.timestamp_format
        self._log = log
        self._pending: list[bytes] = []

    def open(self) -> None:
        """Makes the topic where it is missing."""
        self._log.partitions(self._topic)

    def write(self, batch: _core.Batch, version: Version) -> None:
        """Keeps the rows until the commit."""
        self._pending += batch.to_json(columns=self._columns, timestamp_format=self._timestamp_format)

    def flush(self) -> None:
        """Nothing to make durable: the log lives and dies with the process."""

    def committed(self, epoch: int) -> None:
        """Appends the epoch's rows."""
        for row in self._pending:
            self._log.append(self._topic, row)
        self._pending = []

    def discard(self) -> None:
        """Forgets the rolled back rows."""
        self._pending = []

    def close(self) -> None:
        """Nothing to let go of."""
