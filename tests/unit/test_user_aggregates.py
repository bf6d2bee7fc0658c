"""Aggregates of the user: what they give, what a failing one costs, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import streamcore as sc
from streamcore.config import PipelineConfig
from streamcore.functions import functions_of
from streamcore.testing import TestRun

SCHEMA = {"page": "string", "ms": "int64", "weight": "float64"}
MINUTE = sc.tumbling("1m")


class GeometricMean:
    """Of positive numbers."""

    def init(self, rows: sc.Batch) -> pl.DataFrame:
        if (pl.DataFrame(rows)["x"] <= 0).any():
            raise ValueError("only of positive numbers")
        return pl.DataFrame(rows).select(count=pl.lit(1), log=pl.col("x").log())

    def merge(self, states: sc.Batch) -> pl.DataFrame:
        return pl.DataFrame(states).group_by("group").sum()

    def finish(self, states: sc.Batch) -> pl.DataFrame:
        return pl.DataFrame(states).select((pl.col("log") / pl.col("count")).exp())


geometric_mean = sc.aggregate(
    GeometricMean, arguments={"x": "float64"}, state={"count": "int64", "log": "float64"}, returns="float64"
)


class WeightedMean:
    calls = 0

    def init(self, rows: sc.Batch) -> pl.DataFrame:
        frame = pl.DataFrame(rows)
        return frame.select(sum=pl.col("x") * pl.col("weight"), weights="weight")

    def merge(self, states: sc.Batch) -> pl.DataFrame:
        type(self).calls += 1
        return pl.DataFrame(states).group_by("group").sum()

    def finish(self, states: sc.Batch) -> pl.DataFrame:
        type(self).calls += 1
        return pl.DataFrame(states).select(value=pl.col("sum") / pl.col("weights"), other=1)


weighted_mean = sc.aggregate(
    WeightedMean,
    arguments={"x": "float64", "weight": "float64"},
    state={"sum": "float64", "weights": "float64"},
    returns="float64",
    version=3,
)


def visits(*records: tuple[int, str | None, int | None], **source: Any) -> sc.Pipeline:
    made = [
        {"at": f"2026-01-01T12:{second // 60:02}:{second % 60:02}Z", "page": page, "ms": ms, "weight": 0.5}
        for second, page, ms in records
    ]
    return sc.records(made, event_time="at", schema=SCHEMA, **source)


MIXED = ((1, "a", 2), (2, "b", 5), (3, "a", 8), (4, "a", None), (61, "a", 7))


def means(pipeline: sc.Pipeline, *columns: str) -> list[tuple[Any, ...]]:
    return pipeline.collect().to_polars().select(*columns).rows()


def test_a_value_for_each_group_and_window_and_nulls_do_not_count() -> None:
    counted = visits(*MIXED).window(MINUTE, by="page").agg(mean=geometric_mean("ms"), n=sc.count())
    rows = means(counted, "page", "mean", "n")
    assert [(page, n) for page, _, n in rows] == [("a", 3), ("b", 1), ("a", 1)]
    assert [mean for _, mean, _ in rows] == pytest.approx([4.0, 5.0, 7.0])


def test_conditions_expressions_and_parameters() -> None:
    window = visits(*MIXED).window(sc.whole())
    call = geometric_mean("ms * $by", where="page == 'a' and ms < 8")
    assert means(window.agg({"mean": call, "none": geometric_mean("ms", where="ms > 99")}, by=2), "mean", "none") == [
        (pytest.approx(math.sqrt(4 * 14)), None)
    ]


@pytest.mark.parametrize(
    "window", [sc.hopping("2m", slide="1m"), sc.session("2m"), sc.cumulate("2m", step="1m"), sc.sliding("2m")]
)
def test_every_kind_of_window_merges_them(window: Any) -> None:
    records = [
        sc.Record(b'{"page": "a", "ms": %d, "s": %d}' % (ms, s), key=b"a") for s, ms in ((0, 2), (61, 8), (200, 3))
    ]
    source = sc.records(
        records, event_time="s", event_time_unit="s", keyed_by="page", out_of_orderness="0s", schema=SCHEMA
    )
    counted = source.window(window, by="page").agg(mean=geometric_mean("ms"), logs=sc.collect_list("ms"))
    for mean, values in means(counted, "mean", "logs"):
        assert mean == pytest.approx(math.prod(values) ** (1 / len(values)))


def test_rows_for_which_it_fails_are_dead_letters_and_count_nowhere() -> None:
    records = ((1, "a", 2), (2, "a", 0), (3, "a", 8), (4, "b", -1))
    counted = visits(*records).window(MINUTE, by="page").agg(mean=geometric_mean("ms"), n=sc.count())
    with counted.start() as run:
        batches = [(batch.output, batch.to_rows()) for batch in run.stream(outputs=("result", "rejected"))]
        ledger = run.report.ledger
    rows = [(row["page"], row["mean"], row["n"]) for output, rows in batches for row in rows if output == "result"]
    assert rows == [("a", pytest.approx(4.0), 2)]
    refused = [row for output, rows in batches for row in rows if output == "rejected"]
    assert [row["reason"] for row in refused] == ["FUNCTION_FAILED"] * 2
    lines = Path(__file__).read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "only of positive numbers" in text)
    expected = f"geometric_mean.init: ValueError in test_user_aggregates.py, line {line} (init)"
    assert refused[0]["detail"] == expected
    assert (ledger.read, ledger.applied, ledger.rejected) == (4, 2, 2)


def test_a_failing_finish_costs_the_value_and_is_told() -> None:
    class Largest:
        def init(self, rows: sc.Batch) -> pl.DataFrame:
            return pl.DataFrame(rows)

        def merge(self, states: sc.Batch) -> pl.DataFrame:
            return pl.DataFrame(states).group_by("group").max()

        def finish(self, states: sc.Batch) -> pl.DataFrame:
            if (pl.DataFrame(states)["x"] == 5).any():
                raise ArithmeticError
            return pl.DataFrame(states)

    largest = sc.aggregate(Largest, arguments={"x": "int64"}, state={"x": "int64"}, returns="int64")

    counted = visits(*MIXED).window(MINUTE, by="page").agg(top=largest("ms"), n=sc.count())
    with pytest.warns(sc.LostValuesWarning, match=r"1 values of top are null.*largest.finish: ArithmeticError in"):
        assert means(counted, "page", "top", "n") == [("a", 8, 3), ("b", None, 1), ("a", 7, 1)]


def test_states_have_the_names_that_are_declared() -> None:
    class Renamed(RoundedSum):
        def init(self, rows: sc.Batch) -> pl.DataFrame:
            return pl.DataFrame(rows).rename({"x": "y"})

    renamed = sc.aggregate(Renamed, arguments={"x": "int64"}, state={"x": "int64"}, returns="int64")
    counted = visits((1, "a", 8)).window(MINUTE, by="page").agg(top=renamed("ms"))
    with counted.start() as run:
        [row] = [row for batch in run.stream(("rejected",)) for row in batch.to_rows()]
    assert row["detail"] == "renamed.init: it gave no column x, which the aggregate declares; it gave y"


def test_a_finish_of_two_columns_is_told_so() -> None:
    class Paired(RoundedSum):
        def finish(self, states: sc.Batch) -> pl.DataFrame:
            return pl.DataFrame(states).select("x", y="x")

    paired = sc.aggregate(Paired, arguments={"x": "int64"}, state={"x": "int64"}, returns="int64")
    counted = visits((1, "a", 8)).window(MINUTE, by="page").agg(top=paired("ms"))
    with pytest.warns(sc.LostValuesWarning, match=r"paired.finish: it gave 2 columns \(x, y\), and a value is one"):
        assert means(counted, "top") == [(None,)]


@pytest.mark.parametrize("method", ["init", "finish"])
def test_text_that_is_none_costs_rows_or_values(method: str) -> None:
    def texts(frame: pl.DataFrame, failing: str) -> pa.Table:
        raw = [b"\xe9" if failing == method and number == 5 else b"ok" for number in frame["x"]]
        text = pa.array(raw, pa.binary()).view(pa.string())
        return pa.table({"x": frame["x"].to_arrow(), "text": text})

    class Named:
        def init(self, rows: sc.Batch) -> pa.Table:
            return texts(pl.DataFrame(rows), "init")

        def merge(self, states: sc.Batch) -> pl.DataFrame:
            return pl.DataFrame(states).group_by("group").max()

        def finish(self, states: sc.Batch) -> pa.Table:
            return texts(pl.DataFrame(states), "finish").select(["text"]).rename_columns(["value"])

    named = sc.aggregate(Named, arguments={"x": "int64"}, state={"x": "int64", "text": "string"}, returns="string")
    counted = visits((1, "a", 2), (2, "b", 5)).window(MINUTE, by="page").agg(name=named("ms"), n=sc.count())
    with counted.start() as run:
        batches = [(batch.output, batch.to_rows()) for batch in run.stream(outputs=("result", "rejected"))]
    rows = [(row["page"], row["name"]) for output, rows in batches for row in rows if output == "result"]
    refused = [row["detail"] for output, rows in batches for row in rows if output == "rejected"]
    assert rows == ([("a", "ok")] if method == "init" else [("a", "ok"), ("b", None)])
    told = refused if method == "init" else [why for _, why in run.report.lost_values.values()]
    assert len(told) == 1
    assert "that is not UTF-8" in told[0]


def test_lanes_meet_and_python_is_called_by_the_batch() -> None:
    events = [
        sc.Record(b'{"page": "a", "ms": %d, "weight": 2, "s": %d}' % (n, n % 50), partition=n % 3) for n in range(3000)
    ]
    source = sc.records(events, event_time="s", event_time_unit="s", schema=SCHEMA)
    WeightedMean.calls = 0
    [(mean,)] = means(source.window(sc.whole()).agg(mean=weighted_mean("ms", "weight")), "mean")
    assert mean == pytest.approx(2999 / 2)
    assert WeightedMean.calls < 100, "merges are of many states at once"


class RoundedSum:
    """A sum of floats: it depends on which are added first."""

    def init(self, rows: sc.Batch) -> pl.DataFrame:
        return pl.DataFrame(rows)

    def merge(self, states: sc.Batch) -> pl.DataFrame:
        sums: dict[int, float] = {}
        for row in states.to_rows():
            sums[row["group"]] = sums.get(row["group"], 0.0) + row["x"]
        return pl.DataFrame({"group": list(sums), "x": list(sums.values())})

    def finish(self, states: sc.Batch) -> pl.DataFrame:
        return pl.DataFrame(states)


rounded_sum = sc.aggregate(RoundedSum, arguments={"x": "float64"}, state={"x": "float64"}, returns="float64")


def test_cuts_change_not_a_bit() -> None:
    record = b'{"page": "a", "weight": %d.%d, "s": %d}'
    events = [sc.Record(record % (10 ** (n % 17), n, n // 10), key=b"a") for n in range(1500)]
    source = sc.records([], event_time="s", event_time_unit="s", keyed_by="page", out_of_orderness="0s", schema=SCHEMA)
    counted = source.window(MINUTE, by="page").agg(sum=rounded_sum("weight"))

    def rows(cut: int) -> list[Any]:
        with TestRun(counted.config) as run:
            for number, start in enumerate(range(0, len(events), cut)):
                run.push(events[start : start + cut])
                if number % 3 == 0:
                    run.commit()
            run.end()
            return run.rows()

    assert rows(1500) == rows(7) == rows(400)


def test_a_file_names_the_class() -> None:
    keys: dict[str, Any] = {"function": f"{__name__}:GeometricMean", **geometric_mean.declared}
    window = {"window": "tumbling", "size": "1m", "aggregate": {"mean": "mean_of(ms)"}, "functions": {"mean_of": keys}}
    source = {"type": "files", "path": "x", "schema": SCHEMA}

    def parts() -> list[str]:
        found = functions_of(PipelineConfig.model_validate({"source": source, "steps": [window]}))
        return [name.rpartition(":")[2] for name in found]

    assert parts() == [f"GeometricMean.{part}" for part in ("init", "merge", "finish")]
    keys["function"] = f"{__name__}:means"
    with pytest.raises(sc.ConfigError, match="has no init"):
        parts()
    keys["function"] = f"{__name__}:nothing"
    with pytest.raises(sc.ConfigError, match="cannot be imported"):
        parts()


def test_a_pipeline_with_one_is_written_as_a_file_and_read_back(tmp_path: Path) -> None:
    pipeline = sc.files("x", event_time="at", schema=SCHEMA).window(MINUTE).agg(mean=weighted_mean("ms", "weight"))
    assert "weighted_mean is" in pipeline.explain()
    assert "version 3" in pipeline.explain()
    file = tmp_path / "pipeline.toml"
    file.write_text(pipeline.to_toml())
    assert f'function = "{__name__}:WeightedMean"' in file.read_text()
    assert sc.load(file).to_toml() == pipeline.to_toml()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (geometric_mean("ms", "weight"), r"geometric_mean takes one argument \(x float64\)"),
        (weighted_mean("ms"), r"weighted_mean takes 2 arguments \(x float64, weight float64\)"),
        (geometric_mean("page"), "takes float64 as its x, and this is string"),
    ],
)
def test_calls_that_are_none(call: Any, message: str) -> None:
    with pytest.raises(sc.ConfigError, match=message):
        visits(*MIXED).window(MINUTE).agg(mean=call).collect()


def test_classes_and_names_that_are_none() -> None:
    types: dict[str, Any] = {"arguments": {"x": "int64"}, "state": {"x": "int64"}, "returns": "int64"}
    with pytest.raises(sc.ConfigError, match="it has no init"):
        sc.aggregate(dict, **types)
    with pytest.raises(sc.ConfigError, match="no name that expressions could call"):
        sc.aggregate(GeometricMean, **types, name="a b")
    other = sc.aggregate(GeometricMean, **types)
    window = visits(*MIXED).window(MINUTE)
    with pytest.raises(sc.ConfigError, match="two aggregates are called geometric_mean"):
        window.agg(a=geometric_mean("ms"), b=other("ms"))
    for key, value, message in (
        ("state", {"group": "int64"}, "group is the column that tells groups apart"),
        ("returns", "text", "there is no type text"),
    ):
        wrong = sc.aggregate(GeometricMean, **{**types, key: value})
        with pytest.raises(sc.ConfigError, match=message):
            window.agg(a=wrong("ms")).collect()
    with pytest.raises(sc.ConfigError, match="count is an aggregate already"):
        window.agg(a=sc.aggregate(GeometricMean, **types, name="count")("ms")).collect()
