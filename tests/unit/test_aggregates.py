"""Aggregate functions of the builder are the text a file would hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import streamcore as sc
from streamcore import aggregates


def test_count_takes_an_expression_or_none() -> None:
    assert sc.count() == "count()"
    assert sc.count("a.b") == "count(a.b)"
    assert sc.count(where="status >= 500") == "count() where status >= 500"


@pytest.mark.parametrize(
    "function",
    [
        sc.sum,
        sc.min,
        sc.max,
        sc.mean,
        sc.var,
        sc.stddev,
        sc.any,
        sc.all,
        sc.first,
        sc.last,
        sc.count_distinct,
        sc.approx_distinct,
    ],
)
def test_the_others_take_one(function: Callable[..., str]) -> None:
    assert function("a.b") == f"{function.__name__}(a.b)"
    assert function("a.b", where="c") == f"{function.__name__}(a.b) where c"


def test_some_take_more() -> None:
    assert sc.arg_max("a", "b - c", where="d") == "arg_max(a, b - c) where d"
    assert sc.arg_min("a", "b") == "arg_min(a, b)"
    assert sc.collect_list("a") == "collect_list(a)"
    assert sc.collect_list("a", 10, where="b") == "collect_list(a, 10) where b"
    assert sc.top_k("a", 3) == "top_k(a, 3)"
    assert sc.quantile("a", 0.5) == "quantile(a, 0.5)"


ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "any": ("flag",),
    "all": ("flag",),
    "arg_min": ("flag", "a"),
    "arg_max": ("flag", "a"),
    "top_k": ("a", 2),
    "quantile": ("a", 0.5),
}


def test_the_engine_knows_every_one() -> None:
    functions = [name for name in vars(aggregates) if not name.startswith("_") and name != "annotations"]
    calls = {name: getattr(aggregates, name)(*ARGUMENTS.get(name, ("a",)), where="b > 1") for name in functions}
    pipeline = sc.files("x", schema={"a": "int64", "flag": "bool"}).window(sc.tumbling("1m")).agg(calls)
    assert len(pipeline.config.steps) == 1
    assert len(calls) == 18


VISITS = [
    sc.Record({"city": city, "ms": ms}, timestamp_ms=time)
    for time, city, ms in [(3, "Cork", 40), (1, "Bath", 20), (2, "Cork", 20), (4, None, 90), (5, "Derry", None)]
]


def visits(**columns: str) -> sc.Table:
    schema = {"city": "string", "ms": "int64"}
    return sc.records(VISITS, schema=schema).window(sc.tumbling("1m")).agg(**columns).collect()


def test_lists_are_arrow_lists_in_the_order_of_events() -> None:
    columns = visits(
        cities=sc.collect_list("city"), two=sc.collect_list("city", 2), top=sc.top_k("city", 2)
    ).to_polars()
    assert columns.schema["cities"] == pl.List(pl.String)
    assert columns.schema["top"] == pl.List(pl.Struct({"value": pl.String, "count": pl.Int64}))
    row = columns.row(0, named=True)
    assert row["cities"] == ["Bath", "Cork", "Cork", "Derry"]
    assert row["two"] == ["Bath", "Cork"]
    assert row["top"] == [{"value": "Cork", "count": 2}, {"value": "Bath", "count": 1}]


def test_the_first_row_wins_among_equals_and_rows_with_a_null_count_for_nothing() -> None:
    row = (
        visits(fast="arg_min(city, ms)", slow="arg_max(city, ms)", half="quantile(ms, 0.5)")
        .to_polars()
        .row(0, named=True)
    )
    assert (row["fast"], row["slow"]) == ("Bath", "Cork")
    assert row["half"] == pytest.approx(20, rel=1 / 128)


def test_lists_reach_parquet_and_json(tmp_path: Path) -> None:
    schema = {"city": "string", "ms": "int64"}
    called = sc.records(VISITS, schema=schema).window(sc.tumbling("1m")).agg(all="collect_list(ms)", top="top_k(ms, 1)")
    called.sink_parquet(tmp_path / "rows").run()
    (file,) = tmp_path.rglob("*.parquet")
    row = pl.read_parquet(file).row(0, named=True)
    assert row["all"] == [20, 20, 40, 90]
    assert row["top"] == [{"value": 20, "count": 2}]
    called.sink_memory("lists").run()
    (record,) = sc.memory("lists", event_time="window_start").collect(stop="end").to_rows()
    value = json.loads(record["_value"])
    assert value["all"] == [20, 20, 40, 90]
    assert value["top"] == [{"value": 20, "count": 2}]


def test_an_empty_result_has_the_types_of_one_with_rows() -> None:
    columns = {"all": "collect_list(city)", "top": "top_k(city, 1)", "most": "top_k(ms, 1)"}
    schema = {"city": "string", "ms": "int64"}
    empty = sc.records([], schema=schema).window(sc.tumbling("1m")).agg(**columns).collect()
    assert empty.to_arrow().schema == visits(**columns).to_arrow().schema


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("top_k(city, 0)", "the k of top_k must be a whole number from 1 to 1000"),
        ("top_k(city, ms)", "the k of top_k must be a whole number from 1 to 1000"),
        ("quantile(ms, 95)", "the share of quantile must be a number from 0 to 1"),
        ("collect_list(city, -1)", "the limit of collect_list must be a whole number from 1 to 100000"),
        ("arg_max(city)", "arg_max takes two arguments, and has 1"),
        ("any(ms)", "any takes a condition"),
    ],
)
def test_a_call_that_is_none_says_why(call: str, message: str) -> None:
    with pytest.raises(sc.ConfigError, match=message):
        visits(it=call)
