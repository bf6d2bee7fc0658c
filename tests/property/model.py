"""A naive model of a windowed job: every event kept, every rule written out, nothing incremental.

`run` reads records one by one in arrival order and recomputes from whole lists; it shares no code with the
engine. Invariant: it follows docs/semantics.md, so a difference is a bug here, there, or in that page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any, Literal, Protocol

from tests.property.aggregates import Aggregate, Columns, Condition
from tests.property.calendars import Calendar

Row = dict[str, Any]
NEVER = -(10**18)
"""A clock that has not seen an event."""
WHOLE = (0, 10**18)
"""The whole window, which ends after every event."""


@dataclass(frozen=True)
class Event:
    """A record that decodes; times in ms."""

    time: int
    key: str | None
    ident: str
    value: int | None
    weight: float | None
    team: int | None = None
    flag: bool | None = None
    price: Decimal | None = None


@dataclass(frozen=True)
class Garbage:
    """A value that is no JSON object."""


@dataclass(frozen=True)
class Tombstone:
    """A null value."""


@dataclass(frozen=True)
class Delete:
    """A null value in a table: the row of `key` is gone, from the record's own time on, ms."""

    key: str | None
    time: int | None


@dataclass(frozen=True)
class Message:
    """A record as it lies in a topic, whatever is in it."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None


@dataclass(frozen=True)
class Record:
    lane: int
    content: Event | Garbage | Tombstone | Delete | Message
    side: int = 0
    """Of which input: 0, or 1 for the right one of a join."""


@dataclass(frozen=True)
class Window:
    kind: Literal["tumbling", "hopping", "sliding", "cumulate", "session", "whole", "calendar"]
    size: int
    """Length, or the gap of a session, ms; of a calendar, how many of its units."""
    slide: int = 0
    """Distance between starts; of cumulating windows, between ends."""
    offset: int = 0
    inclusive: bool = True
    longest: int | None = None
    """Where longer sessions are cut: at its multiples."""
    min_start: int | None = None
    """No window starts earlier; of sessions and the whole window, no event is."""
    calendar: Calendar | None = None

    def spans(self, time: int) -> list[tuple[int, int]]:
        """The windows that hold `time`: all but sessions."""
        if self.kind == "whole":
            return [WHOLE] if self.allows(time) else []
        return [span for span in self._unbounded_spans(time) if self.allows(span[0])]

    def allows(self, start: int) -> bool:
        return self.min_start is None or start >= self.min_start

    def _unbounded_spans(self, time: int) -> list[tuple[int, int]]:
        if self.calendar is not None:
            return [self.calendar.span(time)]
        if self.kind == "cumulate":
            start = (time - self.offset) // self.size * self.size + self.offset
            ends = range(start + self.slide, start + self.size + 1, self.slide)
            return [(start, end) for end in ends if time < end]
        step = self.size if self.kind == "tumbling" else self.slide
        start = (time - self.offset) // step * step + self.offset
        starts = range(start, time - self.size, -step)
        return [(begin, begin + self.size) for begin in starts]

    def pieces(self, start: int, last: int) -> list[tuple[int, int]]:
        """The windows of the session `[start, last]`: one, or those it is cut into."""
        end = last + self.size
        if self.longest is None or end - start <= self.longest:
            return [(start, end)]
        cuts = range((start // self.longest + 1) * self.longest, last + 1, self.longest)
        until = min(end, (last // self.longest + 1) * self.longest)
        return list(zip([start, *cuts], [*cuts, until], strict=True))


STANDARD = (
    Aggregate("events", "count"),
    Aggregate("values", "count", "value"),
    Aggregate("total", "sum", "value"),
    Aggregate("least", "min", "value"),
    Aggregate("most", "max", "value"),
    Aggregate("idents", "count_distinct", "ident"),
    Aggregate("weight", "sum", "weight"),
)


class Steps(Protocol):
    """What a record meets before the window or the join."""

    @property
    def where(self) -> Condition | None: ...
    @property
    def before(self) -> Condition | None: ...
    @property
    def within(self) -> int | None: ...
    @property
    def doubles(self) -> bool: ...
    @property
    def after(self) -> Condition | None: ...


@dataclass(frozen=True)
class Job:
    window: Window
    out_of_orderness: int | None
    """None: the clock never moves."""
    lateness: int = 0
    within: int | None = None
    """How long ids are remembered, ms; None: no dedupe step."""
    by: tuple[str, ...] = ("key",)
    null_keys: Literal["group", "drop", "reject"] = "group"
    aggregates: tuple[Aggregate, ...] = STANDARD
    where: Condition | None = None
    """What a record must meet to be seen by the clock."""
    before: Condition | None = None
    """A filter before `dedupe`."""
    doubles: bool = False
    """Whether a `select` behind it makes `value` twice as large."""
    after: Condition | None = None
    """A filter behind that."""
    keyed: bool = False
    """Whether `key` is the record key: each lane's windows are final by themselves."""


