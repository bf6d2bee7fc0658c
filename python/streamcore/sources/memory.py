"""Owns reading a topic of the in-process log; one lane a partition.

Before it: `memory_log.py`. After it: the runner.
Invariant: a lane's position is the offset of the record it hands out next.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate

from streamcore import _core
from streamcore.config import MemorySourceConfig
from streamcore.errors import ConfigError
from streamcore.memory_log import Entry, MemoryLog
from streamcore.sources.base import POLL_BYTES_MAX, End, Polled, Position, Start

POLL_RECORDS_MAX = 10_000
"""Most records of one lane in one poll; `POLL_BYTES_MAX` bounds their values."""


class MemorySource:
    """Reads all partitions of one topic."""

    def __init__(
        self,
        config: MemorySourceConfig,
        log: MemoryLog,
        *,
        stop: str | None,
        record_bytes_max: int | None = None,
    ) -> None:
        self.bounded = stop == "end"
        self._topic = config.topic
        self._log = log
        self._record_bytes_max = record_bytes_max
        self._positions: dict[int, Position] = {}
        self._ends: list[int] | None = None
        self._held: frozenset[int] = frozenset()

    def open(self, start: Start) -> list[int]:
        """Places every partition."""
        if start.default not in ("earliest", "latest"):
            raise ConfigError(f'start = "{start.default}": the in-process log starts at "earliest" or "latest"')
        lanes = list(range(self._log.partitions(self._topic)))
        ends = self._log.ends(self._topic)
        defaults = ends if start.default == "latest" else [0] * len(lanes)
        self._positions = {lane: start.positions.get(lane, defaults[lane]) for lane in lanes}
        self._ends = ends if self.bounded else None
        return lanes

    def poll(self, timeout_s: float) -> Polled:
        """The next records of every partition that is not held back."""
        ends = self._ends or self._log.ends(self._topic)
        if not self._readable(ends) and self._ends is None:
            self._log.wait(self._topic, ends, timeout_s)
            ends = self._log.ends(self._topic)
        raw: _core.Raw | None = None
        for lane in self._readable(ends):
            position = self._positions[lane]
            entries = _first(self._log.read(self._topic, lane, position, min(POLL_RECORDS_MAX, ends[lane] - position)))
            part = _core.Raw.from_records(lane, self._topic, entries, self._record_bytes_max)
            self._positions[lane] = position + len(entries)
            if raw is None:
                raw = part
            else:
                raw.add(part)
        caught_up = tuple(lane for lane, position in self._positions.items() if position >= ends[lane])
        return Polled(raw, caught_up, ended=self.bounded and len(caught_up) == len(self._positions))

    def positions(self) -> dict[int, Position]:
        """The next offset of each partition."""
        return dict(self._positions)

    def ends(self) -> dict[int, End]:
        """The ends of the partitions."""
        return {lane: End(end, 0.0) for lane, end in enumerate(self._log.ends(self._topic))}

    def seek(self, positions: Mapping[int, Position]) -> None:
        """Goes back to these offsets."""
        self._positions.update(positions)

    def pause(self, lanes: list[int]) -> None:
        """Holds these lanes back until the next call."""
        self._held = frozenset(lanes)

    def committed(self, positions: Mapping[int, Position]) -> None:
        """The log keeps no offsets for its readers."""

    def describe(self) -> dict[str, object]:
        """The topic."""
        return {"type": "memory", "topic": self._topic}

    def close(self) -> None:
        """Nothing to let go of."""

    def _readable(self, ends: list[int]) -> list[int]:
        return [lane for lane, at in self._positions.items() if at < ends[lane] and lane not in self._held]


def _first(entries: list[Entry]) -> list[Entry]:
    """Those of one poll: the first, and more until their values have `POLL_BYTES_MAX` bytes."""
    return entries[: bisect_left(list(accumulate(len(entry.value or b"") for entry in entries)), POLL_BYTES_MAX) + 1]
