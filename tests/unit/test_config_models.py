"""What the models accept: connections, sources, steps, sinks, and the whole."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from streamcore.config import (
    DeadLettersConfig,
    KafkaConnection,
    KafkaSinkConfig,
    PipelineConfig,
    RedisSinkConfig,
    TumblingStep,
)
from streamcore.config.sources import FilesSourceConfig, GenerateSourceConfig, KafkaSourceConfig
from streamcore.config.steps import tag_of

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


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (KafkaSourceConfig(topic="t"), 5_000),
        (GenerateSourceConfig(), 5_000),
        (FilesSourceConfig(path="x"), None),
        (FilesSourceConfig.model_validate({"path": "x", "out_of_orderness": "2s"}), 2_000),
        (KafkaSourceConfig.model_validate({"topic": "t", "out_of_orderness": "unbounded"}), None),
        (KafkaSourceConfig.model_validate({"topic": "t", "out_of_orderness": timedelta(minutes=1)}), 60_000),
    ],
)
def test_disorder_is_bounded_where_the_input_has_no_end(source: Any, expected: int | None) -> None:
    assert source.out_of_orderness_ms == expected


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


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"security_protocol": "SASL_SSL"}, "needs sasl_mechanism"),
        ({"sasl_mechanism": "PLAIN"}, "needs security_protocol"),
        ({"security_protocol": "sasl_plaintext", "sasl_mechanism": "plain"}, "in the clear"),
        ({"options": {"enable.auto.commit": True}}, "enable.auto.commit is set by streamcore"),
    ],
)
def test_connections_that_would_not_work_or_not_be_safe(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        KafkaConnection.model_validate(keys)


def test_logins_may_be_written_as_clients_write_them() -> None:
    connection = KafkaConnection.model_validate(
        {"security_protocol": "SASL_SSL", "sasl_mechanism": "scram_sha_512", "sasl_password": "canary"}
    )
    assert (connection.security_protocol, connection.sasl_mechanism) == ("sasl_ssl", "SCRAM-SHA-512")
    clear = {"security_protocol": "sasl_plaintext", "sasl_mechanism": "PLAIN", "insecure": True}
    assert KafkaConnection.model_validate(clear).insecure


@pytest.mark.parametrize(
    ("step", "tag"),
    [
        ({"filter": "a"}, "filter"),
        ({"select": {"b": "a"}}, "select"),
        ({"dedupe": "a", "within": "1m"}, "dedupe"),
        ({"window": "tumbling", "size": "1m", "aggregate": {"n": "count()"}}, "tumbling"),
        ({"window": "hopping", "size": "1m", "slide": "1s", "aggregate": {"n": "count()"}}, "hopping"),
        ({"window": "session", "gap": "1m", "aggregate": {"n": "count()"}}, "session"),
    ],
)
def test_the_verb_decides_what_a_step_is(step: dict[str, Any], tag: str) -> None:
    [parsed] = config(steps=[step]).steps
    assert tag_of(parsed) == tag
    assert config(steps=[parsed]).steps == (parsed,), "a step may be given as an object"


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({}, "this one has none"),
        ({"filter": "a", "dedupe": "b"}, "this one has filter and dedupe"),
        ("filter", "a step is a table with one verb"),
        ({"window": "slice", "size": "1m"}, "window is one of tumbling, hopping, session"),
        ({"filter": ""}, "at least 1 character"),
    ],
)
def test_steps_that_cannot_be_told(step: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(steps=[step])


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
    ("model", "keys", "message"),
    [
        (KafkaSinkConfig, {"topic": "o", "key": ["a", "b"], "key_format": "string"}, "takes one key column"),
        (KafkaSinkConfig, {"topic": "o", "mode": "upsert", "output": "late"}, "is for results"),
        (KafkaSinkConfig, {"topic": "a b"}, "pattern"),
        (RedisSinkConfig, {"key_template": "k", "url": "http://x"}, "starts with redis://"),
        (RedisSinkConfig, {"key_template": "k", "url": "redis://x", "connection": "y"}, "keep one"),
        (DeadLettersConfig, {"type": "file"}, "needs path"),
        (DeadLettersConfig, {"type": "kafka", "path": "x"}, "path is for type"),
        (DeadLettersConfig, {"path": "x", "topic": "y"}, 'are for type = "kafka"'),
    ],
)
def test_sinks_that_contradict_themselves(model: Any, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        model.model_validate(keys)


def test_dead_letters_are_a_topic_unless_a_path_is_given() -> None:
    assert DeadLettersConfig().kind == "kafka"
    assert DeadLettersConfig(path="x").kind == "file"


def test_times_in_tests_become_the_text_of_a_record() -> None:
    from datetime import UTC, datetime

    moment = datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)
    pipeline = config(tests=[{"name": "t", "input": [{"at": moment, "nested": {"at": [moment]}}]}])
    assert pipeline.tests[0].input == (
        {"at": "2026-01-01T00:00:10.000Z", "nested": {"at": ["2026-01-01T00:00:10.000Z"]}},
    )
