"""Sinks and dead letters."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from streamcore.config import DeadLettersConfig, KafkaSinkConfig, RedisSinkConfig


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
