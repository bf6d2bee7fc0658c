"""What of a pipeline a batch works out anew, and what is refused or left out by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import streamcore as sc
from streamcore.errors import ConfigError
from streamcore.recipe import Dedupe, Recipe, recipe_of
from streamcore.verification import verify


def test_what_a_batch_is_not_asked_for_is_refused_by_name(tmp_path: Path) -> None:
    source = sc.files(str(tmp_path / "x"), event_time="t", schema={"k": "string", "d": "decimal(10, 2)"})
    config = (
        source.dedupe("k", within="1h", method="bloom")
        .filter("lower(k) == 'a'")
        .window(sc.cumulate("1m", step="10s"), by="k")
        .agg(n="count()")
        .config
    )
    _, refused = recipe_of(config)
    assert refused == [
        'steps[0]: dedupe with method = "bloom", which drops some by guess, is not recomputed',
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
        "steps[0].aggregate.m: d is of type decimal(10, 2); recomputed are string, int64, float64, bool",
        "steps[0].aggregate.q: quantile(u, 0.5) is none of count, sum, min, max or mean of a field",
    ]
    with pytest.raises(
        ConfigError, match="cannot work this pipeline out anew; it does tumbling, hopping and session windows"
    ):
        verify(config, start=None, stop=None)


def read(pipeline: Any) -> Recipe:
    recipe, refused = recipe_of(pipeline.config)
    assert recipe is not None, refused
    return recipe


def test_a_field_that_nobody_declared_has_the_type_of_what_it_is_compared_with(tmp_path: Path) -> None:
    source = sc.files(str(tmp_path / "x"), event_time="t", schema={"k": "string"}, where="b == true")
    steps = source.dedupe("id", within="1h").filter("kind == 'view' and size >= 3 and size < 9.5 and seen is not null")
    recipe = read(steps.window(sc.tumbling("1m"), by="k").agg(n="count(other)"))
    assert recipe.types == {
        "k": "string",
        "other": "scalar",
        "id": "scalar",
        "b": "bool",
        "kind": "string",
        "size": "float64",
        "seen": "scalar",
    }
    assert (recipe.where, recipe.steps[0]) == ([("b", "==", True)], Dedupe("id", 3_600_000))


def test_a_select_of_fields_gives_them_other_names(tmp_path: Path) -> None:
    source = sc.files(str(tmp_path / "x"), event_time="t", schema={"p.k": "string", "v": "int64"})
    steps = source.select(a="p.k", b="v").filter("b > 1").select(c="b", d="a")
    recipe = read(steps.window(sc.tumbling("1m"), by="d").agg(s="sum(c)"))
    assert (recipe.keys, recipe.aggregates[0].field) == ({"d": "p.k"}, "v")
    assert recipe.steps == [[("v", ">", 1)]]
    _, refused = recipe_of(source.select(a="v + 1").window(sc.tumbling("1m")).agg(s="sum(a)").config)
    assert refused == ["steps[0].select.a: v + 1 is more than a field"]


def test_columns_that_are_not_worked_out_are_left_out_while_others_are(tmp_path: Path) -> None:
    source = sc.files(str(tmp_path / "x"), event_time="t", schema={"d": "decimal(10, 2)", "v": "int64"})
    window = source.dedupe("id", within="1h").window(sc.tumbling("1m"))
    recipe = read(window.agg(n="count()", most="max(d)", ids="approx_distinct(u)", odd="sum(v) where lower(w) == 'a'"))
    assert ([one.name for one in recipe.aggregates], recipe.left_out) == (
        ["n"],
        [
            "steps[1].aggregate.most: d is of type decimal(10, 2); recomputed are string, int64, float64, bool",
            "steps[1].aggregate.ids: approx_distinct(u) is none of count, sum, min, max or mean of a field",
            "steps[1].aggregate.odd: lower(w) == 'a' is more than a field compared with a literal",
        ],
    )
    # The type of an id may come from there.
    _, refused = recipe_of(window.agg(n="count()", ids="approx_distinct(lower(id))").config)
    assert refused == ["source.schema: id has no declared type, and dedupe compares it; declare it"]


def test_a_key_that_nobody_declared_is_refused(tmp_path: Path) -> None:
    source = sc.files(str(tmp_path / "x"), event_time="t", schema={"v": "int64"})
    _, refused = recipe_of(source.window(sc.tumbling("1m"), by="k").agg(n="count()").config)
    assert refused == ["source.schema: k has no declared type; recomputed are string, int64, float64, bool"]
    _, refused = recipe_of(source.window(sc.tumbling("1m"), by="_key").agg(n="count()").config)
    assert refused == ["steps[0].by.key: _key is more than a field"]
