"""Owns Parquet files of an epoch that is a transaction: written before it, listed in it, named after it.

Before it: `lane_files.py`, which has them written and listed. After it: any reader of `folder/*.parquet`.
Invariant: a file with its final name was listed in a committed manifest and is whole; what the manifest of a lane does not
list, nobody names.

A file is `<pipeline>-<output>-p<partition>-e<epoch>-o<offset>-s<number>.parquet`: of the lane whose manifest lists it, its
epoch, where that ends, and which of the epoch's files it is. Rows are those of all lanes of the worker. Until it has that
name a dot stands before it and the number of the seal behind: two tries of an epoch, by two workers, never share a file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from streamcore import _core
from streamcore.checkpoint import fsync_folder
from streamcore.config import ParquetSinkConfig
from streamcore.errors import FilesAheadError, SinkError, StateError
from streamcore.faults import fault_point
from streamcore.sinks.base import Home, Version
from streamcore.sinks.parquet import (
    FILE_ROWS_MAX,
    UNFINISHED_PREFIX,
    UNFINISHED_SUFFIX,
    make_folder,
    reason_of,
    unfinished,
    writer_of,
    written,
)

SEAL_DIGITS = 14
"""Hexadecimal digits of a seal's number."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file as manifests list it: its final name, a dot, the seal."""

    text: str

    @property
    def final(self) -> str:
        return self.text[: -SEAL_DIGITS - 1]


