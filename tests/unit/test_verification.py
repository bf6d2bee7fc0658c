"""`streamcore verify --against polars`: what it compares, what it finds, and what it refuses."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import streamcore as sc
from streamcore import verification
from streamcore.cli import main
from streamcore.commands.verify import table_lines
from streamcore.config import PipelineConfig
from streamcore.errors import ConfigError, Error
from streamcore.recompute import recipe_of
from streamcore.verification import Difference, differences, verify

WINDOWS: dict[str, Any] = {
    "tumbling": sc.tumbling("10s", offset="3s"),
    "hopping": sc.hopping("10s", slide="3s"),
    "gaps": sc.hopping("4s", slide="10s"),
    "session": sc.session("2s"),
    "open_session": sc.session("2s", gap_inclusive=False),
}
AGGREGATES = {
    "n": "count()",
    "known": "count(v)",
    "large": "count() where v >= 50 and k != 'b'",
    "total": "sum(v)",
    "least": "min(f)",
    "most": "max(v)",
    "middle": "mean(f)",
    "named": "sum(f) where p.q is not null",
}


def records(count: int, seed: int, *, disorder_ms: int) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    return [
        {
            "t": number * 300 - chance.randint(0, disorder_ms),
            "k": chance.choice(["a", "b", "c", None]),
            "v": chance.choice([None, chance.randint(-100, 100)]),
            "f": chance.uniform(-1, 1),
            "p": chance.choice([{}, {"q": "x"}]),
        }
        for number in range(count)
    ]


def flow(folder: Path, rows: list[Any], window: Any, *, bound: str = "5s", **keys: Any) -> PipelineConfig:
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    schema = {"k": "string", "v": "int64", "f": "float64", "p.q": "string"}
    source = sc.files(str(path), event_time="t", event_time_unit="ms", out_of_orderness=bound, schema=schema)
    return source.filter("v != 7").window(window, by="k", **keys).agg(**AGGREGATES).config


@pytest.mark.parametrize("kind", WINDOWS)
@pytest.mark.parametrize("seed", [1, 2])
def test_every_window_agrees_with_the_batch(tmp_path: Path, kind: str, seed: int) -> None:
    rows = [*records(2_000, seed, disorder_ms=4_000), {"t": "x"}, {"t": 600_000, "v": "text"}]
    emit = "final" if "session" in kind else "updates"
    found = verify(flow(tmp_path, rows, WINDOWS[kind], emit=emit), start=None, stop=None)
    assert found.differences == []
    assert (found.records, found.left_out) == (2_002, 2)
    assert found.windows > 100


def test_late_records_are_left_out_of_both(tmp_path: Path) -> None:
    found = verify(
        flow(tmp_path, records(500, 3, disorder_ms=4_000), sc.tumbling("1s"), bound="0s"), start=None, stop=None
    )
    assert (found.differences, found.left_out > 50) == ([], True)


def test_what_an_engine_makes_wrong_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = flow(tmp_path, records(500, 4, disorder_ms=1_000), sc.tumbling("10s"))
    honest = verification._final

    def wrong(recipe: Any, results: Any) -> pl.DataFrame:
        frame = honest(recipe, results).sort("k", "window_start")
        one_more = pl.when(pl.int_range(pl.len()) == 5).then(pl.col("n") + 1).otherwise(pl.col("n"))
        return frame.with_columns(one_more.alias("n"))[1:]

    monkeypatch.setattr(verification, "_final", wrong)
    found = verify(config, start=None, stop=None)
    assert (len(found.differences), found.differing) == (2, 2)
    (missing,) = [one for one in found.differences if one.column is None]
    assert missing.engine is None
    assert list(missing.recomputed) == list(AGGREGATES)
    (wrong_value,) = [one for one in found.differences if one.column == "n"]
    assert wrong_value.engine == wrong_value.recomputed + 1


def test_each_side_may_have_a_window_of_its_own(tmp_path: Path) -> None:
    recipe, _ = recipe_of(flow(tmp_path, [], sc.tumbling("10s")))
    assert recipe is not None
    row = {"k": "a", "window_start": 0, "window_end": 10_000, **dict.fromkeys(AGGREGATES, 1), "middle": 1.0}
    one, none = pl.DataFrame([row]), pl.DataFrame([row])[:0]
    place = ("1970-01-01T00:00:00.000Z", "1970-01-01T00:00:10.000Z", {"k": "a"})
    values = dict.fromkeys(AGGREGATES, 1) | {"middle": 1.0}
    assert list(differences(recipe, one, one)) == []
    assert list(differences(recipe, none, one)) == [Difference(*place, None, engine=values, recomputed=None)]
    assert list(differences(recipe, one, none)) == [Difference(*place, None, engine=None, recomputed=values)]
    other = one.with_columns(middle=pl.lit(1.0 + 1e-6))
    assert list(differences(recipe, one, other)) == [Difference(*place, "middle", engine=1.000001, recomputed=1.0)]


def test_differences_come_window_by_window(tmp_path: Path) -> None:
    recipe, _ = recipe_of(flow(tmp_path, [], sc.tumbling("10s")))
    assert recipe is not None
    values = {**dict.fromkeys(AGGREGATES, 1), "middle": 1.0}
    rows = [
        {"k": key, "window_start": start, "window_end": start + 10_000, **values}
        for key, start in (("b", 0), ("a", 20_000), ("a", 100_000), (None, 0))
    ]
    found = list(differences(recipe, pl.DataFrame(rows), pl.DataFrame(rows)[:0]))
    assert [one.window_start[17:19] + str(one.key["k"]) for one in found] == ["00b", "00None", "20a", "40a"]


def test_differences_are_shown_as_a_table() -> None:
    window = ("1970-01-01T00:00:00.000Z", "1970-01-01T00:00:10.000Z")
    shown = list(
        table_lines(
            [
                Difference(*window, {"k": "a", "l": None}, "n", engine=3, recomputed=12),
                Difference(*window, {"k": "\x1b[31m", "l": "é"}, None, engine={"n": 1, "s": None}, recomputed=None),
                Difference(*window, {}, "s", engine="x" * 100, recomputed=None),
            ]
        )
    )
    first = "k 'a', l null"
    times, widest = " to ".join(window), r"k '\x1b[31m', l 'é'"
    assert shown == [
        f"{'window':52}  {'key':{len(widest)}}  column     {'engine':60}  recomputed",
        f"{times}  {first:{len(widest)}}  n          {'3':60}  12",
        f"{times}  {widest}  (the row)  {'n 1, s null':60}  no row",
        f"{times}  {'-':{len(widest)}}  s          '{'x' * 56}...  null",
    ]
    assert list(table_lines([])) == []


def test_what_no_batch_works_out_is_refused(tmp_path: Path) -> None:
    rows = records(500, 5, disorder_ms=6_000)
    with pytest.raises(Error, match="windows were missed by records that others of theirs took"):
        verify(flow(tmp_path, rows, sc.hopping("10s", slide="1s"), bound="0s"), start=None, stop=None)
    with pytest.raises(Error, match="came further behind than out_of_orderness"):
        verify(flow(tmp_path, rows, sc.session("5s"), bound="0s"), start=None, stop=None)


def test_what_polars_is_not_asked_for_is_refused_by_name(tmp_path: Path) -> None:
    source = sc.files(str(tmp_path / "x"), event_time="t", schema={"k": "string", "d": "decimal(10, 2)"})
    config = (
        source.dedupe("k", within="1h")
        .filter("lower(k) == 'a'")
        .window(sc.cumulate("1m", step="10s"), by="k")
        .agg(n="count()")
        .config
    )
    _, refused = recipe_of(config)
    assert refused == [
        "steps[0]: dedupe is not recomputed",
        "steps[1].filter: lower(k) == 'a' is more than a field compared with a literal",
        "steps[2]: cumulate is not recomputed",
    ]
    config = (
        source.window(sc.tumbling("1d", timezone="Europe/Berlin"), by={"l": "lower(k)"})
        .agg(m="max(d)", q="quantile(u, 0.5)")
        .config
    )
    _, refused = recipe_of(config)
    assert refused == [
        "steps[0].timezone: is not recomputed",
        "steps[0].by.l: lower(k) is more than a field",
        "steps[0].aggregate.q: quantile(u, 0.5) is none of count, sum, min, max or mean of a field",
        "source.schema: d is of type decimal(10, 2); recomputed are string, int64, float64, bool",
    ]
    with pytest.raises(ConfigError, match="cannot work this pipeline out anew"):
        verify(config, start=None, stop=None)


def test_the_command_ends_with_one_where_windows_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = flow(tmp_path, records(100, 6, disorder_ms=100), sc.tumbling("10s"))
    (tmp_path / "job.toml").write_text(sc.Pipeline(config).to_toml())
    command = ["verify", str(tmp_path / "job.toml"), "--against", "polars"]
    assert main(command) == 0
    assert "100 records, 0 of them left out" in capsys.readouterr().out
    monkeypatch.setattr(
        verification, "_final", lambda recipe, _: pl.DataFrame(schema=dict.fromkeys(recipe.columns, pl.Int64))
    )
    assert main([*command, "--json"]) == 1
    every = json.loads(capsys.readouterr().out)["differences"]
    assert len(every) > 10
    assert {one["column"] for one in every} == {None}
    assert main(command) == 1
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0].split() == ["window", "key", "column", "engine", "recomputed"]
    assert all("(the row)  no row  n " in line for line in lines[1:11])
    assert lines[11:] == [
        f"and {len(every) - 10} more",
        f"100 records, 0 of them left out, {len(every)} windows: {len(every)} windows differ",
    ]
    assert shown.err.startswith("hint: ")
    assert "--start and --stop" in shown.err
