"""The promise that holds."""

from __future__ import annotations

from typing import Any

import pytest

from streamcore.config import KafkaSinkConfig, PipelineConfig, choose_delivery, in_transactions, sink_mode
from streamcore.errors import ConfigError

WINDOW = {"window": "tumbling", "size": "1m", "aggregate": {"n": "count()"}}
UPSERT = {"type": "kafka", "topic": "o"}
REDIS = {"type": "redis", "key_template": "k"}
PARQUET = {"type": "parquet", "path": "p"}
LATE = {"type": "kafka", "topic": "late", "output": "late"}
FILES = {"type": "files", "path": "in.jsonl"}
CONSOLE = {"type": "console"}


def config(**keys: Any) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {"name": "p", "source": {"type": "kafka", "topic": "t"}, "steps": [WINDOW], **keys}
    )


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"sinks": [UPSERT, REDIS, PARQUET]}, "effectively_once"),
        ({"sinks": []}, "effectively_once"),
        ({"sinks": [UPSERT, LATE]}, "at_least_once"),
        ({"sinks": [CONSOLE]}, "at_least_once"),
        ({"sinks": [UPSERT], "steps": []}, "at_least_once"),
        ({"sinks": [UPSERT], "name": None}, "at_least_once"),
        ({"sinks": [UPSERT], "source": {"type": "records"}}, "at_least_once"),
        ({"sinks": [CONSOLE], "delivery": "at_least_once"}, "at_least_once"),
        ({"sinks": [UPSERT], "delivery": "at_least_once"}, "at_least_once"),
        ({"sinks": [UPSERT], "delivery": "effectively_once"}, "effectively_once"),
        ({"sinks": [UPSERT, LATE, PARQUET], "delivery": "exactly_once"}, "exactly_once"),
        ({"sinks": [PARQUET], "source": FILES, "delivery": "exactly_once"}, "exactly_once"),
        (
            {"sinks": [PARQUET], "source": FILES, "dead_letters": {"path": "x"}, "delivery": "exactly_once"},
            "exactly_once",
        ),
        ({"sinks": [PARQUET], "source": FILES}, "effectively_once"),
    ],
)
def test_unstated_is_the_strongest_and_stated_is_kept(keys: dict[str, Any], expected: str) -> None:
    assert choose_delivery(config(**keys)) == expected


def test_sinks_outside_the_configuration_count() -> None:
    assert choose_delivery(config(), appends=["run.stream()"]) == "at_least_once"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"delivery": "exactly_once", "sinks": [UPSERT, CONSOLE]}, r"sinks\[1\] is of type console"),
        ({"delivery": "exactly_once", "name": None}, "without a name"),
        ({"delivery": "exactly_once", "source": {"type": "records"}}, "its source is Kafka"),
        ({"delivery": "exactly_once", "dead_letters": {"path": "x"}}, "give them a topic"),
        ({"delivery": "exactly_once", "source": FILES, "sinks": [PARQUET, UPSERT]}, r"sinks\[1\] is of type kafka"),
        ({"delivery": "exactly_once", "source": FILES, "dead_letters": {"topic": "x"}}, "give them a path"),
        ({"delivery": "exactly_once", "sinks": [{**UPSERT, "options": {"linger.ms": 1}}]}, "share one producer"),
        ({"delivery": "effectively_once", "sinks": [UPSERT, CONSOLE]}, r"sinks\[1\] appends"),
        ({"delivery": "effectively_once", "name": None}, "without a name"),
        ({"delivery": "effectively_once", "source": {"type": "records"}}, "cannot be read again"),
    ],
)
def test_a_promise_that_cannot_be_kept_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        choose_delivery(config(**keys))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("keys", "other", "message"),
    [
        ({"combine": "auto"}, {}, 'say so with combine = "none"'),
        ({}, {"type": "memory"}, r"sources.right is of type memory, and all inputs are to be topics"),
        ({}, {"topic": "t"}, "two inputs read topic t"),
        ({}, {"group_id": "own"}, r"sources.right has a group of its own"),
        ({}, {"options": {"fetch.wait.max.ms": 1}}, r"sources.right has options of its own"),
        ({}, {"transport": "librdkafka"}, r"sources.right has a transport of its own \(librdkafka\)"),
        ({"connections": {"far": {"type": "kafka"}}}, {"connection": "far"}, r"sources.right is on another cluster"),
    ],
)
def test_inputs_that_one_member_of_a_group_cannot_read_are_refused(
    keys: dict[str, Any], other: dict[str, Any], message: str
) -> None:
    own = {"type": "kafka", "topic": "t", "keyed_by": "k"}
    join = {"join": "right", "on": ["k"], "within": "5s"}
    base = {"delivery": "exactly_once", "combine": "none", "source": own, "steps": [join], "sinks": [UPSERT]}
    right = {"type": "kafka", "topic": "u", "keyed_by": "k"}
    assert choose_delivery(config(**base, sources={"right": right})) == "exactly_once"
    right = {
        name: value for name, value in {**right, **other}.items() if other.get("type") is None or name != "keyed_by"
    }
    with pytest.raises(ConfigError, match=message):
        choose_delivery(config(**{**base, **keys}, sources={"right": right}))


def test_the_mode_of_a_kafka_sink() -> None:
    def mode(windowed: bool, **keys: str) -> str:
        pipeline = config() if windowed else config(steps=[])
        return sink_mode(pipeline, KafkaSinkConfig.model_validate({"topic": "o", **keys}))

    assert mode(True) == "upsert"
    assert mode(False) == "append"
    assert mode(True, output="late") == "append"
    assert mode(True, mode="append") == "append"


def test_exactly_once_is_a_matter_of_transactions_unless_all_inputs_are_files() -> None:
    files = config(source=FILES)
    assert (in_transactions(config()), in_transactions(files)) == (True, False)
    assert in_transactions(config(source=FILES, sources={"more": {"type": "kafka", "topic": "t"}}))
