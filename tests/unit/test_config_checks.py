"""What is found beyond the shape of a description."""

from __future__ import annotations

from typing import Any

import pytest

from streamcore.config import PipelineConfig, check
from streamcore.config.checks import check_meaning, describe, problems_error
from streamcore.errors import ConfigError, ExpressionError, Problem

WINDOW = {"window": "tumbling", "size": "1m", "by": ["page"], "aggregate": {"views": "count()"}}


def config(**keys: Any) -> PipelineConfig:
    return PipelineConfig.model_validate({"source": {"type": "kafka", "topic": "t", "event_time": "at"}, **keys})


def paths(**keys: Any) -> list[str]:
    return [problem.path for problem in check(config(**keys))]


def test_a_good_pipeline_has_no_problems() -> None:
    assert (
        paths(steps=[WINDOW], sinks=[{"type": "kafka", "topic": "o", "key": ["page"], "columns": ["page", "views"]}])
        == []
    )


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"steps": [{"filter": "a = 1"}]}, ["steps[0].filter"]),
        ({"steps": [WINDOW, {"filter": "vues > 1"}]}, ["steps[1].filter"]),
        ({"steps": [WINDOW | {"emit": "updates"}, WINDOW]}, ["steps[0].emit"]),
        ({"steps": [{"dedupe": "id", "within": "1s"}]}, ["steps[0].within"]),
        (
            {"steps": [{"dedupe": "id", "within": "1m", "method": "bloom", "false_drop_rate": 0.5}]},
            ["steps[0].false_drop_rate"],
        ),
        (
            {"steps": [{"dedupe": "id", "within": "1m", "method": "bloom", "capacity": 10**12}]},
            ["steps[0].capacity"],
        ),
        ({"steps": [WINDOW], "sinks": [{"type": "parquet", "path": "p", "columns": ["pge"]}]}, ["sinks[0].columns"]),
        ({"steps": [WINDOW], "delivery": "exactly_once"}, ["delivery"]),
        ({"steps": [WINDOW], "name": "p"}, ["steps[0].by.page"]),
        ({"tests": [{"name": "a", "input": []}, {"name": "a", "input": []}]}, ["tests[0].name", "tests[1].name"]),
        (
            {"dead_letters": {"connection": "x"}, "steps": [{"filter": "("}]},
            ["steps[0].filter", "dead_letters.connection"],
        ),
    ],
)
def test_each_kind_of_mistake_is_found(keys: dict[str, Any], expected: list[str]) -> None:
    assert paths(**keys) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("p:{page", "cannot be read"),
        ("p:page}", "cannot be read"),
        ("p:{}", "hold no plain column"),
        ("p:{page!r}", "hold no plain column"),
        ("p", "names no column"),
        ("p:{page:>5}", "a format that is none of iso, epoch_s, epoch_ms"),
        ("p:{window_end:foo}", "a format that is none of iso, epoch_s, epoch_ms"),
        ("p:{page:epoch_s}", "the column page is string and no time"),
        ("p:{views:iso}", "the column views is int64 and no time"),
        ("p:{pgae:iso}", 'the result has no column "pgae"'),
    ],
)
def test_a_wrong_key_template_is_found_without_a_row(template: str, message: str) -> None:
    source = {"type": "kafka", "topic": "t", "schema": {"page": "string"}}
    [problem] = check(config(source=source, steps=[WINDOW], sinks=[{"type": "redis", "key_template": template}]))
    assert problem.path == "sinks[0].key_template"
    assert message in problem.message


def test_a_key_template_is_looked_at_beside_mistakes_of_the_engine() -> None:
    sinks = [{"type": "redis", "key_template": "p:{nope"}]
    assert paths(steps=[{"filter": "("}], sinks=sinks) == ["steps[0].filter", "sinks[0].key_template"]


def test_names_and_types_are_held_against_each_other_beside_mistakes_of_the_engine() -> None:
    steps = [{"filter": "("}, WINDOW]
    sinks = [{"type": "kafka", "topic": "o", "key": ["pge"], "columns": ["page", "window_end", "views"]}]
    assert paths(name="p", steps=steps, sinks=sinks) == ["steps[0].filter", "sinks[0].key", "steps[1].by.page"]
    steps = [{"filter": "("}, {"select": {"p": "page"}}]
    assert paths(steps=steps, sinks=[{"type": "console", "columns": ["p", "q"]}])[-1] == "sinks[0].columns"
    assert paths(steps=steps[:1], sinks=[{"type": "console", "columns": ["q"]}]) == ["steps[0].filter"]


