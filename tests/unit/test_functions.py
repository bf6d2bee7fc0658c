"""Functions of the user on whole batches."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

import streamcore as sc
from streamcore.config import function_name
from streamcore.functions import resolved

SCHEMA = {"user": "string", "spent": "int64"}
RECORDS = [
    {"at": f"2026-01-01T12:00:{second:02}Z", "user": user, "spent": spent}
    for second, (user, spent) in enumerate([("ann", 4), ("bob", 0), ("ann", 5), ("eve", 0), ("bob", 10)])
]


def spendings() -> sc.Pipeline:
    return sc.records(RECORDS, event_time="at", schema=SCHEMA)


def doubled(batch: sc.Batch) -> pl.DataFrame:
    return pl.DataFrame(batch).select("user", twice=pl.col("spent") * 2)


def shares(batch: sc.Batch) -> pl.DataFrame:
    return pl.DataFrame({"share": [100 // row["spent"] for row in batch.to_rows()]})


def test_a_function_replaces_the_columns() -> None:
    rows = spendings().map_batches(doubled, schema={"user": "string", "twice": "int64"}).collect().to_polars().rows()
    assert rows == [("ann", 8), ("bob", 0), ("ann", 10), ("eve", 0), ("bob", 20)]


def test_pyarrow_answers_as_well() -> None:
    def with_pyarrow(batch: sc.Batch) -> pa.Table:
        return pa.table(batch).select(["spent"])

    def as_one_array(batch: sc.Batch) -> object:
        class Array:
            def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
                return batch.__arrow_c_array__(requested_schema)

        return Array()

    for function in (with_pyarrow, as_one_array):
        rows = spendings().map_batches(function, schema={"spent": "int64"}).collect().to_polars().rows()
        assert rows == [(4,), (0,), (5,), (0,), (10,)]


def test_steps_follow_and_windows_count_what_it_gave() -> None:
    mapped = (
        spendings()
        .select(who="user", spent="spent + 1")
        .map_batches(
            lambda batch: pl.DataFrame(batch).with_columns(large=pl.col("spent") > 4),
            schema={"who": "string", "large": "bool"},
        )
    )
    counted = mapped.filter("large").window(sc.tumbling("1m"), by="who").agg(n=sc.count())
    rows = counted.collect().to_polars().select("who", "n").rows()
    assert rows == [("ann", 2), ("bob", 1)]


def test_it_takes_the_rows_of_a_window_with_their_lists() -> None:
    seen: list[pl.DataFrame] = []

    def spread(batch: sc.Batch) -> pl.DataFrame:
        seen.append(pl.DataFrame(batch))
        return seen[-1].select("user", widest=pl.col("all").list.max() - pl.col("all").list.min())

    windows = spendings().window(sc.tumbling("1m"), by="user").agg(all="collect_list(spent)")
    rows = windows.map_batches(spread, schema={"user": "string", "widest": "int64"}).filter("widest > 0").collect()
    assert rows.to_polars().rows() == [("ann", 1), ("bob", 10)]
    (frame,) = seen
    assert frame["all"].to_list() == [[4, 5], [0, 10], [0]]


def test_rows_a_function_fails_for_are_dead_letters_that_name_the_line() -> None:
    pipeline = spendings().map_batches(shares, schema={"share": "int64"})
    with pipeline.start() as run:
        batches = list(run.stream(outputs=("result", "rejected")))
    rejected = [row for batch in batches if batch.output == "rejected" for row in batch.to_rows()]
    results = [row["share"] for batch in batches if batch.output == "result" for row in batch.to_rows()]
    assert results == [25, 20, 10]
    assert [(row["reason"], row["_offset"]) for row in rejected] == [("FUNCTION_FAILED", 1), ("FUNCTION_FAILED", 3)]
    line = shares.__code__.co_firstlineno + 1
    detail = f"tests.unit.test_functions:shares: ZeroDivisionError in test_functions.py, line {line} ("
    assert rejected[0]["detail"].startswith(detail)
    ledger = run.report.ledger
    assert (ledger.read, ledger.applied, ledger.rejected) == (5, 3, 2)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda batch: [1] * len(batch), "it gave a list, and not Arrow"),
        (lambda _: pl.DataFrame({"share": [1] * 7}), "it gave 7 rows for 1"),
        (
            lambda batch: pl.DataFrame({"other": [1] * len(batch)}),
            "it gave no column share, which schema declares; it gave other",
        ),
        (lambda batch: pl.DataFrame({"share": ["x"] * len(batch)}), "it gave share as"),
        (
            lambda batch: pl.DataFrame({"share": [2**64 - 1] * len(batch)}, schema={"share": pl.UInt64}),
            "does not hold exactly",
        ),
    ],
)
def test_what_is_no_answer_is_told(function: object, reason: str) -> None:
    pipeline = spendings().map_batches(function, schema={"share": "int64"})  # type: ignore[arg-type]
    with pipeline.start() as run:
        rejected = [row for batch in run.stream(outputs=("rejected",)) for row in batch.to_rows()]
    assert len(rejected) == len(RECORDS)
    assert reason in rejected[0]["detail"]


def test_text_that_is_none_is_refused_row_by_row() -> None:
    def named(batch: sc.Batch) -> pa.Table:
        names = [b"caf\xe9" if spent == 10 else b"ok" for spent in pl.DataFrame(batch)["spent"]]
        return pa.table({"name": pa.array(names, pa.binary()).view(pa.string())})

    with spendings().map_batches(named, schema={"name": "string"}).start() as run:
        batches = [(batch.output, batch.to_rows()) for batch in run.stream(outputs=("result", "rejected"))]
    (refused,) = [row for output, rows in batches for row in rows if output == "rejected"]
    assert refused["reason"] == "FUNCTION_FAILED"
    assert "it gave a text in name that is not UTF-8" in refused["detail"]
    assert sum(len(rows) for output, rows in batches if output == "result") == len(RECORDS) - 1


def test_values_of_every_type_come_back() -> None:
    records = [
        {"at": "2026-01-01T12:00:00Z", "flag": True, "n": -3, "x": 0.5, "text": "ö", "money": "1.25"},
        {"at": "2026-01-01T12:00:01Z"},
    ]
    types = {"flag": "bool", "n": "int64", "x": "float64", "text": "string", "money": "decimal(9,2)", "at": "timestamp"}
    source = sc.records(records, event_time="at", schema=types)
    plain = source.select({name: name for name in types})
    assert plain.map_batches(pa.table, schema=types).collect().to_polars().equals(plain.collect().to_polars())
    assert plain.map_batches(pl.DataFrame, schema=types).collect().to_polars().equals(plain.collect().to_polars())


def test_a_function_is_named_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_jobs.py").write_text("import polars as pl\n\n\ndef same(batch):\n    return pl.DataFrame(batch)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    named = spendings().map_batches("my_jobs:same", schema=SCHEMA)
    assert named.collect().to_polars().height == len(RECORDS)
    files = sc.files("x.jsonl", schema=SCHEMA).map_batches(doubled, schema={"user": "string"})
    assert 'map_batches = "tests.unit.test_functions:doubled"' in files.to_toml()
    (tmp_path / "pipeline.toml").write_text(files.to_toml())
    assert function_name(sc.load(tmp_path / "pipeline.toml").config.steps[0].map_batches) == function_name(doubled)  # type: ignore[union-attr]
    with pytest.raises(sc.ConfigError, match="has no place in a file"):
        sc.files("x.jsonl", schema=SCHEMA).map_batches(lambda batch: batch, schema=SCHEMA).to_toml()
    sys.modules.pop("my_jobs", None)


def test_mistakes_are_told_before_anything_runs() -> None:
    with pytest.raises(sc.ConfigError, match="there is no type text"):
        spendings().map_batches(doubled, schema={"user": "text"})
    with pytest.raises(sc.ConfigError, match="which columns the function is given"):
        sc.records(RECORDS).map_batches(doubled, schema={"user": "string"})
    with pytest.raises(sc.ConfigError, match="after `map_batches` there is no column spent"):
        spendings().map_batches(doubled, schema={"user": "string"}).filter("spent > 1")
    with pytest.raises(sc.ConfigError, match="a function is written"):
        spendings().map_batches("jobs.enrich", schema={"user": "string"})
    with pytest.raises(sc.ConfigError, match="nowhere_at_all:f cannot be imported"):
        resolved("nowhere_at_all:f", "steps[0].map_batches")
    with pytest.raises(sc.ConfigError, match="sys:path is no function"):
        resolved("sys:path", "steps[0].map_batches")
