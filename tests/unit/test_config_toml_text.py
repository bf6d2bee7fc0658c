"""A configuration written as a file is the same configuration when it is read."""

from __future__ import annotations

import math
import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streamcore.config import PipelineConfig, format_duration, to_toml
from streamcore.config.toml_text import quote
from streamcore.config.variables import Expansion, expand

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
DURATIONS = st.integers(1, 10**10).map(format_duration)
SCALARS = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), TEXT)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))


def table(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


SOURCE_KEYS: dict[str, Any] = {
    "schema": st.dictionaries(TEXT, TEXT, max_size=2),
    "event_time": TEXT,
    "event_time_unit": st.sampled_from(["iso", "s", "ms", "us", "ns"]),
    "where": TEXT,
    "out_of_orderness": st.one_of(DURATIONS, st.just("unbounded")),
    "on_idle": st.sampled_from(["advance", "hold"]),
}
SERVERS = TEXT.filter(lambda text: "@" not in text)
"""Without a login, which has keys of its own."""
SOURCES = st.one_of(
    table(
        {"type": st.just("kafka"), "topic": NAMES}, **SOURCE_KEYS, options=st.dictionaries(TEXT, SCALARS, max_size=2)
    ),
    table({"type": st.just("files"), "path": TEXT}, **SOURCE_KEYS),
    table({"type": st.just("generate")}, **SOURCE_KEYS, rate=st.floats(0, 1e9), seed=st.integers(0, 2**63 - 1)),
    table({"type": st.just("memory"), "topic": TEXT}, **SOURCE_KEYS),
)
FINITE = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), TEXT
)
PARAMETERS = st.dictionaries(TEXT, st.one_of(FINITE, st.lists(FINITE, max_size=3)), max_size=2)
EXPRESSIONS = st.dictionaries(TEXT, TEXT, min_size=1, max_size=3)
WINDOW_KEYS: dict[str, Any] = {
    "by": EXPRESSIONS,
    "parameters": PARAMETERS,
    "emit": st.sampled_from(["final", "updates"]),
    "allowed_lateness": DURATIONS,
}
STEPS = st.one_of(
    table({"filter": TEXT}, parameters=PARAMETERS, name=TEXT),
    table({"select": EXPRESSIONS}, parameters=PARAMETERS),
    table({"dedupe": TEXT, "within": DURATIONS}),
    table({"window": st.just("tumbling"), "size": DURATIONS, "aggregate": EXPRESSIONS}, **WINDOW_KEYS),
    table(
        {"window": st.just("hopping"), "size": DURATIONS, "slide": DURATIONS, "aggregate": EXPRESSIONS}, **WINDOW_KEYS
    ),
    table(
        {"window": st.just("cumulate"), "size": DURATIONS, "step": DURATIONS, "aggregate": EXPRESSIONS}, **WINDOW_KEYS
    ),
    table({"window": st.just("whole"), "aggregate": EXPRESSIONS}, **WINDOW_KEYS),
    table(
        {"window": st.just("session"), "gap": DURATIONS, "aggregate": EXPRESSIONS},
        **WINDOW_KEYS,
        max_length=DURATIONS,
    ),
)
SINKS = st.one_of(
    table(
        {"type": st.just("kafka"), "topic": NAMES}, key=st.lists(TEXT, min_size=1, max_size=2), partitions=st.just(7)
    ),
    table({"type": st.just("redis"), "key_template": TEXT}, ttl=DURATIONS, url=st.just("redis://h:1/0")),
    table({"type": st.just("parquet"), "path": TEXT}, columns=st.lists(TEXT, min_size=1, max_size=2)),
    table({"type": st.just("console")}, format=st.sampled_from(["table", "jsonl"])),
)
TESTS = table(
    {"name": TEXT, "input": st.lists(st.dictionaries(TEXT, VALUES, max_size=3), max_size=3)},
    expect=st.lists(st.dictionaries(TEXT, VALUES, max_size=2), max_size=2),
    ledger=st.dictionaries(TEXT, st.integers(0, 9), max_size=2),
)
CONNECTIONS = st.dictionaries(
    TEXT,
    st.one_of(
        table(
            {"type": st.just("kafka")}, bootstrap_servers=SERVERS, options=st.dictionaries(NAMES, SCALARS, max_size=2)
        ),
        table({"type": st.just("redis"), "url": st.just("redis://h")}),
    ),
    max_size=2,
)
PIPELINES = table(
    {"source": SOURCES},
    name=NAMES,
    delivery=st.sampled_from(["exactly_once", "at_least_once"]),
    commit_interval=DURATIONS,
    auto_create_topics=st.booleans(),
    state_dir=TEXT,
    kafka=table({}, bootstrap_servers=SERVERS, sasl_username=TEXT),
    connections=CONNECTIONS,
    steps=st.lists(STEPS, max_size=3),
    sinks=st.lists(SINKS, max_size=3),
    dead_letters=table({}, topic=NAMES, error_rate_window=st.integers(1, 1000)),
    limits=table({}, threads=st.integers(0, 4)),
    tests=st.lists(TESTS, max_size=2),
)


def read(text: str, **environ: str) -> PipelineConfig:
    expansion = Expansion()
    document = expand(tomllib.loads(text), environ, expansion)
    assert expansion.problems == []
    return PipelineConfig.model_validate(document)


@given(PIPELINES)
def test_writing_and_reading_is_the_identity(document: dict[str, Any]) -> None:
    config = PipelineConfig.model_validate(document)
    assert read(to_toml(config)) == config


@given(TEXT)
def test_strings_survive(text: str) -> None:
    assert tomllib.loads(f"a = {quote(text)}") == {"a": text}


def test_defaults_are_not_written() -> None:
    config = PipelineConfig.model_validate({"source": {"type": "kafka", "topic": "t", "idle_timeout": "30s"}})
    assert to_toml(config) == '[source]\ntype = "kafka"\ntopic = "t"\n'


def test_secrets_become_variables() -> None:
    document = {
        "source": {"type": "kafka", "topic": "t"},
        "kafka": {"sasl_username": "me", "sasl_password": "canary-1", "options": {"ssl.key.pem": "canary-2"}},
        "connections": {"my-cache": {"type": "redis", "url": "redis://:canary-3@h"}},
        "sinks": [{"type": "redis", "key_template": "k", "url": "redis://:canary-4@h"}],
    }
    config = PipelineConfig.model_validate(document)
    text = to_toml(config)
    assert "canary" not in text
    environ = {
        "KAFKA_SASL_PASSWORD": "canary-1",
        "KAFKA_OPTIONS_SSL_KEY_PEM": "canary-2",
        "CONNECTIONS_MY_CACHE_URL": "redis://:canary-3@h",
        "REDIS_URL": "redis://:canary-4@h",
    }
    assert read(text, **environ) == config


def test_special_numbers_and_inline_tables() -> None:
    rows = [{"a": math.inf, "b": -0.0, "c": 1e300, "d": {}, "e": [], "f": {"x y": [1]}, "g": None}]
    config = PipelineConfig.model_validate(
        {"source": {"type": "memory", "topic": "t"}, "tests": [{"name": "n", "input": rows}]}
    )
    del rows[0]["g"]  # absent and null are both null
    assert read(to_toml(config)).tests[0].input == tuple(rows)
