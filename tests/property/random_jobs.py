"""Random jobs and inputs by seed, over everything a windowed pipeline can be asked for.

`differential.py` runs them. Invariant: a seed gives the same case in every process; the engine accepts every job;
sessions that meet in several lanes get an input in which nothing is late, the only one their rows are defined for.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

from tests.property.aggregates import CONDITIONS, FUNCTIONS, NUMBERS, TYPES, Aggregate, Condition
from tests.property.calendars import Calendar
from tests.property.harness import Action, Step
from tests.property.model import Event, Garbage, Job, Record, Tombstone, Window

HOUR = 3_600_000
DAY = 24 * HOUR
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Africa/Cairo",
    "America/Sao_Paulo",
    "Pacific/Apia",
)
KINDS = ("tumbling", "hopping", "cumulate", "session", "whole", "calendar")
KEYED_KINDS = ("sliding",)
"""Windows that there are only where the group key is the record key."""
KEYS = (None, "", "a", "b", "zebra", "ü")
WEIGHTS = (None, 0.1, 0.2, 0.3, -0.0, 1e16, 1.0, -1e16, 5e-324, 300.5)
SETTINGS: dict[str, tuple[float | None, ...]] = {
    "collect_list": (None, 1, 2, 4),
    "top_k": (1, 2, 3),
    "quantile": (0.0, 0.125, 0.25, 0.5, 0.75, 1.0),
}


@dataclass(frozen=True)
class Case:
    job: Job
    records: list[Record]
    schedule: list[Step]
    emit: Literal["final", "updates"] = "final"
    every: int | None = None
    """How often rows leave early, ms of event time; None: at commits."""


def case(seed: int) -> Case:
    chance = random.Random(seed)
    window = _window(chance)
    scale = HOUR * 6 if window.kind == "calendar" else 1
    job = _job(chance, window, scale)
    lanes = chance.choice([1, 1, 1, 2, 3, 4])
    is_orderly = window.kind == "session" and lanes > 1 and not job.keyed
    if is_orderly:
        # an event exactly as late as may be can miss a session that ends exactly where it is
        job = replace(job, out_of_orderness=(job.out_of_orderness or 0) + 1, within=None)
    disorder = (job.out_of_orderness or 0) - 1 if is_orderly else None
    records = _records(chance, lanes, scale, disorder, keyed=job.keyed)
    actions: list[Action] = ["push", "push", "commit", "restart", "rollback"]
    schedule = [Step(chance.randint(0, 10), chance.choice(actions)) for _ in range(chance.randint(0, 12))]
    if job.keyed and window.kind != "calendar" and chance.random() < 0.4:
        return Case(replace(job, window=Window("sliding", chance.randint(1, 300))), records, schedule)
    may_update = window.kind != "session" or job.keyed
    if not may_update or chance.random() >= (0.25 if window.kind != "session" else 0.6):
        return Case(job, records, schedule)
    return Case(job, records, schedule, "updates", chance.choice([None, scale * chance.randint(1, 400)]))


def _window(chance: random.Random) -> Window:
    kind = chance.choice([*KINDS, "hopping", "session"])
    size, offset = chance.randint(1, 300), chance.randint(-50, 50)
    floor = chance.randint(-800, 800) if chance.random() < 0.2 else None
    if kind == "whole":
        return Window("whole", 0, min_start=floor)
    if kind == "session":
        longest = chance.choice([None, None, size + chance.randint(0, 300)])
        return Window("session", size, inclusive=chance.random() < 0.5, longest=longest, min_start=floor)
    if kind == "calendar":
        unit: Any = chance.choice(["day", "day", "week", "month"])
        zone, every, minutes = chance.choice(ZONES), chance.choice([1, 1, 2, 3]), chance.choice([0, 0, 30, 570, -90])
        calendar = Calendar(zone, unit, every, minutes, chance.randrange(7) if unit == "week" else 0)
        return Window("calendar", 0, calendar=calendar)
    if kind == "hopping":
        return Window("hopping", size, chance.randint(20, 350), offset, min_start=floor)
    if kind == "cumulate":
        step = chance.randint(1, 60)
        return Window("cumulate", step * chance.randint(1, 8), step, offset, min_start=floor)
    return Window("tumbling", size, offset=offset, min_start=floor)


def job(seed: int, bound: int) -> Job:
    """A job of that bound on disorder whose rows do not depend on lanes: without copies, not keyed."""
    chance = random.Random(seed)
    window = _window(chance)
    made = _job(chance, window, HOUR * 6 if window.kind == "calendar" else 1)
    by = made.by if not made.keyed else ("key",)
    return replace(made, out_of_orderness=bound, within=None, keyed=False, by=by)


def in_order(seed: int, scale: int) -> list[Record]:
    """Events of one lane in the order of their times, which all differ."""
    chance = random.Random(seed)
    time, records = scale * chance.randint(-300, 300), []
    for number in range(40):
        time += scale * chance.randint(1, 40)
        records.append(Record(0, event(chance, time, chance.choice(KEYS), str(number))))
    return records


def _job(chance: random.Random, window: Window, scale: int) -> Job:
    bound = chance.choice([0, chance.randint(0, 200), chance.randint(0, 200), None])
    within = None
    if bound is not None and chance.random() < 0.4:
        within = 8 * scale * ((bound + 7) // 8 + chance.randint(1, 150))
    keyed = chance.random() < 0.15
    by = ("key",) if keyed else tuple(chance.sample(["key", "team", "flag", "price"], chance.choice([0, 1, 1, 2, 3])))
    calls = tuple(_aggregate(chance, f"a{number}") for number in range(chance.randint(1, 8)))
    return Job(
        window,
        None if bound is None else bound * scale,
        lateness=0 if window.kind == "whole" else scale * chance.choice([0, 0, 1, 30, 500]),
        within=within,
        by=by,
        null_keys=chance.choice(["group", "group", "drop", "reject"]),
        aggregates=calls,
        where=condition(chance, 0.15),
        before=condition(chance, 0.15),
        doubles=chance.random() < 0.2,
        after=condition(chance, 0.15),
        keyed=keyed,
    )


def condition(chance: random.Random, share: float) -> Condition | None:
    return chance.choice(CONDITIONS) if chance.random() < share else None


def _aggregate(chance: random.Random, name: str) -> Aggregate:
    function = chance.choice(FUNCTIONS)
    argument: str | None = chance.choice(list(TYPES))
    second = setting = None
    if function in {"sum", "mean", "var", "stddev", "quantile"}:
        argument = chance.choice(NUMBERS)
    elif function in {"any", "all"}:
        argument = "flag"
    elif function == "count" and chance.random() < 0.5:
        argument = None
    if function in {"arg_min", "arg_max"}:
        second = chance.choice(list(TYPES))
    if function in SETTINGS:
        setting = chance.choice(SETTINGS[function])
    return Aggregate(name, function, argument, second, setting, condition(chance, 0.3))


def _records(chance: random.Random, lanes: int, scale: int, disorder: int | None, *, keyed: bool) -> list[Record]:
    """In arrival order. With `disorder`, no event of a lane comes more than that many ms behind its newest."""
    records: list[Record] = []
    origin = 1_700_000_000_000 if scale > 1 and chance.random() < 0.7 else 0
    newest = dict.fromkeys(range(lanes), origin + scale * chance.randint(-500, 500))
    # a topic keyed by it has each key in one lane
    keys = [KEYS[1 + lane :: lanes] if keyed else KEYS for lane in range(lanes)]
    for number in range(chance.choice([3, 10, 40, 40, 80])):
        kind = chance.choices(["event", "copy", "garbage", "tombstone"], [16, 2, 1, 1])[0]
        lane = chance.randrange(lanes)
        if kind in {"garbage", "tombstone"}:
            records.append(Record(lane, Garbage() if kind == "garbage" else Tombstone()))
            continue
        events = [record for record in records if isinstance(record.content, Event)]
        if kind == "copy" and events and disorder is None:
            records.append(chance.choice(events))
            continue
        behind = disorder if disorder is not None else chance.choice([0, 50, 200, 200, 2000])
        time = newest[lane] + scale * chance.randint(-behind, chance.choice([30, 300]))
        newest[lane] = max(newest[lane], time)
        key = chance.choice(keys[lane])
        records.append(Record(lane, event(chance, time, key, f"{lane}-{number}")))
    return records


def event(chance: random.Random, time: int, key: str | None, ident: str) -> Event:
    return Event(
        time,
        key,
        ident,
        chance.choice([None, chance.randint(-5, 5), chance.randint(-5, 5), chance.randint(-(2**53), 2**53)]),
        chance.choice(WEIGHTS),
        chance.choice([None, -3, 0, 1]),
        chance.choice([None, True, False]),
        chance.choice([None, Decimal(chance.randint(-300, 300)) / 100]),
    )
