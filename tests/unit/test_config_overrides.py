"""`--set a.b=value`."""

from __future__ import annotations

from typing import Any

import pytest

from streamcore.config.overrides import apply_overrides


def applied(*overrides: str) -> tuple[dict[str, Any], list[str]]:
    document: dict[str, Any] = {"name": "p", "steps": [{"dedupe": "id", "within": "1m"}], "tags": ["a"]}
    _, problems = apply_overrides(document, overrides)
    return document, [f"{problem.path}: {problem.message}" for problem in problems]


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("name=q", ["name"], "q"),
        ("limits.threads=4", ["limits", "threads"], 4),
        ("auto_create_topics=false", ["auto_create_topics"], False),
        ('steps[0].within="5m"', ["steps", 0, "within"], "5m"),
        ("steps[0].within=5m", ["steps", 0, "within"], "5m"),
        ("kafka.bootstrap_servers=a:1,b:2", ["kafka", "bootstrap_servers"], "a:1,b:2"),
        ('source.schema."payload.x"=int64', ["source", "schema", "payload.x"], "int64"),
        ('sinks=[{type="console"}]', ["sinks"], [{"type": "console"}]),
        ("steps[0].filter=a == 'b=c'", ["steps", 0, "filter"], "a == 'b=c'"),
    ],
)
def test_sets_a_key(override: str, path: list[str | int], value: object) -> None:
    document, problems = applied(override)
    assert problems == []
    found: Any = document
    for part in path:
        found = found[part]
    assert found == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("name", "--set takes path=value"),
        ("steps[3].within=5m", "steps has 1 entries"),
        ("steps.within=5m", "steps is a list"),
        ("steps.0.within=5m", "steps is a list"),
        ("name[0]=x", "name is a value"),
        ("kafka[0]=x", "kafka is a table"),
        ("name.first=x", "name is a value"),
        ("a b=x", "is no path"),
        ("kafka.sasl_password=canary", "visible in the process list"),
        ("kafka.options.sasl.oauthbearer.config=canary", "visible in the process list"),
        ("sinks[0].url=redis://:canary@host", "visible in the process list"),
    ],
)
def test_refuses_what_cannot_be_set_without_showing_it(override: str, message: str) -> None:
    document, problems = applied(override)
    assert len(problems) == 1
    assert message in problems[0]
    assert "canary" not in problems[0]
    assert "canary" not in str(document)
