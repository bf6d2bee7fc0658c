"""Aggregate functions of the builder are the text a file would hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import streamcore as sc
from streamcore import aggregates


def test_count_takes_an_expression_or_none() -> None:
    assert sc.count() == "count()"
    assert sc.count("a.b") == "count(a.b)"
    assert sc.count(where="status >= 500") == "count() where status >= 500"


@pytest.mark.parametrize(
    "function", [sc.sum, sc.min, sc.max, sc.mean, sc.first, sc.last, sc.count_distinct, sc.approx_distinct]
)
def test_the_others_take_one(function: Callable[..., str]) -> None:
    assert function("a.b") == f"{function.__name__}(a.b)"
    assert function("a.b", where="c") == f"{function.__name__}(a.b) where c"


def test_the_engine_knows_every_one() -> None:
    functions = [name for name in vars(aggregates) if not name.startswith("_") and name != "annotations"]
    calls = {name: getattr(aggregates, name)("a", where="b > 1") for name in functions}
    pipeline = sc.files("x", schema={"a": "int64"}).window(sc.tumbling("1m")).agg(calls)
    assert len(pipeline.config.steps) == 1
    assert len(calls) == 9
