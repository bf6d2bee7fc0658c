"""Owns asking where a consumer group stands, without being a member of it.

Before it: whoever looks at a group: the state commands, audits. After it: the broker that coordinates the group.
Invariant: a question is answered or raises within its time, and joins nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from streamcore.config import KafkaConnection
from streamcore.kafka_client import application, creating_client, is_passing, partition_list
from streamcore.kafka_questions import RETRY_INTERVAL_S
from streamcore.kafka_tokens import ask_for_token

if TYPE_CHECKING:
    from quixstreams.kafka import Consumer


class GroupOffsets:
    """Of one group.

    A consumer asks: the admin client's question ends the process where the group's coordinator is not ready or has moved (librdkafka 2.12 tells
    its consumer group then, and has none: `rd_kafka_handle_OffsetFetch`, `rd_kafka_cgrp_op`).
    """

    def __init__(self, connection: KafkaConnection, group: str) -> None:
        settings = {"isolation.level": "read_committed"}
        with creating_client(connection):
            app = application(connection, group=group, defaults={}, settings=settings)
            self._consumer: Consumer = app.get_consumer(auto_commit_enable=False)
        ask_for_token(self._consumer, connection.options)

    def of(self, topic: str, lanes: Sequence[int], timeout_s: float) -> dict[int, int | None]:
        """Where it stands, once no transaction on it is pending; None: nowhere. Raises `KafkaException`."""
        from confluent_kafka import KafkaException

        deadline = time.monotonic() + timeout_s
        while True:
            left_s = max(RETRY_INTERVAL_S, deadline - time.monotonic())
            try:
                return self._told(topic, lanes, left_s)
            except KafkaException as error:
                if not is_passing(error.args[0]) or time.monotonic() >= deadline:
                    raise
            time.sleep(RETRY_INTERVAL_S)

    def _told(self, topic: str, lanes: Sequence[int], timeout_s: float) -> dict[int, int | None]:
        from confluent_kafka import KafkaException

        found = self._consumer.committed(partition_list(topic, list(lanes)), timeout=timeout_s)
        for part in found:
            if part.error is not None:
                raise KafkaException(part.error)
        return {part.partition: part.offset if part.offset >= 0 else None for part in found}

    def close(self) -> None:
        """Lets go of the connection."""
        consumer: Any = self._consumer
        with suppress(Exception):  # what is left of it is nobody's concern
            consumer.close()
