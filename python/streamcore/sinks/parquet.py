"""Owns Parquet files in a folder, published after the checkpoint that lists them.

Before it: the runner. After it: any reader of `folder/*.parquet`.
Invariant: a file with its final name belongs to a committed epoch and is whole; an unfinished one starts with a dot.

A file is `<output>-g<generation>-e<epoch>-s<sequence>.parquet`; the sequence is that of its first batch.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from streamcore import _core
from streamcore.checkpoint import fsync_folder
from streamcore.config import ParquetSinkConfig
from streamcore.errors import SinkError
from streamcore.sinks.base import Version

FILE_ROWS_MAX = 1_000_000
"""An epoch with more rows is cut into several files, so that they need not all be in memory."""

UNFINISHED_PREFIX = "."
UNFINISHED_SUFFIX = ".unfinished"


class ParquetSink:
    """Writes one file an epoch, or several when it is long."""

    def __init__(self, config: ParquetSinkConfig) -> None:
        self.output: str = config.output
        self.folder = config.path
        self._path = Path(config.path)
        self._columns = config.columns
        self._buffered: list[_core.Batch] = []
        self._buffered_rows = 0
        self._first_version: Version | None = None
        self._unpublished: list[str] = []

    def open(self) -> None:
        """Makes the folder. Raises `SinkError` when that is not allowed."""
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{self._path}: cannot be made: {error.strerror}", retriable=False) from error

    def recover(self, listed: Collection[str]) -> None:
        """Publishes what the checkpoint lists and a crash left unfinished; deletes what it does not list."""
        for unfinished in sorted(self._path.glob(f"{UNFINISHED_PREFIX}{self.output}-g*{UNFINISHED_SUFFIX}")):
            name = unfinished.name.removeprefix(UNFINISHED_PREFIX).removesuffix(UNFINISHED_SUFFIX)
            if name in listed:
                self._unpublished.append(name)
            else:
                unfinished.unlink()
        self._publish()

    def write(self, batch: _core.Batch, version: Version) -> None:
        """Keeps the batch; a long epoch is written in parts."""
        self._first_version = self._first_version or version
        self._buffered.append(batch.select(self._columns) if self._columns else batch)
        self._buffered_rows += batch.num_rows
        if self._buffered_rows >= FILE_ROWS_MAX:
            self._write_file()

    def flush(self) -> None:
        """Writes what is buffered; its bytes are durable, its name is not final."""
        self._write_file()

    def pending(self) -> list[str]:
        """Files that wait for the checkpoint."""
        return list(self._unpublished)

    def committed(self, epoch: int) -> None:
        """Gives the epoch's files their names."""
        self._publish()

    def discard(self) -> None:
        """Deletes the rolled back epoch's files."""
        self._forget_buffer()
        for name in self._unpublished:
            self._unfinished(name).unlink(missing_ok=True)
        self._unpublished = []

    def close(self) -> None:
        """Nothing to let go of; files of an epoch that failed are deleted at the next start."""

    def _write_file(self) -> None:
        if self._first_version is None:
            return
        import polars as pl

        version = self._first_version
        name = f"{self.output}-g{version.generation:010d}-e{version.epoch:015d}-s{version.sequence:010d}.parquet"
        frame = pl.concat([pl.DataFrame(batch) for batch in self._buffered], rechunk=False)
        try:
            with self._unfinished(name).open("wb") as file:
                frame.write_parquet(file)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SinkError(f"{self._path / name}: cannot be written: {error.strerror}") from error
        self._unpublished.append(name)
        self._forget_buffer()

    def _publish(self) -> None:
        if not self._unpublished:
            return
        try:
            for name in self._unpublished:
                self._unfinished(name).replace(self._path / name)
            fsync_folder(self._path)
        except OSError as error:
            message = f"{self._path}: files cannot be published: {error.strerror}; the next start publishes them"
            raise SinkError(message, retriable=False) from error
        self._unpublished = []

    def _unfinished(self, name: str) -> Path:
        return self._path / f"{UNFINISHED_PREFIX}{name}{UNFINISHED_SUFFIX}"

    def _forget_buffer(self) -> None:
        self._buffered = []
        self._buffered_rows = 0
        self._first_version = None
