"""The Kafka sink against a real broker: what a reader finds there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource

from streamcore.config import KafkaSinkConfig, PipelineConfig, sink_mode
from streamcore.errors import ConfigError, SinkError
from streamcore.sinks.base import Version
from streamcore.sinks.kafka import KafkaSink
from tests.integration.batches import RAW, WINDOWED, Engine, click, made_up
from tests.integration.kafka_tools import connection, create_topic, read_topic
from tests.servers.kafka import KafkaServer
from tests.servers.ports import free_ports

VERSION = Version(7, 3, 1)
WINDOW_STEP = {"window": "tumbling", "size": "1m", "by": ["page"], "aggregate": {"views": "count()"}}


def make_sink(server: KafkaServer, topic: str, *, windowed: bool = True, create: bool = True, **keys: Any) -> KafkaSink:
    pipeline = PipelineConfig.model_validate(
        {
            "source": {"type": "kafka", "topic": "clicks"},
            "steps": [WINDOW_STEP] if windowed else [],
            "sinks": [{"type": "kafka", "topic": topic, **keys}],
            "auto_create_topics": create,
        }
    )
    (config,) = pipeline.sinks
    assert isinstance(config, KafkaSinkConfig)
    return KafkaSink(connection(server), config, pipeline=pipeline, mode=sink_mode(pipeline, config))


@contextmanager
def opened(server: KafkaServer, topic: str, **keys: Any) -> Iterator[KafkaSink]:
    sink = make_sink(server, topic, **keys)
    try:
        sink.open()
        yield sink
    finally:
        sink.close()


def by_key(messages: list[Any]) -> dict[Any, Any]:
    return {message.key(): message.value() for message in messages}


def test_rows_are_json_objects_keyed_by_group_and_window(kafka_server: KafkaServer, unique: str) -> None:
    engine = Engine(WINDOWED)
    with opened(kafka_server, unique) as sink:
        engine.push(click(0, 0, "home"), click(1, 1, "home", "0.20"), click(2, 2, None))
        for batch in engine.seal():
            sink.write(batch, VERSION)
        for batch in engine.push(click(3, 60_000, "home")):
            sink.write(batch, Version(7, 4, 0))
        sink.flush()
    messages = read_topic(kafka_server, unique)
    home, nobody = (
        b'{"page":"home","window_start":"1970-01-01T00:00:00.000Z"}',
        b'{"page":null,"window_start":"1970-01-01T00:00:00.000Z"}',
    )
    assert {message.key() for message in messages} == {home, nobody}
    last = json.loads(by_key(messages)[home])
    assert (last["views"], last["paid"], last["is_final"]) == (2, 0.3, True)
    assert list(last)[:3] == ["page", "window_start", "window_end"]
    headers = [dict(message.headers()) for message in messages if message.key() == home]
    assert [header["sc.version"] for header in headers] == [str(VERSION).encode(), str(Version(7, 4, 0)).encode()]
    revisions = [int(header["sc.revision"]) for header in headers]
    assert revisions == sorted(revisions)
    # Both rows of a key must meet in one partition, or compaction could not choose between them.
    assert len({message.partition() for message in messages if message.key() == home}) == 1


def test_columns_keys_and_times_as_asked(kafka_server: KafkaServer, unique: str) -> None:
    engine = Engine(WINDOWED)
    keys = {"columns": ["window_end", "page", "views"], "key": ["page"], "key_format": "string"}
    with opened(kafka_server, unique, timestamp_format="epoch_ms", **keys) as sink:
        for batch in engine.push(click(0, 0, "über: 1"), click(1, 60_000, "next")):
            sink.write(batch, VERSION)
        sink.flush()
    assert by_key(read_topic(kafka_server, unique)) == {
        "über: 1".encode(): '{"window_end":60000,"page":"über: 1","views":1}'.encode()
    }


def test_a_null_has_no_text_to_be_a_key(kafka_server: KafkaServer, unique: str) -> None:
    engine = Engine(WINDOWED)
    with opened(kafka_server, unique, key=["page"], key_format="string") as sink:
        (batch,) = engine.push(click(0, 0, None), click(1, 60_000, "next"))
        with pytest.raises(SinkError, match="a null in its key column page") as error:
            sink.write(batch, VERSION)
        assert not error.value.retriable


def test_a_row_taken_back_is_a_tombstone(kafka_server: KafkaServer, unique: str) -> None:
    row = {"page": "home", "window_start": "w", "views": 1, "revision": 0, "is_final": False, "retracted": False}
    with opened(kafka_server, unique) as sink:
        sink.write(made_up(row, {**row, "revision": 1, "retracted": True}), VERSION)
        sink.flush()
    messages = read_topic(kafka_server, unique)
    assert [message.value() is None for message in messages] == [False, True]
    assert messages[0].key() == messages[1].key() == b'{"page":"home","window_start":"w"}'


def test_records_without_steps_are_forwarded_byte_for_byte(kafka_server: KafkaServer, unique: str) -> None:
    engine = Engine(RAW)
    records = [
        (b"\xff\x00 value", b"\xfe key", [("h", b"\x80"), ("h", None), ("", b"")], 1_234, 0),
        (b"", b"", None, 5, 1),
        (b"x", None, [("traceparent", b"00-1")], 6, 2),
    ]
    with opened(kafka_server, unique, windowed=False) as sink:
        for batch in engine.push(*records):
            sink.write(batch, VERSION)
        sink.flush()
    found = {message.value(): message for message in read_topic(kafka_server, unique)}
    assert len(found) == 3
    for value, key, headers, timestamp_ms, _ in records:
        message = found[value]
        assert (message.key(), message.timestamp()[1]) == (key, timestamp_ms)
        assert (message.headers() or None) == headers


def test_an_upsert_topic_is_made_compacted_and_an_append_topic_is_not(kafka_server: KafkaServer, unique: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka_server.bootstrap_servers})
    for name, keys, policy in (
        ("up", {"partitions": 3}, "compact"),
        ("ap", {"mode": "append", "partitions": 2}, "delete"),
    ):
        topic = f"{unique}-{name}"
        with opened(kafka_server, topic, **keys):
            pass
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        settings = admin.describe_configs([resource])[resource].result()
        assert settings["cleanup.policy"].value == policy
        assert len(admin.list_topics(topic).topics[topic].partitions) == keys["partitions"]


def test_a_missing_topic_that_may_not_be_made_is_a_configuration_error(kafka_server: KafkaServer, unique: str) -> None:
    with pytest.raises(ConfigError, match=f"topic {unique} .output. cannot be used"):
        make_sink(kafka_server, unique, create=False).open()


def test_more_rows_than_the_queue_holds_all_arrive(kafka_server: KafkaServer, unique: str) -> None:
    engine = Engine(RAW)
    records = [(b"%d" % number, b"k", None, 1, number) for number in range(2_000)]
    small_queue = {"options": {"queue.buffering.max.messages": 100, "linger.ms": 1}}
    with opened(kafka_server, unique, windowed=False, **small_queue) as sink:
        for batch in engine.push(*records):
            sink.write(batch, VERSION)
        sink.flush()
    assert [message.value() for message in read_topic(kafka_server, unique)] == [record[0] for record in records]


def test_a_refused_record_fails_the_flush_and_nothing_of_it_is_retried(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique, max_message_bytes="1000")
    with opened(kafka_server, unique, windowed=False, options={"compression.type": "none"}) as sink:
        for batch in Engine(RAW).push((b"x" * 5_000, b"k", None, 1, 0)):
            sink.write(batch, VERSION)
        with pytest.raises(SinkError, match=f"topic {unique} refused a record: .*MSG_SIZE_TOO_LARGE") as error:
            sink.flush()
        assert not error.value.retriable
        sink.discard()
        for batch in Engine(RAW).push((b"fits", b"k", None, 1, 0)):
            sink.write(batch, VERSION)
        sink.flush()
    assert [message.value() for message in read_topic(kafka_server, unique)] == [b"fits"]


def test_what_is_discarded_before_the_flush_may_be_written_again(kafka_server: KafkaServer, unique: str) -> None:
    with opened(kafka_server, unique, windowed=False, options={"linger.ms": 20_000}) as sink:
        for number in range(2):
            for batch in Engine(RAW).push((b"try %d" % number, b"k", None, 1, 0)):
                sink.write(batch, VERSION)
            if number == 0:
                sink.discard()
        sink.flush()
    assert [message.value() for message in read_topic(kafka_server, unique)] == [b"try 1"]


def test_settings_that_the_client_refuses_are_a_configuration_error(kafka_server: KafkaServer, unique: str) -> None:
    with pytest.raises(ConfigError, match=r"must be greater than `linger.ms`") as error:
        make_sink(kafka_server, unique, options={"linger.ms": 60_000}).open()
    assert error.value.exit_code == 3


def test_no_broker_is_exit_code_4(unique: str) -> None:
    (port,) = free_ports(1)
    pipeline = PipelineConfig.model_validate(
        {
            "source": {"type": "generate"},
            "sinks": [{"type": "kafka", "topic": unique}],
            "kafka": {"bootstrap_servers": f"127.0.0.1:{port}", "connect_timeout": "500ms"},
        }
    )
    (config,) = pipeline.sinks
    assert isinstance(config, KafkaSinkConfig)
    sink = KafkaSink(pipeline.kafka, config, pipeline=pipeline, mode="append")
    with pytest.raises(SinkError, match="gave no answer within 500ms") as error:
        sink.open()
    assert error.value.exit_code == 4
    sink.close()
