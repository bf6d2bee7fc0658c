"""Which server a name means."""

from __future__ import annotations

import pytest

from streamcore.config import PipelineConfig, RedisSinkConfig, kafka_connection, redis_connection
from streamcore.config.servers import REDIS_URL_DEFAULT, connection_problems
from streamcore.errors import ConfigError

CONFIG = PipelineConfig.model_validate(
    {
        "source": {"type": "kafka", "topic": "t", "connection": "other"},
        "connections": {
            "other": {"type": "kafka", "bootstrap_servers": "other:1"},
            "cache": {"type": "redis", "url": "redis://cache"},
        },
    }
)


def test_finds_connections_by_name() -> None:
    assert kafka_connection(CONFIG, "other").bootstrap_servers == "other:1"
    assert kafka_connection(CONFIG, None) is CONFIG.kafka


@pytest.mark.parametrize("name", ["cache", "nobody"])
def test_a_missing_kafka_connection_says_what_to_add(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"add \[connections.{name}\] with type = \"kafka\""):
        kafka_connection(CONFIG, name)


def test_a_redis_sink_names_its_server_in_three_ways() -> None:
    def url(**keys: str) -> str:
        sink = RedisSinkConfig.model_validate({"key_template": "a:{b}", **keys})
        return redis_connection(CONFIG, sink).url.get_secret_value()

    assert url() == REDIS_URL_DEFAULT
    assert url(url="redis://own") == "redis://own"
    assert url(connection="cache") == "redis://cache"
    with pytest.raises(ConfigError, match="no redis connection"):
        url(connection="other")


def test_every_wrong_mention_is_listed() -> None:
    config = PipelineConfig.model_validate(
        {
            "source": {"type": "kafka", "topic": "t", "connection": "cache"},
            "connections": {"cache": {"type": "redis", "url": "redis://cache"}},
            "sinks": [
                {"type": "kafka", "topic": "o", "connection": "x"},
                {"type": "redis", "key_template": "k", "connection": "cache"},
            ],
            "dead_letters": {"connection": "y"},
        }
    )
    paths = [problem.path for problem in connection_problems(config)]
    assert paths == ["source.connection", "sinks[0].connection", "dead_letters.connection"]
