"""Owns reading files of records; one lane a file.

Before it: `_core.FileReader`, which reads whole records in large pieces. After it: the runner.
Invariant: a file keeps its lane for the life of the state, also when other files appear or are read to their end.
"""

from __future__ import annotations

import glob
import hashlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from streamcore import _core
from streamcore.config import FilesSourceConfig, LimitsConfig
from streamcore.errors import SourceError, StateError
from streamcore.sources.base import End, Polled, Position, Start

LANES_AT_ONCE = max(2, os.cpu_count() or 1)
"""Files read in one poll, a piece of each: enough for every core, so memory stays bounded."""

BYTES_AHEAD = 4 << 20
"""Bytes read ahead of all files together, or a piece of each: so that a core which is done with one finds the next."""

HEAD_BYTES_MAX = 4096
"""How much of a file's beginning identifies it."""

COMPRESSED = {
    re.compile(rb"\x1f\x8b\x08"): ("gzip", "zcat"),
    re.compile(rb"\x28\xb5\x2f\xfd"): ("zstd", "zstdcat"),
    re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"): ("bzip2", "bzcat"),
    re.compile(rb"\xfd7zXZ\x00"): ("xz", "xzcat"),
}
"""First bytes of files that hold no records before they are decompressed: kind, and what decompresses it."""

log = logging.getLogger("streamcore.files")


