"""Which topics a pipeline needs: the same list for the command and for the run."""

from __future__ import annotations

from typing import Any

import pytest

from streamcore.config import DeadLettersConfig, PipelineConfig
from streamcore.errors import ConfigError
from streamcore.topics import dead_letter_topic, topic_plans

WINDOW = {"window": "tumbling", "size": "1m", "by": ["page"], "aggregate": {"views": "count()"}}
KAFKA = {"type": "kafka", "topic": "clicks"}


def plans(**tables: Any) -> list[tuple[str, str, str, int | None, dict[str, str]]]:
    config = PipelineConfig.model_validate({"source": KAFKA, "steps": [WINDOW], **tables})
    return [
        (connection.bootstrap_servers, plan.name, plan.role, plan.partitions, dict(plan.settings))
        for connection, plan in topic_plans(config)
    ]


def test_inputs_outputs_and_dead_letters() -> None:
    sinks = [
        {"type": "kafka", "topic": "up", "partitions": 3},
        {"type": "kafka", "topic": "late", "output": "late"},
        {"type": "console"},
    ]
    assert [plan[1:] for plan in plans(name="pages", sinks=sinks)] == [
        ("clicks", "input", None, {}),
        ("up", "output", 3, {"cleanup.policy": "compact"}),
        ("late", "output", 4, {}),
        (
            "pages.dead-letters",
            "dead letters",
            1,
            {"retention.ms": "604800000", "max.message.bytes": str(20 << 20)},
        ),
    ]


def test_an_ephemeral_run_has_no_dead_letter_topic() -> None:
    assert [plan[1] for plan in plans()] == ["clicks"]


def test_dead_letters_in_a_file_or_a_topic_of_another_name() -> None:
    assert [plan[1] for plan in plans(name="pages", dead_letters={"path": "letters.jsonl"})] == ["clicks"]
    assert [plan[1] for plan in plans(name="pages", dead_letters={"topic": "bad"})] == ["clicks", "bad"]
    with pytest.raises(ConfigError, match="give the pipeline a name"):
        dead_letter_topic(DeadLettersConfig(), None)


def test_each_topic_belongs_to_its_cluster() -> None:
    found = plans(
        kafka={"bootstrap_servers": "here:9092"},
        connections={"there": {"type": "kafka", "bootstrap_servers": "there:9092"}},
        sinks=[{"type": "kafka", "topic": "up", "connection": "there"}],
    )
    assert [plan[:2] for plan in found] == [("here:9092", "clicks"), ("there:9092", "up")]


def test_a_pipeline_without_kafka_needs_none() -> None:
    assert plans(name="made", source={"type": "generate"}) == []
