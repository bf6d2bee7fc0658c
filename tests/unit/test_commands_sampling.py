"""Types guessed from the first records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamcore.commands.sampling import sample_types
from streamcore.config import PipelineConfig
from streamcore.errors import ConfigError
from streamcore.memory_log import default_log

STEPS = [{"window": "tumbling", "size": "1m", "by": ["page", "ok"], "aggregate": {"top": "max(ms)", "n": "count()"}}]


def test_samples_files_whatever_the_name_and_sinks_are(tmp_path: Path) -> None:
    rows = [{"page": "a", "ok": True, "ms": 1}, {"page": "b", "ok": None, "ms": 1.5}]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    source = {"type": "files", "path": f"{tmp_path}/*.jsonl", "schema": {"page": "string"}}
    document = {
        "name": "p",
        "delivery": "at_least_once",
        "source": source,
        "steps": STEPS,
        "sinks": [{"type": "console"}],
    }
    assert sample_types(PipelineConfig.model_validate(document)) == {"ok": "bool", "ms": "float64"}


def test_samples_what_a_log_holds_now(unique: str) -> None:
    source = {"type": "memory", "topic": unique}
    config = PipelineConfig.model_validate({"source": source, "steps": STEPS})
    with pytest.raises(ConfigError, match="no record to guess types from; declare ms, ok, page by hand"):
        sample_types(config)
    default_log.append(unique, b'{"page": "a", "ok": false, "ms": 2}')
    assert sample_types(config) == {"page": "string", "ok": "bool", "ms": "int64"}


def test_samples_generated_events() -> None:
    steps = [{"window": "tumbling", "size": "1m", "by": ["payload.page_id"], "aggregate": {"n": "count()"}}]
    config = PipelineConfig.model_validate({"source": {"type": "generate"}, "steps": steps})
    assert sample_types(config) == {"payload.page_id": "string"}


def test_a_name_that_was_meant_otherwise_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"page": "a", "okay": true, "ms": 1}\n')
    source = {"type": "files", "path": f"{tmp_path}/*.jsonl"}
    with pytest.raises(ConfigError, match=r"ok: none of the first records has this field") as told:
        sample_types(PipelineConfig.model_validate({"source": source, "steps": STEPS}))
    assert 'did you mean "okay"?' in str(told.value)


def test_nothing_is_opened_when_all_is_declared() -> None:
    source = {"type": "files", "path": "/no/such/folder/*", "schema": {"page": "string", "ok": "bool", "ms": "int64"}}
    assert sample_types(PipelineConfig.model_validate({"source": source, "steps": STEPS})) == {}
