"""Mistakes of the parts that stand, beside those that keep a description from being read at all."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from streamcore.config import PipelineConfig
from streamcore.config.paths import Path
from streamcore.config.repair import problems_of_the_rest

# One mistake of the engine in every step, and one of each kind that needs no engine.
FILE: dict[str, Any] = {
    "name": "p",
    "delivery": "exactly_once",
    "source": {"type": "kafka", "topic": "t", "schema": {"u": "strng"}},
    "steps": [
        {"filter": "a == 'x"},
        {
            "window": "tumbling",
            "size": "1m",
            "by": ["u"],
            "aggregate": {"n": "cuont()", "m": "sum(v +)"},
        },
    ],
    "sinks": [
        {"type": "redis", "key_template": "p:{nope"},
        {"type": "kafka", "topic": "o", "connection": "x"},
        {"type": "parquet", "path": "out", "columns": ["pge"]},
    ],
}
FILTER, AGGREGATES = "steps[0].filter", {"steps[1].aggregate.n", "steps[1].aggregate.m"}
SCHEMA, TEMPLATE, CONNECTION = "source.schema.u", "sinks[0].key_template", "sinks[1].connection"
COLUMNS = "sinks[2].columns"
OTHERS = {FILTER, *AGGREGATES, SCHEMA, TEMPLATE, CONNECTION, "delivery"}


def changed(document: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(document)
    table: Any = document
    for part in path[:-1]:
        table = table[part]
    table[path[-1]] = value
    return document


def found(document: dict[str, Any], *, types_required: bool = False) -> list[str]:
    """Places of the mistakes beside those of the shape."""
    with pytest.raises(ValidationError) as caught:
        PipelineConfig.model_validate(document)
    return [problem.path for problem in problems_of_the_rest(document, caught.value, types_required=types_required)]


@pytest.mark.parametrize(
    ("path", "value", "missing"),
    [
        (("limits",), {"threads": "two"}, set()),
        (("limits",), 3, set()),
        (("nmae",), "p", set()),
        (("steps", 1, "size"), "1 mn", set()),
        (("steps", 1, "siz"), "1m", set()),
        (("steps", 1, "window"), "tumblng", set()),
        (("steps", 1, "by"), 3, set()),
        (("steps", 1, "by"), ["a.b", "c.b"], set()),
        (("steps", 1, "aggregate", "k"), 3, set()),
        (("steps", 1, "select"), {"u": "u"}, AGGREGATES),
        (("steps", 1), "window", AGGREGATES),
        (("steps", 0), {"fliter": "a == 'x"}, {FILTER}),
        (("steps", 0, "filter"), 3, {FILTER}),
        (("steps",), "none", {FILTER, *AGGREGATES}),
        (("source", "type"), "kafak", set()),
        (("source", "topik"), "t", set()),
        (("source", "idle_timeout"), 3, set()),
        (("source", "schema"), "none", {SCHEMA}),
        (("source",), "kafka", {SCHEMA}),
        (("sinks", 2), {"type": "paruqet", "path": "out"}, set()),
        (("sinks", 2, "columns"), [1], set()),
        (("sinks", 1, "mode"), "insert", set()),
        (("sinks", 0), {"type": "redis", "url": "redis://h", "connection": "x", "key_template": "p:{nope"}, set()),
        (("sinks", 0, "key_template"), 3, {TEMPLATE}),
        (("connections",), {"y": {"type": "redis", "url": "http://h"}}, {CONNECTION}),
        (("kafka",), {"session_timeout": 3}, set()),
        (("tests",), [{"name": "a"}], set()),
        (("dead_letters",), {"type": "file"}, set()),
        (("delivery",), "twice", {"delivery"}),
    ],
)
def test_the_other_mistakes_are_found_and_no_more(path: Path, value: Any, missing: set[str]) -> None:
    left = found(changed(FILE, path, value))
    assert set(left) - {COLUMNS} == OTHERS - missing
    # What a broken step would have made is not known, so neither is what a sink may name.
    assert (COLUMNS in left) == (path[0] != "steps" and path[:2] != ("sinks", 2))
    assert len(left) == len(set(left))


GOOD: dict[str, Any] = {
    "name": "p",
    "delivery": "effectively_once",
    "combine": "none",
    "source": {"type": "kafka", "topic": "t", "keyed_by": "u", "schema": {"u": "string", "v": "int64"}},
    "steps": [
        {"select": {"u": "u", "w": "v + 1"}},
        {"dedupe": "w", "within": "5s"},
        {"window": "tumbling", "size": "1m", "by": ["u"], "aggregate": {"n": "count()", "m": "sum(w)"}},
    ],
    "connections": {"r": {"type": "redis", "url": "redis://h"}},
    "sinks": [
        {"type": "redis", "connection": "r", "key_template": "p:{u}:{window_end:epoch_s}"},
        {"type": "parquet", "path": "out", "columns": ["n", "m"]},
        {"type": "parquet", "path": "late", "output": "result"},
    ],
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("name",), "a b"),
        (("combine",), "nothing"),
        (("connections", "r", "url"), "http://h"),
        (("connections", "r", "type"), "rediss"),
        (("connections",), 3),
        (("source", "keyed_by"), 3),
        (("source", "type"), "kafak"),
        (("source",), 3),
        (("source", "schema", "v"), 3),
        (("source", "schema"), 3),
        (("source", "out_of_orderness"), 3),
        (("steps", 0, "select", "w"), 3),
        (("steps", 0, "select"), 3),
        (("steps", 0), {"selct": {"u": "u", "w": "v + 1"}}),
        (("steps", 0, "filter"), "true"),
        (("steps", 1), 3),
        (("steps", 2, "by"), 3),
        (("steps", 2, "window"), "hoping"),
        (("steps", 2, "windw"), "tumbling"),
        (("steps", 2, "aggregate"), {"n": 3, "m": "sum(w)"}),
        (("steps", 2), {"windw": "tumbling", "by": ["u"], "aggregate": {"n": "count()"}}),
        (("steps",), 3),
        (("sinks", 0, "type"), "reids"),
        (("sinks", 0), 3),
        (("sinks", 1, "path"), 3),
        (("sinks", 0, "url"), "redis://h"),
        (("sinks", 2), {"type": "kafka", "topic": "o", "output": "late", "mode": "upsert", "columns": ["event_time"]}),
        (("sinks", 2), {"type": "parquet", "path": "out", "output": "lat"}),
        (("sinks", 2), {"type": "kafka", "topic": "o", "output": "lat", "mode": "upsert", "columns": ["event_time"]}),
        (("sinks",), 3),
        (("limits",), {"threads": "two"}),
    ],
)
def test_a_stand_in_is_no_mistake(path: Path, value: Any) -> None:
    PipelineConfig.model_validate(GOOD)
    assert found(changed(GOOD, path, value), types_required=True) == []


def test_types_that_nobody_declared_are_asked_for_beside_a_mistake_elsewhere() -> None:
    document = changed(changed(GOOD, ("source", "schema"), {}), ("limits",), {"threads": "two"})
    assert "steps[0].select.u" in found(document, types_required=True)
    assert found(document, types_required=False) == []


def test_something_else_than_a_table_is_no_pipeline() -> None:
    with pytest.raises(ValidationError) as caught:
        PipelineConfig.model_validate([])
    assert problems_of_the_rest({}, caught.value, types_required=True) == []
