"""The JSON Schema for editors agrees with the models."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from pydantic import ValidationError

from streamcore.commands.init import TEMPLATE
from streamcore.config import PipelineConfig, to_toml
from streamcore.config.schema import json_schema
from tests.unit.test_config_toml_text import PIPELINES

VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


@given(PIPELINES)
def test_what_is_written_fits_it(document: dict[str, Any]) -> None:
    text = to_toml(PipelineConfig.model_validate(document))
    assert [error.message for error in VALIDATOR.iter_errors(tomllib.loads(text))] == []


def test_the_scaffold_fits_it() -> None:
    text = TEMPLATE.format(schema="s.json", file=Path("p.toml"), name="p")
    assert [error.message for error in VALIDATOR.iter_errors(tomllib.loads(text))] == []


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"source": {"type": "kafka"}},
        {"source": {"type": "records"}},
        {"source": {"topic": "t"}},
        {"source": {"type": "kafka", "topic": "t"}, "nmae": 1},
        {"source": {"type": "kafka", "topic": "t", "idle_timeout": 5}},
        {"source": {"type": "kafka", "topic": "t", "idle_timeout": "5"}},
        {"source": {"type": "kafka", "topic": "t"}, "steps": [{}]},
        {
            "source": {"type": "kafka", "topic": "t"},
            "steps": [{"window": "tumbling", "gap": "1m", "aggregate": {"n": "c"}}],
        },
        {"source": {"type": "kafka", "topic": "t"}, "sinks": [{"type": "redis"}]},
        {"source": {"type": "kafka", "topic": "t"}, "combine": "lokal"},
    ],
)
def test_it_refuses_what_the_models_refuse(document: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid(document)
    if document.get("source") != {"type": "records"}:
        with pytest.raises(ValidationError):
            PipelineConfig.model_validate(document)


def test_variables_and_both_forms_of_group_keys_are_fine() -> None:
    window = {"window": "tumbling", "size": "${SIZE:-1m}", "aggregate": {"n": "count()"}}
    source = {"type": "kafka", "topic": "t", "out_of_orderness": "unbounded"}
    steps = [{**window, "by": ["a.b"]}, {**window, "by": {"x": "a.b"}}]
    assert VALIDATOR.is_valid({"source": source, "steps": steps})


def test_defaults_are_shown_as_they_are_written() -> None:
    schema = json_schema()
    assert schema["properties"]["commit_interval"]["default"] == "1s"
    assert "'null'" not in str(schema)
    assert "None" not in str(schema)
