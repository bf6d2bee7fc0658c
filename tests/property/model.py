"""A naive model of a windowed job: every event kept, every rule written out, nothing incremental.

`run` reads records one by one in arrival order and recomputes from whole lists; it shares no code with the
engine. Invariant: it follows docs/semantics.md, so a difference is a bug here, there, or in that page.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

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
    weight: float


@dataclass(frozen=True)
class Garbage:
    """A value that is no JSON object."""


@dataclass(frozen=True)
class Tombstone:
    """A null value."""


@dataclass(frozen=True)
class Record:
    lane: int
    content: Event | Garbage | Tombstone


@dataclass(frozen=True)
class Window:
    kind: Literal["tumbling", "hopping", "cumulate", "session", "whole"]
    size: int
    """Length, or the gap of a session, ms."""
    slide: int = 0
    """Distance between starts; of cumulating windows, between ends."""
    offset: int = 0
    inclusive: bool = True
    longest: int | None = None
    """Where longer sessions are cut: at its multiples."""

    def spans(self, time: int) -> list[tuple[int, int]]:
        """The windows that hold `time`: all but sessions."""
        if self.kind == "whole":
            return [WHOLE]
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


@dataclass(frozen=True)
class Job:
    window: Window
    out_of_orderness: int
    lateness: int = 0
    within: int | None = None
    """How long ids are remembered, ms; None: no dedupe step."""


@dataclass
class Session:
    start: int
    last: int
    events: list[Event]


@dataclass
class Lane:
    """One partition: its clock, its ids, its windows."""

    clock: int = NEVER
    idents: dict[str, int] = field(default_factory=dict)
    """Each id with the clock reading that forgets it."""
    windows: dict[tuple[str | None, int, int], list[Event]] = field(default_factory=dict)
    sessions: dict[str | None, list[Session]] = field(default_factory=dict)
    ledger: Counter[str] = field(default_factory=Counter)


@dataclass
class Answer:
    rows: list[Row]
    ledgers: dict[int, dict[str, int]]
    late: list[tuple[int, str]]
    """Lane and id of each late event."""


def run(job: Job, records: list[Record]) -> Answer:
    """The rows after the end of the input, sorted, and what became of each record."""
    lanes: dict[int, Lane] = {}
    late = []
    for record in records:
        lane = lanes.setdefault(record.lane, Lane())
        lane.ledger["read"] += 1
        outcome = _judge(job, lane, record.content)
        lane.ledger[outcome] += 1
        if isinstance(record.content, Event):
            lane.clock = max(lane.clock, record.content.time - job.out_of_orderness - 1)
            if outcome == "late":
                late.append((record.lane, record.content.ident))
    ledgers = {number: dict(lane.ledger) for number, lane in lanes.items()}
    return Answer(_rows(job, list(lanes.values())), ledgers, late)


def _judge(job: Job, lane: Lane, content: Event | Garbage | Tombstone) -> str:
    """What becomes of a record, judged with the clock as it stood before it."""
    if isinstance(content, Garbage):
        return "rejected"
    if isinstance(content, Tombstone):
        return "tombstone"
    if job.within is not None:
        generation = job.within // 8
        forgotten = (content.time // generation + 1) * generation + job.within
        if lane.clock >= forgotten:
            return "late"
        if lane.clock < lane.idents.get(content.ident, NEVER):
            return "duplicate"
        lane.idents[content.ident] = forgotten
    return _session(job, lane, content) if job.window.kind == "session" else _windows(job, lane, content)


def _windows(job: Job, lane: Lane, event: Event) -> str:
    spans = job.window.spans(event.time)
    if not spans:
        lane.ledger["no_window"] += 1
        return "filtered"
    open_spans = [(start, end) for start, end in spans if not _is_closed(job, lane, end)]
    if not open_spans:
        return "late"
    lane.ledger["late_windows"] += len(spans) - len(open_spans)
    for start, end in open_spans:
        lane.windows.setdefault((event.key, start, end), []).append(event)
    return "applied"


def _session(job: Job, lane: Lane, event: Event) -> str:
    gap = job.window.size
    sessions = lane.sessions.setdefault(event.key, [])
    alive = [session for session in sessions if not _is_closed(job, lane, session.last + gap)]
    touching = [session for session in alive if _touches(job.window, session, event.time)]
    start = min([event.time, *(session.start for session in touching)])
    last = max([event.time, *(session.last for session in touching)])
    pieces = job.window.pieces(start, last)
    piece = next(end for begin, end in pieces if event.time < end)
    if _is_closed(job, lane, last + gap if piece == pieces[-1][1] else piece):
        return "late"
    events = [event, *(other for session in touching for other in session.events)]
    lane.sessions[event.key] = [session for session in sessions if session not in touching]
    lane.sessions[event.key].append(Session(start, last, events))
    return "applied"


def _touches(window: Window, session: Session, time: int) -> bool:
    before, after = session.start - window.size, session.last + window.size
    return before <= time <= after if window.inclusive else before < time < after


def _is_closed(job: Job, lane: Lane, end: int) -> bool:
    return end - 1 + job.lateness <= lane.clock


def _rows(job: Job, lanes: list[Lane]) -> list[Row]:
    groups: dict[tuple[str | None, int, int], list[Event]] = {}
    for lane in lanes:
        for place, events in lane.windows.items():
            groups.setdefault(place, []).extend(events)
        for key, sessions in lane.sessions.items():
            for session in sessions:
                for start, end in job.window.pieces(session.start, session.last):
                    events = [event for event in session.events if start <= event.time < end]
                    groups.setdefault((key, start, end), []).extend(events)
    rows = [_row(key, start, end, events) for (key, start, end), events in groups.items()]
    return sorted(rows, key=row_order)


def row_order(row: Row) -> tuple[Any, ...]:
    """Window end, then key with null first, then start."""
    return (row["window_end"] or 0, row["key"] is not None, row["key"] or "", row["window_start"] or 0)


def _row(key: str | None, start: int, end: int, events: list[Event]) -> Row:
    values = [event.value for event in events if event.value is not None]
    return {
        "key": key,
        "window_start": None if (start, end) == WHOLE else start,
        "window_end": None if (start, end) == WHOLE else end,
        "events": len(events),
        "values": len(values),
        "total": sum(values) if values else None,
        "least": min(values, default=None),
        "most": max(values, default=None),
        "idents": len({event.ident for event in events}),
        "weight": math.fsum(event.weight for event in events),
    }
