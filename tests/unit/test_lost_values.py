"""Values that are not to be had are null, told, and cost nothing else."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

import streamcore as sc
from streamcore.testing import start

LARGEST = 2**63 - 1
SMALLEST = -(2**63)


def numbers(*values: int, lanes: int = 1) -> sc.Pipeline:
    records = [
        sc.Record(b'{"at": "2026-01-01T00:00:00Z", "x": %d}' % value, partition=number % lanes)
        for number, value in enumerate(values)
    ]
    return sc.records(records, event_time="at", schema={"x": "int64"})


def total(pipeline: sc.Pipeline, window: Any, aggregate: str = "sum(x)") -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return pipeline.window(window).agg(total=aggregate).collect().to_polars()["total"].to_list()[0]


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("window", [sc.whole(), sc.hopping("2s", slide="1s"), sc.session("1s")])
@pytest.mark.parametrize(
    "values",
    [
        (LARGEST,),
        (SMALLEST,),
        (LARGEST - 1, 1),
        (SMALLEST + 1, -1),
        (LARGEST, LARGEST, SMALLEST, SMALLEST, 2),
        (SMALLEST, SMALLEST, LARGEST, LARGEST, 1),
    ],
)
def test_sums_up_to_the_borders_are_exact_whatever_is_passed_on_the_way(
    values: tuple[int, ...], window: Any, lanes: int
) -> None:
    assert total(numbers(*values, lanes=lanes), window) == sum(values)


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("values", [(LARGEST, 1), (SMALLEST, -1), (LARGEST,) * 3, (SMALLEST,) * 3])
def test_a_sum_beyond_them_is_null_and_told(values: tuple[int, ...], lanes: int) -> None:
    counted = numbers(*values, lanes=lanes).window(sc.whole()).agg(total="sum(x)", n="count()", mean="mean(x)")
    with pytest.warns(sc.LostValuesWarning, match=rf"1 values of total .*the sum is {sum(values)}, beyond int64"):
        rows = counted.collect().to_polars().select("total", "n", "mean").rows()
    assert rows == [(None, len(values), sum(values) / len(values))]


def test_the_run_goes_on_and_a_sum_that_comes_back_is_told_right() -> None:
    counted = numbers().window(sc.tumbling("1m"), emit="updates").agg(total="sum(x)")
    with start(counted) as run:
        run.push([{"at": "2026-01-01T00:00:00Z", "x": LARGEST}])
        run.commit()
        run.push([{"at": "2026-01-01T00:00:01Z", "x": 1}])
        run.commit()
        run.push([{"at": "2026-01-01T00:00:02Z", "x": -2}])
        run.end()
        assert [row["total"] for row in run.rows()] == [LARGEST, None, LARGEST - 1]
        assert run.ledger.applied == 3


def test_other_columns_lose_nothing() -> None:
    values = [{"at": "2026-01-01T00:00:00Z", "x": 1.7e308}] * 2
    floats = sc.records(values, event_time="at", schema={"x": "float64"})
    counted = floats.window(sc.whole()).agg(total="sum(x)", spread="var(x)", mean="mean(x)")
    with counted.start() as run:
        [row] = [row for batch in run.stream() for row in batch.to_rows()]
        lost = run.report.lost_values
    assert (row["total"], row["spread"], row["mean"]) == (None, 0.0, 1.7e308)
    assert list(lost) == ["total"]
    assert lost["total"][0] == 1