class FilesSource:
    """Reads all files of a pattern to their end."""

    bounded = True

    def __init__(
        self,
        config: FilesSourceConfig,
        *,
        record_bytes_max: int = LimitsConfig().max_record_bytes,
        reads_on: bool = False,
    ) -> None:
        """`reads_on`: a later run goes on where this one ends, so a file may still grow until then."""
        self._pattern = config.path
        self._framing = config.framing
        self._record_bytes_max = record_bytes_max
        # What is no JSON may end anywhere.
        self._leaves_cut = reads_on and (config.framing != "lines" or config.format == "json")
        self._piece_bytes = config.piece_bytes
        self._files: list[str] = []
        self._heads: list[tuple[int, str]] = []
        self._readers: dict[int, _core.FileReader] = {}
        self._ended: set[int] = set()
        self._held: frozenset[int] = frozenset()
        self._next_lane = 0

    def open(self, start: Start) -> list[int]:
        """Finds the files: those of the checkpoint in their old lanes, new ones behind them, in order of name."""
        known: Any = start.previous.get("files", [])
        # Not `Path.glob`, which takes no absolute patterns.
        matches = glob.glob(self._pattern, recursive=True)  # noqa: PTH207
        found = sorted(path for path in matches if Path(path).is_file())
        new = [path for path in found if path not in {entry["path"] for entry in known}]
        for entry in known:
            _check_same(entry)
        self._files = [entry["path"] for entry in known] + new
        if not self._files:
            raise SourceError(f"no file matches {self._pattern}; check the path and the folder you started in")
        self._heads = [_head(path) for path in self._files]
        self._readers = {lane: self._reader(lane, start.positions.get(lane, 0)) for lane in range(len(self._files))}
        return list(self._readers)

    def poll(self, timeout_s: float) -> Polled:
        """A piece of each of the next few files; the pieces after them are read while these are worked on."""
        raw: _core.Raw | None = None
        lanes = self._next_lanes()
        if lanes:
            self._next_lane = (lanes[-1] + 1) % len(self._readers)
        for lane in lanes:
            part = self._read(lane)
            if part is None:
                self._end(lane)
            elif len(part) == 0:
                continue  # within a line over the limit
            elif raw is None:
                raw = part
            else:
                raw.add(part)
        lanes = self._next_lanes()
        for lane in lanes:
            self._readers[lane].read_ahead(self._piece_bytes, max(1, BYTES_AHEAD // (self._piece_bytes * len(lanes))))
        return Polled(raw, caught_up=tuple(sorted(self._ended)), ended=len(self._ended) == len(self._readers))

    def positions(self) -> dict[int, Position]:
        """The next byte of each file."""
        return {lane: reader.position for lane, reader in self._readers.items()}

    def ends(self) -> dict[int, End]:
        """The sizes of the files, bytes."""
        return {lane: End(size, 0.0) for lane, path in enumerate(self._files) if (size := _size(path)) is not None}

    def seek(self, positions: Mapping[int, Position]) -> None:
        """Goes back to these bytes."""
        for lane, position in positions.items():
            self._readers[lane] = self._reader(lane, position)
            self._ended.discard(lane)

    def pause(self, lanes: list[int]) -> None:
        """Holds these lanes back until the next call, unless only files already at their end are behind them."""
        self._held = frozenset(lanes)

    def committed(self, positions: Mapping[int, Position]) -> None:
        """Nobody else needs to know."""

    def describe(self) -> dict[str, object]:
        """The files by lane, each with the digest of its beginning."""
        files = [
            {"path": path, "head_bytes": size, "head": digest}
            for path, (size, digest) in zip(self._files, self._heads, strict=True)
        ]
        return {"type": "files", "framing": self._framing, "files": files}

    def close(self) -> None:
        """Lets go of the files."""
        self._readers = {}

    def _next_lanes(self) -> Sequence[int]:
        count = len(self._readers)
        order = [(self._next_lane + step) % count for step in range(count)]
        unfinished = [lane for lane in order if lane not in self._ended]
        return ([lane for lane in unfinished if lane not in self._held] or unfinished)[:LANES_AT_ONCE]

    def _end(self, lane: int) -> None:
        self._ended.add(lane)
        reader = self._readers[lane]
        if reader.left:
            log.warning(
                "%s ends within the record at byte %d; started again when the file has grown, the run goes on there",
                self._files[lane],
                reader.position,
            )

    def _reader(self, lane: int, position: Position) -> _core.FileReader:
        path = self._files[lane]
        try:
            return _core.FileReader(
                path,
                lane,
                path,
                position,
                framing=self._framing,
                record_bytes_max=self._record_bytes_max,
                grows=self._leaves_cut,
            )
        except OSError as error:
            raise SourceError(f"{path}: cannot be opened: {error.strerror}") from error

    def _read(self, lane: int) -> _core.Raw | None:
        try:
            return self._readers[lane].read(self._piece_bytes)
        except OSError as error:
            raise SourceError(f"{self._files[lane]}: cannot be read: {error.strerror}") from error


def _size(path: str) -> int | None:
    try:
        return Path(path).stat().st_size
    except OSError:
        return None


def _head(path: str, head_bytes: int = HEAD_BYTES_MAX) -> tuple[int, str]:
    try:
        with Path(path).open("rb") as file:
            beginning = file.read(head_bytes)
    except OSError as error:
        raise SourceError(f"{path}: cannot be opened: {error.strerror}") from error
    _refuse_compressed(path, beginning)
    return len(beginning), hashlib.sha256(beginning).hexdigest()[:16]


def _refuse_compressed(path: str, beginning: bytes) -> None:
    for magic, (kind, tool) in COMPRESSED.items():
        if magic.match(beginning):
            raise SourceError(
                f"{path} is compressed ({kind}), and files are read as they are; decompress it first, as "
                f"{tool} {path} > {Path(path).with_suffix('') if Path(path).suffix else path + '.jsonl'}"
            )


def _check_same(entry: Mapping[str, Any]) -> None:
    """Raises `StateError` when a file of the checkpoint is another one now."""
    if _head(entry["path"], entry["head_bytes"]) != (entry["head_bytes"], entry["head"]):
        raise StateError(
            f"{entry['path']} is not the file that was read before: its first {entry['head_bytes']} bytes differ; "
            "put the old one back, or give the pipeline a new name so that it starts afresh"
        )
