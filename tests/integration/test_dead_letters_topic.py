"""Dead letters in a real topic: every byte of the record, the headers that say why, and sizes that are refused."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource

from streamcore import _core
from streamcore.config import DeadLettersConfig, PipelineConfig
from streamcore.dead_letters import open_dead_letters
from streamcore.errors import SinkError
from streamcore.outputs import DeadLetters
from streamcore.topics import dead_letter_topic
from tests.integration.batches import JSON_RECORDS, Engine, Record
from tests.integration.kafka_tools import connection, create_topic, read_topic
from tests.servers.kafka import KafkaServer

BAD: list[Record] = [
    (
        b"\xff\x00 no JSON",
        b"\xfe key",
        [("trace", b"\x80"), ("trace", None), ("dlq.reason", b"AN OLDER ONE")],
        1_234,
        7,
    ),
    (b"", b"", None, None, 8),
    (b'{"a":1}trailing', None, [], 6, 9),
]


@contextmanager
def opened(server: KafkaServer, name: str, **settings: Any) -> Iterator[DeadLetters]:
    config = PipelineConfig.model_validate(
        {"name": name, "source": {"type": "kafka", "topic": "clicks"}, "kafka": connection(server)}
    )
    letters = open_dead_letters(config, DeadLettersConfig(**settings))
    try:
        letters.open()
        yield letters
    finally:
        letters.close()


def noise(length: int) -> bytes:
    """Bytes that compression cannot make smaller."""
    return random.Random(length).randbytes(length)


def rejected(*records: Record) -> list[_core.Batch]:
    batches = Engine(JSON_RECORDS).push(*records)
    assert [batch.output for batch in batches] == ["rejected"]
    return batches


def test_key_value_and_headers_are_untouched_and_ours_follow(kafka_server: KafkaServer, unique: str) -> None:
    with opened(kafka_server, unique) as letters:
        for batch in rejected(*BAD):
            letters.write(batch)
        letters.flush()
    messages = read_topic(kafka_server, f"{unique}.dead-letters")
    assert [(message.value(), message.key()) for message in messages] == [(value, key) for value, key, *_ in BAD]
    for message, (value, _, headers, timestamp_ms, offset) in zip(messages, BAD, strict=True):
        assert value is not None
        own, ours = message.headers()[: len(headers or [])], message.headers()[len(headers or []) :]
        assert own == (headers or [])
        assert [name for name, _ in ours] == [
            f"dlq.{name}"
            for name in [
                "reason",
                "detail",
                "topic",
                "partition",
                "offset",
                "index",
                "timestamp",
                "schema_id",
                "pipeline",
                "version",
                "sha256",
            ]
        ]
        facts = dict(ours)
        assert facts["dlq.reason"] in (b"DECODE_SYNTAX", b"DECODE_UTF8")
        assert 0 < len(facts["dlq.detail"]) <= 256
        assert facts["dlq.topic"] == b"clicks"
        assert (facts["dlq.partition"], facts["dlq.offset"], facts["dlq.index"]) == (b"0", b"%d" % offset, b"0")
        assert facts["dlq.timestamp"] == (None if timestamp_ms is None else b"%d" % timestamp_ms)
        assert facts["dlq.schema_id"] is None
        assert facts["dlq.pipeline"] == unique.encode()
        assert facts["dlq.version"] == _core.__version__.encode()
        assert facts["dlq.sha256"] == hashlib.sha256(value).hexdigest().encode()


def test_a_record_of_two_megabytes_is_kept_whole(kafka_server: KafkaServer, unique: str) -> None:
    value = bytes(range(256)) * 8_000
    with opened(kafka_server, unique) as letters:
        for batch in rejected((value, b"k", None, 1, 0)):
            letters.write(batch)
        letters.flush()
    (message,) = read_topic(kafka_server, f"{unique}.dead-letters")
    assert message.value() == value
    assert "dlq.truncated_len" not in dict(message.headers())


def test_where_the_topic_refuses_a_size_only_that_value_is_cut(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique)  # with Kafka's default limit of one megabyte
    large = b"{" + noise(2_000_000)
    values = [b"{small", large, b"{" + noise(600_000), b"{last"]
    with opened(kafka_server, unique, topic=unique) as letters:
        for batch in rejected(*((value, b"k", None, 1, offset) for offset, value in enumerate(values))):
            letters.write(batch)
        letters.flush()
    found = {int(dict(message.headers())["dlq.offset"]): message for message in read_topic(kafka_server, unique)}
    assert found.keys() == {0, 1, 2, 3}
    for offset in (0, 2, 3):
        assert found[offset].value() == values[offset]
        assert "dlq.truncated_len" not in dict(found[offset].headers())
    headers = dict(found[1].headers())
    assert found[1].value() == large[:500_000]
    assert headers["dlq.truncated_len"] == b"%d" % len(large)
    assert headers["dlq.sha256"] == hashlib.sha256(large).hexdigest().encode()


def test_a_topic_that_takes_hardly_anything_still_gets_the_facts(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique, max_message_bytes="2000")
    value = noise(25_600)
    with opened(kafka_server, unique, topic=unique) as letters:
        for batch in rejected((value, b"k", None, 1, 0)):
            letters.write(batch)
        letters.flush()
        for batch in rejected((value, value, None, 1, 1)):
            letters.write(batch)
        with pytest.raises(SinkError, match=r"even without its value; raise max\.message\.bytes") as error:
            letters.flush()
        assert not error.value.retriable
    (message,) = read_topic(kafka_server, unique)
    assert (message.value(), dict(message.headers())["dlq.truncated_len"]) == (b"", b"%d" % len(value))


def test_letters_of_an_epoch_that_was_rolled_back_are_not_sent_by_the_next(
    kafka_server: KafkaServer, unique: str
) -> None:
    with opened(kafka_server, unique) as letters:
        for batch in rejected(BAD[0]):
            letters.write(batch)
        letters.discard()
        for batch in rejected(BAD[1]):
            letters.write(batch)
        letters.flush()
    offsets = [dict(message.headers())["dlq.offset"] for message in read_topic(kafka_server, f"{unique}.dead-letters")]
    assert offsets[-1] == b"8"
    assert offsets.count(b"8") == 1


def test_the_topic_is_kept_for_a_week(kafka_server: KafkaServer, unique: str) -> None:
    plan = dead_letter_topic(DeadLettersConfig(), unique)
    with opened(kafka_server, unique):
        pass
    admin = AdminClient({"bootstrap.servers": kafka_server.bootstrap_servers})
    resource = ConfigResource(ConfigResource.Type.TOPIC, plan.name)
    settings = admin.describe_configs([resource])[resource].result()
    assert settings["retention.ms"].value == str(7 * 86_400_000)
