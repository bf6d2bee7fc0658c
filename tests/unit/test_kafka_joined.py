"""Several topics read as one member: what an assignment must be, who waits for a table, what a callback throws away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import pytest
from confluent_kafka import TopicPartition

from streamcore._core import LANES_PER_INPUT
from streamcore.config import KafkaSourceConfig
from streamcore.errors import ConfigError, StateError
from streamcore.sources.base import Polled
from streamcore.sources.inputs import Input, check_sizes
from streamcore.sources.kafka_joined import JoinedSource, aligned
from streamcore.sources.kafka_reader import ConsumerReader, Wanted

RIGHT = LANES_PER_INPUT


class Message:
    def __init__(self, topic: str, offset: int) -> None:
        self._topic, self._offset = topic, offset

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 1, 5

    def value(self) -> bytes:
        return b"{}"

    def key(self) -> None:
        return None

    def headers(self) -> None:
        return None

    def error(self) -> None:
        return None


class Topic:
    """What `JoinedSource` asks of a topic."""

    bounded = False
    _record_bytes_max = None
    partitions = (0, 1)

    def __init__(self, name: str) -> None:
        self.topic = name
        self.at: dict[int, int] = {}
        self.fed: set[int] = set()
        self.held: list[int] = []
        self.caught_up: tuple[int, ...] = ()
        self.again: list[dict[tuple[str, int], int]] = []
        self.asked_anew: list[int] = []
        self.is_silent = False

    def feed(self, lanes: Iterable[int]) -> None:
        self.fed = set(lanes)

    def place(self, offsets: Mapping[int, int | None], *, timeout_s: float) -> dict[int, int]:
        self.at |= {lane: offset or 0 for lane, offset in offsets.items()}
        return dict(self.at)

    def seek(self, positions: Mapping[int, int]) -> None:
        self.at |= positions

    def forget(self, lanes: Iterable[int]) -> None:
        for lane in lanes:
            self.at.pop(lane, None)

    def look_anew(self, lanes: Iterable[int]) -> None:
        self.asked_anew += lanes

    def pause(self, lanes: list[int]) -> None:
        self.held = lanes

    def positions(self) -> dict[int, int]:
        return dict(self.at)

    def bounds(self) -> dict[tuple[str, int], tuple[int, int | None]]:
        return {(self.topic, lane): (self.at[lane], None) for lane in self.fed}

    def take(self, moved: Mapping[tuple[str, int], int]) -> None:
        self.at |= {lane: offset for (topic, lane), offset in moved.items() if topic == self.topic}

    def read_again(self, moved: Mapping[tuple[str, int], int]) -> None:
        self.again.append(dict(moved))

    def polled(self) -> Polled:
        return Polled(caught_up=self.caught_up)

    def check_size(self, _lanes: list[int]) -> None:
        pass

    def first_parts(self, _lanes: list[int]) -> list[Any]:
        return []

    def own(self, _lanes: list[int]) -> None:
        pass

    def disown(self) -> None:
        self.fed = set()


class Consumer:
    """Gives what it is told to, and has `meanwhile` happen inside the call."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.meanwhile: Any = None
        self.assigned: list[Any] | None = None

    def consume(self, _records: int, _timeout_s: float) -> list[Message]:
        if self.meanwhile is not None:
            self.meanwhile()
        messages, self.messages = self.messages, []
        return messages

    def assign(self, parts: list[Any]) -> None:
        self.assigned = parts

    def pause(self, _parts: list[Any]) -> None:
        pass

    def memberid(self) -> str:
        return "m"


class Listener:
    def __init__(self) -> None:
        self.told: list[tuple[str, list[int]]] = []

    def assigned(self, lanes: list[int], member: str) -> None:
        self.told.append((f"assigned to {member}", lanes))

    def revoked(self, lanes: list[int]) -> None:
        self.told.append(("revoked", lanes))

    def lost(self, lanes: list[int]) -> None:
        self.told.append(("lost", lanes))


