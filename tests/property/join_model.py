"""A naive model of a join: every row kept, every pair looked at, straight from docs/semantics.md.

`run` judges each record by the clock of its own lane, as `model.py` does for windows, and joins what was taken once all
is there. Only the lookup in a table without versions goes by order of arrival: for it the model is told which records
came together. Invariant: it shares no code with the engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.property.aggregates import TYPES, Columns, Condition
from tests.property.model import NEVER, Delete, Event, Garbage, Lane, Record, Row, columns_of, steps

DELETE_KEPT_MS = 24 * 3_600_000
"""How long the delete of a table's row is remembered against versions that come late, ms of event time."""


@dataclass(frozen=True)
class Input:
    """One side: its clock and the steps before the join, as `model.Job` has them."""

    out_of_orderness: int | None = 0
    where: Condition | None = None
    before: Condition | None = None
    within: int | None = None
    doubles: bool = False
    after: Condition | None = None


@dataclass(frozen=True)
class JoinJob:
    kind: Literal["interval", "window", "as_of", "table", "versions"]
    left: Input
    right: Input
    how: Literal["inner", "left", "outer"] = "inner"
    on: tuple[str, ...] = ("key",)
    low: int = 0
    """Of an interval: how far a right row may lie from its left one, from `low` to `high` ms."""
    high: int = 0
    size: int = 1
    """Of a window, ms."""
    offset: int = 0
    tolerance: int | None = None
    """Of an as-of join, ms."""
    lateness: int = 0
    behind: int | None = None
    """Length of the tumbling windows behind the join in which its rows are counted, ms."""

    @property
    def is_table(self) -> bool:
        return self.kind in {"table", "versions"}

    @property
    def inputs(self) -> tuple[Input, Input]:
        return (self.left, self.right)


Place = tuple[int, int]
"""Lane and offset of a record."""


@dataclass(frozen=True)
class Taken:
    """A row that was not late. `columns` is None for a delete."""

    columns: Columns | None
    key: tuple[Any, ...]
    time: int
    """What it is joined at, ms."""
    event_time: int
    place: Place
    clock: int
    """Of its lane before it."""

    @property
    def order(self) -> tuple[int, Place]:
        return (self.time, self.place)


@dataclass(frozen=True)
class Pair:
    """A row of the join, at the later time of its two."""

    time: int
    left: Taken | None
    right: Taken | None
    clock: int = NEVER
    """What it is judged by in a window behind."""

    @property
    def key(self) -> tuple[Any, ...]:
        side = self.left or self.right
        assert side is not None
        return side.key

    @property
    def order(self) -> tuple[Any, ...]:
        """In which rows leave: by time, key, and the places of left and right."""
        keys = [(cell is not None, cell) if cell is not None else (False,) for cell in self.key]
        return (self.time, keys, *((side is not None, side.place if side else ()) for side in (self.left, self.right)))


@dataclass
class Answer:
    rows: list[Row]
    """In the order in which they leave."""
    ledgers: dict[tuple[int, int], dict[str, int]]
    """By side and lane."""
    late: list[tuple[int, str]]


@dataclass
class State:
    job: JoinJob
    lanes: dict[tuple[int, int], Lane] = field(default_factory=dict)
    taken: tuple[list[Taken], list[Taken]] = field(default_factory=lambda: ([], []))
    late: list[tuple[int, str]] = field(default_factory=list)
    found: list[Pair] = field(default_factory=list)
    """Of a table without versions: in the order of the lookups."""


def run(job: JoinJob, records: Sequence[Record], pushes: Sequence[range]) -> Answer:
    """`pushes`: which records came together. Then rows of a table come first, and each lane's in a row."""
    state = State(job)
    for push in pushes:
        for offset in sorted(push, key=lambda at: (-records[at].side, records[at].lane, at)):
            _take(state, records[offset], offset)
    pairs = state.found if job.kind == "table" else sorted(_pairs(job, *state.taken), key=lambda pair: pair.order)
    ledgers = {place: dict(lane.ledger) for place, lane in state.lanes.items()}
    if job.behind is None:
        return Answer([_row(job, pair) for pair in pairs], ledgers, state.late)
    counted = [pair for pair in pairs if not _is_late_behind(job.behind, pair)]
    late = [
        (-1, pair.left.columns["ident"]) for pair in pairs if pair not in counted and pair.left and pair.left.columns
    ]
    return Answer(_counts(job.behind, counted), ledgers, [*state.late, *late])


def _take(state: State, record: Record, offset: int) -> None:
    job, side, content = state.job, state.job.inputs[record.side], record.content
    lane = state.lanes.setdefault((record.side, record.lane), Lane(ledger=Counter()))
    lane.ledger["read"] += 1
    outcome = _judge(state, lane, record, offset)
    lane.ledger[outcome] += 1
    if not isinstance(content, Event) or (job.kind == "table" and record.side == 1):
        return
    if outcome == "late":
        state.late.append((record.lane, content.ident))
    if side.out_of_orderness is not None and _is_seen(side, content):
        lane.clock = max(lane.clock, content.time - side.out_of_orderness - 1)