@dataclass(frozen=True)
class Seen:
    """An event as it reaches the window step, and where it came from."""

    columns: Columns
    time: int
    lane: int
    offset: int

    @property
    def place(self) -> tuple[int, int, int]:
        return (self.time, self.lane, self.offset)


Key = tuple[Any, ...]
Order = tuple[Any, ...]


@dataclass
class Session:
    start: int
    last: int
    events: list[Seen]


@dataclass
class Lane:
    """One partition: its clock, its ids, its windows."""

    clock: int = NEVER
    idents: dict[str, int] = field(default_factory=dict)
    """Each id with the clock reading that forgets it."""
    windows: dict[tuple[Key, int, int], list[Seen]] = field(default_factory=dict)
    sessions: dict[Key, list[Session]] = field(default_factory=dict)
    trailing: dict[Key, list[Seen]] = field(default_factory=dict)
    """The events of each group that sliding windows count."""
    ledger: Counter[str] = field(default_factory=Counter)


@dataclass
class Answer:
    rows: list[Row]
    ledgers: dict[int, dict[str, int]]
    late: list[tuple[int, str]]
    """Lane and id of each late event."""


def run(job: Job, records: list[Record]) -> Answer:
    """The rows in the order in which they leave, those of several lanes sorted, and what became of each record."""
    lanes: dict[int, Lane] = {}
    late = []
    for offset, record in enumerate(records):
        lane = lanes.setdefault(record.lane, Lane())
        lane.ledger["read"] += 1
        outcome = _judge(job, lane, record, offset)
        lane.ledger[outcome] += 1
        if isinstance(record.content, Event):
            if outcome == "late":
                late.append((record.lane, record.content.ident))
            if job.out_of_orderness is not None and (job.where is None or job.where.holds(columns_of(record.content))):
                lane.clock = max(lane.clock, record.content.time - job.out_of_orderness - 1)
    ledgers = {number: dict(lane.ledger) for number, lane in lanes.items()}
    groups = [list(lanes.values())] if not job.keyed else [[lane] for lane in lanes.values()]
    rows = sorted((row for group in groups for row in _rows(job, group)), key=lambda row: row[0])
    return Answer([row for _, row in rows], ledgers, late)


def columns_of(event: Event) -> Columns:
    return asdict(event)


def _judge(job: Job, lane: Lane, record: Record, offset: int) -> str:
    """What becomes of a record, judged with the clock as it stood before it."""
    if isinstance(record.content, Garbage):
        return "rejected"
    if not isinstance(record.content, Event):
        return "tombstone"
    columns = columns_of(record.content)
    gone = steps(job, lane, record.content, columns)
    if gone is not None:
        return gone
    key = tuple(columns[name] for name in job.by)
    if job.null_keys != "group" and None in key:
        return "filtered" if job.null_keys == "drop" else "rejected"
    seen = Seen(columns, record.content.time, record.lane, offset)
    count = {"session": _session, "sliding": _sliding}.get(job.window.kind, _windows)
    return count(job, lane, key, seen)


def steps(job: Steps, lane: Lane, event: Event, columns: Columns) -> str | None:
    """What becomes of a record that a step before the window or the join takes out; `select` changes its columns."""
    if not all(condition is None or condition.holds(columns) for condition in (job.where, job.before)):
        return "filtered"
    if job.within is not None and (outcome := _copy(job.within, lane, event)) is not None:
        return outcome
    if job.doubles and columns["value"] is not None:
        columns["value"] *= 2
    return "filtered" if job.after is not None and not job.after.holds(columns) else None


