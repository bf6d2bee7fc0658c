"""A join against its model: what differs, and the smaller cases to try. `differential.py` draws, shrinks and tells.

Invariant: rows are compared in the order in which they leave, which docs/semantics.md fixes wholly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from streamcore.errors import Error
from tests.property import harness, join_model
from tests.property.aggregates import same
from tests.property.harness import LANES_PER_INPUT, LEDGER_CLASSES, Outcome
from tests.property.join_model import Answer, Input, JoinJob
from tests.property.model import Row
from tests.property.random_joins import JoinCase

COUNTED = ("read", *LEDGER_CLASSES)
BOOKKEEPING = {"revision", "is_final", "retracted"}
DEFAULTS: dict[str, Any] = {"how": "inner", "lateness": 0, "behind": None, "tolerance": None, "offset": 0}
INPUT_DEFAULTS: dict[str, Any] = {"where": None, "before": None, "within": None, "doubles": False, "after": None}
"""What a shrunken job goes back to."""


def difference(case: JoinCase) -> str | None:
    """What the engine and the model do not agree on."""
    lanes = [side * LANES_PER_INPUT + lane for side in (0, 1) for lane in range(case.lanes)]
    try:
        outcome = harness.run(harness.describe_join(case.job), case.records, case.schedule, lanes=lanes)
    except Error as error:  # whatever stops the engine is a find, a panic included
        return f"the engine stopped: {error!r}"
    answer = join_model.run(case.job, case.records, outcome.pushes)
    found = [*_rows(answer, outcome), *_late(answer, outcome), *_ledgers(answer, outcome)]
    return "\n".join(found[:5]) or None


def _rows(answer: Answer, outcome: Outcome) -> Iterator[str]:
    told = [{name: cell for name, cell in row.items() if name not in BOOKKEEPING} for row in outcome.rows]
    if len(told) != len(answer.rows):
        yield f"{len(told)} rows, the model has {len(answer.rows)}"
    for got, row in zip(told, answer.rows, strict=False):
        if not _same(got, row):
            yield f"row {got}\n  not {row}"


def _same(got: Row, row: Row) -> bool:
    return got.keys() == row.keys() and all(same(got[name], row[name]) for name in row)


def _late(answer: Answer, outcome: Outcome) -> Iterator[str]:
    if sorted(outcome.late) != sorted(answer.late):
        yield f"late {sorted(outcome.late)}\n  not {sorted(answer.late)}"


def _ledgers(answer: Answer, outcome: Outcome) -> Iterator[str]:
    for (side, lane), ledger in answer.ledgers.items():
        told = {name: outcome.ledgers[side * LANES_PER_INPUT + lane][name] for name in COUNTED}
        expected = {name: ledger.get(name, 0) for name in COUNTED}
        if told != expected:
            yield f"side {side}, lane {lane} counted {told}\n  not {expected}"


def simpler(case: JoinCase) -> Iterator[JoinCase]:
    """Cases with one option less."""
    if case.lanes > 1 + max((record.lane for record in case.records), default=0):
        yield replace(case, lanes=case.lanes - 1)
    yield from (replace(case, job=job) for job in _simpler_jobs(case.job))


def _simpler_jobs(job: JoinJob) -> Iterator[JoinJob]:
    for name, value in DEFAULTS.items():
        if getattr(job, name) != value:
            yield replace(job, **{name: value})
    yield from (replace(job, left=left) for left in _simpler_inputs(job.left))
    yield from (replace(job, right=right) for right in _simpler_inputs(job.right))


def _simpler_inputs(side: Input) -> Iterator[Input]:
    for name, value in INPUT_DEFAULTS.items():
        if getattr(side, name) != value:
            yield replace(side, **{name: value})
