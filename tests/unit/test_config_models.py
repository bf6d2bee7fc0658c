"""What the models accept: connections, sources, steps, sinks, and the whole."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from streamcore.config import (
    PipelineConfig,
)

KAFKA = {"type": "kafka", "topic": "t"}


def config(**keys: Any) -> PipelineConfig:
    return PipelineConfig.model_validate({"source": KAFKA, **keys})


def test_defaults_are_those_of_the_documents() -> None:
    pipeline = config()
    assert pipeline.commit_interval == 1_000
    assert pipeline.kafka.bootstrap_servers == "localhost:9092"
    assert pipeline.source.idle_timeout == 30_000
    assert pipeline.source.max_future_skew == 3_600_000
    assert pipeline.limits.max_record_bytes == 16 * 1024 * 1024
    assert pipeline.dead_letters is None


@pytest.mark.parametrize("changed", [{"name": "x"}, {"kafka": {}}, {"steps": [{"filter": "a"}]}])
def test_a_configuration_is_frozen(changed: dict[str, Any]) -> None:
    pipeline = config(**changed)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(pipeline, "name", "other")  # noqa: B010 - a type checker refuses it already


@pytest.mark.parametrize("name", ["a", "page-counts", "a.b_c-1"])
def test_names(name: str) -> None:
    assert config(name=name).name == name


@pytest.mark.parametrize("name", ["", "-a", "a/b", "..", "a b", "é", "a" * 101])
def test_names_that_cannot_be_a_folder_and_a_group(name: str) -> None:
    with pytest.raises(ValidationError):
        config(name=name)


def test_times_in_tests_become_the_text_of_a_record() -> None:
    from datetime import UTC, datetime

    moment = datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)
    pipeline = config(tests=[{"name": "t", "input": [{"at": moment, "nested": {"at": [moment]}}]}])
    assert pipeline.tests[0].input == (
        {"at": "2026-01-01T00:00:10.000Z", "nested": {"at": ["2026-01-01T00:00:10.000Z"]}},
    )
