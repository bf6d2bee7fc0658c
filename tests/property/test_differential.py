"""Two hundred random pipelines and as many joins, engine against model; `make test-differential-nightly` runs ten thousand.

`differential.py` says what is compared. Invariant: a seed that fails here fails there, with the same case.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.property import differential, random_jobs, random_joins
from tests.property.aggregates import FUNCTIONS
from tests.property.differential import KINDS, Kind
from tests.property.random_jobs import Case

SEEDS = 200
AT_ONCE = 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_the_engine_answers_random_pipelines_as_the_model_does(first: int, kind: Kind) -> None:
    seeds = range(first, first + AT_ONCE)
    reports = [report for seed in seeds if (report := differential.tell(seed, kind)) is not None]
    assert not reports, "\n\n".join(reports)


def test_random_pipelines_reach_everything() -> None:
    """Every window kind, aggregate, null mode and option is in the two hundred."""
    cases = [random_jobs.case(seed) for seed in range(SEEDS)]
    jobs = [case.job for case in cases]
    assert {job.window.kind for job in jobs} == {*random_jobs.KINDS, *random_jobs.KEYED_KINDS}
    assert {aggregate.function for job in jobs for aggregate in job.aggregates} == set(FUNCTIONS)
    assert {job.null_keys for job in jobs} == {"group", "drop", "reject"}
    for name in ("where", "before", "after", "within", "doubles", "keyed", "lateness"):
        assert {bool(getattr(job, name)) for job in jobs} == {True, False}, name
    assert {len(job.by) for job in jobs} == {0, 1, 2, 3}
    early = {(case.job.window.kind == "session", case.every is not None) for case in cases if case.emit == "updates"}
    assert early == {(False, False), (False, True), (True, False), (True, True)}


def test_random_joins_reach_everything() -> None:
    """Every kind with every `how` it has, and every option on either side, is in the two hundred."""
    jobs = [random_joins.case(seed).job for seed in range(SEEDS)]
    hows = {
        kind: {"inner", "left", "outer"} if kind in {"interval", "window"} else {"inner", "left"}
        for kind in random_joins.KINDS
    }
    assert {(job.kind, job.how) for job in jobs} == {(kind, how) for kind in hows for how in hows[kind]}
    for name in ("where", "before", "after", "within", "doubles"):
        for side in (0, 1):
            assert {bool(getattr(job.inputs[side], name)) for job in jobs} == {True, False}, name
    for name in ("lateness", "behind"):
        assert {bool(getattr(job, name)) for job in jobs} == {True, False}, name
    assert {len(job.on) for job in jobs} == {1, 2}
    assert {side.out_of_orderness is None for job in jobs for side in job.inputs} == {True, False}


def test_a_difference_is_found_and_shrunken() -> None:
    """A schedule that loses the last record would differ: the comparison and the shrinking must see it."""
    case = next(case for seed in range(SEEDS) if len((case := random_jobs.case(seed)).records) > 20)
    records = case.records

    def differs(smaller: Case) -> bool:
        return records[7] in smaller.records

    small = differential.shrink(case, differs)
    assert small.records == [records[7]]
    assert small == replace(small, schedule=[], emit="final", every=None)
    assert len(small.job.aggregates) == 1
