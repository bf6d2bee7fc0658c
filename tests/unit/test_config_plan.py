"""The text of `streamcore explain`."""

from __future__ import annotations

from typing import Any

import pytest

from streamcore.config import PipelineConfig
from streamcore.config.plan import explain
from streamcore.errors import ConfigError

DOCUMENT: dict[str, Any] = {
    "name": "p",
    "source": {"type": "kafka", "topic": "t", "event_time": "at", "schema": {"page": "string"}},
    "steps": [{"window": "tumbling", "size": "1m", "by": ["page"], "aggregate": {"views": "count()"}}],
    "sinks": [
        {"type": "kafka", "topic": "o"},
        {"type": "redis", "key_template": "p:{page}", "url": "redis://:canary@cache:1"},
        {"type": "parquet", "path": "rows"},
    ],
}


def test_source_steps_sinks_and_promise() -> None:
    text = explain(PipelineConfig.model_validate(DOCUMENT))
    lines = text.splitlines()
    assert lines[0] == "pipeline p: effectively_once, committed every 1s"
    assert lines[1] == (
        "source kafka topic t at localhost:9092, from earliest; event time at, out of order by up to 5s"
    )
    assert any(line.startswith("window") and "views = count()" in line for line in lines)
    assert lines[-3:] == [
        "sink kafka topic o at localhost:9092, upsert, output result",
        "sink redis redis://***@cache:1, key p:{page}, output result",
        "sink parquet folder rows, output result",
    ]


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ({"type": "files", "path": "x"}, "files x; event time of the record, out of order by any amount"),
        ({"type": "generate", "rate": 10}, "generate clickstream, 10 events/s, seed 1; event time of the record"),
        ({"type": "generate"}, "generate clickstream, as fast as possible"),
        ({"type": "memory", "topic": "m"}, "memory m; event time of the record"),
        ({"type": "records"}, "records; event time of the record"),
    ],
)
def test_every_source_has_its_line(source: dict[str, object], line: str) -> None:
    assert line in explain(PipelineConfig.model_validate({"source": source}))


ALONE = (
    "idle     lanes silent for 7s are not waited for, and a record of theirs for a window that has left makes another row of it, "
    "revision + 1; while all are silent "
)


@pytest.mark.parametrize(
    ("keys", "source", "line"),
    [
        ({}, {}, ALONE + "windows close as time passes, and such a record is late"),
        ({"delivery": "exactly_once"}, {}, ALONE + "windows close as time passes, and it is the same"),
        ({}, {"on_idle": "hold"}, ALONE + "the clock stands"),
        (
            {},
            {"keyed_by": "page"},
            "idle     while all lanes are silent for 7s windows close as time passes, and a record for one that has left is late",
        ),
        ({}, {"keyed_by": "page", "on_idle": "hold"}, "idle     while all lanes are silent for 7s the clock stands"),
        ({}, {"out_of_orderness": "unbounded"}, None),
        ({"steps": [{"filter": "page == 'a'"}]}, {}, None),
    ],
)
def test_what_silence_does_has_a_line(keys: dict[str, object], source: dict[str, object], line: str | None) -> None:
    given = {**DOCUMENT["source"], "idle_timeout": "7s", **source}
    sinks = [{"type": "kafka", "topic": "o"}]
    text = explain(PipelineConfig.model_validate({**DOCUMENT, "source": given, "sinks": sinks, **keys}))
    assert [each for each in text.splitlines() if each.startswith("idle")] == ([] if line is None else [line])


def test_an_ephemeral_run_and_sinks_in_python() -> None:
    document = {**DOCUMENT, "name": None, "source": {"type": "kafka", "topic": "t"}, "sinks": [{"type": "console"}]}
    text = explain(PipelineConfig.model_validate(document), python_sinks=["Mine"])
    assert "pipeline (no name): at_least_once, ephemeral: nothing is kept" in text
    assert "sink console, output result\nsink Mine\n" in text
    assert "types not declared: page" in text


def test_mistakes_are_raised() -> None:
    with pytest.raises(ConfigError, match="write `==`"):
        explain(PipelineConfig.model_validate({**DOCUMENT, "steps": [{"filter": "a = 1"}]}))
