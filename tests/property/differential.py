"""Random pipelines, engine against model: `python -m tests.property.differential --seeds 10000`.

Each seed is a windowed pipeline and a join; `--of joins` runs the joins alone. A difference is printed with its seed and
the smallest case found that still differs; `--seed N` runs one again.
Invariant: a case that is shrunken differs for real: every step of the way was run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

from streamcore.errors import Error
from tests.property import harness, join_differences, model, random_jobs, random_joins
from tests.property.aggregates import same
from tests.property.harness import LEDGER_CLASSES, Outcome
from tests.property.model import Answer, Job, Row
from tests.property.random_jobs import Case
from tests.property.random_joins import JoinCase

Part = TypeVar("Part")
AnyCase = TypeVar("AnyCase", Case, JoinCase)
Kind = Literal["windows", "joins"]
KINDS: tuple[Kind, ...] = ("windows", "joins")

COUNTED = ("read", *LEDGER_CLASSES, "no_window", "late_windows")
BOOKKEEPING = {"revision", "is_final", "retracted"}
DEFAULTS: dict[str, Any] = {
    "where": None,
    "before": None,
    "after": None,
    "within": None,
    "doubles": False,
    "null_keys": "group",
    "lateness": 0,
}
"""What a shrunken job goes back to."""
TRIES_MAX = 3_000
"""Cases that shrinking may run."""


def difference(case: Case | JoinCase) -> str | None:
    """What the engine and the model do not agree on."""
    if isinstance(case, JoinCase):
        return join_differences.difference(case)
    try:
        outcome = harness.run(harness.describe(case.job, emit=case.emit, every=case.every), case.records, case.schedule)
    except Error as error:  # whatever stops the engine is a find, a panic included
        return f"the engine stopped: {error!r}"
    answer = model.run(case.job, case.records)
    found = [*_rows(case, answer, outcome), *_late(answer, outcome), *_ledgers(answer, outcome)]
    return "\n".join(found[:5]) or None


def _rows(case: Case, answer: Answer, outcome: Outcome) -> Iterator[str]:
    rows = last_rows(case.job, outcome.rows) if case.emit == "updates" else outcome.rows
    if not all(row["is_final"] for row in rows):
        yield "the last row of a window is not final"
    lanes = {record.lane for record in case.records}
    expected = answer.rows
    if len(lanes) > 1 or case.emit == "updates":
        rows, expected = (sorted(of, key=lambda row: model.row_order(row, case.job.by)) for of in (rows, expected))
    told = [{name: cell for name, cell in row.items() if name not in BOOKKEEPING} for row in rows]
    if len(told) != len(answer.rows):
        yield f"{len(told)} rows, the model has {len(answer.rows)}"
    for got, row in zip(told, expected, strict=False):
        if got.keys() != row.keys() or not all(same(got[name], row[name]) for name in row):
            yield f"row {got}\n  not {row}"


def last_rows(job: Job, rows: Sequence[Row]) -> list[Row]:
    """Of each group and window the last row, where it was not retracted."""
    table: dict[Any, Row] = {}
    for row in rows:
        place = model.row_order(row, job.by)
        table.pop(place, None)
        if not row.get("retracted"):
            table[place] = row
    return list(table.values())


def _late(answer: Answer, outcome: Outcome) -> Iterator[str]:
    if sorted(outcome.late) != sorted(answer.late):
        yield f"late {sorted(outcome.late)}\n  not {sorted(answer.late)}"


def _ledgers(answer: Answer, outcome: Outcome) -> Iterator[str]:
    for lane, ledger in answer.ledgers.items():
        told = {name: outcome.ledgers[lane][name] for name in COUNTED}
        expected = {name: ledger.get(name, 0) for name in COUNTED}
        if told != expected:
            yield f"lane {lane} counted {told}\n  not {expected}"


def shrink(case: AnyCase, differs: Callable[[AnyCase], bool]) -> AnyCase:
    """The smallest case found that still differs: fewer records, steps and options."""
    tries = 0
    found = True
    while found:
        found = False
        for smaller in _smaller(case):
            tries += 1
            if tries > TRIES_MAX:
                return case
            if differs(smaller):
                case, found = smaller, True
                break
    return case


def _smaller(case: AnyCase) -> Iterator[AnyCase]:
    """Cases with something left out, the largest parts first."""
    size = len(case.records)
    while size >= 1:
        for start in range(0, len(case.records), size):
            yield replace(case, records=case.records[:start] + case.records[start + size :])
        size //= 2
    for schedule in _without_one(case.schedule):
        yield replace(case, schedule=list(schedule))
    if isinstance(case, JoinCase):
        yield from join_differences.simpler(case)
    else:
        yield from _simpler_case(case)


def _simpler_case(case: Case) -> Iterator[Case]:
    if case.emit != "final":
        yield replace(case, emit="final", every=None)
    yield from (replace(case, job=job) for job in _simpler(case.job))


def _simpler(job: Job) -> Iterator[Job]:
    yield from (replace(job, aggregates=fewer) for fewer in _without_one(job.aggregates) if fewer)
    for at, aggregate in enumerate(job.aggregates):
        if aggregate.condition is not None:
            plain = (*job.aggregates[:at], replace(aggregate, condition=None), *job.aggregates[at + 1 :])
            yield replace(job, aggregates=plain)
    if not job.keyed:
        yield from (replace(job, by=fewer) for fewer in _without_one(job.by))
    for name, value in DEFAULTS.items():
        if getattr(job, name) != value:
            yield replace(job, **{name: value})


def _without_one(parts: Sequence[Part]) -> Iterator[tuple[Part, ...]]:
    yield from ((*parts[:at], *parts[at + 1 :]) for at in range(len(parts)))


def tell(seed: int, kind: Kind = "windows") -> str | None:
    """The report of a seed that differs, with its shrunken case."""
    if kind == "windows":
        return _tell(random_jobs.case(seed), f"--seed {seed} --of windows")
    return _tell(random_joins.case(seed), f"--seed {seed} --of joins")


def _tell(case: AnyCase, arguments: str) -> str | None:
    if difference(case) is None:
        return None
    small = shrink(case, lambda smaller: difference(smaller) is not None)
    records = "\n".join(f"  {record}" for record in small.records)
    return (
        f"a difference: python -m tests.property.differential {arguments}\n{difference(small)}\n"
        f"job: {small.job}\npipeline: {_describe(small).decode()}\nrecords:\n{records}\nschedule: {small.schedule}"
    )


def _describe(case: Case | JoinCase) -> bytes:
    if isinstance(case, JoinCase):
        return harness.describe_join(case.job)
    return harness.describe(case.job, emit=case.emit, every=case.every)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--of", choices=KINDS, help="only these")
    options = parser.parse_args(arguments)
    seeds = range(options.first, options.first + options.seeds) if options.seed is None else [options.seed]
    kinds = [kind for kind in KINDS if options.of in {None, kind}]
    differing = 0
    for seed in seeds:
        for kind in kinds:
            if (report := tell(seed, kind)) is not None:
                differing += 1
                print(report, end="\n\n", flush=True)
        if (seed + 1) % 1000 == 0:
            print(f"{seed + 1} seeds, {differing} differ", file=sys.stderr, flush=True)
    print(f"{len(seeds)} seeds from {seeds[0]} on, each for {' and '.join(kinds)}: {differing} differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
