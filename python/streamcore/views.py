"""Owns the newest result rows of a run, for questions from Python.

Before it: the runner, as one more sink. After it: `Run.query`.
Invariant: only rows of committed epochs are seen, and at most `VIEW_ROWS_MAX` of them are kept.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from streamcore import _core
from streamcore.errors import ConfigError
from streamcore.sinks.base import Version

if TYPE_CHECKING:
    import polars as pl

VIEW_ROWS_MAX = 100_000
"""Rows kept; whole batches of older ones are forgotten first."""


class View:
    """A sink that remembers the newest results."""

    output = "result"

    def __init__(self, keys: Sequence[str]) -> None:
        """`keys` tell rows apart: a later row with equal keys replaces an earlier one."""
        self._keys = list(keys)
        self._lock = threading.Lock()
        self._pending: list[_core.Batch] = []
        self._kept: deque[_core.Batch] = deque()
        self._rows = 0

    def open(self) -> None:
        """Nothing to connect."""

    def write(self, batch: _core.Batch, version: Version) -> None:
        """Remembers the batch once its epoch is durable."""
        self._pending.append(batch)

    def flush(self) -> None:
        """Nothing to make durable."""

    def committed(self, epoch: int) -> None:
        """Shows the epoch's rows."""
        with self._lock:
            for batch in self._pending:
                self._kept.append(batch)
                self._rows += batch.num_rows
            while len(self._kept) > 1 and self._rows > VIEW_ROWS_MAX:
                self._rows -= self._kept.popleft().num_rows
        self._pending.clear()

    def discard(self) -> None:
        """Forgets the rolled back epoch."""
        self._pending.clear()

    def close(self) -> None:
        """The rows stay readable after the run."""

    def query(self, where: Mapping[str, Any]) -> pl.DataFrame | None:
        """The newest row of each key whose columns equal `where`, or None while there are no rows at all."""
        import polars as pl

        with self._lock:
            batches = list(self._kept)
        if not batches:
            return None
        unknown = sorted(set(where) - set(batches[0].column_names))
        if unknown:
            known = ", ".join(batches[0].column_names)
            raise ConfigError(f"the result has no column {', '.join(unknown)}; its columns are {known}")
        frame = pl.concat([pl.DataFrame(batch) for batch in batches], rechunk=False)
        frame = frame.filter(*[pl.col(name).eq_missing(pl.lit(value)) for name, value in where.items()])
        frame = frame.unique(subset=self._keys, keep="last", maintain_order=True)
        if "retracted" in frame.columns:
            frame = frame.filter(~pl.col("retracted").fill_null(value=False)).drop("retracted")
        return frame
