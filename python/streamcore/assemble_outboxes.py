"""Owns which outboxes a pipeline has, and what each is made of.

Before it: `assemble_exactly_once.py`. After it: `outboxes.py`, which runs them.
Invariant: each outbox has a group of its own, so that one that is behind does not hold up another.
"""

from __future__ import annotations

from streamcore.committed_reader import CommittedReader
from streamcore.committed_rows import CommittedRows
from streamcore.config import (
    DeadLettersConfig,
    PipelineConfig,
    RedisSinkConfig,
    WebhookSinkConfig,
    describe,
    kafka_connection,
    outbox_topic,
)
from streamcore.dead_letters import open_dead_letters
from streamcore.outboxes import Outbox
from streamcore.sinks.redis_outbox import RedisOutbox
from streamcore.sinks.webhook_outbox import WebhookOutbox


def make_outboxes(config: PipelineConfig, *, group: str, accept_gap: bool) -> list[Outbox]:
    """The outboxes of a pipeline whose types are known; `group` is that of its workers, `accept_gap` as in `RunOptions`."""
    topic = outbox_topic(config)
    if topic is None:
        return []
    rows = CommittedRows(dict(describe(config)["columns"]))
    connection = kafka_connection(config, getattr(config.source, "connection", None))
    outboxes: list[Outbox] = []
    for index, sink in enumerate(config.sinks):
        name, group_part = sink.name or f"sinks[{index}]", sink.name or f"sink{index}"
        taker: RedisOutbox | WebhookOutbox
        if isinstance(sink, RedisSinkConfig):
            taker = RedisOutbox(sink, pipeline=config, rows=rows, name=name)
        elif isinstance(sink, WebhookSinkConfig):
            letters = open_dead_letters(config, config.dead_letters or DeadLettersConfig())
            taker = WebhookOutbox(sink, pipeline=config, rows=rows, letters=letters)
        else:
            continue
        reader = CommittedReader(connection, topic.topic, group=f"{group}.{group_part}")
        outboxes.append(Outbox(taker, reader, name=name, accept_gap=accept_gap))
    return outboxes
