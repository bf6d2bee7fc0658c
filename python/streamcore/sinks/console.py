"""Owns rows on standard output: one JSON object a line, or a table of the newest rows, live on a terminal.

Before it: the runner. After it: a person, or the next program of a shell pipe.
Invariant: standard output carries rows and nothing else; a row appears once its epoch is flushed.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Sequence
from datetime import datetime
from io import StringIO
from typing import TYPE_CHECKING, Any, TextIO

from streamcore import _core
from streamcore.config import ConsoleSinkConfig
from streamcore.errors import SinkError
from streamcore.sinks.base import Version
from streamcore.sinks.fitting import fit

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

TABLE_ROWS_MAX = 15
"""Newest rows shown."""

PLAIN_CHARACTERS_MAX = 1_000
"""Width of a table that is not for a terminal."""

TABLE_ROWS_LOOKED_AT = 10_000
"""Of one batch; a table is for looking at, so a very large one is not worth a wait."""

Row = dict[str, Any]


class JsonLinesSink:
    """One compact JSON object a row."""

    def __init__(self, config: ConsoleSinkConfig, file: TextIO | None = None) -> None:
        self.output: str = config.output
        self._columns = config.columns
        self._timestamp_format = config.timestamp_format
        self._file = file or sys.stdout
        self._lines: list[bytes] = []

    def open(self) -> None:
        """Nothing to connect."""

    def write(self, batch: _core.Batch, version: Version) -> None:
        """Keeps the rows until the flush."""
        self._lines += batch.to_json(columns=self._columns, timestamp_format=self._timestamp_format)

    def flush(self) -> None:
        """Prints the rows. `BrokenPipeError` passes: nobody reads any more, which is no mistake."""
        if not self._lines:
            return
        try:
            self._write(b"\n".join([*self._lines, b""]))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise SinkError(f"standard output: cannot be written: {error.strerror}", retriable=False) from error
        self._lines.clear()

    def _write(self, data: bytes) -> None:
        buffer = getattr(self._file, "buffer", None)
        if buffer is None:  # a notebook's, or a test's
            self._file.write(data.decode())
        else:
            # JSON is UTF-8 whatever the locale says.
            self._file.flush()
            buffer.write(data)
        self._file.flush()

    def committed(self, epoch: int) -> None:
        """Nothing waits for the checkpoint."""

    def discard(self) -> None:
        """Forgets the rolled back rows."""
        self._lines.clear()

    def close(self) -> None:
        """Standard output stays open."""


class TableSink:
    """The newest rows as a live table; the line under it tells how the run is doing.

    Where there is no terminal the table is printed once, at the end, as wide as it is.
    Of windows, the largest rows of the newest ones are shown, by the first number behind `window_end`.
    """

    def __init__(self, config: ConsoleSinkConfig, file: TextIO | None = None) -> None:
        self.output: str = config.output
        self._columns = config.columns
        self._file = file or sys.stdout
        self.is_live = self._file.isatty()
        self._live: Live | None = None
        self._pending: list[Row] = []
        self._rows: list[Row] = []
        """Shown now, the newest first."""
        self._names: list[str] = []
        self._caption = "waiting for the first rows"

    def open(self) -> None:
        """Nothing yet: what is told at the start should stand above the table."""

    def write(self, batch: _core.Batch, version: Version) -> None:
        """Keeps the newest rows until the flush."""
        selected = batch.select(self._columns) if self._columns else batch
        self._names = selected.column_names
        looked_at = min(batch.num_rows, TABLE_ROWS_LOOKED_AT)
        last = selected.slice(batch.num_rows - looked_at, looked_at)
        self._pending = newest([*reversed(self._pending), *last.to_rows()], self._names)

    def flush(self) -> None:
        """Shows the rows."""
        self._rows = newest([*reversed(self._rows), *reversed(self._pending)], self._names)
        self._pending = []
        self._show()

    def committed(self, epoch: int) -> None:
        """Nothing waits for the checkpoint."""

    def discard(self) -> None:
        """Forgets the rolled back rows."""
        self._pending = []

    def close(self) -> None:
        """Leaves the last table on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if not self.is_live and self._rows:
            self._print()
            self._rows = []

    def tell(self, text: str) -> None:
        """Shows `text` under the table."""
        self._caption = text
        self._show()

    def _show(self) -> None:
        if not self.is_live:
            return
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self._file)
            self._live = Live(
                get_renderable=lambda: self._table(console.width, self._caption), console=console, refresh_per_second=4
            )
            self._live.start()
        self._live.refresh()

    def _print(self) -> None:
        from rich.console import Console

        # By way of a text: rich would take a closed pipe for the end of the program.
        text = StringIO()
        Console(file=text, width=PLAIN_CHARACTERS_MAX).print(self._table(PLAIN_CHARACTERS_MAX, None))
        self._file.write(text.getvalue())
        self._file.flush()

    def _table(self, width: int, caption: str | None) -> Table:
        from rich.table import Table
        from rich.text import Text

        fitted = fit(self._rows, self._names, width)
        if fitted.left_out and caption is not None:
            caption = f"{caption}\nno room for: {', '.join(fitted.left_out)}"
        table = Table(
            title=None if fitted.day is None else Text(f"{fitted.day} UTC"),
            caption=None if caption is None else Text(caption),
            title_justify="left",
            caption_justify="left",
        )
        for column in fitted.columns:
            table.add_column(Text(column.name), no_wrap=True, width=column.width)
        for cells in zip(*(column.cells for column in fitted.columns), strict=True):
            table.add_row(*map(Text, cells))
        return table


def newest(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """At most `TABLE_ROWS_MAX` of `rows`, which come oldest first: the newest first, of a window the largest first."""
    if not rows or "window_end" not in names:
        return list(reversed(rows[-TABLE_ROWS_MAX:]))
    measures = [name for name in names[names.index("window_end") + 1 :] if isinstance(rows[-1][name], (int, float))]

    def rank(row: Row) -> tuple[datetime, float]:
        value = row[measures[0]] if measures else None
        return row["window_end"], value if isinstance(value, (int, float)) else 0

    return heapq.nlargest(TABLE_ROWS_MAX, reversed(rows), key=rank)


def console_sink(config: ConsoleSinkConfig, file: TextIO | None = None) -> JsonLinesSink | TableSink:
    """The sink for a format; without one, a table on a terminal and JSON lines elsewhere."""
    unsaid = "table" if (file or sys.stdout).isatty() else "jsonl"
    return JsonLinesSink(config, file) if (config.format or unsaid) == "jsonl" else TableSink(config, file)