def joined(*, table: bool = False) -> tuple[JoinedSource, Topic, Topic, Consumer, Listener]:
    left, right, consumer, listener = Topic("left"), Topic("right"), Consumer(), Listener()
    inputs = [
        Input("", cast("Any", left), "earliest"),
        Input("right", cast("Any", right), "earliest", is_table=table, unread=set() if table else None),
    ]
    source = JoinedSource(cast("Any", [left, right]), inputs, KafkaSourceConfig(topic="left"))
    wanted = Wanted(keys=False, headers=False, record_bytes_max=None, inputs={"left": 0, "right": 1})
    source._open_reader = ConsumerReader(cast("Any", consumer), wanted, source, name="left and right")
    source._listener = listener
    return source, left, right, consumer, listener


def parts(topic: str, *lanes: int) -> list[Any]:
    return [TopicPartition(topic, lane) for lane in lanes]


def test_an_assignment_has_the_same_partitions_of_each_topic() -> None:
    topics = ("left", "right")
    assert aligned(topics, parts("left", 2, 0) + parts("right", 0, 2)) == [0, 2]
    assert aligned(topics, []) == []
    with pytest.raises(StateError, match=r"left: \[0\]; right: \[0, 1\]"):
        aligned(topics, parts("left", 0) + parts("right", 0, 1))
    with pytest.raises(StateError, match="do not go together"):
        aligned(topics, parts("left", 0) + parts("right", 0) + parts("other", 0))


def test_topics_of_other_sizes_are_refused() -> None:
    check_sizes({"left": 3, "right": 3})
    with pytest.raises(ConfigError, match="left has 3, right has 2 partitions"):
        check_sizes({"left": 3, "right": 2})


def test_a_lane_of_the_commit_is_a_partition_of_both() -> None:
    source, *_ = joined()
    assert (source.numbers(1), source.numbers(-1)) == ([1, RIGHT + 1], [])
    told = [(part.topic, part.partition, part.offset) for part in source.parts({1: 5, RIGHT + 1: 7})]
    assert told == [("left", 1, 5), ("right", 1, 7)]
    assert source.place({0: 4, RIGHT: None}) == {0: 4, RIGHT: 0}
    assert source.positions() == {0: 4, RIGHT: 0}


def test_an_assignment_that_is_refused_ends_the_poll_and_not_the_callback() -> None:
    source, _, _, consumer, listener = joined()
    consumer.meanwhile = lambda: source._on_assign(consumer, parts("left", 0))
    with pytest.raises(StateError, match="do not go together"):
        source.poll(0)
    assert listener.told == []


def test_streams_of_a_partition_wait_until_its_table_is_read() -> None:
    source, left, right, _, _ = joined(table=True)
    source.place({0: 0, 1: 0, RIGHT: 0, RIGHT + 1: 0})
    assert right.asked_anew == [0, 1], "where it ended before says nothing"
    source.feed([0, 1])
    source.pause([1, RIGHT + 1])
    source.poll(0)
    assert (left.held, right.held) == ([0, 1], []), "a table that is read is held by nothing"
    right.caught_up = (0,)
    source.poll(0)
    source.poll(0)
    assert (left.held, right.held) == ([1], []), "the other partition waits for itself alone"
    right.caught_up = (0, 1)
    source.poll(0)
    source.poll(0)
    assert (left.held, right.held) == ([1], [1]), "as the runner says"
    source.seek({RIGHT: 0})
    source.poll(0)
    assert left.held == [0, 1], "after a rollback again"


def test_what_was_read_when_a_callback_came_is_read_again() -> None:
    source, left, right, consumer, listener = joined()
    source.place({0: 0, RIGHT: 0})
    source.feed([0])
    consumer.messages = [Message("left", 0), Message("right", 0), Message("right", 1)]
    polled = source.poll(0)
    assert polled.raw is not None
    assert len(polled.raw) == 3
    assert source.positions() == {0: 1, RIGHT: 2}
    consumer.messages = [Message("left", 1)]
    consumer.meanwhile = lambda: source._on_revoke(consumer, parts("left", 0) + parts("right", 0))
    polled = source.poll(0)
    assert (polled.raw, polled.refetched, source.positions()) == (None, 1, {0: 1, RIGHT: 2})
    assert left.again == [{("left", 0): 2}] == right.again
    assert listener.told == [("revoked", [0])]
    assert left.fed == right.fed == set()
