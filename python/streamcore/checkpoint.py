"""Owns a named run's folder `<state_dir>/<name>/`: the lock, the checkpoint file, and the one before it.

Before it: `commit.py`, step 4. After it: the next start, which reads the file and goes on from there.
Invariant: at every moment `checkpoint` is a whole, durable file; a crash leaves it or its successor, never a part.

Files: `LOCK` (held while a process runs), `checkpoint`, `checkpoint.previous` (one epoch older, for an operator to
fall back on by hand), `checkpoint.new` (unfinished, ignored).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamcore import _core
from streamcore.errors import FencedError, StateError

HEADER_FORMAT = 1
STATE_DIR_DEFAULT = ".streamcore"
STATE_DIR_VARIABLE = "STREAMCORE_STATE_DIR"

WITH_FILES = ", together with the files of its Parquet sinks, if it has any"
"""Rows of a run whose state is gone are refused at a start."""

Ledgers = dict[int, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Header:
    """What a checkpoint says about itself, beside the state of the lanes."""

    pipeline: str
    fingerprint: str
    """Of the engine's description: state of another description does not fit."""
    generation: int
    """Seconds since the epoch when the state began; grows when it is reset, so sinks take the new rows."""
    epoch: int
    digest: int
    """Of all state, worked out by the engine when the epoch was sealed."""
    positions: dict[int, int]
    """Next position of each lane."""
    source: dict[str, Any] = field(default_factory=dict)
    """What the source said of itself."""
    files: dict[str, list[str]] = field(default_factory=dict)
    """By folder: files this epoch publishes."""
    letters: dict[str, int] = field(default_factory=dict)
    """By file: bytes of dead letters in it, where each is to be there once."""
    ended: bool = False
    """Whether the epoch ends with the end of a bounded input."""
    ledger: Ledgers = field(default_factory=dict)
    """Counts of each lane since the state began."""
    skipped: dict[int, Any] = field(default_factory=dict)
    """By lane, what accepted gaps have passed over since then; see `gaps.py`."""

    def to_json(self) -> bytes:
        """The header as it stands in the file."""
        content = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps({"format": HEADER_FORMAT, **content}, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Header:
        """Undoes `to_json`. Raises `ValueError` or `KeyError` for anything else."""
        content = json.loads(text)
        if content.pop("format") != HEADER_FORMAT:
            raise ValueError("its header is of a format that this version of streamcore does not know")
        content["positions"] = {int(lane): position for lane, position in content["positions"].items()}
        content["skipped"] = {int(lane): gaps for lane, gaps in content.get("skipped", {}).items()}
        content["ledger"] = {int(lane): counts for lane, counts in content["ledger"].items()}
        return cls(**content)


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint as it was read."""

    header: Header
    lanes: list[tuple[int, bytes]]


def state_folder(state_dir: str | None, name: str, environment: Mapping[str, str]) -> Path:
    """Where a pipeline of this name keeps its state."""
    return Path(state_dir or environment.get(STATE_DIR_VARIABLE) or STATE_DIR_DEFAULT) / name


class Checkpoint:
    """A pipeline's folder, locked by this process from `open` to `close`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "checkpoint"
        self._lock: int | None = None

    def open(self) -> None:
        """Makes the folder and locks it. Raises `FencedError` while another process holds it."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.folder / "LOCK", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"{self.folder}: cannot keep state here: {error.strerror}; set state_dir") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 1_000).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise FencedError(
                f"{self.folder}: {holder} is running this pipeline; stop it first, or give this run another name"
            ) from None
        self._lock = descriptor
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        except OSError as error:
            self.close()
            raise StateError(f"{self.folder}: cannot keep state here: {error.strerror}; make room") from error

    def close(self) -> None:
        """Unlocks the folder. Safe to call twice."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def read(self, *, pipeline: str) -> Saved | None:
        """The newest checkpoint, or None where there never was one. Raises `StateError` when it cannot be used."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            if (self.folder / "checkpoint.previous").exists():
                raise StateError(
                    f"{self.path} is gone, but checkpoint.previous is there; rename that to go on from one epoch "
                    f"earlier, or move {self.folder} away to start afresh{WITH_FILES}"
                ) from None
            return None
        except OSError as error:
            raise StateError(self._damaged(f"it cannot be read: {error.strerror}")) from error
        try:
            header_json, lanes = _core.decode_checkpoint(data)
            header = Header.from_json(header_json)
        except (StateError, ValueError, KeyError, TypeError) as error:
            raise StateError(self._damaged(str(error))) from error
        if header.pipeline != pipeline:
            raise StateError(f"{self.path} belongs to the pipeline {header.pipeline}, not to {pipeline}")
        return Saved(header, lanes)

    def write(self, header: Header, lanes: Sequence[tuple[int, bytes]]) -> None:
        """Replaces the checkpoint; when this returns, it will survive a power cut. Raises `StateError`."""
        parts = _core.checkpoint_parts(header.to_json(), lanes)
        try:
            self._replace(parts)
        except OSError as error:
            raise StateError(
                f"{self.path}: cannot be written: {error.strerror}; the one before it is whole, so nothing is lost: "
                "make room or mend the rights, then start again"
            ) from error

    def _replace(self, parts: Sequence[bytes]) -> None:
        new, previous = self.folder / "checkpoint.new", self.folder / "checkpoint.previous"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        if self.path.exists():
            # A second name first, the rename after: there is no moment without a `checkpoint`.
            previous.unlink(missing_ok=True)
            try:
                os.link(self.path, previous)
            except OSError as error:
                # Some file systems have no second names; the older epoch is a convenience, the newer one is not.
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
        new.replace(self.path)
        fsync_folder(self.folder)

    def _damaged(self, reason: str) -> str:
        previous = self.folder / "checkpoint.previous"
        fallback = f"rename {previous} to checkpoint to go on from one epoch earlier, or " if previous.exists() else ""
        return f"{self.path} cannot be used: {reason}; {fallback}move {self.folder} away to start afresh{WITH_FILES}"


def check_fit(
    header: Header, folder: Path, *, fingerprint: str, source: Mapping[str, object], lanes: Sequence[int]
) -> None:
    """Refuses a checkpoint in `folder` that was made by another description or of another input.

    Raises `StateError`.
    """
    state = f"the saved state of {header.pipeline} in {folder}"
    afresh = f"give the pipeline a new name, or move {folder} away to start afresh{WITH_FILES}"
    for fact, value in source.items():
        before = header.source.get(fact, value)
        # Lists (files, partitions) may grow; the source itself compares them when it opens.
        if isinstance(value, (str, int)) and before != value:
            raise StateError(
                f"{state} was made from another input: {fact} was {before!r} and is now {value!r}; "
                f"put it back, or {afresh}"
            )
    if header.fingerprint != fingerprint:
        raise StateError(
            f"{state} was made by another version of the pipeline: its source, schema or steps have changed "
            f"(fingerprint then {header.fingerprint}, now {fingerprint}); undo the change, or {afresh}"
        )
    missing = sorted(set(header.positions) - set(lanes))
    if missing:
        raise StateError(f"{state} holds lanes that the input no longer has: {missing}; bring them back, or {afresh}")


def fsync_folder(folder: Path) -> None:
    """Makes renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
