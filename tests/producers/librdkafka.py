"""Does what a script on its standard input says (`script.py`), by librdkafka; prints where each record went.

Like `java/ScriptedProducer.java` and `franz/main.go`.
"""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

from confluent_kafka import KafkaException, Message, Producer

TIMEOUT_S = 60.0
LINGER_MS = 20_000
TRANSACTION_TIMEOUT_MS = 300_000
"""Of a busy machine: the broker would end a transaction that takes longer."""
REQUEST_BYTES_MAX = 16 << 20


class Scripted:
    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._producers: dict[str, Producer] = {}
        self._sent: list[tuple[int, int] | None] = []

    def run(self, operation: dict[str, Any]) -> None:
        name = operation["by"]
        match operation["do"]:
            case "open":
                self._producers[name] = self._open(operation)
            case "begin":
                self._producers[name].begin_transaction()
            case "send":
                self._send(self._producers[name], operation)
            case "flush":
                assert self._producers[name].flush(TIMEOUT_S) == 0
            case "commit":
                self._producers[name].commit_transaction(TIMEOUT_S)
            case "abort":
                self._producers[name].abort_transaction(TIMEOUT_S)

    def _open(self, operation: dict[str, Any]) -> Producer:
        settings = {
            "bootstrap.servers": self._servers,
            "enable.idempotence": operation["idempotent"],
            "compression.type": operation["codec"],
            "batch.size": operation["batch_bytes"],
            "message.max.bytes": REQUEST_BYTES_MAX,
            "linger.ms": LINGER_MS,
            "message.timeout.ms": 2 * LINGER_MS,
            "acks": "all",
        }
        name = operation["transactional_id"]
        if name is not None:
            settings |= {"transactional.id": name, "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS}
        producer = Producer(settings)
        if name is not None:
            producer.init_transactions(TIMEOUT_S)
        return producer

    def _send(self, producer: Producer, operation: dict[str, Any]) -> None:
        number = len(self._sent)
        self._sent.append(None)

        def delivered(error: Any, message: Message) -> None:
            if error is not None:
                raise KafkaException(error)
            self._sent[number] = message.offset(), message.timestamp()[1]

        producer.produce(
            operation["topic"],
            partition=operation["partition"],
            key=decoded(operation["key"]),
            value=decoded(operation["value"]),
            headers=[(header["name"], decoded(header["value"])) for header in operation["headers"]],
            timestamp=operation["time_ms"],
            on_delivery=delivered,
        )

    def told(self) -> list[tuple[int, int]]:
        sent = [one for one in self._sent if one is not None]
        assert len(sent) == len(self._sent), "records without an answer"
        return sent


def decoded(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def main() -> None:
    scripted = Scripted(sys.argv[1])
    for line in sys.stdin:
        scripted.run(json.loads(line))
    for one in scripted.told():
        print(json.dumps(one))


if __name__ == "__main__":
    main()
