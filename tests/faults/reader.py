"""Somebody who reads committed rows all the while, as the users of a topic do, not only when everything is over.

Invariant: what was handed out once is part of what is right at the end; a row that is handed out twice is found.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from tests.faults import oracle


class Reader:
    """Reads a topic from its beginning, from a thread of its own until `close`."""

    def __init__(self, servers: str, topic: str, partitions: int) -> None:
        settings = {"bootstrap.servers": servers, "group.id": f"reader-{topic}", "enable.auto.commit": False}
        settings |= {"auto.offset.reset": "error", "isolation.level": "read_committed", "log_level": 0}
        self._consumer = Consumer(settings)
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        self.rows: Counter[oracle.Row] = Counter()
        self.wrong: list[str] = []
        self._next = dict.fromkeys(range(partitions), 0)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set():
            for message in self._consumer.consume(1_000, 0.1):
                self._take(message)

    def _take(self, message: Any) -> None:
        error = message.error()
        if error is not None:
            # While the broker is away, its clients complain and try again.
            if error.code() == KafkaError._AUTO_OFFSET_RESET or error.fatal():
                self.wrong.append(error.str())
            return
        if message.offset() < self._next[message.partition()]:
            self.wrong.append(f"offset {message.offset()} of partition {message.partition()} came again")
        self._next[message.partition()] = message.offset() + 1
        self.rows[oracle.row_of(message)] += 1

    def await_rows(self, wanted: Counter[oracle.Row], within_s: float = 60.0) -> None:
        """Everything that is right has come, once, and nothing else."""
        deadline = time.monotonic() + within_s
        while self.rows != wanted and time.monotonic() < deadline:
            time.sleep(0.2)
        assert self.wrong == []
        assert (wanted - self.rows, self.rows - wanted) == (Counter(), Counter())

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()
