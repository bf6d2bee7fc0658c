"""Somebody who reads committed rows all the while, as the users of a topic do, not only when everything is over.

Invariant: what was handed out once is what is there at the end; a record that is handed out twice, or taken back, is found.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

Record = tuple[bytes | None, bytes | None]
"""Key and value."""

METADATA_S, METADATA_MS, LOOK_S = 5.0, 1_000, 0.2


class Reader:
    """Reads a topic from its beginning, as soon as there is one, from a thread of its own until `close`."""

    def __init__(self, servers: str, topic: str) -> None:
        settings = {"bootstrap.servers": servers, "group.id": f"reader-{topic}", "enable.auto.commit": False}
        settings |= {"auto.offset.reset": "error", "isolation.level": "read_committed", "log_level": 0}
        # A topic that has just been made may be found with a partition whose leader does not know of it: it is looked for again soon.
        settings |= {"topic.metadata.refresh.interval.ms": METADATA_MS}
        self._consumer = Consumer(settings)
        self._topic = topic
        self.records: Counter[Record] = Counter()
        self.wrong: list[str] = []
        self._next: dict[int, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopping.is_set() and not self._find():
            self._stopping.wait(LOOK_S)
        while not self._stopping.is_set():
            for message in self._consumer.consume(1_000, 0.1):
                self._take(message)

    def _find(self) -> bool:
        try:
            found = self._consumer.list_topics(self._topic, timeout=METADATA_S).topics[self._topic]
        except KafkaException:  # the broker is away
            return False
        if found.error is not None or not found.partitions:
            return False
        self._next = dict.fromkeys(found.partitions, 0)
        self._consumer.assign([TopicPartition(self._topic, partition, 0) for partition in found.partitions])
        return True

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
        self.records[message.key(), message.value()] += 1

    def await_records(self, wanted: Counter[Record], within_s: float = 60.0) -> None:
        """Everything that is there has come, once, and nothing else."""
        deadline = time.monotonic() + within_s
        while self.records != wanted and time.monotonic() < deadline:
            time.sleep(0.1)
        assert self.wrong == []
        lacking, more = wanted - self.records, self.records - wanted
        assert (lacking, more) == (Counter(), Counter()), (
            f"{lacking.total()} lacking, {more.total()} more, up to {self._next}"
        )

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._consumer.close()
