"""Aggregates of the user that imitate the engine's own, beside them in random windows: the same values.

Those imitated here do not mind the order in which states are merged, so lanes, cuts, restarts and rollbacks may change
nothing either. Invariant: a user's class sees its own arguments alone, and nothing of the engine's aggregate.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import pytest

import streamcore as sc
from streamcore.functions import Function, guarded
from streamcore.user_aggregates import PARTS
from tests.property import harness, model, random_jobs
from tests.property.aggregates import CONDITIONS, Aggregate
from tests.property.harness import Outcome
from tests.property.model import Job, Row

SEEDS = range(80)


class Added:
    """States are columns to be added up."""

    def init(self, rows: sc.Batch) -> pl.DataFrame:
        return pl.DataFrame(rows)

    def merge(self, states: sc.Batch) -> pl.DataFrame:
        return pl.DataFrame(states).group_by("group").sum()

    def finish(self, states: sc.Batch) -> pl.DataFrame:
        return pl.DataFrame(states)


class Counted(Added):
    def init(self, rows: sc.Batch) -> pl.DataFrame:
        return pl.DataFrame(rows).select(n=pl.col("x").is_not_null().cast(pl.Int64))


class Averaged(Added):
    def init(self, rows: sc.Batch) -> pl.DataFrame:
        return pl.DataFrame(rows).select("x", n=pl.col("x").is_not_null().cast(pl.Int64))

    def finish(self, states: sc.Batch) -> pl.DataFrame:
        return pl.DataFrame(states).select(pl.col("x") / pl.col("n"))


class Least(Added):
    def merge(self, states: sc.Batch) -> pl.DataFrame:
        return pl.DataFrame(states).group_by("group").min()


class Most(Added):
    def merge(self, states: sc.Batch) -> pl.DataFrame:
        return pl.DataFrame(states).group_by("group").max()


class Distinct(Added):
    """A state is a set, written as JSON."""

    def init(self, rows: sc.Batch) -> pl.DataFrame:
        return pl.DataFrame({"set": [json.dumps([row["x"]]) for row in rows.to_rows()]})

    def merge(self, states: sc.Batch) -> pl.DataFrame:
        sets: dict[int, set[str]] = {}
        for state in states.to_rows():
            sets.setdefault(state["group"], set()).update(json.loads(state["set"]))
        return pl.DataFrame({"group": list(sets), "set": [json.dumps(sorted(values)) for values in sets.values()]})

    def finish(self, states: sc.Batch) -> pl.DataFrame:
        return pl.DataFrame({"value": [len(json.loads(state["set"])) for state in states.to_rows()]})


@dataclass(frozen=True)
class Imitation:
    """A class of the user, what it imitates, and the types between them."""

    function: type
    of: Aggregate
    argument: str
    state: dict[str, str]
    returns: str
    nothing: Any = None
    """The engine's value where no row counts; the user's is null there."""

    @property
    def name(self) -> str:
        return f"own_{self.of.name}"


IMITATIONS = (
    Imitation(Counted, Aggregate("counted", "count", "weight"), "float64", {"n": "int64"}, "int64", 0),
    Imitation(Added, Aggregate("total", "sum", "value"), "int64", {"x": "int64"}, "int64"),
    Imitation(Averaged, Aggregate("average", "mean", "team"), "int64", {"x": "int64", "n": "int64"}, "float64"),
    Imitation(Least, Aggregate("least", "min", "weight"), "float64", {"x": "float64"}, "float64"),
    Imitation(Most, Aggregate("most", "max", "value"), "int64", {"x": "int64"}, "int64"),
    Imitation(Most, Aggregate("last_text", "max", "ident"), "string", {"x": "string"}, "string"),
    Imitation(Most, Aggregate("some", "any", "flag"), "bool", {"x": "bool"}, "bool"),
    Imitation(Least, Aggregate("every", "all", "flag"), "bool", {"x": "bool"}, "bool"),
    Imitation(Distinct, Aggregate("kinds", "count_distinct", "key"), "string", {"set": "string"}, "int64", 0),
)


def functions() -> dict[str, Function]:
    found: dict[str, Function] = {}
    for imitation in IMITATIONS:
        made = imitation.function()
        found |= {f"{imitation.name}.{part}": guarded(getattr(made, part)) for part in PARTS}
    return found


def described(job: Job) -> bytes:
    """The pipeline of `job`, with a call of each imitation beside what it imitates."""
    described = json.loads(harness.describe(job))
    window = described["steps"][-1]
    for aggregate in job.aggregates:
        imitation = next(one for one in IMITATIONS if one.of.name == aggregate.name)
        text = aggregate.text.replace(aggregate.function, imitation.name, 1)
        window["aggregates"].append({"name": imitation.name, "text": text})
    window["functions"] = [
        {
            "name": imitation.name,
            "function": imitation.name,
            "arguments": [{"name": "x", "type": imitation.argument}],
            "state": [{"name": name, "type": type_} for name, type_ in imitation.state.items()],
            "returns": imitation.returns,
            "version": 1,
        }
        for imitation in IMITATIONS
    ]
    return json.dumps(described).encode()


def prepared(seed: int) -> random_jobs.Case:
    """A random case whose aggregates are those that are imitated, some with a condition."""
    case, chance = random_jobs.case(seed), random.Random(seed)
    aggregates = tuple(
        replace(one.of, condition=chance.choice(CONDITIONS) if chance.random() < 0.3 else None) for one in IMITATIONS
    )
    return replace(case, job=replace(case.job, aggregates=aggregates), emit="final", every=None)


@pytest.mark.parametrize("seed", SEEDS)
def test_they_give_what_the_aggregates_they_imitate_give(seed: int) -> None:
    case = prepared(seed)
    outcome = harness.run(described(case.job), case.records, case.schedule, functions())
    assert not [row for row in outcome.rows for one in IMITATIONS if row[one.name] != imitated(row, one)]
    alone = harness.run(harness.describe(case.job), case.records)
    assert in_order(case.job, without_own(outcome.rows)) == in_order(case.job, alone.rows)
    assert (sorted(outcome.late), outcome.ledgers) == (sorted(alone.late), alone.ledgers)


@pytest.mark.parametrize("seed", SEEDS)
def test_cuts_restarts_and_rollbacks_change_nothing(seed: int) -> None:
    case = prepared(seed)
    spec = described(case.job)
    whole = harness.run(spec, case.records, (), functions())
    hurt = harness.run(spec, case.records, case.schedule, functions())
    assert in_order(case.job, hurt.rows) == in_order(case.job, whole.rows)
    if case.job.keyed or len({record.lane for record in case.records}) == 1:
        # where lanes meet, cuts decide which states are merged first
        assert hurt.digest == whole.digest


def imitated(row: Row, imitation: Imitation) -> Any:
    """The value of the aggregate imitated, as the user's has it."""
    value = row[imitation.of.name]
    return None if value == imitation.nothing else value


def without_own(rows: Sequence[Row]) -> list[Row]:
    own = {one.name for one in IMITATIONS}
    return [{name: cell for name, cell in row.items() if name not in own} for row in rows]


def in_order(job: Job, rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: model.row_order(row, job.by))


def test_the_cases_reach_what_they_are_about() -> None:
    """In most cases values are there, in some of them they are not; all kinds of windows occur."""
    cases = [prepared(seed) for seed in SEEDS]
    assert {case.job.window.kind for case in cases} == {*random_jobs.KINDS, *random_jobs.KEYED_KINDS}
    outcomes: list[Outcome] = [harness.run(described(case.job), case.records, (), functions()) for case in cases[:20]]
    for imitation in IMITATIONS:
        values = {row[imitation.name] for outcome in outcomes for row in outcome.rows}
        assert len(values) > 1
        assert None in values
