"""Secrets are hidden by type and by name."""

from __future__ import annotations

import pytest

from streamcore.config import PipelineConfig
from streamcore.config.redact import HIDDEN, is_secret_key, redact_url, redacted

CANARIES = {
    "source": {"type": "kafka", "topic": "t", "options": {"sasl.oauthbearer.config": "canary"}},
    "kafka": {
        "security_protocol": "sasl_ssl",
        "sasl_mechanism": "PLAIN",
        "sasl_password": "canary",
        "ssl_key_password": "canary",
        "options": {"ssl.key.pem": "canary", "socket.timeout.ms": "shown"},
    },
    "connections": {"cache": {"type": "redis", "url": "rediss://user:canary@cache:6379/1"}},
    "sinks": [
        {"type": "redis", "url": "redis://:canary@h", "key_template": "a:{b}"},
        {"type": "webhook", "url": "https://h/canary?x=canary", "headers": {"Authorization": "Bearer canary"}},
    ],
}


def test_no_canary_leaves_a_configuration() -> None:
    config = PipelineConfig.model_validate(CANARIES)
    shown = redacted(config.model_dump())
    assert "canary" not in str(shown)
    assert "canary" not in repr(config)
    assert "canary" not in str(config)
    assert "canary" not in config.model_dump_json()
    assert shown["kafka"]["options"]["socket.timeout.ms"] == "shown"
    assert shown["connections"]["cache"]["url"] == f"rediss://{HIDDEN}@cache:6379/1"


@pytest.mark.parametrize("name", ["sasl_password", "ssl.key.pem", "TOKEN", "api_key", "aws.secret", "sasl.jaas.config"])
def test_names_that_hide_their_value(name: str) -> None:
    assert is_secret_key(name)


@pytest.mark.parametrize("name", ["key", "key_template", "key_format", "topic", "ssl_key_location", "keyed_by"])
def test_names_that_do_not(name: str) -> None:
    assert not is_secret_key(name)


def test_urls_lose_their_login_only() -> None:
    assert redact_url("redis://h:1/0") == "redis://h:1/0"
    assert redact_url("redis://u:p@h:1/0") == f"redis://{HIDDEN}@h:1/0"
