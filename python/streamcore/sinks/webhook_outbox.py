"""Owns sending committed rows to an HTTP server, in the order of their partitions.

Before it: `outboxes.py`, with records of one partition of the committed topic. After it: the server.
Invariant: the group's offset is never past a row that was neither taken nor made a dead letter, and the key of a row is the
same whoever sends it: a server that honours it has every row once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from streamcore.committed_reader import Committed, CommittedReader
from streamcore.committed_rows import CommittedRows
from streamcore.config import PipelineConfig, WebhookSinkConfig
from streamcore.dead_letters import DeadLetter, FileDeadLetters, KafkaDeadLetters
from streamcore.errors import SinkError
from streamcore.sinks.webhook import LaterError, Row, Sender

TAKE_S = 5.0
"""How long one `take` goes on: a slow server must not cost the consumer its seat."""


class WebhookOutbox:
    """One server; see `outboxes.Taker`."""

    def __init__(
        self,
        config: WebhookSinkConfig,
        *,
        pipeline: PipelineConfig,
        rows: CommittedRows,
        letters: KafkaDeadLetters | FileDeadLetters,
    ) -> None:
        """`letters` take refused rows."""
        self._config = config
        self._pipeline = pipeline.name or ""
        self._rows = rows
        self._letters = letters
        self._sender = Sender(config, pipeline=self._pipeline, refuse=self._refuse)
        self.place = self._sender.place
        self._reader: CommittedReader | None = None
        self._done: dict[int, int] = {}
        """By partition: the offset up to which rows were taken; the group may not know it yet."""
        self._not_before_s = 0.0
        """When the server wants to be asked again."""

    def open(self, reader: CommittedReader) -> None:
        """Makes the client."""
        self._sender.open()
        self._letters.open()
        self._reader = reader

    def _refuse(self, letter: DeadLetter) -> None:
        self._letters.add(letter)
        self._letters.flush()

    def position(self, partition: int) -> int | None:
        """What was done here; of a partition that is new what the group says."""
        if self._reader is None:
            raise SinkError(f"{self.place} is not open", retriable=False)
        if partition not in self._reader.placed or partition not in self._done:
            self._done[partition] = -1
            at = self._reader.group_offset(partition)
            if at is not None:
                self._done[partition] = at
        return None if self._done[partition] < 0 else self._done[partition]

    def take(self, partition: int, records: Sequence[Committed]) -> int | None:
        """Sends records until the time is over; gives where to go on, if that is not behind all of them.

        A row that is not taken now is an error only where none before it was: the waits of failures in a row add up.
        """
        if (wait_s := self._not_before_s - time.monotonic()) > 0:
            raise LaterError(f"{self.place} asked for a pause", after_s=wait_s)
        until_s, first = time.monotonic() + TAKE_S, records[0].offset
        done = first
        try:
            for record in records:
                if time.monotonic() >= until_s:
                    return done
                if record.value is not None and record.offset >= self._done.get(partition, -1):
                    self._sender.send(self._row(record))
                done = record.offset + 1
        except LaterError as error:
            self._not_before_s = time.monotonic() + error.after_s
            if done == first:
                raise
            return done
        finally:
            self._note(partition, done)
        return None

    def skip(self, partition: int, offset: int) -> None:
        """The group's offset moves, without a request."""
        self._note(partition, offset)

    def _note(self, partition: int, done: int) -> None:
        if self._reader is not None and done > self._done.get(partition, -1):
            self._done[partition] = done
            self._reader.commit(partition, done)

    def _row(self, record: Committed) -> Row:
        reader, value = self._reader, record.value or b""
        topic, topic_id = (reader.topic, reader.topic_id) if reader is not None else ("", "")
        key = f"{self._pipeline}/{topic_id}/{record.partition}/{record.offset}"
        return Row(self._body(value), key, topic, record.partition, record.offset)

    def _body(self, value: bytes) -> bytes:
        """The row as it stands in the topic, unless the sink wants less of it, or times in another way."""
        columns, as_numbers = self._config.columns, self._config.timestamp_format == "epoch_ms"
        if columns is None and not as_numbers:
            return value
        return self._rows.plain(value, columns, as_numbers=as_numbers)

    def close(self) -> None:
        """Closes connections."""
        self._sender.close()
        self._letters.close()
