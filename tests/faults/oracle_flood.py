"""What becomes of each record of a flood, by the pages on the clock and on what is late, in plain Python, and what became of it.

Shares no code with the engine, and none with what made the records. Hopping windows by `k`; ids count once while they are
remembered. Each partition is judged by itself, record by record in the order of offsets.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.faults import oracle

YEAR_1_MS = -62_135_596_800_000
"""No window begins before it."""

Place = tuple[int, int]
"""Partition and offset."""

Row = tuple[str, int, int, int]
"""Key, beginning of the window, count and sum."""


class Rules(Protocol):
    """What the pipeline was told, ms."""

    @property
    def bound(self) -> int: ...
    @property
    def allowed(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def slide(self) -> int: ...
    @property
    def within(self) -> int: ...
    @property
    def skew(self) -> int: ...


@dataclass(frozen=True)
class Arrived:
    """A record as it lies in the topic."""

    partition: int
    offset: int
    value: bytes
    timestamp_ms: int


@dataclass
class Lane:
    """A partition's clock, and when it forgets an id."""

    clock: int | None = None
    forgotten: dict[str, int] = field(default_factory=dict)

    def has_reached(self, time_ms: int) -> bool:
        """Whether the clock is at it or behind it."""
        return self.clock is not None and self.clock >= time_ms


@dataclass
class Expected:
    """Of everything in the input."""

    sums: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    """By key and beginning of the window: count and sum."""
    late: dict[Place, tuple[str, int, int]] = field(default_factory=dict)
    """Why, by how much, and the event's time."""
    future: dict[Place, tuple[int, int]] = field(default_factory=dict)
    """How far ahead, and the event's time."""
    ledgers: dict[int, Counter[str]] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)

    def rows(self) -> Counter[Row]:
        """Each once."""
        return Counter({(key, start, *sums): 1 for (key, start), sums in self.sums.items()})


def judge(rules: Rules, arrived: Iterable[Arrived]) -> Expected:
    """Goes through records, those of a partition in the order of their offsets."""
    answer = Expected()
    lanes: dict[int, Lane] = {}
    for record in arrived:
        answer.ends[record.partition] = record.offset + 1
        counts = answer.ledgers.setdefault(record.partition, Counter())
        counts["read"] += 1
        row, lane = json.loads(record.value), lanes.setdefault(record.partition, Lane())
        place, time = (record.partition, record.offset), row["t"]
        ahead = time - record.timestamp_ms
        if ahead > rules.skew:
            answer.future[place] = ahead, time
            counts["future"] += 1
            continue
        counts[_count(rules, answer, lane, place, row)] += 1
        moved = time - rules.bound - 1
        lane.clock = moved if lane.clock is None else max(lane.clock, moved)
    return answer


def _count(rules: Rules, answer: Expected, lane: Lane, place: Place, row: dict[str, Any]) -> str:
    """What becomes of a record by the clock as it stood before it."""
    time, name = row["t"], row["ident"]
    eighth = rules.within // 8
    forgotten = (time // eighth + 1) * eighth + rules.within
    if lane.has_reached(forgotten):
        return _late(answer, lane, place, ("DEDUPE_HORIZON", forgotten, time))
    if name in lane.forgotten and not lane.has_reached(lane.forgotten[name]):
        return "duplicate"
    lane.forgotten[name] = forgotten
    newest = time // rules.slide * rules.slide
    starts = [start for start in range(newest, time - rules.size, -rules.slide) if start >= YEAR_1_MS]
    if not starts:
        answer.ledgers[place[0]]["no_window"] += 1
        return "filtered"
    last = {start: start + rules.size - 1 + rules.allowed for start in starts}
    still_open = [start for start in starts if not lane.has_reached(last[start])]
    if not still_open:
        return _late(answer, lane, place, ("WINDOW", max(last.values()), time))
    answer.ledgers[place[0]]["late_windows"] += len(starts) - len(still_open)
    for start in still_open:
        count, total = answer.sums.get((row["k"], start), (0, 0))
        answer.sums[row["k"], start] = count + 1, total + row["v"]
    return "applied"


def _late(answer: Expected, lane: Lane, place: Place, why: tuple[str, int, int]) -> str:
    reason, over, time = why
    assert lane.clock is not None
    answer.late[place] = reason, lane.clock - over + 1, time
    return "late"


def expected(servers: str, topic: str, rules: Rules) -> Expected:
    """The same of a topic."""
    messages = oracle.read(servers, topic)
    messages.sort(key=lambda message: (message.partition(), message.offset()))
    return judge(
        rules,
        (
            Arrived(message.partition(), message.offset(), message.value(), message.timestamp()[1])
            for message in messages
        ),
    )


def differences(servers: str, wanted: Expected, *, output: str, late: str, future: str) -> list[str]:
    """What a reader of committed records finds lost, doubled or wrong in the topics of the three outputs."""
    rows = [json.loads(message.value()) for message in oracle.read(servers, output)]
    wrong = apart("row", Counter((row["k"], row["window_start"], row["n"], row["s"]) for row in rows), wanted.rows())
    rows = [json.loads(message.value()) for message in oracle.read(servers, late)]
    wrong += apart("late row", Counter(late_row(row) for row in rows), Counter(wanted.late.items()))
    rows = [json.loads(message.value()) for message in oracle.read(servers, future)]
    return wrong + apart("future row", Counter(future_row(row) for row in rows), Counter(wanted.future.items()))


def late_row(row: dict[str, Any]) -> tuple[Place, tuple[str, int, int]]:
    """Of a row of that output."""
    return (row["_partition"], row["_offset"]), (row["reason"], row["lateness_ms"], row["event_time"])


def future_row(row: dict[str, Any]) -> tuple[Place, tuple[int, int]]:
    """Of a row of that output."""
    return (row["_partition"], row["_offset"]), (row["ahead_ms"], row["event_time"])


def apart(what: str, found: Counter[Any], wanted: Counter[Any]) -> list[str]:
    """What is in one and not in the other."""
    wrong = [f"{what} lost or wrong: {one}" for one in (wanted - found)]
    return wrong + [f"{what} doubled or wrong: {one} x{times}" for one, times in (found - wanted).items()]
