"""`streamcore verify --against polars`: what it compares, what it finds, and what it refuses."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest

import streamcore as sc
from streamcore import verification
from streamcore.cli import main
from streamcore.commands.verify import table_lines
from streamcore.config import PipelineConfig
from streamcore.errors import Error
from streamcore.recipe import Dedupe, recipe_of
from streamcore.recompute import NEWEST
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


def copies(count: int, seed: int) -> list[dict[str, Any]]:
    """Records of which many come again soon, late, or when they are forgotten; some have no id, some a wrong value."""
    chance = random.Random(seed)
    rows: list[dict[str, Any]] = []
    made: dict[str, Any]
    for number in range(count):
        if rows and chance.random() < 0.4:
            # A copy, of which every third has another time.
            rows.append(chance.choice(rows[-60:]) | ({"t": number * 300} if chance.random() < 0.3 else {}))
            continue
        made = {
            "t": number * 300 - chance.randint(0, 9_000),
            "k": chance.choice(["a", "b", None]),
            "v": chance.randint(0, 9),
        }
        made |= {"id": chance.choice([number, str(number), number + 0.5, number % 7 == 0, None])}
        rows.append(made | ({"v": "x"} if chance.random() < 0.05 else {}))
    return rows


def deduped(
    folder: Path, rows: list[Any], *, bound: str, null_keys: Literal["group", "reject"] = "group", **types: str
) -> PipelineConfig:
    folder.mkdir(exist_ok=True)
    for part in range(2):
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[part::2]))
    types = {"k": "string", "v": "int64", **types}
    source = sc.files(f"{folder}/*.jsonl", event_time="t", event_time_unit="ms", out_of_orderness=bound, schema=types)
    source = source.filter("v != 3").dedupe("id", within="8s").filter("v != 5").select(key="k", v="v")
    return source.window(sc.tumbling("4s"), by="key", null_keys=null_keys).agg(n="count()", s="sum(v)").config


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bound", ["0s", "3s", "8s", "unbounded"])
def test_copies_are_told_apart_as_the_engine_does(tmp_path: Path, seed: int, bound: str) -> None:
    rows = copies(3_000, seed)
    null_keys: Literal["group", "reject"]
    for null_keys in ("group", "reject"):
        found = verify(deduped(tmp_path, rows, bound=bound, null_keys=null_keys), start=None, stop=None)
        assert (found.differences, found.nothing, found.columns_left_out) == ([], None, [])
        assert (found.windows > 200, found.left_out > 100) == (True, True)
    kept = [row for row in rows if isinstance(row.get("id"), str)]
    found = verify(deduped(tmp_path / "typed", kept, bound=bound, id="string"), start=None, stop=None)
    assert (found.differences, found.windows > 200) == ([], True)


def test_a_range_without_records_is_read_by_every_step(tmp_path: Path) -> None:
    found = verify(deduped(tmp_path, [], bound="3s"), start=None, stop=None)
    assert (found.records, found.differences, found.nothing) == (0, [], "the input has no records")


def test_another_horizon_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = deduped(tmp_path, copies(3_000, 1), bound="3s")
    honest = recipe_of

    def other(config: PipelineConfig) -> Any:
        recipe, refused = honest(config)
        assert recipe is not None
        steps = [replace(step, within_ms=9_000) if isinstance(step, Dedupe) else step for step in recipe.steps]
        return replace(recipe, steps=steps), refused

    monkeypatch.setattr(verification, "recipe_of", other)
    assert verify(config, start=None, stop=None).differing > 0


def test_a_column_that_no_batch_works_out_is_left_out_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = flow(tmp_path, records(100, 6, disorder_ms=100), sc.tumbling("10s"))
    text = sc.Pipeline(config).to_toml()
    (tmp_path / "job.toml").write_text(text.replace('large = "count() where', 'large = "approx_distinct(v) where'))
    assert main(["verify", str(tmp_path / "job.toml"), "--against", "polars"]) == 0
    shown = capsys.readouterr()
    what = "steps[1].aggregate.large: approx_distinct(v) where v >= 50 and k != 'b' is none of count, sum, min, max or mean of a field"
    assert shown.out.splitlines()[0] == f"not compared: {what}"
    assert shown.out.endswith(": all windows agree\n")


def test_nothing_to_compare_is_no_agreement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = flow(tmp_path, [{"t": 1, "v": 7}], sc.tumbling("10s"))
    (tmp_path / "job.toml").write_text(sc.Pipeline(config).to_toml())
    command = ["verify", str(tmp_path / "job.toml"), "--against", "polars"]
    assert main(command) == 1
    shown = capsys.readouterr()
    assert shown.out == "1 records, 0 of them left out, 0 windows: nothing was compared\n"
    assert shown.err.startswith(
        "error: nothing was compared: of 1 records none is in a window: late, refused, or taken out"
    )
    (tmp_path / "in.jsonl").write_text("\n")
    assert main([*command, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["nothing"] == "the input has no records"


def test_what_an_engine_makes_wrong_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = flow(tmp_path, records(500, 4, disorder_ms=1_000), sc.tumbling("10s"))
    honest = verification._final

    def wrong(recipe: Any, results: Any, *, is_over: bool) -> pl.DataFrame:
        frame = honest(recipe, results, is_over=is_over).sort("k", "window_start")
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


def test_windows_are_over_by_the_slowest_lane_or_by_their_own_or_as_the_engine_has_closed_them(tmp_path: Path) -> None:
    recipe, _ = recipe_of(flow(tmp_path, [], sc.tumbling("10s"), allowed_lateness="2s"))
    assert recipe is not None
    values = dict.fromkeys(AGGREGATES, 1)
    rows = [
        {"k": "a", "window_start": at, "window_end": at + 10_000, **values, NEWEST: newest}
        for at, newest in ((0, 17_000), (10_000, 26_999), (20_000, 99_000))
    ]
    expected, none = pl.DataFrame(rows), pl.DataFrame(rows)[:0]

    def over(found: pl.DataFrame, slowest_ms: int | None, *, meets: bool) -> list[int]:
        frame = verification._over(recipe, expected, found, slowest_ms=slowest_ms, meets=meets)
        return [int(start) for start in frame["window_start"]]

    assert over(none, None, meets=True) == []
    assert over(none, 17_000, meets=True) == [0]
    assert over(none, 16_999, meets=True) == []
    assert over(none, None, meets=False) == [0, 20_000]
    # A lane that was silent for idle_timeout was not waited for.
    assert over(expected[1:2], None, meets=True) == [10_000]


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


def test_the_command_ends_with_one_where_windows_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = flow(tmp_path, records(100, 6, disorder_ms=100), sc.tumbling("10s"))
    (tmp_path / "job.toml").write_text(sc.Pipeline(config).to_toml())
    command = ["verify", str(tmp_path / "job.toml"), "--against", "polars"]
    assert main(command) == 0
    assert "100 records, 0 of them left out" in capsys.readouterr().out
    monkeypatch.setattr(
        verification, "_final", lambda recipe, _, **__: pl.DataFrame(schema=dict.fromkeys(recipe.columns, pl.Int64))
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
