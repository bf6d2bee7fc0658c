"""What an outbox makes of a client, a topic and a sink that fail: no row is lost without a word, and no worker waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streamcore import outboxes
from streamcore.committed_reader import Committed, CommittedReader
from streamcore.config import KafkaConnection
from streamcore.errors import SinkError, StateError
from streamcore.outboxes import Outbox, Outboxes

ROWS = 30
WAIT_S = 10.0


class Message:
    def __init__(self, partition: int, offset: int, error: KafkaError | None = None) -> None:
        self._place, self._error = (partition, offset), error

    def error(self) -> KafkaError | None:
        return self._error

    def partition(self) -> int:
        return self._place[0]

    def offset(self) -> int:
        return self._place[1]

    def value(self) -> bytes:
        return b"row"


class Client:
    """A consumer and the broker behind it: `bounds` of each partition, and where it is."""

    def __init__(self, partitions: int = 1) -> None:
        self.bounds = dict.fromkeys(range(partitions), (0, ROWS))
        self.at = dict.fromkeys(range(partitions), 0)
        self.refused: set[int] = set()
        """Partitions of which nothing comes until they are assigned anew."""
        self.errors: list[KafkaError] = []
        """Each comes with the next records, behind the first."""
        self.failing: dict[str, int] = {}
        """How often calls fail."""

    def _fail(self, name: str) -> None:
        if self.failing.get(name, 0) > 0:
            self.failing[name] -= 1
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def consume(self, records_max: int, timeout_s: float) -> list[Message]:
        self._fail("consume")
        del timeout_s
        found: list[Message] = []
        for partition, at in self.at.items():
            first, end = self.bounds[partition]
            if partition in self.refused:
                continue
            if not first <= at <= end:
                self.refused.add(partition)
                found.append(Message(partition, at, KafkaError(KafkaError._AUTO_OFFSET_RESET)))
                continue
            self.at[partition] = min(end, at + min(10, records_max))
            found += [Message(partition, offset) for offset in range(at, self.at[partition])]
        return found[:1] + [Message(-1, -1, self.errors.pop()) for _ in self.errors[:1]] + found[1:]

    def seek(self, part: TopicPartition) -> None:
        if part.partition in self.refused:
            raise KafkaException(KafkaError(KafkaError._STATE))
        self.at[part.partition] = part.offset

    def pause(self, parts: list[TopicPartition]) -> None:
        del parts
        self._fail("pause")

    def resume(self, parts: list[TopicPartition]) -> None:
        del parts
        self._fail("resume")

    def position(self, parts: list[TopicPartition]) -> list[TopicPartition]:
        return [TopicPartition(part.topic, part.partition, self.at[part.partition]) for part in parts]

    def incremental_assign(self, parts: list[TopicPartition]) -> None:
        for part in parts:
            self.at[part.partition] = part.offset

    def incremental_unassign(self, parts: list[TopicPartition]) -> None:
        self.refused -= {part.partition for part in parts}

    def offsets(self, topic: str, lanes: Sequence[int], at: str) -> dict[int, int]:
        """What `Cluster` is asked."""
        del topic
        if self.failing.get("offsets", 0) > 0:
            self.failing["offsets"] -= 1
            raise SinkError("no broker answers")
        return {lane: self.bounds[lane][at == "latest"] for lane in lanes}

    def close(self) -> None:
        """Leaves."""


class Reader(CommittedReader):
    def __init__(self, client: Client) -> None:
        super().__init__(KafkaConnection(), "t", group="g")
        self.client = client

    def open(self) -> None:
        client: Any = self.client
        self._consumer = self._cluster = client
        self._first = {}
        self._on_assign(client, [TopicPartition("t", partition) for partition in client.at])
        client.failing |= client.failing.pop("later", {})


class Sink:
    """Knows which rows it has, and how often it is away."""

    place = "the sink"

    def __init__(self, at: Mapping[int, int] | None = None, *, away: int = 0) -> None:
        self.at: dict[int, int] = dict(at or {})
        self.away = away
        self.has: dict[int, list[int]] = {}
        self.on_take: Callable[[int], int | None] = lambda _: None

    def open(self, reader: CommittedReader) -> None:
        """Connects."""

    def position(self, partition: int) -> int | None:
        return self.at.get(partition)

    def take(self, partition: int, records: Sequence[Committed]) -> int | None:
        if (elsewhere := self.on_take(partition)) is not None:
            return elsewhere
        if self.away > 0:
            self.away -= 1
            raise SinkError("the sink is away")
        self.has.setdefault(partition, []).extend(record.offset for record in records)
        self.at[partition] = records[-1].offset + 1
        return None

    def skip(self, partition: int, offset: int) -> None:
        self.at[partition] = offset

    def close(self) -> None:
        """Lets go."""


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLL_S", "BACKOFF_S", "BACKOFF_MAX_S"):
        monkeypatch.setattr(outboxes, name, 0.002)


@pytest.fixture
def running() -> Iterator[Callable[..., tuple[Outbox, Outboxes]]]:
    started: list[Outboxes] = []

    def start(sink: Sink, client: Client, **options: Any) -> tuple[Outbox, Outboxes]:
        outbox = Outbox(sink, Reader(client), **options)
        started.append(Outboxes([outbox]))
        started[-1].start()
        return outbox, started[-1]

    yield start
    for each in started:
        with suppress(Exception):
            each.close()


def await_that(true: Callable[[], object], outbox: Outbox) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert outbox.failure is None
        assert time.monotonic() < deadline
        time.sleep(0.002)


def await_failure(outbox: Outbox) -> BaseException:
    deadline = time.monotonic() + WAIT_S
    while outbox.failure is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return outbox.failure


Start = Callable[..., tuple[Outbox, Outboxes]]


def test_retention_that_deletes_the_marker_behind_the_last_row_ends_nothing(running: Start) -> None:
    client, sink = Client(), Sink()
    outbox, all_of_them = running(sink, client)
    await_that(lambda: len(sink.has.get(0, [])) == ROWS, outbox)
    client.bounds[0] = (0, ROWS + 1)
    client.at[0] = ROWS + 1  # the client has read the marker, which brings no record
    await_that(lambda: sink.at[0] == ROWS + 1, outbox)
    all_of_them.close()
    client.bounds[0] = (ROWS + 1, ROWS + 1)
    again, _ = running(sink, client)
    await_that(lambda: client.at[0] == ROWS + 1 and 0 in again._reader.placed, again)
    assert again.failure is None


def test_a_place_that_the_client_was_at_before_a_sink_failed_is_none_that_the_sink_has_reached(running: Start) -> None:
    client, sink = Client(), Sink(away=3)
    stale: dict[int, int] = {}

    def position(parts: list[TopicPartition]) -> list[TopicPartition]:
        # As librdkafka has it: a seek does not change what it tells, the next record does.
        stale[0] = max(stale.get(0, 0), client.at[0])
        return [TopicPartition(part.topic, part.partition, stale[0]) for part in parts]

    client.position = position  # type: ignore[method-assign]
    outbox, _ = running(sink, client)
    await_that(lambda: len(sink.has.get(0, [])) >= ROWS, outbox)
    assert sink.has[0] == list(range(ROWS))


@pytest.mark.parametrize("code", [KafkaError._ALL_BROKERS_DOWN, KafkaError.TOPIC_AUTHORIZATION_FAILED])
def test_an_error_that_comes_with_records_costs_none_of_them(running: Start, code: int) -> None:
    """What came before it in the same batch was dropped, and not sought again."""
    client, sink = Client(2), Sink()
    client.errors = [KafkaError(code)]
    outbox, _ = running(sink, client)
    await_that(lambda: sink.at == {0: ROWS, 1: ROWS}, outbox)
    assert sink.has == {0: list(range(ROWS)), 1: list(range(ROWS))}


def test_a_sink_that_forgot_one_partition_costs_no_row_of_another(running: Start) -> None:
    """Where the broker was away as it was to be read from the beginning, what came along of others was dropped."""
    client, sink = Client(2), Sink()

    def forgets_once(partition: int) -> int | None:
        if partition == 0 and "offsets" not in client.failing:
            client.failing["offsets"] = 1
            return -1
        return None

    sink.on_take = forgets_once
    outbox, _ = running(sink, client)
    await_that(lambda: sink.at == {0: ROWS, 1: ROWS}, outbox)
    assert sink.has[1] == list(range(ROWS))
    assert set(sink.has[0]) == set(range(ROWS))


@pytest.mark.parametrize("call", ["pause", "consume", "resume"])
def test_what_fails_while_a_sink_is_away_is_tried_again(running: Start, call: str) -> None:
    """It ended the outbox, and with it the worker."""
    client, sink = Client(), Sink(away=3)

    def fail(partition: int) -> None:
        del partition
        if sink.away == 3:
            client.failing[call] = 2

    sink.on_take = fail
    outbox, _ = running(sink, client)
    await_that(lambda: sink.at == {0: ROWS}, outbox)
    assert (sink.has, client.failing[call]) == ({0: list(range(ROWS))}, 0)


@pytest.mark.parametrize("when", ["before it starts", "while the sink is away"])
def test_rows_that_retention_deleted_end_it_unless_the_gap_is_accepted(
    running: Start, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    """They were left out without a word after a start, and asked for again and again in a run."""
    lost = "rows 10 to 24 of partition 0 of topic t were deleted before the sink had them"

    def case() -> tuple[Sink, Client]:
        client, sink = Client(), Sink({0: 10})

        def retention(partition: int) -> None:
            client.bounds[partition] = (25, ROWS)
            sink.away, sink.on_take = 1, lambda _: None

        if when == "before it starts":
            client.bounds[0] = (25, ROWS)
        else:
            sink.on_take = retention
        return sink, client

    sink, client = case()
    outbox, both = running(sink, client)
    refused = await_failure(outbox)
    assert isinstance(refused, StateError)
    assert (lost in str(refused), "--accept-gap" in str(refused), sink.has) == (True, True, {})
    assert [lost in record.message for record in caplog.records if record.levelno == logging.ERROR][-1:] == [True]
    with pytest.raises(StateError, match="were deleted"):
        both.check()

    sink, client = case()
    outbox, both = running(sink, client, name="sinks[0]", accept_gap=True)
    await_that(lambda: sink.at == {0: ROWS}, outbox)
    assert (sink.has, both.skipped) == ({0: list(range(25, ROWS))}, {"sinks[0]": 15})
    assert f"{lost}; going on without them" in caplog.text


def test_a_partition_that_the_client_gave_up_without_a_word_is_read_on(
    running: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every seek was refused, for ever: the one before had made the client forget its error."""
    monkeypatch.setattr("streamcore.kafka_consumer.SEEK_TRIES_MAX", 2)
    client, sink = Client(), Sink(away=1)

    def give_up(partition: int) -> None:
        client.refused.add(partition)
        sink.on_take = lambda _: None

    sink.on_take = give_up
    outbox, _ = running(sink, client)
    await_that(lambda: sink.at == {0: ROWS}, outbox)
    assert sink.has == {0: list(range(ROWS))}