def _copy(within: int, lane: Lane, event: Event) -> str | None:
    """What becomes of a record that `dedupe` takes out."""
    generation = within // 8
    forgotten = (event.time // generation + 1) * generation + within
    if lane.clock >= forgotten:
        return "late"
    if lane.clock < lane.idents.get(event.ident, NEVER):
        return "duplicate"
    lane.idents[event.ident] = forgotten
    return None


def _windows(job: Job, lane: Lane, key: Key, event: Seen) -> str:
    spans = job.window.spans(event.time)
    if not spans:
        lane.ledger["no_window"] += 1
        return "filtered"
    open_spans = [(start, end) for start, end in spans if not _is_closed(job, lane, end)]
    if not open_spans:
        return "late"
    lane.ledger["late_windows"] += len(spans) - len(open_spans)
    for start, end in open_spans:
        lane.windows.setdefault((key, start, end), []).append(event)
    return "applied"


def _session(job: Job, lane: Lane, key: Key, event: Seen) -> str:
    if not job.window.allows(event.time):
        lane.ledger["no_window"] += 1
        return "filtered"
    gap = job.window.size
    sessions = lane.sessions.setdefault(key, [])
    touching = [
        session
        for session in sessions
        if not _is_closed(job, lane, session.last + gap) and _touches(job.window, session, event.time)
    ]
    start = min([event.time, *(session.start for session in touching)])
    last = max([event.time, *(session.last for session in touching)])
    pieces = job.window.pieces(start, last)
    piece = next(end for begin, end in pieces if event.time < end)
    if _is_closed(job, lane, last + gap if piece == pieces[-1][1] else piece):
        return "late"
    events = [event, *(other for session in touching for other in session.events)]
    lane.sessions[key] = [session for session in sessions if session not in touching]
    lane.sessions[key].append(Session(start, last, events))
    return "applied"


def _sliding(job: Job, lane: Lane, key: Key, event: Seen) -> str:
    """The trailing window is closed at both ends: it is over when the clock has reached the event's time."""
    if _is_closed(job, lane, event.time + 1):
        return "late"
    lane.trailing.setdefault(key, []).append(event)
    return "applied"


def _touches(window: Window, session: Session, time: int) -> bool:
    before, after = session.start - window.size, session.last + window.size
    return before <= time <= after if window.inclusive else before < time < after


def _is_closed(job: Job, lane: Lane, end: int) -> bool:
    return end - 1 + job.lateness <= lane.clock


def _rows(job: Job, lanes: list[Lane]) -> Iterable[tuple[Order, Row]]:
    """Each row with its place in the order in which rows leave: by end, keys, start.

    The parts of a cut session leave at their own ends, the last at that of the session; in the combine stage, all do.
    """
    groups: dict[tuple[Key, int, int], list[Seen]] = {}
    leaves: dict[tuple[Key, int, int], int] = {}
    for lane in lanes:
        for place, events in lane.windows.items():
            groups.setdefault(place, []).extend(events)
        for key, trail in lane.trailing.items():
            for end in {event.time for event in trail}:
                start = end - job.window.size
                groups[key, start, end] = [event for event in trail if start <= event.time <= end]
    for key, session in _sessions(job.window, lanes):
        for start, end in job.window.pieces(session.start, session.last):
            events = [event for event in session.events if start <= event.time < end]
            groups.setdefault((key, start, end), []).extend(events)
            leaves[key, start, end] = end if job.keyed and end <= session.last else session.last + job.window.size
    for (key, start, end), events in groups.items():
        row = _row(job, key, start, end, events)
        yield (leaves.get((key, start, end), row["window_end"] or 0), *row_order(row, job.by)[1:]), row


def _sessions(window: Window, lanes: list[Lane]) -> Iterable[tuple[Key, Session]]:
    """The sessions of one lane as they were; of several the ones that all events together make."""
    for key in {key for lane in lanes for key in lane.sessions}:
        parts = [session for lane in lanes for session in lane.sessions.get(key, ())]
        if len(lanes) == 1:
            yield from ((key, part) for part in parts)
            continue
        merged: list[Session] = []
        for event in sorted((event for part in parts for event in part.events), key=lambda event: event.place):
            if merged and _touches(window, merged[-1], event.time):
                merged[-1] = Session(merged[-1].start, event.time, [*merged[-1].events, event])
            else:
                merged.append(Session(event.time, event.time, [event]))
        yield from ((key, session) for session in merged)


def row_order(row: Row, by: tuple[str, ...] = ("key",)) -> tuple[Any, ...]:
    """Window end, then the keys with null first, then start."""
    keys = [(False,) if row[name] is None else (True, row[name]) for name in by]
    return (row["window_end"] or 0, *keys, row["window_start"] or 0)


def _row(job: Job, key: Key, start: int, end: int, events: list[Seen]) -> Row:
    is_whole = (start, end) == WHOLE
    ordered = [event.columns for event in sorted(events, key=lambda event: event.place)]
    return {
        **dict(zip(job.by, key, strict=True)),
        "window_start": None if is_whole else start,
        "window_end": None if is_whole else end,
        **{aggregate.name: aggregate.over(ordered) for aggregate in job.aggregates},
    }
