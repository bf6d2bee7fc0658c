"""A step has one verb, which decides its other keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from streamcore.config import PipelineConfig, TumblingStep
from streamcore.config.steps import tag_of


def config(steps: list[Any]) -> PipelineConfig:
    return PipelineConfig.model_validate({"source": {"type": "kafka", "topic": "t"}, "steps": steps})


@pytest.mark.parametrize(
    ("step", "tag"),
    [
        ({"filter": "a"}, "filter"),
        ({"select": {"b": "a"}}, "select"),
        ({"dedupe": "a", "within": "1m"}, "dedupe"),
        ({"window": "tumbling", "size": "1m", "aggregate": {"n": "count()"}}, "tumbling"),
        ({"window": "hopping", "size": "1m", "slide": "1s", "aggregate": {"n": "count()"}}, "hopping"),
        ({"window": "sliding", "size": "1m", "aggregate": {"n": "count()"}}, "sliding"),
        ({"window": "cumulate", "size": "1m", "step": "1s", "aggregate": {"n": "count()"}}, "cumulate"),
        ({"window": "session", "gap": "1m", "aggregate": {"n": "count()"}}, "session"),
        ({"window": "whole", "aggregate": {"n": "count()"}}, "whole"),
    ],
)
def test_the_verb_decides_what_a_step_is(step: dict[str, Any], tag: str) -> None:
    [parsed] = config([step]).steps
    assert tag_of(parsed) == tag
    assert config([parsed]).steps == (parsed,), "a step may be given as an object"


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({}, "this one has none"),
        ({"filter": "a", "dedupe": "b"}, "this one has filter and dedupe"),
        ("filter", "a step is a table with one verb"),
        ({"window": "slice", "size": "1m"}, "window is one of tumbling, hopping, sliding, cumulate, session, whole"),
        ({"filter": ""}, "at least 1 character"),
        ({"dedupe": "a", "within": "1m", "capacity": 9}, 'capacity is a matter of method = "bloom"'),
        ({"dedupe": "a", "within": "1m", "method": "bloom", "capacity": 0}, "greater than 0"),
    ],
)
def test_steps_that_cannot_be_told(step: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config([step])


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("payload.page_id", {"page_id": "payload.page_id"}),
        (["payload.page_id", "_key"], {"page_id": "payload.page_id", "key": "_key"}),
        ({"page": "payload.page_id"}, {"page": "payload.page_id"}),
        ([], {}),
    ],
)
def test_group_keys_in_three_forms(by: Any, expected: dict[str, str]) -> None:
    step = TumblingStep.model_validate({"size": "1m", "by": by, "aggregate": {"n": "count()"}})
    assert step.by == expected


def test_group_keys_that_clash_print_the_renaming() -> None:
    keys = {"size": "1m", "by": ["a.id", "b.id"], "aggregate": {"n": "count()"}}
    with pytest.raises(ValidationError, match=r'by = \{ id = "a.id", id_2 = "b.id" \}'):
        TumblingStep.model_validate(keys)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (-(2**63), -(2**63)),
        (0.5, 0.5),
        ("a", "a"),
        (("a", "b"), ["a", "b"]),
        ({2, 1}, [1, 2]),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00.000Z"),
    ],
)
def test_parameters_are_what_json_can_say(value: object, expected: object) -> None:
    [step] = config([{"filter": "a in $x", "parameters": {"x": value}}]).steps
    assert step.model_dump()["parameters"] == {"x": expected}


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), {"a": 1}, b"a", [[1]], [None]])
def test_other_parameters_are_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="a parameter is true or false, a finite number, text"):
        config([{"filter": "a == $x", "parameters": {"x": value}}])


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, [2**70]])
def test_integers_fit_in_64_bits(value: object) -> None:
    with pytest.raises(ValidationError, match="fits in 64 bits"):
        config([{"filter": "a == $x", "parameters": {"x": value}}])
