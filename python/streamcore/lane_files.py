"""Owns which lane's manifest lists the files of an epoch, for all sinks that write files, as one.

Before it: `epochs.py`, in a commit and in a recovery. After it: `sinks/parquet_lanes.py`.
Invariant: the files of an epoch are listed by the manifest of one lane that is committed with it, so whoever recovers that
lane knows whether they count; until they have their names, each later manifest of the lane lists them again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import orjson

from streamcore.errors import FilesAheadError, SinkError
from streamcore.sinks.base import Home, LanePublisher, Sink
from streamcore.sinks.parquet_lanes import finish_entries

Files = dict[str, list[str]]
"""By folder: what a manifest lists."""


class LaneFiles:
    """The files of one worker."""

    def __init__(self, sinks: Iterable[Sink] = ()) -> None:
        self._sinks = [sink for sink in sinks if isinstance(sink, LanePublisher)]
        self._behind: dict[int, int] = {}
        """By lane: the epoch of the state that was read, where files are of later ones."""

    def write(self, lanes: Sequence[Mapping[str, int]], positions: Mapping[int, int], *, seal: int) -> dict[int, Files]:
        """Writes the epoch's rows; gives what the manifest of each lane lists. Raises `SinkError`.

        `lanes` are those of the commit, each with the `epoch` it gets.
        """
        # What all lanes share is read from nowhere; the other lanes of the commit are told by their offsets.
        first = max(lanes, key=lambda lane: (lane["lane"] >= 0, -lane["lane"]))
        home = Home(first["lane"], first["epoch"], positions.get(first["lane"], 0), seal)
        for sink in self._sinks:
            sink.write_files(home)
        return {lane["lane"]: self._listed(lane["lane"]) for lane in lanes}

    def _listed(self, lane: int) -> Files:
        files: Files = {}
        for sink in self._sinks:
            if entries := sink.listed(lane):
                files.setdefault(sink.folder, []).extend(entries)
        return files

    def recover(self, lane: int, manifest: bytes | None) -> None:
        """A lane was restored to what this manifest says, which is JSON. Raises `StateError`, `SinkError`.

        A worker that was asleep for too long has read what others have gone on from: where files are of later epochs it is told so
        (`SinkError`), reads again, and the group tells it meanwhile. Where it reads the same again the state is an old one.
        """
        found: dict[str, Any] = {"epoch": 0, "facts": {"files": {}}} if manifest is None else orjson.loads(manifest)
        epoch, left = found["epoch"], dict(found["facts"].get("files", {}))
        try:
            for sink in self._sinks:
                left[sink.folder] = sink.recover_lane(lane, epoch, left.get(sink.folder, ()))
        except FilesAheadError as error:
            if self._behind.get(lane) == epoch:
                raise
            self._behind[lane] = epoch
            raise SinkError(f"{error}; the state is read once more") from None
        self._behind.pop(lane, None)
        for folder, entries in left.items():
            finish_entries(folder, entries)

    @property
    def waits(self) -> bool:
        """Whether files of committed epochs have no name yet."""
        return any(sink.waits for sink in self._sinks)

    def publish(self, lanes: Sequence[Mapping[str, int]] = ()) -> None:
        """Gives files of committed epochs their names. `lanes`: each with the `epoch` it has reached. Raises `SinkError`."""
        epochs = {each["lane"]: each["epoch"] for each in lanes}
        for sink in self._sinks:
            sink.publish(epochs)

    def forget(self, lanes: Collection[int]) -> None:
        """These lanes are not ours any more."""
        for sink in self._sinks:
            sink.forget(lanes)
