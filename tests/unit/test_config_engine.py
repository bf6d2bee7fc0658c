"""The description the engine reads."""

from __future__ import annotations

from typing import Any

import pytest

from streamcore import _core
from streamcore.config import DedupeStep, PipelineConfig, engine_json, engine_spec

CONFIG = PipelineConfig.model_validate(
    {
        "source": {
            "type": "kafka",
            "topic": "t",
            "event_time": "at",
            "where": "a == 1",
            "schema": {"a": "int64"},
            "max_future_skew": "0s",
        },
        "steps": [
            {"filter": "a > $n", "parameters": {"n": 1}},
            {"select": {"a": "a + 1", "b": "'x'"}},
            {
                "window": "hopping",
                "size": "1m",
                "slide": "10s",
                "offset": "-1s",
                "min_start": "2026-01-01T00:00:00Z",
                "by": ["b"],
                "aggregate": {"n": "count()"},
                "functions": {
                    "odd": {
                        "function": "jobs:Odd",
                        "arguments": {"x": "int64"},
                        "state": {"s": "bool"},
                        "returns": "bool",
                    }
                },
                "emit": "updates",
                "emit_every": "10s",
                "allowed_lateness": "5s",
                "null_keys": "drop",
            },
        ],
        "combine": "local",
        "limits": {"threads": 2},
    }
)


def test_every_key_of_the_engine_is_written_out() -> None:
    spec = engine_spec(CONFIG)
    assert spec["source"] == {
        "format": "json",
        "event_time": "at",
        "event_time_unit": "iso",
        "where": {"text": "a == 1", "parameters": {}},
        "out_of_orderness_ms": 5_000,
        "idle_timeout_ms": 30_000,
        "on_idle": "advance",
        "max_future_skew_ms": 0,
        "max_lead_ms": 600_000,
        "keyed_by": None,
        "schema": {"a": "int64"},
    }
    assert spec["steps"][0] == {"verb": "filter", "condition": {"text": "a > $n", "parameters": {"n": 1}}}
    assert spec["steps"][2] == {
        "verb": "window",
        "kind": {
            "type": "hopping",
            "size_ms": 60_000,
            "slide_ms": 10_000,
            "offset_ms": -1_000,
            "min_start_ms": 1_767_225_600_000,
        },
        "by": [{"name": "b", "text": "b", "parameters": {}}],
        "aggregates": [{"name": "n", "text": "count()", "parameters": {}}],
        "functions": [
            {
                "name": "odd",
                "function": "jobs:Odd",
                "arguments": [{"name": "x", "type": "int64"}],
                "state": [{"name": "s", "type": "bool"}],
                "returns": "bool",
                "version": 1,
            }
        ],
        "emit": "updates",
        "emit_every_ms": 10_000,
        "emit_when": None,
        "allowed_lateness_ms": 5_000,
        "null_keys": "drop",
    }
    assert spec["combine"] == "local"
    assert spec["limits"]["threads_max"] == 2


def test_the_engine_takes_it() -> None:
    described = _core.describe(engine_json(CONFIG))
    assert described["problems"] == []
    assert [name for name, _ in described["columns"]][:4] == ["b", "window_start", "window_end", "n"]
    plain = engine_json(PipelineConfig.model_validate({"source": CONFIG.source, "steps": [{"filter": "a > 1"}]}))
    assert _core.describe(plain)["fingerprint"] == _core.Pipeline(plain).fingerprint != described["fingerprint"]
    assert _core.describe(b"{}")["fingerprint"] is None


def test_sessions_and_dedupe() -> None:
    config = PipelineConfig.model_validate(
        {
            "source": {"type": "files", "path": "x"},
            "steps": [
                {"dedupe": "id", "within": "10m"},
                {"window": "session", "gap": "30s", "gap_inclusive": False, "aggregate": {"n": "count()"}},
            ],
        }
    )
    spec = engine_spec(config)
    assert spec["source"]["out_of_orderness_ms"] is None
    assert spec["steps"][0] == {"verb": "dedupe", "field": "id", "within_ms": 600_000}
    bloom = {"dedupe": "id", "within": "10m", "method": "bloom", "capacity": 5}
    spec_of_bloom = engine_spec(config.model_copy(update={"steps": [DedupeStep.model_validate(bloom)]}))["steps"][0]
    assert spec_of_bloom["bloom"] == {"capacity": 5, "false_drop_rate": None}
    kind = {"type": "session", "gap_ms": 30_000, "gap_inclusive": False, "max_length_ms": None, "min_start_ms": None}
    assert spec["steps"][1]["kind"] == kind
    assert _core.describe(engine_json(config))["problems"] == []


@pytest.mark.parametrize(
    ("window", "kind"),
    [
        (
            {"window": "cumulate", "size": "1m", "step": "10s"},
            {"type": "cumulate", "size_ms": 60_000, "step_ms": 10_000, "offset_ms": 0, "min_start_ms": None},
        ),
        (
            {"window": "session", "gap": "1m", "max_length": "1h", "min_start": "1970-01-01T00:00:01Z"},
            {
                "type": "session",
                "gap_ms": 60_000,
                "gap_inclusive": True,
                "max_length_ms": 3_600_000,
                "min_start_ms": 1_000,
            },
        ),
        (
            {"window": "tumbling", "size": "1w", "timezone": "Europe/Berlin", "week_start": "sunday"},
            {
                "type": "calendar",
                "size_ms": 604_800_000,
                "size_months": None,
                "timezone": "Europe/Berlin",
                "week_start": "sunday",
                "offset_ms": 0,
                "min_start_ms": None,
            },
        ),
        (
            {"window": "tumbling", "size": "1mo", "timezone": "UTC"},
            {
                "type": "calendar",
                "size_ms": None,
                "size_months": 1,
                "timezone": "UTC",
                "week_start": None,
                "offset_ms": 0,
                "min_start_ms": None,
            },
        ),
        ({"window": "whole"}, {"type": "whole", "min_start_ms": None}),
    ],
)
def test_every_kind_of_window_is_one_the_engine_takes(window: dict[str, Any], kind: dict[str, Any]) -> None:
    step = {**window, "aggregate": {"n": "count()"}}
    config = PipelineConfig.model_validate({"source": {"type": "files", "path": "x"}, "steps": [step]})
    assert engine_spec(config)["steps"][0]["kind"] == kind
    assert _core.describe(engine_json(config))["problems"] == []
