"""Did you mean."""

from __future__ import annotations

from streamcore.config.suggest import did_you_mean, listed


def test_names_the_closest_or_nothing() -> None:
    assert did_you_mean("TOPIK", ["type", "topic"]) == 'did you mean "topic"?'
    assert did_you_mean("zzz", ["type", "topic"]) is None
    assert listed(["a", "b"]) == '"a", "b"'
