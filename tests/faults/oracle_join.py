"""What a join must give, worked out from both input topics alone by plain Python: every pair of rows is looked at by key.

Shares no code with the engine. Of the left topic ids seen before in the partition count once; what is no JSON is a dead letter.
Invariant: `differences` names every row and letter that is lost, doubled or wrong.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.faults.oracle import SIZE_MS, _ms, read

REACH_MS = 2_000
"""How far the times of a pair are apart at most."""

DELETED = 900
"""Of a table: a row with a smaller value than minus this deletes that of its key."""


@dataclass
class Side:
    """Everything in one input topic."""

    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    """By key, in the order of the partition."""
    dead: set[tuple[str, int, int]] = field(default_factory=set)
    """Topic, partition and offset of the records that are none."""
    ends: dict[int, int] = field(default_factory=dict)
    """By partition: how many records."""


def side(servers: str, topic: str, *, once: bool) -> Side:
    """Goes through a topic record by record; `once`: an id counts once in its partition."""
    found, seen = Side(), set()
    for message in read(servers, topic):
        partition = message.partition()
        found.ends[partition] = message.offset() + 1
        try:
            row = json.loads(message.value())
        except ValueError:
            found.dead.add((topic, partition, message.offset()))
            continue
        if once and (partition, row["id"]) in seen:
            continue
        seen.add((partition, row["id"]))
        found.rows[row["k"]].append(row)
    return found


def pairs(left: Side, right: Side) -> Counter[tuple[Any, ...]]:
    """Rows of the left side with each of the right one that is near, and those without alone."""
    wanted: Counter[tuple[Any, ...]] = Counter()
    for key, rows in left.rows.items():
        others = sorted(right.rows.get(key, ()), key=lambda row: row["t"])
        times = [row["t"] for row in others]
        for row in rows:
            first, last = bisect_left(times, row["t"] - REACH_MS), bisect_right(times, row["t"] + REACH_MS)
            near = [(other["v"], other["id"]) for other in others[first:last]] or [(None, None)]
            wanted.update((key, row["v"], row["id"], *other) for other in near)
    return wanted


def windows(left: Side, right: Side) -> Counter[tuple[Any, ...]]:
    """By key and window of the left rows: how many, and the sum of what the table had for each at its time."""
    wanted: Counter[tuple[Any, ...]] = Counter()
    for key, rows in left.rows.items():
        # Of equal times the one that came last; a copy is what it is a copy of.
        versions = sorted(right.rows.get(key, ()), key=lambda row: row["t"])
        times = [row["t"] for row in versions]
        counts: dict[int, tuple[int, int | None]] = {}
        for row in rows:
            place = bisect_right(times, row["t"]) - 1
            value = versions[place]["v"] if place >= 0 and versions[place]["v"] >= -DELETED else None
            start = row["t"] // SIZE_MS * SIZE_MS
            count, total = counts.get(start, (0, None))
            counts[start] = count + 1, total if value is None else (total or 0) + value
        wanted.update((key, start, *found) for start, found in counts.items())
    return wanted


def joined_row(row: dict[str, Any]) -> tuple[Any, ...]:
    """A row of the output as `pairs` has them."""
    return row["k"], row["v"], row["id"], row["v_right"], row["id_right"]


def window_row(row: dict[str, Any]) -> tuple[Any, ...]:
    """A row of the output as `windows` has them."""
    return row["k"], _ms(row["window_start"]), row["n"], row["s"]


def differences(
    servers: str,
    *,
    sides: tuple[Side, Side],
    output: str,
    dead_letters: str,
    wanted: Counter[tuple[Any, ...]],
    as_row: Callable[[dict[str, Any]], tuple[Any, ...]],
) -> list[str]:
    """What a reader of committed records finds wrong; nothing, where each row and letter is there once and right."""
    found = Counter(as_row(json.loads(message.value())) for message in read(servers, output))
    wrong = _told("row", wanted, found)
    letters: Counter[tuple[Any, ...]] = Counter()
    for message in read(servers, dead_letters):
        headers = dict(message.headers() or [])
        place = headers["dlq.topic"].decode(), int(headers["dlq.partition"]), int(headers["dlq.offset"])
        letters[place] += 1
    return wrong + _told("dead letter", Counter(sides[0].dead | sides[1].dead), letters)


def _told(what: str, wanted: Counter[tuple[Any, ...]], found: Counter[tuple[Any, ...]]) -> list[str]:
    return [*_named(f"{what} lost", wanted - found), *_named(f"{what} doubled or wrong", found - wanted)]


def _named(what: str, counted: Iterable[tuple[Any, ...]]) -> list[str]:
    return [f"{what}: {one}" for one in counted]
