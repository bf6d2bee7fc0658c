"""Owns asking the servers a pipeline names whether they are there, for `streamcore check --connect`.

Before it: a configuration without mistakes. After it: one line a server and topic.
Invariant: nothing is written, created or consumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamcore.config import PipelineConfig


def reach(config: PipelineConfig) -> Iterator[str]:
    """What was found, a line each. Raises `SourceError`, `SinkError` or `ConfigError` with what to do."""
    yield from _topics(config)
    yield from _stores(config)


def _topics(config: PipelineConfig) -> Iterator[str]:
    from streamcore.topics import missing_topic, topic_plans

    plans = topic_plans(config)
    if not plans:
        return
    from streamcore.kafka_client import Cluster

    clusters: dict[int, Cluster] = {}
    for connection, plan in plans:
        cluster = clusters.get(id(connection))
        if cluster is None:
            cluster = clusters[id(connection)] = Cluster(connection)
            cluster.connect()
            yield f"kafka {connection.bootstrap_servers}: reachable"
        topic = cluster.input_topic(plan) if plan.role == "input" else cluster.topic(plan.name)
        if topic is None and not config.auto_create_topics:
            raise missing_topic(plan, connection, "auto_create_topics is false")
        state = "missing; a run creates it" if topic is None else f"{len(topic.partitions)} partitions"
        yield f"topic {plan.name} ({plan.role}): {state}"


def _stores(config: PipelineConfig) -> Iterator[str]:
    from streamcore.assemble import build_sink
    from streamcore.config import RedisSinkConfig, redis_connection
    from streamcore.config.redact import redact_url

    for sink in config.sinks:
        if isinstance(sink, RedisSinkConfig):
            store = build_sink(config, sink)
            try:
                store.open()
            finally:
                store.close()
            yield f"redis {redact_url(redis_connection(config, sink).url.get_secret_value())}: reachable"