def _is_seen(side: Input, event: Event) -> bool:
    return side.where is None or side.where.holds(columns_of(event))


def _judge(state: State, lane: Lane, record: Record, offset: int) -> str:
    """What becomes of a record, judged with the clock of its lane as it stood before it."""
    job, content, place = state.job, record.content, (record.lane, offset)
    if isinstance(content, Garbage):
        return "rejected"
    if not isinstance(content, Event):
        if isinstance(content, Delete) and content.key is not None:
            time = lane.clock if content.time is None else content.time
            _version(state, Taken(None, (content.key,), time, time, place, lane.clock))
        return "tombstone"
    columns = columns_of(content)
    gone = steps(job.inputs[record.side], lane, content, columns)
    if gone == "filtered" and job.is_table and record.side == 1 and _is_seen(job.right, content):
        # of a table it takes the row of its key along
        _version(state, Taken(None, (content.key,), content.time, content.time, place, lane.clock))
    if gone is not None:
        return gone
    key = tuple(columns[name] for name in job.on)
    time = content.time
    if job.kind == "window":
        time += job.size - 1 - (time - job.offset) % job.size
    row = Taken(columns, key, time, content.time, place, lane.clock)
    if job.is_table:
        return _version(state, row) if record.side == 1 else _look_up(state, row)
    return _stream(state, row, record.side)


def _stream(state: State, row: Taken, side: int) -> str:
    job = state.job
    if row.time + job.lateness <= row.clock:
        return "late"
    if None in row.key and job.how != "outer" and (side == 1 or job.how == "inner"):
        return "filtered"
    state.taken[side].append(row)
    return "applied"


def _look_up(state: State, row: Taken) -> str:
    """A row on its way to a table; with versions it waits for the clocks."""
    job = state.job
    if job.kind == "versions":
        return _stream(state, row, 0)
    versions = [version for version in state.taken[1] if None not in row.key and version.key == row.key]
    partner = versions[-1] if versions and versions[-1].columns is not None else None
    if partner is None and job.how == "inner":
        return "filtered"
    state.found.append(Pair(row.time, row, partner, row.clock))
    return "applied"


def _version(state: State, row: Taken) -> str:
    """One that comes late counts from the clock on, unless a newer one is known."""
    job = state.job
    if None in row.key:
        return "filtered"
    if job.kind == "versions" and row.time + job.lateness <= row.clock:
        row = Taken(row.columns, row.key, row.clock - job.lateness + 1, row.event_time, row.place, row.clock)
        known = [other for other in state.taken[1] if other.key == row.key and other.time <= row.time]
        latest = max(known, key=lambda other: other.order, default=None)
        if latest is not None and latest.event_time > row.event_time:
            is_forgotten = latest.columns is None and latest.time + DELETE_KEPT_MS <= row.clock
            if not is_forgotten:
                return "late"
    state.taken[1].append(row)
    return "applied"


def _pairs(job: JoinJob, left: list[Taken], right: list[Taken]) -> Iterator[Pair]:
    partnered: set[Place] = set()
    for one in left:
        partners = [other for other in right if None not in one.key and one.key == other.key]
        partners = [other for other in _partners(job, one, partners) if other.columns is not None]
        partnered |= {other.place for other in partners}
        yield from (Pair(max(one.time, other.time), one, other) for other in partners)
        if not partners and job.how != "inner":
            yield Pair(one.time, one, None)
    if job.how == "outer":
        yield from (Pair(other.time, None, other) for other in right if other.place not in partnered)


def _partners(job: JoinJob, one: Taken, others: list[Taken]) -> list[Taken]:
    """Those of `others`, which have the key of `one`, that it is joined with."""
    if job.kind == "interval":
        return [other for other in others if one.time + job.low <= other.time <= one.time + job.high]
    if job.kind == "window":
        return [other for other in others if other.time == one.time]
    before = [other for other in others if other.time <= one.time]
    latest = max(before, key=lambda other: other.order, default=None)
    if latest is None or (job.kind == "as_of" and job.tolerance is not None and latest.time < one.time - job.tolerance):
        return []
    return [latest]


def _row(job: JoinJob, pair: Pair) -> Row:
    """The columns of both sides; the key is one column, of whichever side there is."""
    left, right = (side.columns if side and side.columns else {} for side in (pair.left, pair.right))
    row = {name: left.get(name) for name in TYPES} | dict(zip(job.on, pair.key, strict=True))
    row |= {f"{name}_right": right.get(name) for name in TYPES if name not in job.on}
    if job.kind == "window":
        row |= {"window_start": pair.time + 1 - job.size, "window_end": pair.time + 1}
    return row


def _is_late_behind(size: int, pair: Pair) -> bool:
    return pair.time // size * size + size - 1 <= pair.clock


def _counts(size: int, pairs: Sequence[Pair]) -> list[Row]:
    """How many rows of the join each window has."""
    windows = Counter(pair.time // size * size for pair in pairs)
    return [{"window_start": start, "window_end": start + size, "rows": windows[start]} for start in sorted(windows)]
