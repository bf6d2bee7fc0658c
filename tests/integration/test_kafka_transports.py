"""Both transports hand out the same records: of any producer, codec and log."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

import streamcore as sc
from streamcore.config import KafkaConnection
from streamcore.errors import ConfigError, StateError
from streamcore.sources.base import Start, lags
from streamcore.sources.kafka import KafkaSource
from streamcore.sources.kafka_native import NativeReader
from streamcore.sources.kafka_reader import ConsumerReader
from tests.integration.kafka_tools import (
    TIMEOUT_S,
    caught_up,
    create_topic,
    delete_records,
    ended,
    make_source,
    open_transaction,
    opened,
    poll_until,
    produce,
    record_count,
    records,
    transaction,
)
from tests.integration.transports import TRANSPORTS, Row, check_transport, parts
from tests.servers.kafka import USER, KafkaServer

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


def read(
    server: KafkaServer, topic: str, transport: str, lanes: int = 1, **options: Any
) -> tuple[list[Row], dict[int, int]]:
    """Everything up to the end, and where that is."""
    source = {"transport": transport, **options.pop("source", {})}
    with opened(server, topic, stop="end", keys=True, headers=True, source=source, **options) as opened_source:
        check_transport(opened_source, transport)
        polled = poll_until(opened_source, ended)
        return parts(polled, lanes)[0], opened_source.positions()


def same(server: KafkaServer, topic: str, count: int, lanes: int = 1, **options: Any) -> list[Row]:
    """What both read."""
    (native, native_ends), (other, ends) = (read(server, topic, one, lanes, **options) for one in TRANSPORTS)
    assert native == other
    assert native_ends == ends
    assert len(native) == count
    return native


def written(number: int) -> dict[str, Any]:
    """A record with parts of every kind."""
    return {
        "value": None if number % 7 == 3 else b"v%d " % number * (number % 50),
        "key": None if number % 5 == 2 else b"k%d" % number,
        "headers": [] if number % 3 else [("h", b"%d" % number), ("none", None), ("h", b"")],
        "timestamp": 1_700_000_000_000 + number,
    }


@pytest.mark.parametrize("codec", CODECS)
def test_records_of_any_codec_are_the_same(kafka_server: KafkaServer, unique: str, codec: str) -> None:
    create_topic(kafka_server, unique, partitions=3)
    settings = {"bootstrap.servers": kafka_server.bootstrap_servers, "compression.type": codec, "linger.ms": 20}
    producer = Producer({**settings, "enable.idempotence": True})
    for number in range(3_000):
        producer.produce(unique, partition=number % 3, **written(number))
        producer.poll(0)
    assert producer.flush(TIMEOUT_S) == 0
    # A null value is no row.
    found = same(kafka_server, unique, sum(written(number)["value"] is not None for number in range(3_000)), lanes=3)
    for partition, offset, _, key, value, headers in found:
        sent = written(3 * offset + partition)
        assert (key, value, headers) == (sent["key"], sent["value"], sent["headers"])


@pytest.mark.parametrize("group", [True, False])
def test_markers_and_aborted_records_are_left_out_and_an_open_transaction_ends_the_read(
    kafka_server: KafkaServer, unique: str, group: bool
) -> None:
    create_topic(kafka_server, unique)
    for number in range(12):
        transaction(kafka_server, unique, [b"%d.%d" % (number, row) for row in range(50)], commit=number % 3 != 1)
    produce(kafka_server, unique, [b"outside"])
    pending = open_transaction(kafka_server, unique, [b"open"])
    try:
        options: dict[str, Any] = {"group": unique} if group else {}
        found = same(kafka_server, unique, 8 * 50 + 1, **options)
        assert found[-1][4] == b"outside"
    finally:
        pending.abort_transaction(TIMEOUT_S)
    with opened(kafka_server, unique, stop="end", source={"transport": "native"}) as source:
        polled = poll_until(source, ended)
        # Control records and the aborted transaction at the end are passed.
        assert (record_count(polled), source.positions()) == (401, {0: 12 * 51 + 1 + 2})


def test_a_read_may_begin_within_an_aborted_transaction(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique)
    transaction(kafka_server, unique, [b"%d" % number for number in range(100)], commit=False)
    produce(kafka_server, unique, [b"behind"])
    for transport in TRANSPORTS:
        with opened(kafka_server, unique, Start({0: 50}), stop="end", source={"transport": transport}) as source:
            assert record_count(poll_until(source, ended)) == 1


def test_holes_of_compaction_are_passed(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(
        kafka_server,
        unique,
        cleanup_policy="compact",
        min_cleanable_dirty_ratio="0.01",
        segment_ms="100",
        segment_bytes="1048576",
        max_compaction_lag_ms="1000",
    )
    for number in range(4):
        produce(kafka_server, unique, [b"%d" % number] * 50, key=b"same")
        produce(kafka_server, unique, [b"%d" % number], key=b"k%d" % number)
        time.sleep(0.3)
    deadline = time.monotonic() + 60
    while len(read(kafka_server, unique, "librdkafka")[0]) == 204:
        assert time.monotonic() < deadline, "the broker has compacted nothing"
        produce(kafka_server, unique, [b"more"], key=b"same")
        time.sleep(1)
    found, ends = read(kafka_server, unique, "native")
    again, other_ends = read(kafka_server, unique, "librdkafka")
    # The broker may have gone on in between.
    assert ends == other_ends
    assert [row for row in found if row in again] == again


def test_a_value_over_the_limit_is_a_beginning_for_both(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique)
    produce(kafka_server, unique, [b"x" * 10, b"y" * 2_000, b"z" * 10])
    found = same(kafka_server, unique, 3, record_bytes_max=100)
    assert [len(row[4] or b"") for row in found] == [10, 100, 10]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_poll_has_no_more_records_than_asked_for(kafka_server: KafkaServer, unique: str, transport: str) -> None:
    create_topic(kafka_server, unique, partitions=2)
    for lane in range(2):
        produce(kafka_server, unique, [b"%d" % number for number in range(2_500)], partition=lane)
    settings = {"transport": transport, "poll_records_max": 700}
    with opened(kafka_server, unique, stop="end", source=settings) as source:
        polled = poll_until(source, ended)
        assert source.positions() == {0: 2_500, 1: 2_500}
    assert record_count(polled) == 5_000
    assert max(len(one.raw) for one in polled if one.raw) <= 700


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_is_paused_waits_and_what_is_sought_comes_again(
    kafka_server: KafkaServer, unique: str, transport: str
) -> None:
    create_topic(kafka_server, unique, partitions=2)
    for lane in range(2):
        produce(kafka_server, unique, [b"%d" % number for number in range(300)], partition=lane)
    with opened(kafka_server, unique, group=unique, source={"transport": transport}) as source:
        source.pause([1])
        poll_until(source, records(300))
        assert source.poll(0.3).raw is None
        assert source.positions() == {0: 300, 1: 0}
        source.seek({0: 100})
        source.pause([])
        poll_until(source, records(500))
        poll_until(source, caught_up(0, 1))
        assert source.positions() == {0: 300, 1: 300}
        ends = source.ends()
        assert {lane: end.position for lane, end in ends.items()} == {0: 300, 1: 300}


def test_records_that_are_gone_are_a_state_error(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique)
    produce(kafka_server, unique, [b"%d" % number for number in range(100)])
    with opened(kafka_server, unique, source={"transport": "native"}) as source:
        poll_until(source, records(100))
        delete_records(kafka_server, unique, 0, 60)
        source.seek({0: 10})
        with pytest.raises(StateError, match="were deleted before they were read"):
            poll_until(source, records(201))


def test_a_login_serves_both_clients(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique)
    produce(kafka_server, unique, [b"1", b"2"])
    login = {
        "bootstrap_servers": kafka_server.sasl_bootstrap_servers,
        "security_protocol": "sasl_plaintext",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": USER[0],
        "sasl_password": USER[1],
    }
    with opened(kafka_server, unique, stop="end", kafka=login, source={"transport": "native"}) as source:
        assert record_count(poll_until(source, ended)) == 2


def test_a_setting_that_the_native_transport_does_not_have_takes_librdkafka_and_says_so(
    kafka_server: KafkaServer, unique: str, caplog: pytest.LogCaptureFixture
) -> None:
    create_topic(kafka_server, unique)
    produce(kafka_server, unique, [b"1"])
    options = {"options": {"socket.send.buffer.bytes": 65_536}}
    with opened(kafka_server, unique, stop="end", source=options) as source:
        assert type(source._reader) is ConsumerReader
        assert record_count(poll_until(source, ended)) == 1
    assert "read through librdkafka: the native transport does not have socket.send.buffer.bytes" in caplog.text
    source = make_source(kafka_server, unique, source={**options, "transport": "native"})
    with pytest.raises(ConfigError, match=r"socket\.send\.buffer\.bytes"):
        source.open(Start())
    source.close()


def test_native_is_what_is_taken(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique)
    with opened(kafka_server, unique) as source:
        assert isinstance(source, KafkaSource)
        assert type(source._reader) is NativeReader
        assert isinstance(source._connection, KafkaConnection)


def test_a_seat_keeps_the_client_paused(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique, partitions=2)
    for lane in range(2):
        produce(kafka_server, unique, [b"%d" % number for number in range(1_000)], partition=lane)
    with opened(kafka_server, unique, group=unique, source={"transport": "native"}) as source:
        poll_until(source, records(2_000))
        for _ in range(20):
            source.poll(0.05)
        reader = source._reader
        assert isinstance(reader, NativeReader)
        assert reader.strays == 0


def test_a_topic_that_gets_more_partitions_while_it_is_read_alone_goes_on(
    kafka_server: KafkaServer, unique: str
) -> None:
    create_topic(kafka_server, unique)
    with opened(kafka_server, unique, source={"transport": "native"}) as source:
        admin = AdminClient({"bootstrap.servers": kafka_server.bootstrap_servers})
        admin.create_partitions([NewPartitions(unique, 3)])[unique].result(TIMEOUT_S)
        produce(kafka_server, unique, [b"1"] * 5)
        poll_until(source, records(5))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_how_far_each_partition_is_from_its_end_is_told(kafka_server: KafkaServer, unique: str, transport: str) -> None:
    create_topic(kafka_server, unique, partitions=2)
    for partition, count in ((0, 5), (1, 3)):
        produce(kafka_server, unique, [b'{"n": 1}'] * count, partition=partition)
    producer = open_transaction(kafka_server, unique, [b'{"n": 1}'] * 2)
    with opened(kafka_server, unique, source={"transport": transport}) as source:
        poll_until(source, records(8))
        poll_until(source, lambda _: {end.position for end in source.ends().values()} == {3, 5})
        told = lags(source.positions(), source.ends())
        assert [told[lane]["lag"] for lane in range(2)] == [0, 0]
        # librdkafka's ends are asked for, and are those of what can be read.
        high = [told[lane]["high_watermark"] for lane in range(2)]
        assert high == ([7, 3] if transport == "native" else [None, None])
    producer.abort_transaction(TIMEOUT_S)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_report_has_the_lag_of_each_partition(kafka_server: KafkaServer, unique: str, transport: str) -> None:
    create_topic(kafka_server, unique, partitions=2)
    connection = {"bootstrap_servers": kafka_server.bootstrap_servers}
    source = sc.kafka(unique, connection=connection, event_time="n", event_time_unit="ms", schema={"n": "int64"})
    counted = source.window(sc.tumbling("1m")).agg(rows=sc.count()).sink_kafka(f"{unique}-out")
    with counted.start(transport=transport, start="earliest") as run:
        for partition, count in ((0, 5), (1, 3)):
            produce(kafka_server, unique, [b'{"n": 1}'] * count, partition=partition)
        deadline = time.monotonic() + TIMEOUT_S
        while [(lane["end"], lane["lag"]) for lane in run.report.lags.values()] != [(5, 0), (3, 0)]:
            assert time.monotonic() < deadline, run.report
            time.sleep(0.05)
        assert '"lags": {"0": {"lag": 0, "end": 5' in json.dumps(run.report.to_dict())
