"""What every source gives the runner: raw batches and positions.

The runner calls, in this order: `open`, then `poll` and `position` in turns, `seek` after a rollback,
`committed` after each commit, `close` at the end. A source never decodes and never touches the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from streamcore import _core

POLL_BYTES_MAX = 64 << 20
"""A poll of records that are in memory already takes no more once their values have this many bytes."""

Position = int
"""The next offset to read (Kafka), byte (files) or record number (others)."""


@dataclass(slots=True)
class Polled:
    """What one `poll` brought."""

    raw: _core.Raw | None = None
    """Records, or None when there were none."""
    caught_up: tuple[int, ...] = ()
    """Lanes that have read everything readable at this moment."""
    lanes_added: tuple[int, ...] = ()
    """Lanes that were not there at `open`; `raw` may hold their first records."""
    finished: tuple[int, ...] = ()
    """Lanes of an input that ended while another goes on."""
    ended: bool = False
    """True once every lane has reached the end of a bounded read; nothing will follow."""
    refetched: int = 0
    """Messages fetched again after a seek and left out."""
    source_is_full: bool = False
    """Whether the source itself keeps so much since the last commit, to hand it out again, that the next one is due."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where to begin each lane."""

    positions: Mapping[int, Position] = field(default_factory=dict)
    """From a checkpoint: wins over everything else."""
    default: str = "earliest"
    """For lanes without one: `earliest`, `latest`, or an ISO time or `-2h` (Kafka only)."""
    stop: str | None = None
    """None (unbounded), `end` (the end offsets at open), or a time."""
    previous: Mapping[str, object] = field(default_factory=dict)
    """What `describe` said when the checkpoint was written; empty without one."""


@dataclass(frozen=True, slots=True)
class End:
    """Where a lane ends."""

    position: Position
    age_s: float
    """How long ago that was found out."""
    high_watermark: Position | None = None
    """Where records end that cannot be read yet, as their transactions are open; None where that is not known."""


def lags(positions: Mapping[int, Position], ends: Mapping[int, End]) -> dict[int, dict[str, Any]]:
    """How far each lane is from its end, where that is known; see `Report.lags`."""
    return {
        lane: {
            "lag": max(0, end.position - positions[lane]),
            "end": end.position,
            "high_watermark": end.high_watermark,
            "age_s": round(end.age_s, 3),
        }
        for lane, end in sorted(ends.items())
        if lane in positions
    }


@runtime_checkable
class Measured(Protocol):
    """A source that knows where its lanes end."""

    def ends(self) -> dict[int, End]:
        """Where each lane ends, as last heard; lanes not heard of are left out. Waits for nothing."""


@runtime_checkable
class Gapped(Protocol):
    """A source of which records may be gone before they are read."""

    def gaps(self) -> dict[int, tuple[int, int]]:
        """Of lanes that went on behind such a gap, as it was accepted: its first position, and the one behind it."""


class Source(Protocol):
    """A replayable sequence of records, in lanes."""

    bounded: bool
    """True when the input ends by itself (files, iterables, generated counts, `stop = "end"`)."""

    def open(self, start: Start) -> list[int]:
        """Connects, places every lane, and returns the lanes. Raises `SourceError` or `FencedError`."""

    def poll(self, timeout_s: float) -> Polled:
        """The next records, waiting at most `timeout_s`. Raises `SourceError`."""

    def positions(self) -> dict[int, Position]:
        """The next position of each lane: everything before was handed out by `poll`."""

    def seek(self, positions: Mapping[int, Position]) -> None:
        """Goes back to these positions after a rollback."""

    def pause(self, lanes: list[int]) -> None:
        """Hands out records of all lanes but these until the next call (max_lead)."""

    def committed(self, positions: Mapping[int, Position]) -> None:
        """The epoch that ends at these positions is durable (Kafka: commit the group's offsets)."""

    def describe(self) -> dict[str, object]:
        """Facts that identify the input, kept in the checkpoint and compared on restart (topic, lanes, files)."""

    def close(self) -> None:
        """Leaves. Safe to call twice, and after a failed `open`."""
