"""Customary environment variables fill what nobody set."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamcore.config import PipelineConfig
from streamcore.config.environment import apply_environment, fill_from_environment
from streamcore.errors import ConfigError

SOURCE = {"type": "kafka", "topic": "t"}
REDIS = {"type": "redis", "key_template": "a:{b}"}


def test_fills_absent_keys_only() -> None:
    environ = {"KAFKA_BOOTSTRAP_SERVERS": "env:1", "KAFKA_SASL_USERNAME": "me", "STREAMCORE_STATE_DIR": "/var/lib/s"}
    document = {"source": SOURCE, "kafka": {"bootstrap_servers": "file:1"}}
    values, origins, problems = apply_environment(document, environ)
    assert values["kafka"] == {"bootstrap_servers": "file:1", "sasl_username": "me"}
    assert values["state_dir"] == "/var/lib/s"
    assert origins == {("kafka", "sasl_username"): "KAFKA_SASL_USERNAME", ("state_dir",): "STREAMCORE_STATE_DIR"}
    assert problems == []
    assert document["kafka"] == {"bootstrap_servers": "file:1"}, "the document given is left as it was"


def test_redis_url_goes_to_sinks_that_name_no_server() -> None:
    sinks = [REDIS, {**REDIS, "url": "redis://own"}, {**REDIS, "connection": "cache"}, {"type": "console"}]
    values, origins, _ = apply_environment({"sinks": sinks}, {"REDIS_URL": "redis://env"})
    assert [sink.get("url") for sink in values["sinks"]] == ["redis://env", "redis://own", None, None]
    assert list(origins) == [("sinks", 0, "url")]


def test_a_file_variant_reads_mounted_secrets(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("canary\n")
    values, origins, _ = apply_environment({}, {"KAFKA_SASL_PASSWORD_FILE": str(secret)})
    assert values["kafka"]["sasl_password"] == "canary"
    assert origins == {("kafka", "sasl_password"): "KAFKA_SASL_PASSWORD_FILE"}
    _, _, problems = apply_environment({}, {"KAFKA_SASL_PASSWORD_FILE": "/no/such/file"})
    assert [problem.path for problem in problems] == ["environment KAFKA_SASL_PASSWORD_FILE"]


def test_what_is_no_table_is_left_for_validation() -> None:
    values, origins, _ = apply_environment({"kafka": "x", "sinks": 5}, {"KAFKA_BOOTSTRAP_SERVERS": "env:1"})
    assert values == {"kafka": "x", "sinks": 5}
    assert origins == {}


def test_fills_a_configuration_made_in_python() -> None:
    config = PipelineConfig.model_validate({"source": SOURCE, "sinks": [REDIS]})
    filled = fill_from_environment(config, {"KAFKA_BOOTSTRAP_SERVERS": "env:1", "REDIS_URL": "redis://env"})
    assert filled.kafka.bootstrap_servers == "env:1"
    assert filled.sinks[0].model_dump()["url"].get_secret_value() == "redis://env"
    assert fill_from_environment(filled, {"KAFKA_BOOTSTRAP_SERVERS": "other:1"}).kafka.bootstrap_servers == "env:1"
    assert fill_from_environment(config, {}) is config


def test_a_wrong_variable_is_named_and_not_shown() -> None:
    config = PipelineConfig.model_validate({"source": SOURCE, "sinks": [REDIS]})
    with pytest.raises(ConfigError, match="REDIS_URL") as caught:
        fill_from_environment(config, {"REDIS_URL": "http://user:canary@host"})
    assert "canary" not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot read"):
        fill_from_environment(config, {"KAFKA_SASL_PASSWORD_FILE": "/no/such/file"})


def test_durations_that_were_set_survive_filling() -> None:
    """A set `commit_interval` was refused as a bare number once any variable filled a key."""
    kafka = {"connect_timeout": "3s"}
    config = PipelineConfig.model_validate({"source": SOURCE, "commit_interval": "500ms", "kafka": kafka})
    filled = fill_from_environment(config, {"KAFKA_BOOTSTRAP_SERVERS": "env:1", "STREAMCORE_STATE_DIR": "state"})
    assert (filled.commit_interval, filled.kafka.connect_timeout, filled.state_dir) == (500, 3000, "state")
    assert filled.kafka.bootstrap_servers == "env:1"
