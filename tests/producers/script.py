"""Owns what producers are told to do, one operation a line, and what then must be in the log.

Before it: the tests, which write a script once for all programs. After it: `programs.py`, which runs it.
Invariant: records are flushed before a transaction ends, so each of them has an offset, whatever becomes of it.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

Header = tuple[str, bytes | None]
Row = tuple[int, int, bytes | None, bytes | None, list[Header]]
"""Offset, time, key, value and headers of a record."""

BATCH_BYTES = 16 << 10


@dataclass
class Sent:
    """A record that some program was told to send."""

    topic: str
    partition: int
    time_ms: int
    key: bytes | None
    value: bytes | None
    headers: list[Header]
    is_aborted: bool = False
    """Whether it is part of a transaction that was aborted."""
    offset: int = -1
    """Told by the program, as is the next."""
    told_ms: int = -1

    def row(self) -> Row:
        return self.offset, self.told_ms, self.key, self.value, self.headers


@dataclass
class Script:
    """What producers do, one after the other."""

    operations: list[dict[str, Any]] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)

    def producer(
        self,
        name: str,
        *,
        codec: str = "none",
        idempotent: bool = True,
        transactional_id: str | None = None,
        batch_bytes: int = BATCH_BYTES,
    ) -> Writer:
        settings = {"codec": codec, "idempotent": idempotent, "transactional_id": transactional_id}
        self.operations.append({"do": "open", "by": name, "batch_bytes": batch_bytes, **settings})
        return Writer(self, name)

    def lines(self) -> str:
        return "".join(json.dumps(operation) + "\n" for operation in self.operations)

    def tell(self, told: list[tuple[int, int]]) -> None:
        """Takes in where each record went."""
        for one, (offset, time_ms) in zip(self.sent, told, strict=True):
            one.offset, one.told_ms = offset, time_ms

    def written(self, topic: str, partition: int) -> list[Row]:
        """What a reader of committed records is to find, in order."""
        return sorted(one.row() for one in self._of(topic, partition) if not one.is_aborted)

    def aborted(self, topic: str, partition: int) -> list[int]:
        """Offsets of what such a reader leaves out."""
        return sorted(one.offset for one in self._of(topic, partition) if one.is_aborted)

    def _of(self, topic: str, partition: int) -> list[Sent]:
        return [one for one in self.sent if (one.topic, one.partition) == (topic, partition)]


class Writer:
    """One producer of a script."""

    def __init__(self, script: Script, name: str) -> None:
        self._script = script
        self._name = name
        self._pending: list[Sent] = []

    def send(self, record: Sent) -> None:
        self._script.sent.append(record)
        self._pending.append(record)
        headers = [{"name": name, "value": encoded(value)} for name, value in record.headers]
        parts = {"key": encoded(record.key), "value": encoded(record.value), "headers": headers}
        place = {"topic": record.topic, "partition": record.partition, "time_ms": record.time_ms}
        self._do("send", **place, **parts)

    def flush(self) -> None:
        """Ends the batches of all partitions."""
        self._do("flush")

    def begin(self) -> None:
        self._pending = []
        self._do("begin")

    def commit(self) -> None:
        self.flush()
        self._do("commit")

    def abort(self) -> None:
        self.flush()
        for record in self._pending:
            record.is_aborted = True
        self._do("abort")

    def _do(self, what: str, **details: Any) -> None:
        self._script.operations.append({"do": what, "by": self._name, **details})


def encoded(part: bytes | None) -> str | None:
    return None if part is None else base64.b64encode(part).decode()
