"""Owns Parquet files in a folder, published after the checkpoint that lists them.

Before it: the runner. After it: any reader of `folder/*.parquet`.
Invariant: a file with its final name belongs to a committed epoch and is whole; an unfinished one starts with a dot.

A file is `<writer>-<output>-g<generation>-e<epoch>-s<sequence>.parquet`. The writer is the pipeline's name, or random
where it has none: generations are seconds, so without it two pipelines started together would share names. The
sequence is that of the file's first batch.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from streamcore import _core
from streamcore.checkpoint import fsync_folder
from streamcore.config import ParquetSinkConfig
from streamcore.errors import SinkError, StateError
from streamcore.faults import fault_point
from streamcore.sinks.base import Version

FILE_ROWS_MAX = 1_000_000
"""An epoch with more rows is cut into several files, so that they need not all be in memory."""

UNFINISHED_PREFIX = "."
UNFINISHED_SUFFIX = ".unfinished"


class ParquetSink:
    """Writes one file an epoch, or several when it is long."""

    def __init__(self, config: ParquetSinkConfig, *, pipeline: str | None = None) -> None:
        """Files carry the name `pipeline`; without it, nothing at a later start finds them again."""
        self.output: str = config.output
        self._named = pipeline is not None
        self._stem = f"{writer_of(pipeline or f'ephemeral-{secrets.token_hex(8)}')}-{config.output}"
        self.folder = config.path
        self._path = Path(config.path)
        self._columns = config.columns
        self._buffered: list[_core.Batch] = []
        self._buffered_rows = 0
        self._first_version: Version | None = None
        self._unpublished: list[str] = []

    def open(self) -> None:
        """Makes the folder. Raises `SinkError` when that is not allowed."""
        make_folder(self._path)

    def earlier_files(self, *, after: tuple[int, int] | None = None) -> list[str]:
        """The files of earlier runs, by name. A sink without a name cannot tell its own from others: all count.

        `after`: only its own of later epochs than this, which is a generation and an epoch of it.

        Raises `SinkError` when the folder cannot be looked into.
        """
        try:
            names = sorted(path.name for path in self._path.iterdir()) if self._path.is_dir() else []
        except OSError as error:
            raise SinkError(f"{self._path}: cannot be looked into: {error.strerror}", retriable=False) from error
        shown = [name for name in names if name.endswith(".parquet") and not name.startswith(UNFINISHED_PREFIX)]
        if after is not None:
            return [name for name in shown if (epoch := self._epoch_of(name)) is not None and epoch > after]
        return [name for name in shown if self._epoch_of(name)] if self._named else shown

    def recover(self, listed: Collection[str]) -> None:
        """Publishes what the checkpoint lists and a crash left unfinished; deletes its own files that it does not list.

        Raises `StateError` for a listed file that is gone: the checkpoint says that its rows are written.
        """
        for name in sorted(listed):
            if unfinished(self._path, name).exists():
                self._unpublished.append(name)
            elif not (self._path / name).exists():
                raise StateError(
                    f"{self._path / name} is gone, and the checkpoint says that its rows are written; bring it back, "
                    "or put an empty file of that name there if a reader has taken it away"
                )
        self._publish()
        try:
            for left in self._path.glob(f"{UNFINISHED_PREFIX}*{UNFINISHED_SUFFIX}"):
                if self._epoch_of(left.name):
                    left.unlink()
        except OSError as error:
            message = f"{self._path}: unfinished files cannot be deleted: {error.strerror}; mend the rights"
            raise SinkError(message, retriable=False) from error

    def write(self, batch: _core.Batch, version: Version) -> None:
        """Keeps the batch; a long epoch is written in parts."""
        self._first_version = self._first_version or version
        self._buffered.append(batch.select(self._columns) if self._columns else batch)
        self._buffered_rows += batch.num_rows
        if self._buffered_rows >= FILE_ROWS_MAX:
            self._write_file()

    def flush(self) -> None:
        """Writes what is buffered; it is durable, but its name is not final."""
        self._write_file()
        if self._unpublished:
            try:
                # The checkpoint must not outlive the name it lists.
                fsync_folder(self._path)
            except OSError as error:
                raise SinkError(f"{self._path}: cannot be synced: {reason_of(error)}; mend the folder") from error

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
            unfinished(self._path, name).unlink(missing_ok=True)
        self._unpublished = []

    def close(self) -> None:
        """Leaves files of an epoch that failed to the next start; where none will know them, deletes them."""
        if not self._named:
            self.discard()

    def _write_file(self) -> None:
        if self._first_version is None:
            return
        version = self._first_version
        name = f"{self._stem}-g{version.generation:010d}-e{version.epoch:015d}-s{version.sequence:010d}.parquet"
        written(self._buffered, unfinished(self._path, name), called=self._path / name)
        self._unpublished.append(name)
        self._forget_buffer()

    def _publish(self) -> None:
        if not self._unpublished:
            return
        try:
            _give_names(self._path, self._unpublished)
        except OSError as error:
            then = "the next start publishes them" if self._named else "mend the folder and start again"
            message = f"{self._path}: files cannot be published: {error.strerror}; {then}"
            raise SinkError(message, retriable=False) from error
        self._unpublished = []

    def _epoch_of(self, file: str) -> tuple[int, int] | None:
        """Generation and epoch of a file, finished or not, that this sink wrote; None for one of others.

        The whole name counts: `a` must not take those of `a-result-g1`.
        """
        pattern = rf"{re.escape(self._stem)}-g(\d{{10,}})-e(\d{{15,}})-s\d{{10,}}\.parquet"
        found = re.fullmatch(pattern, file.removeprefix(UNFINISHED_PREFIX).removesuffix(UNFINISHED_SUFFIX))
        return None if found is None else (int(found[1]), int(found[2]))

    def _forget_buffer(self) -> None:
        self._buffered = []
        self._buffered_rows = 0
        self._first_version = None


def writer_of(pipeline: str) -> str:
    """How files name the pipeline: a sink made by hand gets a name that no model has kept free of slashes."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", pipeline).lstrip("._")


