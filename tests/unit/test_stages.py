"""Steps behind a window, as users write them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

import streamcore as sc
from streamcore.errors import RefusedRecordsWarning

RECORDS = [
    {"at": f"2026-01-01T12:{minute:02}:00Z", "user": user, "spent": spent}
    for minute, user, spent in [(0, "ann", 1), (1, "ann", 2), (2, "bob", 3), (11, "ann", 4), (12, "bob", 5)]
]
SCHEMA = {"user": "string", "spent": "int64"}


def spendings() -> sc.Pipeline:
    source = sc.records(RECORDS, event_time="at", schema=SCHEMA)
    return source.window(sc.tumbling("10m"), by="user").agg(total="sum(spent)", each="collect_list(spent)")


def test_rows_of_a_window_are_filtered_and_renamed() -> None:
    rows = spendings().filter("total > 3").select(who="user", list="each").collect().to_polars().rows(named=True)
    assert rows == [{"who": "ann", "list": [4]}, {"who": "bob", "list": [5]}]


def test_a_window_takes_the_rows_of_another() -> None:
    hours = spendings().window(sc.tumbling("1h")).agg(users="count_distinct(user)", parts="count()", total="sum(total)")
    (row,) = hours.collect().to_polars().rows(named=True)
    assert (row["users"], row["parts"], row["total"], row["revision"]) == (2, 4, 15, 0)
    assert f"{row['window_end'] - row['window_start']}" == "1:00:00"


def test_the_report_counts_the_rows_of_each_stage() -> None:
    with spendings().filter("total > 3").start() as run:
        list(run.stream())
    report = run.report
    assert (report.ledger.read, report.ledger.applied) == (5, 5)
    assert {name: count for name, count in report.stages["steps[1]"].items() if count} == {
        "read": 4,
        "applied": 2,
        "filtered": 2,
    }
    assert json.loads(json.dumps(report.to_dict()))["stages"]["steps[1]"]["filtered"] == 2


def test_rows_that_a_later_step_refuses_are_told() -> None:
    largest = sc.records([{"at": "2026-01-01T12:00:00Z", "n": 2**63 - 1}], event_time="at", schema={"n": "int64"})
    refused = largest.window(sc.tumbling("1m")).agg(most="max(n)").filter("most + 1 > 0")
    with pytest.warns(
        RefusedRecordsWarning, match=r"1 of 1 rows that a window or a join gave could not be used at steps\[1\]"
    ):
        assert len(refused.collect()) == 0
    with warnings.catch_warnings(), refused.start() as run:
        warnings.simplefilter("error")
        (batch,) = run.stream(outputs=("rejected",))
    (row,) = batch.to_polars().rows(named=True)
    assert (row["reason"], row["_topic"], row["_partition"]) == ("NUMBER_RANGE", "steps[1]", -1)
    assert json.loads(row["_value"])["most"] == 2**63 - 1


def test_a_file_says_the_same(tmp_path: Path) -> None:
    pipeline = (
        sc.files("clicks.jsonl", event_time="at", schema=SCHEMA)
        .window(sc.tumbling("10m"), by="user")
        .agg(total="sum(spent)")
        .filter("total > $least", least=3)
        .window(sc.session("1h"))
        .agg(users="count()")
    )
    (tmp_path / "pipeline.toml").write_text(pipeline.to_toml())
    assert sc.load(tmp_path / "pipeline.toml").config.steps == pipeline.config.steps


def test_the_keys_of_rows_are_those_of_the_last_window() -> None:
    chained = spendings().window(sc.tumbling("1h"), by={"who": "user"}).agg(n="count()")
    assert chained.config.window is not None
    assert list(chained.filter("n > 1").config.window.by) == ["who"]  # type: ignore[union-attr]
    assert chained.select(n="n").config.window is None


def test_updates_cannot_be_followed() -> None:
    early = (
        sc.records(RECORDS, event_time="at", schema=SCHEMA).window(sc.tumbling("1m"), emit="updates").agg(n="count()")
    )
    with pytest.raises(sc.ConfigError, match="takes only rows that are final"):
        early.filter("n > 1").collect()