class LaneParquetSink:
    """Files of one folder; see `sinks/base.py` for the contracts."""

    def __init__(self, config: ParquetSinkConfig, *, pipeline: str, prefix: str = "") -> None:
        """Every worker of the pipeline has to reach the same folder. `prefix` tells apart what two phases write into it."""
        self.output: str = config.output
        self.folder = config.path
        self._path = Path(config.path)
        self._columns = config.columns
        self._stem = f"{writer_of(pipeline)}-{prefix}{config.output}"
        self._pipeline = pipeline
        self._buffered: list[_core.Batch] = []
        self._written: dict[int, list[str]] = {}
        """By lane: entries of the epoch that is being committed."""
        self._committed: dict[int, list[str]] = {}
        """By lane: entries of committed epochs whose files have no name yet."""
        self._unclaimed: dict[int, list[str]] = {}
        """By lane: entries of later epochs than its state when it was recovered, each until the lane is committed up to there."""

    def open(self) -> None:
        """Makes the folder. Raises `SinkError` when that is not allowed."""
        make_folder(self._path)

    def write(self, batch: _core.Batch, version: Version) -> None:
        """Keeps the batch until the epoch is written."""
        self._buffered.append(batch.select(self._columns) if self._columns else batch)

    def flush(self) -> None:
        """Nothing: files are written when it is known which lane lists them."""

    def write_files(self, home: Home) -> None:
        """Writes what is kept as files of `home`, durable but without their names. Raises `SinkError`."""
        files = self._written.setdefault(home.lane, [])
        if not self._buffered:
            return
        stem = f"{self._stem}-{_lane_text(home.lane)}-e{home.epoch:015d}-o{home.offset:015d}"
        for number, batches in enumerate(_pieces(self._buffered, FILE_ROWS_MAX)):
            entry = f"{stem}-s{number:04d}.parquet.{home.seal:0{SEAL_DIGITS}x}"
            written(batches, unfinished(self._path, entry), called=self._path / _Entry(entry).final)
            files.append(entry)
        self._buffered = []
        try:
            # The manifest must not outlive the name it lists.
            fsync_folder(self._path)
        except OSError as error:
            raise SinkError(f"{self._path}: cannot be synced: {reason_of(error)}; mend the folder") from error

    def listed(self, lane: int) -> list[str]:
        """What the lane's next manifest lists: files written for it, and older ones that have no name yet."""
        return [*self._committed.get(lane, ()), *self._written.get(lane, ())]

    def committed(self, epoch: int) -> None:
        """The transaction is committed: `publish` may name what was written."""
        for lane, entries in self._written.items():
            self._committed.setdefault(lane, []).extend(entries)
        self._written = {}

    @property
    def waits(self) -> bool:
        """See `LanePublisher`."""
        return any(self._committed.values())

    def publish(self, epochs: Mapping[int, int] | None = None) -> None:
        """Gives all files of committed epochs their names. Raises `SinkError`; then it may be called again."""
        if self.waits:
            self._name([entry for entries in self._committed.values() for entry in entries])
        self._committed = {}
        for lane, epoch in (epochs or {}).items():
            self._unclaimed[lane] = self._delete(lane, epoch, self._unclaimed.pop(lane, []))

    def _delete(self, lane: int, epoch: int, entries: Collection[str]) -> list[str]:
        """Deletes files without a name, none of which the lane's manifest lists, up to its epoch; gives the others.

        Those may be another worker's, who is about to commit them, if this one has been asleep.
        """
        later = []
        for entry in entries:
            of_epoch = self._epoch_of(_Entry(entry).final, lane)
            if of_epoch is not None and of_epoch > epoch:
                later.append(entry)
            elif of_epoch is not None:
                try:
                    unfinished(self._path, entry).unlink(missing_ok=True)
                except OSError as error:
                    raise SinkError(f"{self._path}: {entry} cannot be deleted: {reason_of(error)}") from error
        return later

    def _name(self, entries: Collection[str]) -> None:
        try:
            for entry in entries:
                self._name_one(entry)
            fault_point("publish-renamed")
            fsync_folder(self._path)
        except OSError as error:
            message = f"{self._path}: files cannot be published: {reason_of(error)}"
            raise SinkError(message) from error

    def _name_one(self, entry: str) -> None:
        final = self._path / _Entry(entry).final
        try:
            unfinished(self._path, entry).replace(final)
        except FileNotFoundError:
            # Another worker, which has taken the lane over, may have been faster.
            if not final.exists():
                raise

    def recover_lane(self, lane: int, epoch: int, listed: Collection[str]) -> list[str]:
        """After a lane was restored: has `publish` name what its manifest lists, and what it does not list deleted.

        Gives those of `listed` that are none of this sink's. Raises `StateError` for a listed file that is gone, and
        `FilesAheadError` for files of the lane that are of later epochs than its state.
        """
        own = [entry for entry in listed if self._epoch_of(_Entry(entry).final, lane) is not None]
        try:
            waiting = [entry for entry in own if unfinished(self._path, entry).exists()]
            for entry in own:
                self._check_present(entry, waiting)
            names = sorted(path.name for path in self._path.iterdir())
            self._refuse_later(lane, epoch, names)
            bare = {name: name.removeprefix(UNFINISHED_PREFIX).removesuffix(UNFINISHED_SUFFIX) for name in names}
            without = [entry for name, entry in bare.items() if entry != name and entry not in own]
            self._unclaimed[lane] = self._delete(lane, epoch, without)
        except OSError as error:
            message = f"{self._path}: cannot be looked into: {reason_of(error)}; mend the rights"
            raise SinkError(message, retriable=False) from error
        self._committed[lane] = waiting
        self._written.pop(lane, None)
        return [entry for entry in listed if entry not in own]

    def _check_present(self, entry: str, waiting: Collection[str]) -> None:
        final = self._path / _Entry(entry).final
        if entry not in waiting and not final.exists():
            raise StateError(
                f"{final} is gone, and the state says that its rows are written; every worker has to reach the same "
                "folder: bring it back, or put an empty file of that name there if a reader has taken it away"
            )

    def _refuse_later(self, lane: int, epoch: int, names: Collection[str]) -> None:
        files = [name for name in names if (found := self._epoch_of(name, lane)) is not None and found > epoch]
        if files:
            state = f"is of epoch {epoch}" if epoch else "is not there"
            raise FilesAheadError(
                f"{self._path} holds {len(files):,} {'file' if len(files) == 1 else 'files'} of {self._pipeline} (the first "
                f"is {files[0]}) that came after the state of {_lane_text(lane)}, which {state}: this run would write their "
                "rows once more; move them away, or bring the newer state back"
            )

    def discard(self) -> None:
        """The epoch was rolled back: deletes its files."""
        self._buffered = []
        for entries in self._written.values():
            for entry in entries:
                unfinished(self._path, entry).unlink(missing_ok=True)
        self._written = {}

    def forget(self, lanes: Collection[int]) -> None:
        """These lanes are another worker's, which finds out what became of an epoch whose end is not known here."""
        for lane in lanes:
            self._written.pop(lane, None)
            self._committed.pop(lane, None)
            self._unclaimed.pop(lane, None)

    def close(self) -> None:
        """Leaves files whose epoch's end is not known to the next start."""

    def _epoch_of(self, name: str, lane: int) -> int | None:
        """The epoch of a file that this sink wrote for `lane`; None for any other. The whole name counts."""
        stem = re.escape(f"{self._stem}-{_lane_text(lane)}")
        found = re.fullmatch(rf"{stem}-e(\d{{15,}})-o\d{{15,}}-s\d{{4,}}\.parquet", name)
        return None if found is None else int(found[1])


def finish_entries(folder: str, entries: Collection[str]) -> None:
    """Names files of a sink that was taken away since: their rows are committed. Raises `SinkError`.

    What is not there is no mistake here: whoever took the sink away may have moved the folder as well.
    """
    path = Path(folder)
    try:
        left = [entry for entry in entries if unfinished(path, entry).exists()]
        for entry in left:
            unfinished(path, entry).replace(path / _Entry(entry).final)
        if left:
            fsync_folder(path)
    except OSError as error:
        message = f"{path}: files of the last run cannot be published: {reason_of(error)}; mend the folder"
        raise SinkError(message, retriable=False) from error


def _lane_text(lane: int) -> str:
    """A partition by its number; what all of them share has none."""
    return f"p{lane:05d}" if lane >= 0 else "all"


def _pieces(batches: Collection[_core.Batch], rows_max: int) -> Iterator[list[_core.Batch]]:
    """The batches in groups of at least `rows_max` rows, but for the last."""
    group: list[_core.Batch] = []
    rows = 0
    for batch in batches:
        group.append(batch)
        rows += batch.num_rows
        if rows >= rows_max:
            yield group
            group, rows = [], 0
    if group:
        yield group
