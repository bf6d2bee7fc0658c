"""Random joins and inputs by seed: every kind, with rows late and out of order, null keys, steps before and behind.

`differential.py` runs them. Invariant: a seed gives the same case in every process; the engine accepts every job; each
key of a table is in one lane, as in a topic.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, get_args

from tests.property import random_jobs
from tests.property.harness import Action, Step
from tests.property.join_model import Input, JoinJob
from tests.property.model import Delete, Event, Garbage, Record, Tombstone

HOUR = 3_600_000
KEYS = (None, "a", "b", "ü")
Kind = Literal["interval", "window", "as_of", "table", "versions"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class JoinCase:
    job: JoinJob
    records: list[Record]
    schedule: list[Step]
    lanes: int
    """Of each input; some may have no records."""


def case(seed: int) -> JoinCase:
    """The join of that seed."""
    chance = random.Random(f"join {seed}")
    kind = chance.choice(KINDS)
    # deletes of a table are remembered for a day
    scale = HOUR if kind == "versions" and chance.random() < 0.5 else 1
    lanes = chance.choice([1, 1, 2, 3])
    job = _job(chance, kind, scale)
    records = _records(chance, job, lanes, scale)
    actions: list[Action] = ["push", "push", "commit", "restart", "rollback"]
    schedule = [Step(chance.randint(0, 12), chance.choice(actions)) for _ in range(chance.randint(0, 14))]
    return JoinCase(job, records, schedule, lanes)


def _job(chance: random.Random, kind: Kind, scale: int) -> JoinJob:
    looks_back = kind not in {"interval", "window"}
    low = chance.randint(-60, 40)
    on = ["key"] if kind in {"table", "versions"} else chance.choice([["key"], ["key"], ["team"], ["flag", "key"]])
    return JoinJob(
        kind,
        _input(chance, scale, may_dedupe=True),
        _input(chance, scale, may_dedupe=kind != "table"),
        how=chance.choice(["inner", "left"] if looks_back else ["inner", "left", "outer"]),
        on=tuple(on),
        low=low,
        high=low + chance.choice([0, chance.randint(0, 80)]),
        size=chance.randint(1, 60),
        offset=chance.randint(-20, 20),
        tolerance=chance.choice([None, chance.randint(0, 60)]),
        lateness=scale * chance.choice([0, 0, 0, 1, 30]),
        behind=scale * chance.randint(1, 100) if chance.random() < 0.2 else None,
    )


def _input(chance: random.Random, scale: int, *, may_dedupe: bool) -> Input:
    bound = chance.choice([0, chance.randint(0, 40), chance.randint(0, 40), None])
    within = None
    if may_dedupe and bound is not None and chance.random() < 0.2:
        within = 8 * scale * ((bound + 7) // 8 + chance.randint(1, 20))
    return Input(
        None if bound is None else bound * scale,
        where=random_jobs.condition(chance, 0.1),
        before=random_jobs.condition(chance, 0.15),
        within=within,
        doubles=chance.random() < 0.15,
        after=random_jobs.condition(chance, 0.1),
    )


def _records(chance: random.Random, job: JoinJob, lanes: int, scale: int) -> list[Record]:
    """In arrival order; which side comes next is drawn in runs, so that one is ahead of the other now and then."""
    records: list[Record] = []
    origin = 1_700_000_000_000 if scale > 1 else chance.choice([0, 1_700_000_000_000])
    newest = {(side, lane): origin + scale * chance.randint(-30, 30) for side in (0, 1) for lane in range(lanes)}
    side = 0
    for number in range(chance.choice([4, 20, 40, 80])):
        side = chance.choice([side, side, 0, 1])
        lane = chance.randrange(lanes)
        keys = KEYS[1 + lane :: lanes] if job.is_table and side == 1 and lanes > 1 else KEYS
        kind = chance.choices(["event", "copy", "garbage", "tombstone"], [16, 2, 1, 3 if side else 1])[0]
        copied = [record for record in records if record.side == side and isinstance(record.content, Event)]
        time = newest[side, lane] + scale * chance.randint(-chance.choice([0, 20, 60]), chance.choice([5, 20]))
        if kind == "copy" and copied:
            records.append(chance.choice(copied))
        elif kind == "garbage":
            records.append(Record(lane, Garbage(), side))
        elif kind == "tombstone":
            told = chance.choice([time, time, None])
            is_delete = job.is_table and side == 1
            records.append(Record(lane, Delete(chance.choice(keys), told) if is_delete else Tombstone(), side))
        else:
            newest[side, lane] = max(newest[side, lane], time)
            ident = f"{side}-{lane}-{number}"
            records.append(Record(lane, random_jobs.event(chance, time, chance.choice(keys), ident), side))
    return records
