"""The traps of the client stack: each of these lost, repeated or delayed records in a naive reader."""

from __future__ import annotations

import random
from typing import Any

import pytest

from streamcore.errors import SourceError
from streamcore.sources import kafka as kafka_module
from streamcore.sources.base import Polled
from streamcore.sources.kafka import KafkaSource
from tests.integration.kafka_tools import (
    byte_count,
    caught_up,
    create_topic,
    ended,
    opened,
    poll_until,
    produce,
    record_count,
    records,
    transaction,
)
from tests.servers.kafka import KafkaServer

QUICK_RESTART = {"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500"}
"""The controller lets a broker register again only when it has given up the killed one."""


BY_THE_CLIENT = {"transport": "librdkafka"}
"""These traps are those of its `consume`."""


class Meddler:
    """Stands before a source's consumer: what `consume` does can be changed, everything else is passed on."""

    def __init__(self, source: KafkaSource) -> None:
        self._consumer: Any = source._reader.consumer
        self.timeouts_s: list[float] = []
        self.failures = 0
        self.extra: list[Any] = []
        source._reader.consumer = self  # type: ignore[assignment]

    def consume(self, count: int, timeout_s: float) -> list[Any]:
        self.timeouts_s.append(timeout_s)
        messages = self._consumer.consume(count, timeout_s)
        if messages and self.failures:
            self.failures -= 1
            raise RuntimeError("a callback failed, and the batch is gone")
        extra, self.extra = self.extra, []
        return [*extra, *messages]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._consumer, name)


def numbered(count: int) -> list[bytes]:
    return [b"%06d" % number for number in range(count)]


def test_an_exception_inside_consume_loses_nothing(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique, partitions=2)
    for lane in range(2):
        produce(kafka_server, unique, numbered(2_000), partition=lane)
    with opened(
        kafka_server, unique, group=unique, stop="end", source={**BY_THE_CLIENT, "poll_records_max": 300}
    ) as source:
        meddler = Meddler(source)
        polled = poll_until(source, records(500))
        meddler.failures = 3
        while not ended(polled):
            polled += poll_until(source, bool)
        assert meddler.failures == 0
        assert record_count(polled) == 4_000
        assert source.positions() == {0: 2_000, 1: 2_000}


def test_a_reader_that_keeps_failing_gives_up(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique)
    produce(kafka_server, unique, numbered(10))
    with opened(kafka_server, unique, source=BY_THE_CLIENT) as source:
        Meddler(source).failures = 1_000
        with pytest.raises(SourceError, match=f"reading {unique} failed 6 times: a callback failed"):
            poll_until(source, ended)


def test_records_fetched_again_and_records_of_others_are_left_out_and_counted(
    kafka_server: KafkaServer, unique: str
) -> None:
    create_topic(kafka_server, unique)
    other = create_topic(kafka_server, f"{unique}-other")
    produce(kafka_server, unique, numbered(100))
    produce(kafka_server, other, numbered(7))
    stale: list[Any] = []
    for topic in (unique, other):
        with opened(kafka_server, topic, source=BY_THE_CLIENT) as source:
            consumer: Any = source._reader.consumer
            source.seek({0: 0})
            while not any(message.topic() == topic for message in stale):
                stale += consumer.consume(50, 0.2)
    with opened(kafka_server, unique, source=BY_THE_CLIENT) as source:
        meddler = Meddler(source)
        poll_until(source, records(100))
        produce(kafka_server, unique, numbered(10))
        meddler.extra = stale
        polled = poll_until(source, records(10))
        assert record_count(polled) == 10
        assert sum(one.refetched for one in polled) == len(stale)
        assert source.positions() == {0: 110}


def test_a_poll_never_waits_longer_than_it_may(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique)
    with opened(kafka_server, unique, source={**BY_THE_CLIENT, "poll_timeout": "30ms"}) as source:
        meddler = Meddler(source)
        source.poll(10.0)
        source.poll(0.01)
        assert meddler.timeouts_s == [0.03, 0.01]


def test_with_every_lane_held_back_consume_does_not_wait_at_all(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique, partitions=2)
    produce(kafka_server, unique, numbered(10))
    with opened(kafka_server, unique, group=unique) as source:
        meddler = Meddler(source)
        source.pause([0, 1])
        for _ in range(5):
            assert source.poll(0.05) == Polled()
        assert meddler.timeouts_s == [0.0] * 5
        source.pause([])
        assert byte_count(poll_until(source, records(10))) == 60


def test_a_lane_held_back_at_its_end_misses_nothing_when_it_goes_on(kafka_server: KafkaServer, unique: str) -> None:
    """With end-of-partition events on, the client resumed one record too far."""
    create_topic(kafka_server, unique)
    with opened(kafka_server, unique, group=unique) as source:
        for round_number in range(3):
            transaction(kafka_server, unique, numbered(3), commit=round_number != 1)
            poll_until(source, lambda _, end=4 * (round_number + 1): source.positions() == {0: end})  # type: ignore[misc]
            poll_until(source, caught_up(0))
            source.pause([0])
            source.poll(0.05)
            source.pause([])
        produce(kafka_server, unique, numbered(1))
        assert record_count(poll_until(source, records(1))) == 1
        assert source.positions() == {0: 13}


@pytest.mark.parametrize("group", [True, False])
def test_going_back_again_and_again_neither_loses_nor_repeats(
    kafka_server: KafkaServer, unique: str, *, group: bool
) -> None:
    """On a log without holes every poll must bring exactly the records between its two positions."""
    create_topic(kafka_server, unique, partitions=3)
    for lane in range(3):
        produce(kafka_server, unique, numbered(5_000), partition=lane)
    chance = random.Random(7)
    settings = {"poll_records_max": 400}
    with opened(kafka_server, unique, group=unique if group else None, stop="end", source=settings) as source:
        before = source.positions()
        seeks = 0
        polled = source.poll(0.05)
        while not polled.ended:
            after = source.positions()
            assert (len(polled.raw) if polled.raw else 0) == sum(after.values()) - sum(before.values())
            before = after
            if seeks < 40 and chance.random() < 0.3:
                seeks += 1
                before = {lane: chance.randint(max(0, offset - 1_000), offset) for lane, offset in after.items()}
                source.seek(before)
                source.pause([chance.randrange(3)] if chance.random() < 0.5 else [])
            if seeks == 40:
                source.pause([])
            polled = source.poll(0.05)
        assert source.positions() == {0: 5_000, 1: 5_000, 2: 5_000}
        assert seeks == 40


def test_a_reader_goes_on_when_its_broker_comes_back(unique: str) -> None:
    with KafkaServer(properties=QUICK_RESTART) as server:
        create_topic(server, unique)
        produce(server, unique, numbered(10))
        with opened(server, unique, group=unique, kafka={"session_timeout": "3s"}) as source:
            poll_until(source, records(10))
            source.committed({0: 10})
            server.process.kill()
            server.launch()
            # The seat is lost on the way: the broker is away for longer than the session.
            poll_until(source, lambda _: server.answers())
            produce(server, unique, numbered(10))
            poll_until(source, records(10))
            assert source.positions() == {0: 20}


def test_an_outage_that_lasts_is_exit_code_4(unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_module, "OUTAGE_MAX_S", 2.0)
    with KafkaServer() as server:
        create_topic(server, unique)
        with opened(server, unique) as source:
            poll_until(source, caught_up(0))
            server.process.kill()
            with pytest.raises(SourceError, match="has not answered for") as error:
                poll_until(source, ended)
            assert error.value.exit_code == 4
