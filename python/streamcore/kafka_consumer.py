"""Owns how consumers of ours are set, and how they are sent to a position.

Before it: `kafka_client.py`, which makes them. After it: the Kafka source, and who reads committed rows.
Invariant: a consumer reads committed records alone, and makes no topic.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from streamcore.config import KafkaConnection

if TYPE_CHECKING:
    from quixstreams.kafka import Consumer

POLL_INTERVAL_MS = 300_000
"""The client's own `max.poll.interval.ms`, which may not be less than the session."""

HEARTBEAT_MS = 1_000
"""By its next one a member learns that partitions of another are to be had."""

SEEK_TRIES_MAX, SEEK_RETRY_S = 100, 0.02


def member_settings(connection: KafkaConnection) -> dict[str, Any]:
    """Settings of a consumer that shares a topic with others and reads what is committed."""
    session_ms = connection.session_timeout
    return {
        "session.timeout.ms": session_ms,
        **({"max.poll.interval.ms": session_ms} if session_ms > POLL_INTERVAL_MS else {}),
        "heartbeat.interval.ms": max(1, min(HEARTBEAT_MS, session_ms // 3)),
        "partition.assignment.strategy": "cooperative-sticky",
        "isolation.level": "read_committed",
        "allow.auto.create.topics": False,
    }


def seek(consumer: Consumer, part: Any) -> str | None:
    """Has a partition read from its offset on; why it could not be. Refused until its fetcher, just assigned, has started."""
    from confluent_kafka import KafkaException

    for _ in range(SEEK_TRIES_MAX):
        try:
            consumer.seek(part)
        except KafkaException as error:
            failure = str(error)
            time.sleep(SEEK_RETRY_S)
        else:
            return None
    return failure
