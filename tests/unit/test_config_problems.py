"""What people read when a file is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from streamcore.config import PipelineConfig
from streamcore.config.problems import document_path, problems_of

FILES = {"type": "files", "path": "x"}
SOURCE = {"type": "kafka", "topic": "t"}
WINDOW = {"window": "tumbling", "size": "1m", "aggregate": {"n": "count()"}}


def found(**keys: Any) -> list[tuple[str, str, str | None]]:
    document = {"source": SOURCE, **keys}
    try:
        PipelineConfig.model_validate(document)
    except ValidationError as error:
        return [(problem.path, problem.message, problem.hint) for problem in problems_of(error, document)]
    return []


@pytest.mark.parametrize(
    ("keys", "path", "message", "hint"),
    [
        ({"nmae": 1}, "nmae", "is not a key of this table", 'did you mean "name"?'),
        ({"topic": "t"}, "topic", "is not a key of this table", "topic belongs to [source]"),
        ({"max_depth": 5}, "max_depth", "is not a key of this table", "max_depth belongs to [limits]"),
        ({"source": {**SOURCE, "topik": 1}}, "source.topik", "is not a key of this table", 'did you mean "topic"?'),
        ({"source": {**SOURCE, "path": "x"}}, "source.path", "is not a key", 'path belongs to type = "files"'),
        (
            {"source": {**FILES, "keyed_by": "a"}},
            "source.keyed_by",
            "is not a key",
            "no record keys: leave keyed_by out",
        ),
        ({"source": {"topic": "t"}}, "source", "has no type", 'add type = one of "kafka", "files"'),
        ({"source": {"type": "kafak"}}, "source", 'type must be one of "kafka", "files"', 'did you mean "kafka"?'),
        ({"source": {"type": "kafka"}}, "source.topic", "is missing", None),
        ({"source": "kafka"}, "source", "must be a table", None),
        ({"source": {**SOURCE, "event_time": 5}}, "source.event_time", "must be text", None),
        ({"source": {**SOURCE, "idle_timeout": 5}}, "source.idle_timeout", "a duration needs a unit", None),
        ({"source": {**SOURCE, "topic": "a b"}}, "source.topic", "may consist of letters", None),
        ({"source": {**SOURCE, "schema": {"a": 1}}}, "source.schema.a", "must be text", None),
        ({"source": {**SOURCE, "schema": {"a.b": 1}}}, 'source.schema."a.b"', "must be text", None),
        ({"name": "a/b"}, "name", "must begin with a letter or digit", None),
        ({"combine": "lokal"}, "combine", 'must be one of "auto", "local", "topic", "none"', 'did you mean "local"?'),
        ({"auto_create_topics": "maybe"}, "auto_create_topics", "must be true or false", None),
        ({"limits": {"threads": -1}}, "limits.threads", "must be at least 0", None),
        ({"limits": {"threads": "two"}}, "limits.threads", "must be a whole number", None),
        ({"limits": {"thread": 1}}, "limits.thread", "is not a key", 'did you mean "threads"?'),
        ({"steps": {}}, "steps", "must be a list", None),
        ({"steps": [{}]}, "steps[0]", "a step has exactly one verb", None),
        ({"steps": [{"filtre": "a"}]}, "steps[0]", "and this one has none", 'did you mean "filter"?'),
        ({"steps": [{"filter": "a", "dedupe": "b"}]}, "steps[0]", "has filter and dedupe", "split it into 2 steps"),
        ({"steps": [{**WINDOW, "window": "tumblin"}]}, "steps[0]", "window is one of", 'did you mean "tumbling"?'),
        ({"steps": [{**WINDOW, "gap": "1m"}]}, "steps[0].gap", "is not a key", 'window = "session"'),
        ({"steps": [{"dedupe": "a"}]}, "steps[0].within", "is missing", None),
        ({"steps": [{**WINDOW, "aggregate": {}}]}, "steps[0].aggregate", "needs entries, at least 1", None),
        ({"steps": [{**WINDOW, "aggregate": {"n": 1}}]}, "steps[0].aggregate.n", "must be text", None),
        ({"sinks": [{"type": "kafka", "topic": "o"}, {"type": "redis"}]}, "sinks[1].key_template", "is missing", None),
        ({"connections": {"x": {}}}, "connections.x", "has no type", 'one of "kafka", "redis"'),
        ({"connections": {"x": {"type": "redis"}}}, "connections.x.url", "is missing", None),
        ({"dead_letters": {"error_rate_max": 2}}, "dead_letters.error_rate_max", "must be at most 1", None),
        ({"tests": [{"name": "a"}]}, "tests[0].input", "is missing", None),
    ],
)
def test_each_mistake_says_where_what_and_what_to_do(
    keys: dict[str, Any], path: str, message: str, hint: str | None
) -> None:
    [(at, what, how)] = found(**keys)
    assert at == path
    assert message in what
    assert (hint is None and how is None) or (hint is not None and how is not None and hint in how)


def test_all_mistakes_come_at_once() -> None:
    paths = [path for path, _, _ in found(nmae=1, combine="x", steps=[{"filter": 1}, {}], sinks=[{"type": "x"}])]
    assert paths == ["combine", "steps[0].filter", "steps[1]", "sinks[0]", "nmae"]


def test_no_refused_value_is_repeated() -> None:
    canary = "canary"
    text = str(
        found(
            kafka={"sasl_password": {"x": canary}, "ssl_key_password": [canary], "bootstrap_servers": {canary: canary}},
            sinks=[{"type": "redis", "key_template": "k", "url": f"http://:{canary}@h"}],
        )
    )
    assert "sinks[0].url" in text
    assert canary not in text


def test_positions_drop_the_names_of_union_members() -> None:
    assert document_path(("source", "kafka", "topic")) == ("source", "topic")
    assert document_path(("steps", 0, "filter", "filter")) == ("steps", 0, "filter")
    assert document_path(("steps", 0)) == ("steps", 0)
    assert document_path(("sinks", 1, "redis", "url")) == ("sinks", 1, "url")
    assert document_path(("connections", "kafka", "kafka", "url")) == ("connections", "kafka", "url")
