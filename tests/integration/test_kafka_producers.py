"""Both transports read what Java, librdkafka and franz-go write: every kind of batch, record by record as it was sent."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from confluent_kafka import Message

from streamcore.sources.base import Start
from streamcore.sources.kafka import KafkaSource
from tests.faults import oracle
from tests.integration.kafka_tools import create_topic, delete_records, ended, opened, poll_until
from tests.integration.transports import TRANSPORTS, check_transport, parts
from tests.producers import programs, topics
from tests.producers.script import Row
from tests.producers.segments import Batch, batches
from tests.producers.topics import APPENDED, CODECS, COMPACTED, LANES, Written
from tests.servers.kafka import KafkaServer

COMPACTED_S = 60.0
STARTS = 6
SMALL = {"max.partition.fetch.bytes": 10_000, "fetch.max.bytes": 100_000, "message.max.bytes": 50_000}
"""Fetches of fewer bytes than a batch has."""


@dataclass
class Read:
    """What came of a topic, by partition."""

    rows: dict[int, list[Row]]
    """Those with a value."""
    nulls: dict[int, int]
    """How many had none."""
    positions: dict[int, int]


@dataclass
class Log:
    """What one program wrote to the broker, and what was read of it so far."""

    server: KafkaServer
    program: str
    written: Written
    reads: dict[tuple[str, str], Read] = field(default_factory=dict)
    references: dict[str, dict[int, list[Row]]] = field(default_factory=dict)

    def read(self, topic: str, transport: str) -> Read:
        if (topic, transport) not in self.reads:
            with opened_at(self.server, topic, transport) as source:
                self.reads[topic, transport] = read(source)
        return self.reads[topic, transport]

    def reference(self, topic: str) -> dict[int, list[Row]]:
        """What a consumer beside ours reads."""
        if topic not in self.references:
            found: dict[int, list[Row]] = {}
            for message in oracle.read(self.server.bootstrap_servers, topic):
                found.setdefault(message.partition(), []).append(row_of(message))
            self.references[topic] = found
        return self.references[topic]

    def batches(self, topic: str, lane: int) -> list[Batch]:
        return batches(self.server.directory / "data", topic, lane)


@pytest.fixture(scope="module", params=programs.PROGRAMS)
def log(request: pytest.FixtureRequest, kafka_server: KafkaServer) -> Log:
    """Everything by one program; its compacted topic is ready once `compacted` is."""
    program: str = request.param
    written = topics.write(f"{program}-{time.monotonic_ns()}")
    room = str(topics.RECORD_BYTES_MAX)
    create_topic(kafka_server, written.records, len(LANES), max_message_bytes=room)
    create_topic(kafka_server, written.appended, len(APPENDED), message_timestamp_type="LogAppendTime")
    create_topic(
        kafka_server,
        written.compacted,
        len(COMPACTED),
        cleanup_policy="compact",
        segment_ms=str(topics.SEGMENT_MS),
        min_cleanable_dirty_ratio="0.0",
        message_timestamp_after_max_ms=str(2**63 - 1),
    )
    programs.run(program, kafka_server.bootstrap_servers, written.script)
    for name, before in topics.DELETED.items():
        delete_records(kafka_server, written.records, LANES.index(name), before)
    return Log(kafka_server, program, written)


@pytest.fixture(scope="module")
def compacted(log: Log) -> Log:
    """The same, when the broker's cleaner has gone through all segments but the last of each partition."""
    data = log.server.directory / "data"
    topic = log.written.compacted
    wanted = {
        lane: max(int(file.stem) for file in (data / f"{topic}-{lane}").glob("*.log")) for lane in range(len(COMPACTED))
    }
    deadline = time.monotonic() + COMPACTED_S
    while any(cleaned(log, lane) < end for lane, end in wanted.items()):
        assert time.monotonic() < deadline, f"the broker has not compacted {topic} up to {wanted}"
        time.sleep(0.1)
    return log


def cleaned(log: Log, lane: int) -> int:
    """Up to which offset the broker says it has compacted a partition."""
    file = log.server.directory / "data" / "cleaner-offset-checkpoint"
    lines = (line.split() for line in file.read_text().splitlines()) if file.exists() else ()
    told = [int(line[2]) for line in lines if line[:2] == [log.written.compacted, str(lane)]]
    return told[0] if told else 0


@contextmanager
def opened_at(
    server: KafkaServer,
    topic: str,
    transport: str,
    start: Start | None = None,
    options: Mapping[str, int] | None = None,
) -> Iterator[KafkaSource]:
    settings = {"transport": transport, "options": dict(options or {})}
    with opened(server, topic, start, stop="end", keys=True, headers=True, source=settings) as source:
        check_transport(source, transport)
        yield source


def read(source: KafkaSource) -> Read:
    """From where it is to the end."""
    lanes = list(source.positions())
    polled = poll_until(source, ended)
    found, nulls = parts(polled, len(lanes))
    rows: dict[int, list[Row]] = {lane: [] for lane in lanes}
    for lane, offset, time_ms, key, value, headers in found:
        assert time_ms is not None
        rows[lane].append((offset, time_ms, key, value, headers))
    return Read(rows, nulls, source.positions())


def row_of(message: Message) -> Row:
    headers = [(name, value) for name, value in message.headers() or []]
    return message.offset(), message.timestamp()[1], message.key(), message.value(), headers


def check(found: Read, lane: int, expected: list[Row]) -> None:
    assert found.rows[lane] == [row for row in expected if row[3] is not None]
    assert found.nulls.get(lane, 0) == sum(row[3] is None for row in expected)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", LANES)
