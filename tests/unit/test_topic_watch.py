"""What is made of the broker's answers about topics; that it answers so is held by tests/integration/test_lost_topics.py."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamcore import topic_watch
from streamcore.errors import Error, SinkError, StateError
from streamcore.kafka_client import Cluster, Topic
from streamcore.topic_watch import TopicWatch

SILENT = object()
"""Of a topic of which no answer comes."""


class Broker:
    """Knows ids of topics; what is told first may be another one."""

    def __init__(self, **topics: object) -> None:
        self.topics = topics
        self.first: dict[str, object] = {}
        self.asked: list[list[str]] = []

    def topics_later(self, names: Sequence[str]) -> list[Future[Any]]:
        self.asked.append(list(names))
        return [self._answer(name) for name in names]

    def _answer(self, name: str) -> Future[Any]:
        future: Future[Any] = Future()
        found = self.first.pop(name, self.topics.get(name))
        if found is None:
            future.set_exception(KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
        elif found is not SILENT:
            future.set_result(SimpleNamespace(topic_id=found))
        return future


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_watch, "AGAIN_S", 0.0)
    monkeypatch.setattr(topic_watch, "ANSWER_S", 0.01)


def _watch(broker: Broker) -> TopicWatch:
    return TopicWatch(cast("Cluster", broker), read=[Topic("in", "1", (0,))], state=[Topic("state", "2", (0,))])


def test_an_epoch_is_asked_of_where_the_last_good_answer_is_a_second_old(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Broker(**{"in": "1", "state": "2"})
    watch = _watch(broker)
    watch.ask()
    watch.check()
    watch.ask()
    watch.check()
    assert broker.asked == [["in", "state"]]
    monkeypatch.setattr(topic_watch, "CHECK_INTERVAL_S", 0.0)
    watch.ask()
    assert len(broker.asked) == 2


@pytest.mark.parametrize(
    ("again", "words"),
    [("in", "topic in, which is read, was deleted and"), ("state", "topic state, which keeps the state")],
)
def test_a_topic_that_was_made_again_ends_the_run(again: str, words: str) -> None:
    broker = Broker(**{"in": "1", "state": "2", again: "3"})
    watch = _watch(broker)
    watch.ask()
    with pytest.raises(StateError, match=words):
        watch.check()


@pytest.mark.parametrize("told", [SILENT, None])
def test_an_answer_that_does_not_come_or_knows_of_no_topic_lets_the_epoch_pass_and_the_next_asks_again(
    told: object,
) -> None:
    broker = Broker(**{"in": told, "state": "2"})
    watch = _watch(broker)
    for _ in range(2):
        watch.ask()
        watch.check()
    assert broker.asked == [["in", "state"]] * 2


@pytest.mark.parametrize(
    ("gone", "error", "words"),
    [
        ("out", SinkError, "topic out, to which this worker sends, was deleted"),
        ("state", StateError, "topic state, which keeps the state, was deleted while"),
    ],
)
def test_a_topic_that_is_gone_is_named_and_ends_the_run(gone: str, error: type[Error], words: str) -> None:
    broker = Broker(**{"in": "1", "state": "2", "out": "3", gone: None})
    with pytest.raises(error, match=words) as raised:
        _watch(broker).check_there({"out"})
    assert not getattr(raised.value, "retriable", False)


@pytest.mark.parametrize("first", [None, SILENT])
def test_one_that_is_told_of_a_moment_later_is_none_of_them(first: object) -> None:
    broker = Broker(**{"in": "1", "state": "2", "out": "3"})
    broker.first = {"out": first, "state": first}
    _watch(broker).check_there({"out"})


def test_topics_of_the_state_are_asked_for_now_and_then_while_it_cannot_be_read() -> None:
    broker = Broker(state="2")
    watch = _watch(broker)
    for _ in range(3):
        watch.check_state()
    assert broker.asked == [["state"]]


def test_an_answer_that_comes_late_is_looked_at_with_the_next_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs waited for two seconds each, where the broker described topics slowly."""
    monkeypatch.setattr(topic_watch, "BESIDE_S", 0.01)
    monkeypatch.setattr(topic_watch, "ANSWER_S", 60.0)
    broker = Broker(**{"in": "1", "state": SILENT})
    watch = _watch(broker)
    watch.ask()
    late = watch._asked["state"]
    watch.check()
    watch.ask()
    assert broker.asked == [["in", "state"]]
    late.set_result(SimpleNamespace(topic_id="3"))
    broker.topics["state"] = "3"
    with pytest.raises(StateError, match="made again"):
        watch.check()
