"""A flood for the clock: half of it copies, most of it out of order, much of it late, some from years that cannot be.

What is sent is a function of the generator of random numbers that is given. Before it: `traffic.py`, which sends, or
`tests/property`, which needs no broker. The oracle does not use this file. Invariant: the records of a key, and copies of a
record, are in one partition, so what is late depends on the order in that partition alone.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.faults.traffic import Sent

YEAR_1_MS, YEAR_9999_MS = -62_135_596_800_000, 253_402_300_799_999
COPIES = 0.5
LATENESS = 10
"""Records come late by up to so many times what is allowed."""

KINDS = {"orderly": 8, "equal": 5, "behind": 8, "edge": 2, "ages ago": 1, "ages ahead": 1, "just ahead": 1}
"""How often each kind is, of those that are no copies."""

REMEMBERED = 20_000


@dataclass(frozen=True)
class Rules:
    """What the pipeline is to be told, ms."""

    bound: int
    """`out_of_orderness`."""
    allowed: int
    """`allowed_lateness`."""
    size: int
    slide: int
    within: int
    """How long ids are remembered; eight divide it."""
    skew: int
    """`max_future_skew`."""


@dataclass
class Front:
    """How far the records have come."""

    time_ms: int
    last_ms: int


def records(
    chance: random.Random, rules: Rules, *, partitions: int, keys: int, start_ms: int, step_ms: int
) -> Iterator[Sent]:
    """Without end; the front is at `start_ms` first, and goes on by up to twice `step_ms` with each record."""
    front = Front(start_ms, start_ms)
    sent: list[Sent] = []
    number = 0
    while True:
        number += 1
        front.time_ms += chance.randint(0, 2 * step_ms)
        if sent and chance.random() < COPIES:
            # Mostly of what is just gone, and of what ids are forgotten of as well.
            yield sent[-chance.randint(1, min(len(sent), 50 if chance.random() < 0.9 else REMEMBERED))]
            continue
        key = chance.randrange(keys)
        time_ms, timestamp_ms = _times(chance, rules, front)
        row = {"t": time_ms, "k": f"k{key}", "v": chance.randint(-1000, 1000), "ident": str(number)}
        made = Sent(key % partitions, f"k{key}".encode(), json.dumps(row).encode(), timestamp_ms)
        yield made
        sent = sent if len(sent) < REMEMBERED else sent[REMEMBERED // 2 :]
        sent.append(made)


def _times(chance: random.Random, rules: Rules, front: Front) -> tuple[int, int]:
    """Of the event and of its record; 0 is the producer's clock."""
    kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
    if kind in {"orderly", "just ahead"}:
        front.last_ms = front.time_ms - chance.randint(0, rules.bound)
    time_ms, timestamp_ms = front.last_ms, 0
    if kind == "just ahead" and time_ms > rules.skew + 2:
        timestamp_ms = time_ms - rules.skew + chance.randint(-2, 1)
    elif kind == "ages ago":
        time_ms = chance.choice([YEAR_1_MS, YEAR_1_MS + rules.size, -1, -chance.randint(1, -YEAR_1_MS)])
    elif kind == "ages ahead":
        time_ms = YEAR_9999_MS - chance.choice([0, 1, chance.randint(0, 10**12)])
    elif kind == "behind":
        late = LATENESS * (rules.bound + rules.allowed)
        time_ms = front.time_ms - chance.randint(0, chance.choice([late, late // LATENESS]))
    elif kind == "edge":
        # At the edges of windows, or where it puts the clock upon what is their last moment.
        edge = front.time_ms // rules.slide * rules.slide
        time_ms = edge + chance.randint(-1, 1) + chance.choice([0, rules.bound + rules.allowed])
    return time_ms, timestamp_ms
