"""Owns how large an epoch may grow: what was read and written since the last commit, and the bounds that end it before its time.

The runner counts, and commits once an epoch is full. What going back to the last commit takes in the engine has a bound there
(`Pipeline.is_due`). Invariant: whatever the engine makes of records, and however long the interval, memory and transactions of an epoch are bounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from streamcore import _core
from streamcore.sources.base import Polled

EPOCH_BYTES_MAX, EPOCH_RECORDS_MAX = 2 << 30, 16_000_000
"""Most that is read in an epoch: as much is read again after a failure."""

EPOCH_OUTPUT_BYTES_MAX, EPOCH_OUTPUT_ROWS_MAX = 256 << 20, 2_000_000
"""Most bytes of its rows as Arrow, and most rows: sinks may keep them until the commit, also as Python objects."""

EPOCH_CHANGED_BYTES_MAX = 64 << 20
"""Most bytes of state that are changed, where a commit writes the changes: they go out in one transaction."""

EPOCH_REFUSED_MAX = 50_000
"""Most refused records: their letters, each some hundred bytes larger than its record, wait for the commit."""


@dataclass(slots=True)
class EpochSize:
    """How large the epoch being filled is."""

    records: int = 0
    """Read."""
    bytes: int = 0
    """Of these."""
    polls: int = 0
    """That brought them."""
    refused: int = 0
    """Records among them."""
    output_rows: int = 0
    """Written."""
    output_bytes: int = 0
    """Of these."""
    source_is_full: bool = False
    """Whether the source must not keep more for a rollback."""
    records_bound: int | None = None
    """Where fewer fit the state than an epoch may have."""

    def begin(self) -> None:
        """Another epoch. `records_bound` stays."""
        self.records = self.bytes = self.polls = self.refused = self.output_rows = self.output_bytes = 0
        self.source_is_full = False

    def read(self, polled: Polled, records: int, size: int) -> None:
        """A poll brought `records` of `size` bytes."""
        self.records += records
        self.bytes += size
        self.polls += 1
        self.source_is_full = polled.source_is_full

    def wrote(self, batches: Iterable[_core.Batch]) -> None:
        """Rows left the engine."""
        for batch in batches:
            self.output_rows += batch.num_rows
            self.output_bytes += batch.nbytes
            if batch.output == "rejected":
                self.refused += batch.num_rows

    def is_full(self, changed_bytes: int) -> bool:
        """Whether the epoch is to be committed before its time. `changed_bytes`: of state, that the commit writes."""
        return (
            self.source_is_full
            or self.bytes >= EPOCH_BYTES_MAX
            or self.records >= (self.records_bound or EPOCH_RECORDS_MAX)
            or self.output_rows >= EPOCH_OUTPUT_ROWS_MAX
            or self.output_bytes >= EPOCH_OUTPUT_BYTES_MAX
            or self.refused >= EPOCH_REFUSED_MAX
            or changed_bytes >= EPOCH_CHANGED_BYTES_MAX
        )
