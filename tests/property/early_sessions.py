"""A naive model of the early rows of sessions, and of those taken back: after every record of one lane, what leaves.

`early.py` does the same for windows whose bounds do not change. Invariant: it keeps whole sessions with all their
events, also those of parts that have left, and compares what readers hold with what should be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.property import model
from tests.property.early import When
from tests.property.model import NEVER, Event, Job, Lane, Record, Row, Session

Bounds = tuple[int, int]


@dataclass
class Held:
    """What readers hold of a session."""

    rows: dict[Bounds, int] = field(default_factory=dict)
    """Events counted in each row."""
    revision: int = 0
    changed: bool = True
    left: set[Bounds] = field(default_factory=set)
    """Parts that have left for good."""


@dataclass
class SessionEmission:
    """The rows of one lane in the order they leave."""

    job: Job
    every: int
    when: When | None
    lane: Lane = field(default_factory=Lane)
    held: list[tuple[Session, Held]] = field(default_factory=list)

    def run(self, records: list[Record]) -> Iterator[Row]:
        for offset, record in enumerate(records):
            clock = self.lane.clock
            model._judge(self.job, self.lane, record, offset)
            self._follow()
            if isinstance(record.content, Event) and self.job.out_of_orderness is not None:
                self.lane.clock = max(clock, record.content.time - self.job.out_of_orderness - 1)
            yield from self._closed()
            if clock != NEVER and (clock + 1) // self.every != (self.lane.clock + 1) // self.every:
                yield from self._early()
        rows = self._last({id(session): self._open_parts(session, held) for session, held in self.held})
        yield from sorted(rows, key=_order)

    def _follow(self) -> None:
        """Hands on what is held of sessions that became another."""
        now = [session for sessions in self.lane.sessions.values() for session in sessions]
        known = {id(session) for session, _ in self.held}
        gone = [held for session, held in self.held if all(session is not other for other in now)]
        self.held = [(session, held) for session, held in self.held if any(session is other for other in now)]
        for session in now:
            if id(session) not in known:
                merged = Held()
                for held in gone:
                    merged.rows |= held.rows
                    merged.left |= held.left
                    merged.revision = max(merged.revision, held.revision)
                self.held.append((session, merged))

    def _open_parts(self, session: Session, held: Held) -> list[Bounds]:
        return [bounds for bounds in self.job.window.pieces(session.start, session.last) if bounds not in held.left]

    def _closed(self) -> Iterator[Row]:
        """Rows of what is over, in the order in which the clock passes."""
        leaving: list[tuple[int, Bounds, str, Session]] = []
        for session, held in self.held:
            parts = self.job.window.pieces(session.start, session.last)
            ends = [*(end for _, end in parts[:-1]), session.last + self.job.window.size]
            for bounds, end in zip(parts, ends, strict=True):
                if bounds not in held.left and model._is_closed(self.job, self.lane, end):
                    leaving.append((end, bounds, _key(session), session))
        for _, bounds, _, session in sorted(leaving, key=lambda it: (it[0], it[2], it[1][0])):
            yield from self._last({id(session): [bounds]})

    def _last(self, over: dict[int, list[Bounds]]) -> list[Row]:
        rows: list[Row] = []
        for session, held in self.held:
            parts = over.get(id(session), [])
            whole = parts == self._open_parts(session, held)
            for number, bounds in enumerate(parts):
                is_last = whole and number == len(parts) - 1
                gone = sorted((row for row in held.rows if is_last or row[0] < bounds[1]), key=lambda row: row[::-1])
                rows += [self._retracted(session, row, held) for row in gone if row not in parts]
                last = {"revision": held.revision, "is_final": True, "retracted": False}
                rows.append(self._row(session, bounds) | last)
                held.rows = {row: count for row, count in held.rows.items() if row not in gone}
                held.left.add(bounds)
        return rows

    def _early(self) -> Iterator[Row]:
        rows: list[Row] = []
        for session, held in self.held:
            parts = self._open_parts(session, held)
            if not parts or not held.changed:
                continue
            held.changed = False
            before = len(rows)
            rows += [self._retracted(session, row, held) for row in held.rows if row not in parts]
            held.rows = {row: count for row, count in held.rows.items() if row in parts}
            for bounds in parts:
                row = self._row(session, bounds)
                if held.rows.get(bounds) == row["events"] or (self.when is not None and not self.when.holds(row)):
                    continue
                held.rows[bounds] = row["events"]
                rows.append(row | {"revision": held.revision, "is_final": False, "retracted": False})
            held.revision += len(rows) > before
        yield from sorted(rows, key=_order)

    def _row(self, session: Session, bounds: Bounds) -> Row:
        events = [event for event in session.events if bounds[0] <= event.time < bounds[1]]
        return model._row(self.job, (_key(session),), *bounds, events)

    def _retracted(self, session: Session, bounds: Bounds, held: Held) -> Row:
        empty = dict.fromkeys(self._row(session, bounds))
        kept = {"key": _key(session), "window_start": bounds[0], "window_end": bounds[1]}
        return {**empty, **kept, "revision": held.revision, "is_final": False, "retracted": True}


def _key(session: Session) -> str:
    key: str = session.events[0].columns["key"]
    return key


def _order(row: Row) -> tuple[object, ...]:
    """All at once: those taken back before the others."""
    return (not row["retracted"], row["window_end"], row["key"], row["window_start"])
