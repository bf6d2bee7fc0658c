"""Where lanes' windows meet: what is chosen where nothing is said, what is refused, and what `explain` says of it."""

from __future__ import annotations

from typing import Any

import pytest

from streamcore.config import PipelineConfig, check, describe, unkept
from streamcore.config.plan import explain

WINDOW = {"window": "tumbling", "size": "1m", "by": ["page"], "aggregate": {"views": "count()"}}
SOURCE = {"type": "kafka", "topic": "clicks", "event_time": "at", "schema": {"page": "string", "user": "string"}}
SINK = {"type": "kafka", "topic": "views"}


def config(*steps: dict[str, Any], **keys: Any) -> PipelineConfig:
    given = {"name": "p", "delivery": "exactly_once", "source": SOURCE, "steps": steps or [WINDOW], "sinks": [SINK]}
    return PipelineConfig.model_validate({**given, **keys})


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "topic"),
        ({"combine": "topic"}, "topic"),
        ({"combine": "local"}, "local"),
        ({"delivery": None}, "local"),
        ({"delivery": "effectively_once"}, "local"),
        ({"source": {**SOURCE, "keyed_by": "page"}}, "none"),
        ({"source": {**SOURCE, "keyed_by": "user"}}, "topic"),
        ({"source": {"type": "files", "path": "x", "event_time": "at", "schema": {"page": "string"}}}, "local"),
    ],
)
def test_windows_meet_through_a_topic_where_workers_share_the_input(keys: dict[str, Any], expected: str) -> None:
    sinks = {"sinks": [{"type": "parquet", "path": "p"}]} if keys.get("source", {}).get("type") == "files" else {}
    assert describe(config(**keys, **sinks))["combine"] == expected


def test_what_a_topic_cannot_do_is_done_in_one_process_and_told() -> None:
    later = {"window": "tumbling", "size": "1h", "aggregate": {"most": "max(views)"}}
    chained = config(WINDOW, later)
    assert describe(chained)["combine"] == "local"
    assert check(chained) == []
    (line,) = [line for line in explain(chained).splitlines() if line.startswith("combine in one process: ")]
    assert line.startswith("combine in one process: one worker has all partitions: ")
    assert [problem.path for problem in check(config(WINDOW, later, combine="topic"))] == ["steps[1].by"]


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"combine": "topic", "delivery": "effectively_once"}, "combine"),
        ({"combine": "topic", "delivery": None}, "combine"),
        ({"combine_partitions": 3, "combine": "local"}, "combine_partitions"),
        ({"combine_partitions": 3, "delivery": None}, "combine_partitions"),
    ],
)
def test_partials_outside_a_transaction_are_refused(keys: dict[str, Any], path: str) -> None:
    assert [problem.path for problem in check(config(**keys))] == [path]


def test_the_plan_says_where_windows_meet_and_why() -> None:
    assert (
        "combine through topic p.0.partials.g1 (as many partitions as the input): the group key is not the record key, and under "
        "exactly_once workers share the partitions\n"
    ) in explain(config())
    said = explain(config(combine="topic", combine_partitions=12))
    assert 'combine through topic p.0.partials.g1 (12 partitions): combine = "topic"\n' in said
    assert 'combine in one process: combine = "local": one worker has all partitions\n' in explain(
        config(combine="local")
    )
    assert "combine through" not in explain(config(source={**SOURCE, "keyed_by": "page"}))


def test_a_run_that_keeps_nothing_merges_in_its_process() -> None:
    bare = unkept(config(combine="topic", combine_partitions=2))
    assert (bare.name, bare.delivery, bare.sinks, describe(bare)["combine"]) == (None, None, (), "local")
    assert check(bare) == []
