"""Owns bringing the records of partitions that a consumer was given, in whole batches.

Before it: quixstreams' consumer, which the group gives partitions. After it: the Kafka sources, which say where to read, and
from what on no more.
Invariant: what `take` gives of a partition are the records behind the position it was called with, in order, and none beyond.

One thread only: seeking or pausing beside a running `consume` may lose records.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from streamcore import _core
from streamcore.errors import Error, SourceError
from streamcore.kafka_client import log
from streamcore.kafka_consumer import seek
from streamcore.sources.kafka_ends import Ask, Ends, EndWatch

if TYPE_CHECKING:
    from quixstreams.kafka import Consumer

CONSUME_RECORDS = 500
"""Messages consumed at a time. Each is a handful of Python objects: of more than about a thousand, the first have left
the second-level cache before they are looked at, and consuming and taking one costs twice as much."""

CONSUME_FAILURES_MAX = 5

PAUSED_WAIT_S = 0.02

Place = tuple[str, int]
"""A topic and a partition of it."""

Bounds = Mapping[Place, tuple[int, int | None]]
"""Of each partition the next offset, and where to stop, or None."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is taken of records, beside value, offset and time."""

    keys: bool
    headers: bool
    record_bytes_max: int | None
    """A larger value is not copied: it is refused when it is decoded."""
    inputs: Mapping[str, int] | None = None
    """Which input of the pipeline a topic is, where it has several."""


class Listening(Protocol):
    """The source that a reader reads for."""

    def refuse(self, error: Any, place: Place | None) -> None:
        """Raises for a `KafkaError` that came in place of a record, if it does not pass by itself."""

    def stopped(self, place: Place, kind: str, why: str) -> None:
        """Raises for a partition that is not read on, of one of the kinds of `_core.Fetcher.take`."""

    def go_back(self) -> None:
        """Sends each partition back to where it was: what was read since is lost."""

    @property
    def is_disturbed(self) -> bool:
        """Whether the group called back since the poll began: what comes behind that is thrown away."""


Taken = tuple[_core.Raw, dict[Place, int], int]
"""Records, the offsets behind them, and how many messages were fetched again and left out."""


class ConsumerReader:
    """Records by `consume` of the consumer itself."""

    def __init__(self, consumer: Consumer, wanted: Wanted, source: Listening, *, name: str) -> None:
        """`name` is what is read, for people."""
        self.consumer = consumer
        """The member of the group: its offsets, its metadata."""
        self._wanted = wanted
        self._source = source
        self._name = name
        self._failures = 0

    def assign(self, parts: Sequence[Any], *, incremental: bool, paused: bool = False) -> None:
        """Takes over partitions at their offsets, inside the group's callback."""
        (self.consumer.incremental_assign if incremental else self.consumer.assign)(list(parts))
        if paused and parts:
            self.consumer.pause(list(parts))

    def revoke(self, parts: Sequence[Any]) -> None:
        """These partitions are not ours any more, as the client knows."""

    def pause(self, parts: Sequence[Any]) -> None:
        """Brings no record of these partitions."""
        self.consumer.pause(list(parts))

    def resume(self, parts: Sequence[Any]) -> None:
        """Brings those of these partitions again."""
        self.consumer.resume(list(parts))

    def seek(self, part: Any) -> str | None:
        """Reads on at its offset; why that is refused, or None."""
        return seek(self.consumer, part)

    def positions(self, parts: Sequence[Any]) -> dict[Place, int]:
        """Behind what was brought: control records and holes move it, and bring nothing."""
        return {(part.topic, part.partition): part.offset for part in self.consumer.position(list(parts))}

    def take(self, bounds: Bounds, records_max: int, timeout_s: float, *, is_silent: bool) -> Taken:
        """Consumes until there is nothing more at hand; only the first time is waited for.

        `is_silent`: every partition is paused, so nothing is to be waited for.
        """
        wanted = self._wanted
        intake = _core.Intake(
            dict(bounds),
            keys=wanted.keys,
            headers=wanted.headers,
            record_bytes_max=wanted.record_bytes_max,
            inputs=None if wanted.inputs is None else dict(wanted.inputs),
        )
        while records_max > 0:
            count = min(records_max, CONSUME_RECORDS)
            # No name for the messages: the next ones get their memory while it is still in the cache.
            consumed = self._hand_over(intake, self._consume(count, timeout_s, is_silent=is_silent))
            if consumed < count or self._source.is_disturbed:
                break
            records_max -= consumed
            timeout_s = 0.0
        return intake.finish()

    def ends(self, topic: str, ask: Ask) -> Ends:
        """Who knows where partitions of a topic end: the broker, which `ask` asks."""
        del topic
        return EndWatch(ask)

    def discard(self, timeout_s: float) -> bool:
        """Consumes for the group's callbacks alone; whether there were records, which are lost."""
        return bool(self._consume(CONSUME_RECORDS, timeout_s, is_silent=False))

    def _hand_over(self, intake: _core.Intake, messages: list[Any]) -> int:
        for message in intake.take(messages):
            place = message.topic(), message.partition()
            self._source.refuse(message.error(), place if None not in place else None)
        return len(messages)

    def _consume(self, records: int, timeout_s: float, *, is_silent: bool) -> list[Any]:
        """One `consume`, which must not wait long: until it returns, no signal is served.

        With every partition paused it would wait for nothing, so the waiting is done outside.
        """
        if is_silent:
            time.sleep(min(timeout_s, PAUSED_WAIT_S))
            timeout_s = 0.0
        try:
            messages: list[Any] = self.consumer.consume(records, timeout_s)
        except Error:
            raise  # there is no token any more
        except Exception as error:
            self._failures += 1
            if self._failures > CONSUME_FAILURES_MAX:
                raise SourceError(f"reading {self._name} failed {self._failures} times: {error}") from error
            log.warning("reading %s failed (%s)", self._name, error)
            self._failed_once()
            return []
        if messages:
            self._failures = 0
        return messages

    def _failed_once(self) -> None:
        """What a call that failed has read is lost."""
        self._source.go_back()

    def close(self) -> None:
        """Leaves the group at once."""
        self.consumer.close()  # type: ignore[no-untyped-call]