def make_folder(path: Path) -> None:
    """Makes the folder. Raises `SinkError` when that is not allowed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(
            f"{path}: cannot be made: {error.strerror}; give the sink the path of a folder, there or not, that this user "
            "may write to",
            retriable=False,
        ) from error


def written(batches: Sequence[_core.Batch], path: Path, *, called: Path) -> None:
    """Writes a file whose bytes are durable; `called` is what messages call it. Raises `SinkError`."""
    import polars as pl

    frame = pl.concat([pl.DataFrame(batch) for batch in batches], rechunk=False)
    try:
        with path.open("wb") as file:
            frame.write_parquet(file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, pl.exceptions.PolarsError) as error:
        with suppress(OSError):
            path.unlink()  # room for the next try, and for others
        message = f"{called}: cannot be written: {reason_of(error)}; make room or mend the rights"
        raise SinkError(message) from error


def finish_folder(folder: str, listed: Collection[str]) -> None:
    """Publishes what a crash left unfinished where no sink writes any more: its rows are committed. Raises `SinkError`.

    What is not there is no mistake here, unlike in `recover`: whoever took the sink away may have moved the folder as well.
    """
    path = Path(folder)
    try:
        left = [name for name in sorted(listed) if unfinished(path, name).exists()]
        if left:
            _give_names(path, left)
    except OSError as error:
        message = f"{path}: files of the last run cannot be published: {error.strerror}; mend the folder"
        raise SinkError(message, retriable=False) from error


def _give_names(folder: Path, names: Collection[str]) -> None:
    for name in names:
        unfinished(folder, name).replace(folder / name)
    fault_point("publish-renamed")
    fsync_folder(folder)


def unfinished(folder: Path, name: str) -> Path:
    """Where a file lies until it has its name."""
    return folder / f"{UNFINISHED_PREFIX}{name}{UNFINISHED_SUFFIX}"


def reason_of(error: Exception) -> str:
    """The first line: polars wraps what the file system said, and adds hints of its own below."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.partition("\n")[0]