def test_a_sink_that_knows_no_row_begins_with_the_oldest_and_says_so(
    running: Start, caplog: pytest.LogCaptureFixture
) -> None:
    client, sink = Client(), Sink()
    client.bounds[0] = (25, ROWS)
    outbox, both = running(sink, client)
    await_that(lambda: sink.at == {0: ROWS}, outbox)
    assert "knows no row of partition 0 of topic t, which begins with 25 by now" in caplog.text
    assert both.skipped == {"the sink": 0}


def test_a_topic_that_was_cut_ends_it(running: Start) -> None:
    outbox, _ = running(Sink({0: ROWS + 1}), Client())
    refused = await_failure(outbox)
    assert isinstance(refused, StateError)
    assert f"partition 0 of topic t ends at {ROWS}, before the offset {ROWS + 1}" in str(refused)


def test_an_end_waits_for_no_answer_that_does_not_come(
    running: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outboxes, "DRAIN_S", 0.05)
    monkeypatch.setattr(outboxes, "ANSWER_S", 0.05, raising=False)
    sink, asked, answer = Sink(), threading.Event(), threading.Event()

    def hang(partition: int) -> None:
        del partition
        asked.set()
        answer.wait(WAIT_S)

    sink.on_take = hang
    _, both = running(sink, Client())
    assert asked.wait(WAIT_S)
    begun_s = time.monotonic()
    both.close()
    took_s = time.monotonic() - begun_s
    answer.set()
    assert took_s < WAIT_S / 2
    assert "the sink still waits for an answer and is left behind" in caplog.text


def test_what_ends_an_outbox_at_the_end_of_a_run_fails_it_unless_it_fails_anyway(running: Start) -> None:
    """It was told to nobody."""
    outbox, both = running(Sink({0: ROWS + 1}), Client())
    await_failure(outbox)
    with pytest.raises(StateError, match="was cut"):
        both.close()
    with pytest.raises(SinkError, match="of the run"):
        _fail_and_close(both)


def _fail_and_close(both: Outboxes) -> None:
    try:
        raise SinkError("of the run")
    finally:
        both.close()
