"""A naive model of early rows: after every record of one lane, what leaves, from whole lists.

`model.py` says what is counted; here is when rows leave. Invariant: it follows docs/semantics.md, and nothing but the
records and their order decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from tests.property import model
from tests.property.model import NEVER, Event, Job, Key, Lane, Record, Row, Seen

Place = tuple[Key, int, int]
"""Group, start and end of a window."""


@dataclass(frozen=True)
class When:
    """A condition, as text and as a function of the row."""

    text: str
    holds: Callable[[Row], bool]


CONDITIONS = [
    When("events >= 3", lambda row: row["events"] >= 3),
    When("total > 2", lambda row: row["total"] is not None and row["total"] > 2),
    When("least < 0 or idents == 2", lambda row: (row["least"] is not None and row["least"] < 0) or row["idents"] == 2),
    When(
        "key == 'a' and events % 2 == 0 or window_end is null",
        lambda row: (row["key"] == "a" and row["events"] % 2 == 0) or row["window_end"] is None,
    ),
]


@dataclass
class Emission:
    """The rows of one lane in the order they leave."""

    job: Job
    every: int | None
    when: When | None
    lane: Lane = field(default_factory=Lane)
    revisions: dict[Place, int] = field(default_factory=dict)
    changed: set[Place] = field(default_factory=set)
    left: set[Place] = field(default_factory=set)

    def run(self, records: list[Record]) -> Iterator[Row]:
        for offset, record in enumerate(records):
            before, clock = self._events(), self.lane.clock
            model._judge(self.job, self.lane, record, offset)
            yield from self._counted(before)
            if isinstance(record.content, Event) and self.job.out_of_orderness is not None:
                self.lane.clock = max(clock, record.content.time - self.job.out_of_orderness - 1)
            yield from self._moved(clock)
        yield from self._finals(self._events())

    def _events(self) -> dict[Place, list[Seen]]:
        return {place: list(events) for place, events in self.lane.windows.items()}

    def _counted(self, before: dict[Place, list[Seen]]) -> Iterator[Row]:
        """After a record was counted, with the clock as it stood."""
        for place, events in sorted(self._events().items(), key=lambda item: item[0][2]):
            if len(events) == len(before.get(place, [])):
                continue
            self.changed.add(place)
            if self.every is None and self.when is not None:
                held = place in before and self.when.holds(self._row(place, before[place]))
                if self.when.holds(self._row(place, events)) and not held:
                    yield self._leave(place, events, final=False)

    def _moved(self, clock: int) -> Iterator[Row]:
        """After the clock moved from `clock`."""
        events = self._events()
        over = {place: events[place] for place in events if model._is_closed(self.job, self.lane, place[2])}
        yield from self._finals(over)
        if self.every is None or clock == NEVER or (clock + 1) // self.every == (self.lane.clock + 1) // self.every:
            return
        for place in self._sorted(self.changed - self.left):
            if self.when is None or self.when.holds(self._row(place, events[place])):
                yield self._leave(place, events[place], final=False)
        self.changed.clear()

    def _finals(self, windows: dict[Place, list[Seen]]) -> Iterator[Row]:
        for place in self._sorted(set(windows) - self.left):
            self.left.add(place)
            yield self._leave(place, windows[place], final=True)

    def _leave(self, place: Place, events: list[Seen], *, final: bool) -> Row:
        revision = self.revisions.get(place, 0)
        self.revisions[place] = revision + 1
        return self._row(place, events) | {"revision": revision, "is_final": final}

    def _row(self, place: Place, events: list[Seen]) -> Row:
        return model._row(self.job, *place, events)

    def _sorted(self, places: set[Place]) -> list[Place]:
        return sorted(places, key=lambda place: model.row_order(self._row(place, [])))


def keyed(records: list[Record]) -> list[Record]:
    """The same records, each with a key: where keys are declared a record must have one."""
    return [
        replace(record, content=replace(record.content, key=record.content.key or "none"))
        if isinstance(record.content, Event)
        else record
        for record in records
    ]
