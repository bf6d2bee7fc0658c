"""Stand-ins for the parts around the runner, which note in one list what is done to them, in order.

The real engine is used wherever its answers matter; these are for the order of things and for failures at will.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from streamcore import _core
from streamcore.errors import SinkError, StateFullError
from streamcore.sinks.base import Version
from streamcore.sources.base import Polled, Start

Log = list[str]


@dataclass
class FakeBatch:
    """As much of a batch as routing looks at."""

    output: str = "result"
    rows: list[Any] = field(default_factory=lambda: [1])

    @property
    def num_rows(self) -> int:
        return len(self.rows)

    @property
    def nbytes(self) -> int:
        return 8 * len(self.rows)

    def select(self, columns: Sequence[str]) -> FakeBatch:
        return FakeBatch(self.output, [dict.fromkeys(columns, row) for row in self.rows])

    def slice(self, start: int, length: int) -> FakeBatch:
        return FakeBatch(self.output, self.rows[start : start + length])

    def to_rows(self) -> list[Any]:
        return self.rows


def batch(output: str = "result", rows: Sequence[Any] = (1,)) -> _core.Batch:
    return cast("_core.Batch", FakeBatch(output, list(rows)))


@dataclass
class FakeSealed:
    epoch: int
    outputs: list[_core.Batch]
    digest: int = 7


PUSHES_BEHIND = 2
"""Pushes that the engine keeps under way."""


class FakeEngine:
    """Counts records; every push gives one row with the count so far."""

    fingerprint = "f" * 16
    open_windows = 2
    state_bytes = 100
    join_rows = None
    is_due = False
    changed_bytes = 0
    layouts_forgotten = 0
    batches_not_interned = 0

    def __init__(self, log: Log) -> None:
        self.log = log
        self.epoch = 1
        self.count = 0
        self.count_committed = 0
        self.ahead: list[int] = []
        self.behind: list[int] = []
        self.counts: list[tuple[int, int]] = []
        self.refuses = False
        """Every record is refused."""
        self.pieces_a_push = 0
        """Pieces of rows that every push leaves behind."""
        self.pieces = 0
        """Those still to leave."""
        self.on_piece: Callable[[], None] = lambda: None
        self.full_at: int | None = None
        """More records than this do not fit the state."""
        self.lanes: list[int] = []

    def assign(self, lanes: Sequence[int]) -> None:
        self.lanes += lanes

    def push(self, raw: _core.Raw, now_ms: int, steady_ms: int | None = None) -> list[_core.Batch]:
        return [*self.settle(), self._push(len(raw))]

    def push_behind(self, raw: _core.Raw, now_ms: int, steady_ms: int | None = None) -> tuple[list[_core.Batch], bool]:
        if self.pieces:
            return [self._leave()], False
        self.log.append(f"behind {len(raw)}")
        self.behind.append(len(raw))
        batches = [self._push(self.behind.pop(0))] if len(self.behind) > PUSHES_BEHIND else []
        return batches, True

    def pushed(self) -> list[tuple[int, int]]:
        counts, self.counts = self.counts, []
        return counts

    def settle(self) -> list[_core.Batch]:
        batches: list[_core.Batch] = []
        more = True
        while more:
            given, _, more = self.go_on()
            batches += given
        return batches

    def go_on(self) -> tuple[list[_core.Batch], int, bool]:
        if self.pieces:
            return [self._leave()], len(self.behind), self.pieces + len(self.behind) > 0
        batches = []
        while self.behind and not self.pieces:
            batches.append(self._push(self.behind.pop(0)))
        return batches, len(self.behind), self.pieces + len(self.behind) > 0

    def _leave(self) -> _core.Batch:
        self.pieces -= 1
        self.log.append("piece")
        self.on_piece()
        return batch(rows=["piece"])

    def _push(self, records: int) -> _core.Batch:
        self.count += records
        if self.full_at is not None and self.count > self.full_at:
            raise StateFullError("the state would hold more")
        self.counts.append((records, int(self.refuses)))
        self.log.append(f"push {records}")
        self.pieces = self.pieces_a_push
        return batch("rejected" if self.refuses else "result", [self.count])

    def advance(self, now_ms: int, caught_up: Sequence[int], finished: Sequence[int] = ()) -> list[_core.Batch]:
        self.log.append(f"advance {now_ms} {list(caught_up)}")
        return self.settle()

    def end(self) -> list[_core.Batch]:
        batches = self.settle()
        self.log.append("end")
        return [*batches, batch(rows=["closed"])]

    def seal(self) -> FakeSealed:
        self.log.append("seal")
        return FakeSealed(self.epoch, [batch(rows=["sealed"])])

    def committed(self) -> None:
        self.log.append("engine committed")
        self.count_committed = self.count
        self.epoch += 1

    def rollback(self) -> None:
        self.log.append("engine rollback")
        self.behind = []
        self.pieces = 0
        self.counts = []
        self.count = self.count_committed

    def save(self) -> list[tuple[int, bytes]]:
        self.log.append("save")
        return [(0, b"state")]

    def paused(self) -> list[int]:
        return self.ahead

    def ledger(self) -> dict[int, dict[str, int]]:
        return {0: {"read": self.count, "applied": self.count}}

    def stages(self) -> dict[str, dict[str, int]]:
        return {}

    def lost_values(self) -> dict[str, tuple[int, str]]:
        return {}

    def dedupes(self) -> dict[str, dict[str, float]]:
        return {}

    def state(self) -> dict[str, dict[str, int]]:
        return {"steps[0] (window)": {"keys": self.count, "bytes": 100}}

    def open_at(self, end_ms: int) -> list[dict[str, Any]]:
        return [{"step": "steps[0] (window)", "lane": 0, "start_ms": end_ms - 1, "over_at_ms": end_ms, "keys": 1}]

    def inputs(self) -> dict[int, dict[str, Any]]:
        return {}

    def clocks(self) -> dict[int, dict[str, int | bool | None]]:
        return {0: {"watermark_ms": 5, "idle": False}}


def engine(fake: FakeEngine) -> _core.Pipeline:
    return cast("_core.Pipeline", fake)


class FakeSource:
    """Hands out one record a poll, `total` of them (None: for ever)."""

    def __init__(self, log: Log, *, total: int | None = None, bounded: bool = True) -> None:
        self.bounded = bounded
        self.log = log
        self.total = total
        self.position = 0
        self.lanes_added: dict[int, tuple[int, ...]] = {}
        """By position: lanes that join there."""

    def open(self, start: Start) -> list[int]:
        self.position = start.positions.get(0, 0)
        return [0]

    def poll(self, timeout_s: float) -> Polled:
        if self.total is not None and self.position >= self.total:
            return Polled(caught_up=(0,), ended=True)
        added = self.lanes_added.get(self.position, ())
        raw = _core.Raw.from_records(0, "topic", [(b"{}", None, None, 0, self.position)])
        self.position += 1
        return Polled(raw, lanes_added=added)

    def positions(self) -> dict[int, int]:
        return {0: self.position}

    def seek(self, positions: Mapping[int, int]) -> None:
        self.log.append(f"seek {dict(positions)}")
        self.position = positions[0]

    def pause(self, lanes: list[int]) -> None:
        self.log.append(f"pause {lanes}")

    def committed(self, positions: Mapping[int, int]) -> None:
        self.log.append(f"source committed {dict(positions)}")

    def describe(self) -> dict[str, object]:
        return {"type": "fake"}

    def close(self) -> None:
        self.log.append("source close")


class FakeSink:
    """Takes rows; `failures` are raised by the next flushes, one each."""

    def __init__(self, log: Log, *, output: str = "result", failures: Sequence[SinkError] = ()) -> None:
        self.output = output
        self.log = log
        self.failures = list(failures)
        self.versions: list[Version] = []
        self.buffered: list[Any] = []
        self.rows: list[Any] = []

    def open(self) -> None:
        self.log.append("sink open")

    def write(self, batch: _core.Batch, version: Version) -> None:
        self.log.append(f"write {batch.to_rows()}")
        self.versions.append(version)
        self.buffered += batch.to_rows()

    def flush(self) -> None:
        self.log.append("flush")
        if self.failures:
            raise self.failures.pop(0)

    def committed(self, epoch: int) -> None:
        self.log.append(f"sink committed {epoch}")
        self.rows += self.buffered
        self.buffered = []

    def discard(self) -> None:
        self.log.append("discard")
        self.buffered = []

    def close(self) -> None:
        self.log.append("sink close")


class FakeDeadLetters:
    """Notes what is done to it."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.place = "letters.jsonl"

    def open(self) -> None:
        self.log.append("letters open")

    def write(self, batch: _core.Batch) -> None:
        self.log.append(f"letters {batch.num_rows}")

    def flush(self) -> None:
        self.log.append("letters flush")

    def keep_some(self) -> None:
        self.log.append("letters kept")

    def discard(self) -> None:
        self.log.append("letters discard")

    def close(self) -> None:
        self.log.append("letters close")