def test_a_type_that_nobody_knows_yet_may_be_a_time() -> None:
    steps = [{"select": {"at": "at", "page": "page"}}]
    found = paths(steps=steps, sinks=[{"type": "redis", "key_template": "p:{at:epoch_s}"}])
    assert "sinks[0].key_template" not in found


REDIS = {"type": "redis", "key_template": "p:{page}"}
TOPIC = {"type": "kafka", "topic": "o"}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ({"type": "parquet", "path": "out"}, {"type": "parquet", "path": "./x/../out/"}, ["sinks[1].path"]),
        ({"type": "parquet", "path": "out"}, {"type": "parquet", "path": "out", "output": "late"}, []),
        ({"type": "parquet", "path": "out"}, {"type": "parquet", "path": "out2"}, []),
        (REDIS, {**REDIS, "value": "views"}, ["sinks[1].key_template"]),
        (REDIS, {**REDIS, "url": "redis://other"}, []),
        (REDIS, {**REDIS, "key_template": "q:{page}"}, []),
        (TOPIC, {**TOPIC, "columns": ["views"]}, ["sinks[1].topic"]),
        (TOPIC, {**TOPIC, "key": ["page"]}, []),
        (TOPIC, {**TOPIC, "mode": "append"}, []),
        (TOPIC, {**TOPIC, "output": "late"}, []),
    ],
)
def test_two_sinks_do_not_write_the_same_place(
    first: dict[str, Any], second: dict[str, Any], expected: list[str]
) -> None:
    assert paths(steps=[WINDOW], sinks=[first, second]) == expected
    assert [problem.path for problem in check_meaning(config(steps=[WINDOW], sinks=[first, second]))] == expected


def test_columns_of_other_outputs_are_not_those_of_the_result() -> None:
    sinks = [{"type": "kafka", "topic": "late", "output": "late", "columns": ["_key", "page"]}]
    assert paths(steps=[WINDOW], sinks=sinks) == []


def test_how_it_will_be_run_is_left_out_of_its_meaning() -> None:
    pipeline = config(steps=[WINDOW], name="p", delivery="exactly_once", sinks=[{"type": "console"}])
    assert check_meaning(pipeline) == []
    assert [problem.path for problem in check(pipeline, types_required=False)] == ["delivery"]


def test_the_engine_describes_what_it_makes() -> None:
    described = describe(config(steps=[WINDOW]))
    assert [name for name, _ in described["columns"]][:4] == ["page", "window_start", "window_end", "views"]
    assert described["windowed"] is True
    undeclared = {"path": "page", "input": None, "used_at": "steps[0].by.page", "takes_number": False}
    assert described["undeclared"] == [undeclared]


def test_every_mistake_of_aggregates_is_found_at_once() -> None:
    aggregates = {"total": "sum(price)", "typical": "median(speed)", "views": "count()"}
    window = {**WINDOW, "by": [], "aggregate": aggregates}
    by_path = {problem.path: problem for problem in check(config(name="p", steps=[window]))}
    assert sorted(by_path) == ["steps[0].aggregate.total", "steps[0].aggregate.typical"]
    hint = by_path["steps[0].aggregate.total"].hint
    assert hint is not None
    assert hint.startswith('add "price" = "int64" (or float64, decimal(18,2)) under')


def test_a_caret_makes_it_an_expression_error() -> None:
    plain, caret = Problem("a", "wrong"), Problem("b", "wrong", text="x = 1", start=2, end=3)
    assert type(problems_error([plain])) is ConfigError
    assert type(problems_error([plain, caret])) is ExpressionError
    assert str(problems_error([plain, caret], file="p.toml")).startswith("p.toml: the pipeline has 2 mistakes")


def test_a_sink_that_appends_takes_no_row_back() -> None:
    session = {"window": "session", "gap": "1m", "by": "_key", "aggregate": {"n": "count()"}, "emit": "updates"}
    sinks = [
        {"type": "kafka", "topic": "a"},
        {"type": "kafka", "topic": "b", "mode": "append", "columns": ["n", "retracted"]},
        {"type": "redis", "key_template": "{key}:{window_start}"},
        {"type": "parquet", "path": "p"},
        {"type": "parquet", "path": "late", "output": "late"},
        {"type": "memory", "topic": "m"},
        {"type": "console"},
    ]
    assert paths(steps=[session], sinks=sinks) == ["sinks[1].mode", "sinks[3].type", "sinks[5].type"]
    assert paths(steps=[{**session, "emit": "final"}], sinks=[*sinks[:1], *sinks[2:]]) == []
