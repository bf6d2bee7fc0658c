"""Which way records come: by the settings, and by what is asked for."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest
from confluent_kafka import TopicPartition

from streamcore import _core
from streamcore.config import PipelineConfig
from streamcore.errors import ConfigError
from streamcore.options import RunOptions
from streamcore.sources.kafka_native import NativeReader
from streamcore.sources.kafka_reader import CONSUME_FAILURES_MAX, ConsumerReader, Wanted
from streamcore.sources.kafka_transport import make_reader, parted

ADDRESS = {"bootstrap.servers": "127.0.0.1:1"}
WANTED = Wanted(keys=False, headers=False, record_bytes_max=None)


class Client:
    """A consumer that is not asked for anything."""

    def close(self) -> None:
        """Nothing."""


def chosen(transport: Any, **settings: Any) -> type:
    named = {name.replace("_", "."): value for name, value in settings.items()}
    reader = make_reader(Client(), {**ADDRESS, **named}, WANTED, None, name="t", transport=transport)  # type: ignore[arg-type]
    reader.close()
    return type(reader)


def test_native_is_taken_where_it_has_every_setting() -> None:
    assert chosen("auto") is NativeReader
    assert chosen("native", client_id="me", fetch_wait_max_ms=20, check_crcs=True) is NativeReader
    assert chosen("librdkafka") is ConsumerReader


def test_a_setting_it_does_not_have_takes_librdkafka_unless_native_is_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert chosen("auto", socket_send_buffer_bytes=1) is ConsumerReader
    (line,) = caplog.messages
    assert line == "t is read through librdkafka: the native transport does not have socket.send.buffer.bytes"
    with pytest.raises(ConfigError, match=r"does not have socket\.send\.buffer\.bytes"):
        chosen("native", socket_send_buffer_bytes=1)


def test_what_only_the_client_can_use_is_left_to_it(caplog: pytest.LogCaptureFixture) -> None:
    assert chosen("auto", reconnect_backoff_ms=0) is ConsumerReader
    assert caplog.messages[0].startswith("t is read through librdkafka: ")
    with pytest.raises(ConfigError):
        chosen("native", reconnect_backoff_ms=0)


class Calling(Client):
    """A consumer whose calls do what they are told to, inside the call."""

    def __init__(self) -> None:
        self.meanwhile: Any = None

    def consume(self, _records: int, _timeout_s: float) -> list[Any]:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return []

    def incremental_assign(self, parts: list[Any]) -> None:
        """Nothing."""

    def pause(self, parts: list[Any]) -> None:
        """Nothing."""


class Reading:
    is_disturbed = False


def test_what_is_assigned_while_records_are_taken_waits_until_its_stops_are_told() -> None:
    consumer = Calling()
    reader = make_reader(cast("Any", consumer), ADDRESS, WANTED, cast("Any", Reading()), name="t", transport="native")
    try:
        consumer.meanwhile = lambda: reader.assign([TopicPartition("t", 0, 5)], incremental=True)
        began_s = time.monotonic()
        raw, moved, _ = reader.take({}, 10, 30.0, is_silent=False)
        assert (len(raw), moved) == (0, {})
        assert time.monotonic() - began_s < 30.0, "it waited for records of who has no stop yet"
    finally:
        reader.close()


def test_failed_calls_of_the_client_count_only_one_after_the_other() -> None:
    consumer, source = Calling(), Reading()
    reader = make_reader(cast("Any", consumer), ADDRESS, WANTED, cast("Any", source), name="t", transport="native")

    def fail() -> None:
        raise RuntimeError("no memory")

    try:
        for _ in range(2 * CONSUME_FAILURES_MAX):
            consumer.meanwhile = fail
            reader.take({}, 10, 0.0, is_silent=False)
            reader.take({}, 10, 0.0, is_silent=False)
    finally:
        reader.close()


def test_settings_are_told_as_text_and_sizes_by_the_fetchers_names() -> None:
    def tokens(_: str) -> tuple[str, float]:
        return "t", 0.0

    settings = {**ADDRESS, "queued.max.messages.kbytes": 2, "max.partition.fetch.bytes": "7", "check.crcs": True}
    own, sizes, callback = parted({**settings, "fetch.min.bytes": 1, "oauth_cb": tokens})
    assert own == {**ADDRESS, "check.crcs": "true", "reconnect.backoff.max.ms": "1000"}
    assert parted({"reconnect.backoff.max.ms": 50})[0] == {"reconnect.backoff.max.ms": "50"}
    assert sizes == {"queued_bytes_max": 2048, "partition_bytes_max": 7}
    assert callback is tokens


def test_a_closed_fetcher_says_so() -> None:
    fetcher = _core.Fetcher(ADDRESS, keys=False, headers=False)
    fetcher.assign({("t", 0): 5}, True)
    assert fetcher.progress()["t", 0]["next_offset"] == 5
    fetcher.close()
    fetcher.close()
    with pytest.raises(Exception, match="the fetcher is closed"):
        fetcher.take(1, 0.0)


def test_a_run_chooses_for_all_inputs() -> None:
    source = {"type": "kafka", "topic": "t"}
    config = PipelineConfig.model_validate({"source": source})
    applied = RunOptions(transport="librdkafka").applied_to(config)
    assert applied.source.transport == "librdkafka"  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="is none of auto, native, librdkafka"):
        RunOptions(transport="pigeons").applied_to(config)
    generated = PipelineConfig.model_validate({"source": {"type": "generate"}})
    with pytest.raises(ConfigError, match="no input is a Kafka topic"):
        RunOptions(transport="native").applied_to(generated)