def test_records_are_read_as_they_were_sent(log: Log, name: str, transport: str) -> None:
    topic, lane = log.written.records, LANES.index(name)
    expected = log.written.lane(name)
    assert expected or name == "aborted"
    assert log.reference(topic).get(lane, []) == expected
    found = log.read(topic, transport)
    check(found, lane, expected)
    assert found.positions[lane] == log.batches(topic, lane)[-1].last + 1


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_fetches_that_are_smaller_than_a_batch_bring_the_same(log: Log, transport: str) -> None:
    topic = log.written.records
    with opened_at(log.server, topic, transport, options=SMALL) as source:
        found = read(source)
    assert found == log.read(topic, transport)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_read_may_begin_at_any_offset(log: Log, transport: str) -> None:
    """Within batches, within transactions that were aborted, at markers, and at the end."""
    topic = log.written.records
    logs = {lane: log.batches(topic, lane) for lane in range(len(LANES))}
    chance = random.Random(11)
    starts = [
        {lane: inner_offset(chance, found, topics.DELETED.get(LANES[lane], 0)) for lane, found in logs.items()}
        for _ in range(STARTS)
    ]
    for name in ("aborted", "interleaved-a", "deleted-aborted"):
        assert {start[LANES.index(name)] for start in starts} & {*log.written.script.aborted(topic, LANES.index(name))}
    with opened_at(log.server, topic, transport, Start(starts[0])) as source:
        for start in starts:
            source.seek(start)
            found = read(source)
            for lane, offset in start.items():
                check(found, lane, [row for row in log.written.lane(LANES[lane]) if row[0] >= offset])
            assert found.positions == {lane: found[-1].last + 1 for lane, found in logs.items()}


def inner_offset(chance: random.Random, found: list[Batch], least: int) -> int:
    """An offset of some batch, each batch as likely as another; or behind all."""
    batch = chance.choice(found)
    return max(least, chance.randint(batch.first, batch.last + 1))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_time_of_the_append_is_read(log: Log, transport: str) -> None:
    topic = log.written.appended
    found = log.read(topic, transport)
    for lane, expected in log.reference(topic).items():
        assert all(batch.has_append_time for batch in log.batches(topic, lane) if not batch.is_control)
        assert [row[:1] + row[2:] for row in expected] == [
            row[:1] + row[2:] for row in log.written.script.written(topic, lane)
        ]
        assert min(row[1] for row in expected) > topics.TIME_MS + 1_000
        check(found, lane, expected)
    assert len(found.rows) == len(APPENDED)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("name", COMPACTED)
def test_what_compaction_left_is_read(compacted: Log, name: str, transport: str) -> None:
    topic, lane = compacted.written.compacted, COMPACTED.index(name)
    sent = compacted.written.script.written(topic, lane)
    left = compacted.reference(topic)[lane]
    assert len(left) < len(sent)
    assert [row for row in left if row not in sent] == []
    newest = {row[2]: row for row in sent}
    assert [row for row in newest.values() if row not in left] == []
    found = compacted.read(topic, transport)
    check(found, lane, left)
    assert found.positions[lane] == compacted.batches(topic, lane)[-1].last + 1


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_read_may_begin_in_a_hole(compacted: Log, transport: str) -> None:
    topic = compacted.written.compacted
    left = compacted.reference(topic)
    ends = {lane: compacted.batches(topic, lane)[-1].last + 1 for lane in range(len(COMPACTED))}
    chance = random.Random(13)
    with opened_at(compacted.server, topic, transport) as source:
        for _ in range(STARTS):
            kept = {lane: {row[0] for row in rows} for lane, rows in left.items()}
            start = {lane: chance.choice([*({*range(end)} - kept[lane])]) for lane, end in ends.items()}
            source.seek(start)
            found = read(source)
            for lane, offset in start.items():
                check(found, lane, [row for row in left[lane] if row[0] >= offset])
            assert found.positions == ends


def test_the_logs_have_what_is_to_be_read(compacted: Log) -> None:
    """Else a client, or the broker, has come to write other batches, and the tests above say less than their names."""
    records, script = compacted.written.records, compacted.written.script
    logs = {name: compacted.batches(records, lane) for lane, name in enumerate(LANES)}
    for name, found in logs.items():
        assert len(found) >= 3 or name == "long", name
    for codec in CODECS:
        for mode in ("plain", "idempotent", "transactional"):
            found = logs[f"{codec}-{mode}"]
            assert {batch.codec for batch in found if not batch.is_control} == {codec}
            assert {batch.producer_id >= 0 for batch in found} == {mode != "plain"}
            assert {batch.is_transactional for batch in found} == {mode == "transactional"}
    assert {batch.codec for batch in logs["mixed"]} == {*CODECS}
    assert max(batch.count for batch in logs["long"]) > 1_000
    ends_in_abort = logs["interleaved-a"]
    assert ends_in_abort[-1].is_control
    assert ends_in_abort[-1].last > script.aborted(records, LANES.index("interleaved-a"))[-1]
    for name, start in topics.DELETED.items():
        assert any(batch.first < start <= batch.last for batch in logs[name])
    kept = {name: compacted.batches(compacted.written.compacted, lane) for lane, name in enumerate(COMPACTED)}
    assert any(batch.count == 0 for name in ("idempotent", "compressed") for batch in kept[name])
    assert all(any(batch.has_holes for batch in found) for found in kept.values())
    assert any(batch.has_horizon and not batch.is_control for batch in kept["tombstones"])
    gone = script.aborted(compacted.written.compacted, COMPACTED.index("transactional"))
    assert not any(batch.first <= offset <= batch.last for batch in kept["transactional"] for offset in gone)
