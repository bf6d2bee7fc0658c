"""Committed rows in Redis: versions by offset, the place that changes with them, and what a Redis forgot."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import redis

from streamcore.committed_reader import Committed, CommittedReader
from streamcore.committed_rows import CommittedRows
from streamcore.config import KafkaConnection, PipelineConfig, RedisSinkConfig
from streamcore.errors import SinkError
from streamcore.sinks.redis_outbox import RedisOutbox
from tests.servers.redis import RedisServer

COLUMNS = {"k": "string", "n": "int64", "window_end": "timestamp"}


def opened(server: RedisServer, unique: str, *, topic_id: str = "one", **keys: Any) -> RedisOutbox:
    sink = RedisSinkConfig.model_validate({"url": server.url, "key_template": f"{unique}:{{k}}", **keys})
    config = PipelineConfig.model_validate({"name": unique, "source": {"type": "kafka", "topic": "t"}})
    outbox = RedisOutbox(sink, pipeline=config, rows=CommittedRows(COLUMNS), name="sinks[0]")
    reader = CommittedReader(KafkaConnection(), "t", group="g")
    reader.topic_id = topic_id
    outbox.open(reader)
    return outbox


def row(offset: int, key: str, n: int, *, end: str = "2100-01-01T00:00:00.000Z") -> Committed:
    return Committed(0, offset, json.dumps({"k": key, "n": n, "window_end": end}).encode())


def stored(server: RedisServer, key: str) -> dict[str, str]:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        found: dict[str, str] = client.hgetall(key)
        return found


def test_rows_and_their_place_change_together(redis_server: RedisServer, unique: str) -> None:
    outbox = opened(redis_server, unique)
    assert outbox.position(0) is None
    assert outbox.take(0, [row(3, "a", 1), Committed(0, 4, None), row(5, "b", 2)]) is None
    assert (outbox.position(0), outbox.position(1)) == (6, None)
    assert stored(redis_server, f"{unique}:a")["n"] == "1"
    assert stored(redis_server, f"{unique}:b")["_version"] == "#one:0:0000000000000000005"
    outbox.close()
    again = opened(redis_server, unique)
    assert again.position(0) == 6
    again.close()


def test_an_older_row_replaces_none(redis_server: RedisServer, unique: str) -> None:
    late, current = opened(redis_server, unique), opened(redis_server, unique)
    assert current.take(0, [row(1, "a", 1), row(2, "a", 2)]) is None
    assert late.take(0, [row(1, "a", 1)]) is None
    assert (stored(redis_server, f"{unique}:a")["n"], current.position(0)) == ("2", 3)
    late.close()
    current.close()


def test_a_redis_that_forgot_says_so_and_takes_nothing(redis_server: RedisServer, unique: str) -> None:
    outbox = opened(redis_server, unique)
    outbox.take(0, [row(1, "a", 1)])
    with redis.Redis.from_url(redis_server.url) as client:
        saved = client.get(f"streamcore:{unique}:sinks[0]:applied:0")
        outbox.take(0, [row(2, "a", 2)])
        client.set(f"streamcore:{unique}:sinks[0]:applied:0", saved)
        client.delete(f"{unique}:a")
        assert outbox.take(0, [row(number, "b", number) for number in range(3, 2_500)]) == 2
        assert stored(redis_server, f"{unique}:b") == {}
        assert outbox.take(0, [row(2, "a", 2), row(3, "b", 3)]) is None
        client.delete(f"streamcore:{unique}:sinks[0]:applied:0")
        assert outbox.take(0, [row(4, "b", 4)]) == -1
    assert (stored(redis_server, f"{unique}:a")["n"], stored(redis_server, f"{unique}:b")["n"]) == ("2", "3")
    outbox.close()


def test_rows_that_are_gone_are_passed_over_once(redis_server: RedisServer, unique: str) -> None:
    outbox = opened(redis_server, unique)
    outbox.take(0, [row(1, "a", 1)])
    outbox.skip(0, 50)
    assert (outbox.position(0), stored(redis_server, f"{unique}:a")["n"]) == (50, "1")
    with redis.Redis.from_url(redis_server.url) as client:
        client.delete(f"streamcore:{unique}:sinks[0]:applied:0")
    with pytest.raises(SinkError, match="has just lost rows") as lost:
        outbox.skip(0, 60)
    assert (lost.value.retriable, outbox.position(0)) == (True, None)
    outbox.close()


def test_rows_of_a_topic_made_anew_replace_the_others(redis_server: RedisServer, unique: str) -> None:
    before = opened(redis_server, unique)
    before.take(0, [row(7, "a", 7)])
    after = opened(redis_server, unique, topic_id="two")
    assert after.position(0) is None
    assert after.take(0, [row(0, "a", 100)]) is None
    assert (stored(redis_server, f"{unique}:a")["n"], after.position(0)) == ("100", 1)
    before.close()
    after.close()


def test_keys_live_from_the_end_of_their_window(redis_server: RedisServer, unique: str) -> None:
    outbox = opened(redis_server, unique, ttl="1h")
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    outbox.take(0, [row(0, "a", 1, end=now), row(1, "old", 1, end="2000-01-01T00:00:00.000Z")])
    with redis.Redis.from_url(redis_server.url) as client:
        assert 3_590 < client.ttl(f"{unique}:a") <= 3_600
    assert stored(redis_server, f"{unique}:old") == {}
    outbox.close()


def test_what_it_cannot_take_is_an_error(redis_server: RedisServer, unique: str) -> None:
    outbox = opened(redis_server, unique)
    with pytest.raises(SinkError, match="no row of this pipeline"):
        outbox.take(0, [Committed(0, 0, b"greetings")])
    with redis.Redis.from_url(redis_server.url) as client:
        client.set(f"{unique}:a", "text")
    with pytest.raises(SinkError, match="holds something that is no hash") as failed:
        outbox.take(0, [row(0, "a", 1)])
    assert not failed.value.retriable
    outbox.close()
    with pytest.raises(SinkError, match="is not open"):
        outbox.position(0)
