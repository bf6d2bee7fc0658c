"""Which topic feeds the sinks that no transaction takes in."""

from __future__ import annotations

from typing import Any

import pytest

from streamcore.config import KafkaSinkConfig, PipelineConfig, choose_delivery, is_outbox, outbox_topic
from streamcore.config.plan import explain
from streamcore.errors import ConfigError
from streamcore.topics import topic_plans

WINDOW = {"window": "tumbling", "size": "1m", "by": ["k"], "aggregate": {"n": "count()"}}
SESSION = {"window": "session", "gap": "1m", "by": ["k"], "aggregate": {"n": "count()"}, "emit": "updates"}
TOPIC = {"type": "kafka", "topic": "o"}
BY_WINDOW = {"type": "redis", "key_template": "{k}:{window_end:epoch_s}"}
NEWEST = {"type": "redis", "key_template": "newest:{k}"}
SOURCE = {"type": "kafka", "topic": "t", "schema": {"k": "string"}}


def config(*sinks: dict[str, Any], **keys: Any) -> PipelineConfig:
    base = {"name": "p", "delivery": "exactly_once", "source": SOURCE, "steps": [WINDOW], "sinks": sinks}
    return PipelineConfig.model_validate({**base, **keys})


def own(pipeline: PipelineConfig) -> KafkaSinkConfig:
    found = outbox_topic(pipeline)
    assert found is not None
    assert found.writer is not None
    assert found.topic == found.writer.topic == "p.out"
    return found.writer


def test_a_pipeline_without_outboxes_needs_no_topic() -> None:
    assert outbox_topic(config(TOPIC)) is None
    assert [is_outbox(sink) for sink in config(TOPIC, NEWEST).sinks] == [False, True]


def test_a_topic_of_the_pipeline_feeds_outboxes_where_it_has_rows_whole_and_in_order() -> None:
    found = outbox_topic(config(TOPIC, BY_WINDOW))
    assert found is not None
    assert (found.topic, found.writer) == ("o", None)


@pytest.mark.parametrize(
    ("pipeline", "key"),
    [
        (config(BY_WINDOW), ("k", "window_end")),
        (config(TOPIC, BY_WINDOW, NEWEST), ("k",)),
        (config({**TOPIC, "columns": ["k", "window_start"]}, BY_WINDOW), ("k", "window_end")),
        (config({**TOPIC, "timestamp_format": "epoch_ms"}, BY_WINDOW), ("k", "window_end")),
        (config({**TOPIC, "output": "late"}, BY_WINDOW), ("k", "window_end")),
        (config(TOPIC, BY_WINDOW, steps=[SESSION]), ("k", "window_end")),
    ],
)
def test_otherwise_a_topic_of_their_own_does(pipeline: PipelineConfig, key: tuple[str, ...]) -> None:
    writer = own(pipeline)
    assert (writer.key, writer.mode, writer.partitions) == (key, "append", 4)


def test_rows_of_keys_that_share_no_column_go_to_one_partition() -> None:
    writer = own(config(NEWEST, {"type": "redis", "key_template": "at:{window_end}"}))
    assert (writer.key, writer.partitions) == (None, 1)


def test_what_an_outbox_cannot_take_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"sinks\[1\] takes the output late"):
        choose_delivery(config(TOPIC, {**NEWEST, "output": "late"}))
    with pytest.raises(ConfigError, match=r"sinks\[0\] is an outbox of rows, and this pipeline forwards records"):
        choose_delivery(config(NEWEST, steps=[{"filter": "k = 'a'"}]))


def test_the_plan_and_the_topics_name_it() -> None:
    assert "outbox: sinks[0] fed from the committed topic p.out\n" in explain(config(BY_WINDOW))
    names = {plan.name: plan.settings for _, plan in topic_plans(config(BY_WINDOW))}
    assert names["p.out"] == {}
    assert "p.out" not in {plan.name for _, plan in topic_plans(config(TOPIC, BY_WINDOW))}
    assert "p.out" not in {plan.name for _, plan in topic_plans(config(BY_WINDOW, delivery="effectively_once"))}
