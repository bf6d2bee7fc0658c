"""What a member does inside the group's callbacks; the rest is held by tests/integration/test_exactly_once.py."""

from __future__ import annotations

from typing import Any, cast

import pytest
from confluent_kafka import TopicPartition

from streamcore.config import KafkaConnection, KafkaSourceConfig
from streamcore.errors import StateError
from streamcore.kafka_client import Cluster, Topic
from streamcore.sources.kafka_member import MemberSource
from streamcore.sources.kafka_reader import ConsumerReader, Wanted


class Told:
    """A listener that notes what it is told."""

    def __init__(self) -> None:
        self.lanes: list[int] = []

    def assigned(self, lanes: list[int], member: str) -> None:
        self.lanes += lanes

    def revoked(self, lanes: list[int]) -> None:
        """Nothing."""

    def lost(self, lanes: list[int]) -> None:
        """Nothing."""


class InCallback:
    """A consumer as it is inside its callback: what may call back itself is not there."""

    def incremental_assign(self, parts: list[Any]) -> None:
        """Nothing."""

    def pause(self, parts: list[Any]) -> None:
        """Nothing."""

    def memberid(self) -> str:
        return "m"


class Sized:
    """A cluster that says how many partitions there are now."""

    def __init__(self, count: int | None) -> None:
        self._count = count

    def partition_count(self, name: str, timeout_s: float) -> int | None:
        return self._count


def _assigned(count: int | None) -> tuple[Told, MemberSource]:
    source, told = MemberSource(KafkaConnection(), KafkaSourceConfig(topic="in"), group="g"), Told()
    source._cluster = cast("Cluster", Sized(count))
    source._topic, source._listener, source._first = Topic("in", "id", (0, 1)), told, {0: 0, 1: 0}
    wanted = Wanted(keys=False, headers=False, record_bytes_max=None)
    consumer = cast("Any", InCallback())
    source._open_reader = ConsumerReader(consumer, wanted, source, name="in")
    source._on_assign(consumer, [TopicPartition("in", 0), TopicPartition("in", 1)])
    return told, source


@pytest.mark.parametrize("count", [2, None])
def test_an_assignment_asks_its_consumer_nothing_that_may_call_back(count: int | None) -> None:
    """Where no broker says how many partitions there are, those that are given out count.

    `list_topics` of the consumer, asked inside its callback, ended the process as a broker died: the next callback of that
    poll found no call to belong to.
    """
    told, source = _assigned(count)
    source._check_membership()
    assert told.lanes == [0, 1]


def test_a_topic_that_grew_is_refused_when_lanes_are_given_out() -> None:
    told, source = _assigned(3)
    with pytest.raises(StateError, match="STATE_PARTITION_MISMATCH: in has 3 partitions now and had 2"):
        source._check_membership()
    assert told.lanes == []
