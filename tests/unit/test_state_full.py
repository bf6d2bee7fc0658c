"""Bounds of the state end to end: named runs that stop and go on, and runs that shed."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import streamcore as sc
from streamcore.checkpoint import Checkpoint
from streamcore.cli import main
from streamcore.errors import ConfigError, RefusedRecordsWarning, StateFullError

KEYS = 3_000


def jsonl(folder: Path, keys: int) -> Path:
    path = folder / "in.jsonl"
    rows = [{"at": number // 100, "page": f"page {number % keys}"} for number in range(2 * keys)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def counted(folder: Path, **limits: Any) -> sc.Pipeline:
    source = sc.files(
        str(jsonl(folder, KEYS)),
        piece_bytes=4096,
        event_time="at",
        event_time_unit="s",
        schema={"page": "string"},
    )
    pipeline = source.window(sc.tumbling("1h"), by="page").agg(n=sc.count()).sink_parquet(str(folder / "out"))
    return pipeline.configure(state_dir=str(folder / "state"), limits=limits)


@pytest.mark.parametrize("limits", [{"max_keys": 1_000}, {"max_state_bytes": 60_000}])
def test_a_run_stops_at_its_bound_and_goes_on_where_there_is_more_room(tmp_path: Path, limits: dict[str, int]) -> None:
    with pytest.raises(StateFullError, match=r"steps\[0\] \(window\)") as caught:
        counted(tmp_path, **limits).run(name="job")
    assert caught.value.exit_code == 6
    assert "raise the limit" in str(caught.value)
    assert "records) is committed, all before it is (epoch " in str(caught.value)
    saved = Checkpoint(tmp_path / "state" / "job").read(pipeline="job")
    assert saved is not None
    assert saved.header.positions[0] > 0
    rows_before = sum(lane.get("read", 0) for lane in saved.header.ledger.values())
    assert 500 < rows_before <= 1_500
    report = counted(tmp_path, max_keys=KEYS).run(name="job")
    assert report.held == {"steps[0] (window)": {"keys": KEYS, "bytes": report.state_bytes}}
    rows = pl.read_parquet(tmp_path / "out")
    assert (rows.height, rows["page"].n_unique(), rows["n"].to_list()) == (KEYS, KEYS, [2] * KEYS)


def test_a_run_without_a_name_stops_as_well(tmp_path: Path) -> None:
    with pytest.raises(StateFullError, match="max_keys = 10"):
        counted(tmp_path, max_keys=10).collect()


def test_rows_of_new_keys_are_shed_and_the_others_count() -> None:
    records = [{"at": "2026-01-01T00:00:00Z", "page": f"page {number % 500}"} for number in range(20_000)]
    pipeline = (
        sc.records(records, event_time="at", schema={"page": "string"})
        .window(sc.tumbling("1h"), by="page")
        .agg(n=sc.count())
        .configure(limits={"max_keys": 3, "on_full": "shed"})
    )
    with pipeline.start() as run:
        batches = list(run.stream(outputs=("result", "rejected")))
    rows = [row for batch in batches if batch.output == "result" for row in batch.to_polars().rows(named=True)]
    assert {row["page"]: row["n"] for row in rows} == {f"page {number}": 40 for number in range(3)}
    refused = [row for batch in batches if batch.output == "rejected" for row in batch.to_polars().rows(named=True)]
    ledger = run.report.ledger
    # Far more than error_rate_max: nothing is wrong with them.
    assert (ledger.read, ledger.applied, ledger.rejected, ledger.shed) == (20_000, 120, 19_880, 19_880)
    assert len(refused) == 19_880
    assert {row["reason"] for row in refused} == {"STATE_FULL"}
    assert "limits.max_keys is 3" in refused[0]["detail"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pipeline.collect()
    assert [warning.category for warning in caught] == [RefusedRecordsWarning]


def test_spilling_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match='"spill" to disk is not built'):
        sc.records([]).configure(limits={"on_full": "spill"})


def test_explain_tells_what_a_key_takes_and_what_happens_at_the_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.toml"
    file.write_text(counted(tmp_path, max_keys=10).to_toml())
    assert main(["explain", str(file)]) == 0
    out = capsys.readouterr().out
    assert "bytes a key in a window, beside the key" in out
    assert "at most 4294967296 bytes and 10 keys a window step in all; then the run stops" in out
    assert main(["explain", str(file), "--set", "limits.on_full=shed"]) == 0
    assert "keys a window step a lane; then records of new keys are dead letters" in capsys.readouterr().out


def test_the_command_ends_with_6_and_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "p.toml"
    file.write_text('name = "job"\n' + counted(tmp_path, max_keys=10).to_toml())
    assert main(["run", str(file)]) == 6
    lines = capsys.readouterr().err.splitlines()
    assert lines[-3].startswith("error: steps[0] (window) would hold more than limits.max_keys = 10 keys (steps[0]")
    assert lines[-2].startswith("nothing of the poll that does not fit (")
    assert lines[-1].startswith("hint: raise the limit")


def joined(folder: Path, **limits: Any) -> sc.Pipeline:
    return unwritten(folder, **limits).sink_parquet(str(folder / "out"))


def unwritten(folder: Path, **limits: Any) -> sc.Pipeline:
    path = str(jsonl(folder, 1_000))
    known: dict[str, Any] = {"event_time": "at", "event_time_unit": "s", "schema": {"page": "string"}}
    left, right = (sc.files(path, piece_bytes=4096, out_of_orderness="1h", **known) for _ in range(2))
    pipeline = left.dedupe("page", within="1h").join(right, on="page", within="1h")
    return pipeline.configure(state_dir=str(folder / "state"), limits=limits)


@pytest.mark.parametrize("limits", [{"max_keys": 1_200}, {"max_state_bytes": 600_000}])
def test_a_join_stops_at_its_bound_and_goes_on_where_there_is_more_room(tmp_path: Path, limits: dict[str, int]) -> None:
    with pytest.raises(StateFullError, match=r"steps\[1\] \(join\)") as caught:
        joined(tmp_path, **limits).run(name="job")
    assert caught.value.exit_code == 6
    assert "let the join reach less far" in str(caught.value)
    assert "records) is committed, all before it is (epoch " in str(caught.value)
    report = joined(tmp_path).run(name="job")
    assert list(report.held) == ["steps[0] (dedupe)", "steps[1] (join)"]
    assert report.held["steps[1] (join)"]["keys"] == 3_000
    rows = pl.read_parquet(tmp_path / "out")
    assert (rows.height, rows["page"].n_unique()) == (2_000, 1_000)


def test_a_join_sheds_rows_that_it_has_no_room_for(tmp_path: Path) -> None:
    # With another sink it would not wait for whoever takes its rows here.
    rows = Counter[str]()
    with unwritten(tmp_path, max_keys=300, on_full="shed").start() as run:
        for batch in run.stream(outputs=("result", "rejected")):
            rows[batch.output] += batch.num_rows
    ledger = run.report.ledger
    assert (ledger.read, ledger.duplicate, ledger.shed) == (4_000, 1_000, 700 + 1_700)
    assert rows == {"result": 300, "rejected": 2_400}
    assert run.report.held["steps[1] (join)"]["keys"] == 600


@pytest.mark.parametrize(("method", "most"), [("exact", 200_000), ("bloom", 60_000)])
def test_what_dedupe_remembers_counts(tmp_path: Path, method: Any, most: int) -> None:
    source = sc.files(
        str(jsonl(tmp_path, 20_000)),
        piece_bytes=65_536,
        event_time="at",
        event_time_unit="s",
        schema={"page": "string"},
    )
    pipeline = source.dedupe("page", within="10h", method=method)
    bounded = pipeline.configure(limits={"max_state_bytes": most // 4})
    with pytest.raises(StateFullError, match=r"steps\[0\] \(dedupe\): [0-9]+ ids"):
        bounded.collect()
    shedding = pipeline.configure(limits={"max_state_bytes": most, "on_full": "shed"})
    with shedding.start() as run:
        rejected = sum(batch.num_rows for batch in run.stream(outputs=("rejected",)))
    assert rejected == run.report.ledger.shed > 5_000
    assert run.report.ledger.applied > 5_000
    assert run.report.state_bytes < 2 * most


class Texts:
    """Keeps all it is given."""

    def init(self, rows: sc.Batch) -> pl.DataFrame:
        return pl.DataFrame(rows).select(text=pl.col("x") + "." * 500)

    def merge(self, states: sc.Batch) -> pl.DataFrame:
        return pl.DataFrame(states).group_by("group").agg(pl.col("text").str.join(""))

    def finish(self, states: sc.Batch) -> pl.DataFrame:
        return pl.DataFrame(states).select(pl.col("text").str.len_bytes().cast(pl.Int64))


def test_what_aggregates_of_ones_own_hold_counts() -> None:
    texts = sc.aggregate(Texts, arguments={"x": "string"}, state={"text": "string"}, returns="int64")
    records = [{"at": "2026-01-01T00:00:00Z", "page": f"page {number % 3}"} for number in range(6_000)]
    windows = sc.records(records, event_time="at", schema={"page": "string"}).window(sc.tumbling("1h"), by="page")
    pipeline = windows.agg(n=texts("page"))
    assert sum(row["n"] for row in pipeline.collect().to_rows()) == 6_000 * 506
    for on_full in ("stop", "shed"):
        bounded = pipeline.configure(limits={"max_state_bytes": 500_000, "on_full": on_full})
        with pytest.raises(StateFullError, match=r"steps\[0\] \(window\): 3 keys"):
            bounded.collect()
