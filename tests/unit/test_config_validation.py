"""The door from plain values to models."""

from __future__ import annotations

import pytest

from streamcore.config.validation import validated
from streamcore.errors import ConfigError, ExpressionError


def test_changes_are_checked_and_the_original_is_left() -> None:
    config = validated(None, {"source": {"type": "kafka", "topic": "t"}})
    changed = validated(config, {"steps": [{"filter": "a > 1"}]})
    assert config.steps == ()
    assert len(changed.steps) == 1
    assert changed.source is config.source


@pytest.mark.parametrize("interval", ["1ms", "90s", "1500ms", "1d"])
def test_a_commit_interval_outlives_other_changes(interval: str) -> None:
    config = validated(None, {"source": {"type": "kafka", "topic": "t"}, "commit_interval": interval})
    assert validated(config, {"name": "p"}).commit_interval == config.commit_interval


def test_only_what_was_given_counts_as_set() -> None:
    config = validated(validated(None, {"source": {"type": "kafka", "topic": "t"}}), {"name": "p"})
    assert config.model_fields_set == {"source", "name"}


def test_every_mistake_is_raised_as_ours() -> None:
    with pytest.raises(ConfigError, match="2 mistakes"):
        validated(None, {"source": {"type": "kafka"}, "nmae": "p"})
    with pytest.raises(ExpressionError, match="write `==`"):
        validated(None, {"source": {"type": "kafka", "topic": "t"}, "steps": [{"filter": "a = 1"}]})
