"""The Redis sink against a real server: what a reader finds under a key, whatever order writes arrive in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from streamcore.config import PipelineConfig, RedisSinkConfig
from streamcore.errors import SinkError
from streamcore.sinks.base import Version
from streamcore.sinks.redis import RedisSink
from tests.integration.batches import WINDOWED, Engine, click, made_up
from tests.servers.ports import free_ports
from tests.servers.redis import RedisServer


def make_sink(url: str, template: str, **keys: Any) -> RedisSink:
    table = {"type": "redis", "url": url, "key_template": template, **keys}
    pipeline = PipelineConfig.model_validate({"source": {"type": "generate"}, "sinks": [table]})
    (config,) = pipeline.sinks
    assert isinstance(config, RedisSinkConfig)
    return RedisSink(config, pipeline=pipeline)


@contextmanager
def opened(server: RedisServer, template: str, **keys: Any) -> Iterator[RedisSink]:
    sink = make_sink(server.url, template, **keys)
    try:
        sink.open()
        yield sink
    finally:
        sink.close()


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        yield client


def hash_of(client: redis.Redis, key: str) -> dict[str, str]:
    found: Any = client.hgetall(key)
    return {name: value for name, value in found.items() if name != "_version"}


def write(sink: RedisSink, version: Version, *rows: dict[str, Any]) -> None:
    sink.write(made_up(*rows), version)
    sink.flush()


def test_a_row_is_a_hash_of_its_columns(redis_server: RedisServer, client: redis.Redis, unique: str) -> None:
    engine = Engine(WINDOWED)
    with opened(redis_server, unique + ":{page}:{window_end:epoch_s}") as sink:
        for batch in engine.push(click(0, 0, "home"), click(1, 1, "home", "0.25"), click(2, 60_000, "next")):
            sink.write(batch, Version(1, 1, 0))
        sink.flush()
    row = hash_of(client, f"{unique}:home:60")
    assert row["views"] == "2"
    assert row["paid"] == "0.35"
    assert row["window_end"] == "1970-01-01T00:01:00.000Z"
    assert row["is_final"] == "true"
    assert client.ttl(f"{unique}:home:60") == -1


def test_one_value_or_some_columns(redis_server: RedisServer, client: redis.Redis, unique: str) -> None:
    row = {"page": "home", "views": 3, "users": None}
    with opened(redis_server, unique + ":value:{page}", value="views") as sink:
        write(sink, Version(1, 1, 0), row)
    with opened(redis_server, unique + ":some:{page}", columns=["views", "users"]) as sink:
        write(sink, Version(1, 1, 0), row)
    assert hash_of(client, f"{unique}:value:home") == {"value": "3"}
    assert hash_of(client, f"{unique}:some:home") == {"views": "3"}  # a null has no field


@pytest.mark.parametrize(
    ("second", "wins"),
    [
        (Version(1, 3, 0), True),
        (Version(1, 2, 9), True),  # the same epoch again, cut into other batches
        (Version(1, 2, 0), True),
        (Version(2, 1, 0), True),
        (Version(1, 1, 9), False),
        (Version(0, 9, 9), False),
    ],
)
def test_an_older_write_never_replaces_a_newer_one(
    redis_server: RedisServer, client: redis.Redis, unique: str, second: Version, *, wins: bool
) -> None:
    with opened(redis_server, unique + ":{page}") as sink:
        write(sink, Version(1, 2, 5), {"page": "home", "views": 1})
        write(sink, second, {"page": "home", "views": 2})
    assert hash_of(client, f"{unique}:home")["views"] == ("2" if wins else "1")


def test_a_whole_row_is_replaced_not_mixed(redis_server: RedisServer, client: redis.Redis, unique: str) -> None:
    with opened(redis_server, unique + ":{page}") as sink:
        write(sink, Version(1, 1, 0), {"page": "home", "views": 1, "users": 5})
        write(sink, Version(1, 2, 0), {"page": "home", "views": 2, "users": None})
    assert hash_of(client, f"{unique}:home") == {"page": "home", "views": "2"}


def test_a_row_taken_back_is_gone_and_stays_gone(redis_server: RedisServer, client: redis.Redis, unique: str) -> None:
    with opened(redis_server, unique + ":{page}") as sink:
        row = {"page": "home", "views": 1, "retracted": False}
        write(sink, Version(1, 1, 0), row)
        write(sink, Version(1, 3, 0), {**row, "retracted": True})
        write(sink, Version(1, 2, 0), row)
        assert hash_of(client, f"{unique}:home") == {}
        assert 0 < int(client.ttl(f"{unique}:home")) <= 86_400
        write(sink, Version(1, 4, 0), row)
    assert hash_of(client, f"{unique}:home")["views"] == "1"
    assert client.ttl(f"{unique}:home") == -1


def test_the_time_to_live_counts_from_the_end_of_the_window(
    redis_server: RedisServer, client: redis.Redis, unique: str
) -> None:
    now_ms = 4_000_000_000_000  # far in the future of any machine that runs this
    spec = {**WINDOWED, "source": {**WINDOWED["source"], "max_future_skew_ms": None}}
    with opened(redis_server, unique + ":{page}", ttl="1h") as sink:
        for batch in Engine(spec).push(click(0, now_ms, "home"), click(1, now_ms + 60_000, "next")):
            sink.write(batch, Version(1, 1, 0))
        sink.flush()
    end_ms = (now_ms // 60_000 + 1) * 60_000
    assert client.pexpiretime(f"{unique}:home") == end_ms + 3_600_000


def test_without_a_window_it_counts_from_the_write(redis_server: RedisServer, client: redis.Redis, unique: str) -> None:
    with opened(redis_server, unique + ":{page}", ttl="1h") as sink:
        write(sink, Version(1, 1, 0), {"page": "home"})
    assert 3_000 < int(client.ttl(f"{unique}:home")) <= 3_600


@pytest.mark.parametrize("batch_rows", [1, 7, 1_000, 100_000])
def test_many_rows_in_any_pieces(redis_server: RedisServer, client: redis.Redis, unique: str, batch_rows: int) -> None:
    rows = [{"page": str(number), "views": number} for number in range(2_500)]
    with opened(redis_server, unique + ":{page}", value="views", batch_rows=batch_rows) as sink:
        write(sink, Version(1, 1, 0), *rows)
    keys = [f"{unique}:{number}" for number in range(2_500)]
    with client.pipeline() as pipeline:
        for key in keys:
            pipeline.hget(key, "value")
        assert pipeline.execute() == [str(number) for number in range(2_500)]


def test_discarded_rows_are_not_sent(redis_server: RedisServer, client: redis.Redis, unique: str) -> None:
    with opened(redis_server, unique + ":{page}") as sink:
        sink.write(made_up({"page": "home"}), Version(1, 1, 0))
        sink.discard()
        sink.flush()
    assert not client.exists(f"{unique}:home")


def test_a_key_of_another_kind_is_not_overwritten(redis_server: RedisServer, client: redis.Redis, unique: str) -> None:
    client.set(f"{unique}:home", "somebody else's")
    with opened(redis_server, unique + ":{page}") as sink:
        with pytest.raises(SinkError, match="holds something that is no hash") as error:
            write(sink, Version(1, 1, 0), {"page": "home"})
        assert not error.value.retriable
    assert client.get(f"{unique}:home") == "somebody else's"


def test_a_server_that_went_away_can_be_tried_again(unique: str) -> None:
    with RedisServer() as server, opened(server, unique + ":{page}") as sink:
        server.process.kill()
        with pytest.raises(SinkError, match="did not take the rows") as error:
            write(sink, Version(1, 1, 0), {"page": "home", "views": 1})
        assert error.value.retriable
        sink.discard()
        server.start()
        write(sink, Version(1, 1, 0), {"page": "home", "views": 1})
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            assert hash_of(client, f"{unique}:home") == {"page": "home", "views": "1"}


def test_no_server_is_exit_code_4_and_no_password(unique: str) -> None:
    (port,) = free_ports(1)
    with pytest.raises(SinkError) as error:
        make_sink(f"redis://user:canary@127.0.0.1:{port}/3", unique + ":{page}").open()
    assert error.value.exit_code == 4
    assert f"Redis at redis://127.0.0.1:{port}/3 gave no answer" in str(error.value)
    assert "canary" not in repr(error.value)
    assert "\n" not in str(error.value)


def test_a_refused_login_is_exit_code_4_and_no_password(unique: str) -> None:
    with RedisServer(password="right-one") as server:
        url = server.url.replace("right-one", "canary")
        with pytest.raises(SinkError, match="refused the login") as error:
            make_sink(url, unique + ":{page}").open()
        assert error.value.exit_code == 4
        assert "canary" not in repr(error.value)
        with opened(server, unique + ":{page}") as sink:
            write(sink, Version(1, 1, 0), {"page": "home"})
