"""What errors in place of records come to. The rest is held by tests/integration/test_kafka_source.py."""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import Mock

import pytest
from confluent_kafka import KafkaError

from streamcore.config import KafkaConnection, KafkaSourceConfig
from streamcore.errors import ConfigError, SourceError
from streamcore.kafka_client import Topic
from streamcore.sources import kafka
from streamcore.sources.kafka import KafkaSource

TOPIC = Topic("in", "first", (0, 1))


def _source(*found: Topic | None) -> KafkaSource:
    """Of a cluster that describes the topic so, one time after the other."""
    source = KafkaSource(KafkaConnection(), cast("KafkaSourceConfig", Mock()), group="g")
    source._topic = TOPIC
    source._cluster = cast("Any", Mock())
    cast("Any", source._cluster).topic.side_effect = list(found)
    return source


@pytest.mark.parametrize("name", ["COORDINATOR_NOT_AVAILABLE", "NOT_LEADER_FOR_PARTITION", "_ALL_BROKERS_DOWN"])
def test_a_broker_that_begins_anew_is_left_to_the_client(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """It ended the run: the client calls no error of a message retriable."""
    _source()._check_error(KafkaError(getattr(KafkaError, name)), 1)
    assert "partition 1 of in" in caplog.text


def test_a_topic_that_brokers_do_not_know_for_a_moment_is_waited_for() -> None:
    _source(None, TOPIC)._check_error(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), None)


@pytest.mark.parametrize("found", [None, Topic("in", "second", (0, 1))])
def test_a_topic_that_is_gone_or_another_one_ends_the_run(found: Topic | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "UNKNOWN_MAX_S", 0.0)
    with pytest.raises(SourceError, match="in cannot be read"):
        _source(found)._check_error(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), None)


@pytest.mark.parametrize(
    ("name", "right"),
    [("GROUP_AUTHORIZATION_FAILED", "READ on group g"), ("TOPIC_AUTHORIZATION_FAILED", "READ and DESCRIBE on in")],
)
def test_a_right_that_is_missing_is_named(name: str, right: str) -> None:
    with pytest.raises(ConfigError, match=right):
        _source()._check_error(KafkaError(getattr(KafkaError, name)), None)
