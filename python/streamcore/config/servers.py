"""Owns which server a source or sink means: `[kafka]`, a `[connections.NAME]`, a URL, or the default.

Before it: a validated configuration. After it: the Kafka and Redis clients.
Invariant: a name either leads to a connection of the right kind or to a `ConfigError` that says what to add.
"""

from __future__ import annotations

from pydantic import SecretStr

from streamcore.config.connections import KafkaConnection, RedisConnection
from streamcore.config.models import PipelineConfig
from streamcore.config.sinks import RedisSinkConfig
from streamcore.errors import ConfigError, Problem

REDIS_URL_DEFAULT = "redis://localhost:6379/0"


def kafka_connection(config: PipelineConfig, name: str | None) -> KafkaConnection:
    """The Kafka connection called `name`, or `[kafka]` for None. Raises `ConfigError`."""
    if name is None:
        return config.kafka
    connection = config.connections.get(name)
    if isinstance(connection, KafkaConnection):
        return connection
    raise ConfigError("a connection is missing", [missing_connection(name, "kafka", f"connections.{name}")])


def redis_connection(config: PipelineConfig, sink: RedisSinkConfig) -> RedisConnection:
    """The Redis server of `sink`: its URL, its connection, or `redis://localhost:6379/0`. Raises `ConfigError`."""
    if sink.connection is None:
        return RedisConnection(url=sink.url or SecretStr(REDIS_URL_DEFAULT))
    connection = config.connections.get(sink.connection)
    if isinstance(connection, RedisConnection):
        return connection
    raise ConfigError(
        "a connection is missing", [missing_connection(sink.connection, "redis", f"connections.{sink.connection}")]
    )


def missing_connection(name: str, kind: str, path: str) -> Problem:
    """Says that no connection of this kind has this name."""
    hint = f'add [connections.{name}] with type = "{kind}"'
    return Problem(path, f'there is no {kind} connection called "{name}"', hint=hint)


def connection_problems(config: PipelineConfig) -> list[Problem]:
    """Every mention of a connection that is not there, or is of another kind."""
    mentions = [("source.connection", getattr(config.source, "connection", None), "kafka")]
    for name, other in config.sources.items():
        mentions.append((f"sources.{name}.connection", getattr(other, "connection", None), "kafka"))
    for index, sink in enumerate(config.sinks):
        mentions.append((f"sinks[{index}].connection", getattr(sink, "connection", None), sink.type))
    if config.dead_letters is not None:
        mentions.append(("dead_letters.connection", config.dead_letters.connection, "kafka"))
    return [
        missing_connection(name, kind, path)
        for path, name, kind in mentions
        if name is not None and (name not in config.connections or config.connections[name].type != kind)
    ]
