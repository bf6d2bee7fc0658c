"""Owns bringing the records of partitions by fetching them in Rust, beside the consumer that was given them.

Before it: quixstreams' consumer, a member of the group as ever, whose partitions all stay paused. After it: the Kafka
sources, which say where to read; `kafka_reader.py` is the other way.
Invariant: nothing that the consumer itself brings is handed out; nothing of an assignment that is over is.

A paused consumer waits for nothing, and its callbacks come inside `consume` alone: it is called at least every
`POLL_INTERVAL_S`, and the waiting is done at the fetcher. A partition that is paused before it is assigned is read all the
same, so the client is told of both here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streamcore import _core
from streamcore.kafka_client import log, partition_list
from streamcore.sources.kafka_ends import Ask, Ends, FetchedEnds
from streamcore.sources.kafka_reader import Bounds, ConsumerReader, Listening, Place, Taken, Wanted

if TYPE_CHECKING:
    from quixstreams.kafka import Consumer

POLL_INTERVAL_S = 0.1
STRAYS_AT_ONCE = 100


class NativeReader(ConsumerReader):
    """Records by the fetcher."""

    def __init__(
        self, consumer: Consumer, wanted: Wanted, source: Listening, *, name: str, fetcher: _core.Fetcher
    ) -> None:
        """As `ConsumerReader`."""
        super().__init__(consumer, wanted, source, name=name)
        self._fetcher = fetcher
        self._stops: dict[Place, int | None] = {}
        """What the fetcher was told of where to stop."""
        self.strays = 0
        """Records that the consumer brought all the same."""
        self._is_moved = False
        """Partitions came or went since the last `take` began, whose stops and pauses are not told yet."""
        self._is_closed = False

    def assign(self, parts: Sequence[Any], *, incremental: bool, paused: bool = False) -> None:
        """Takes over partitions at their offsets, inside the group's callback."""
        super().assign(parts, incremental=incremental, paused=True)
        self._is_moved = True
        if not incremental:
            self._fetcher.revoke([place for place in self._fetcher.progress() if place not in places(parts)])
        self._fetcher.assign({(part.topic, part.partition): part.offset for part in parts}, paused)
        for place in places(parts):
            self._stops.pop(place, None)

    def revoke(self, parts: Sequence[Any]) -> None:
        """These partitions are not ours any more."""
        self._is_moved = True
        self._fetcher.revoke(places(parts))

    def pause(self, parts: Sequence[Any]) -> None:
        """Brings no record of these partitions."""
        self._fetcher.pause(places(parts))

    def resume(self, parts: Sequence[Any]) -> None:
        """Brings those of these partitions again."""
        self._fetcher.resume(places(parts))

    def seek(self, part: Any) -> str | None:
        """Reads on at its offset; why that is refused, or None."""
        is_ours = self._fetcher.seek((part.topic, part.partition), part.offset)
        return None if is_ours else "it is not assigned"

    def positions(self, parts: Sequence[Any]) -> dict[Place, int]:
        """Nothing: `take` tells where it is behind records that bring nothing, too."""
        del parts
        return {}

    def take(self, bounds: Bounds, records_max: int, timeout_s: float, *, is_silent: bool) -> Taken:
        """What is there; where there is nothing, what comes first."""
        del is_silent  # the fetcher waits, whoever is paused
        for place, (_, stop) in bounds.items():
            if self._stops.get(place, None) != stop and self._fetcher.stop_at(place, stop):
                self._stops[place] = stop
        self._is_moved = False
        until_s = time.monotonic() + timeout_s
        while True:
            self._serve()
            if self._source.is_disturbed or self._is_moved:
                return _core.Intake({}, keys=False, headers=False).finish()
            left_s = until_s - time.monotonic()
            raw, moved, refetched, troubles = self._fetcher.take(records_max, max(0.0, min(left_s, POLL_INTERVAL_S)))
            for trouble in troubles:
                self._source.stopped(*trouble)
            if moved or left_s <= POLL_INTERVAL_S:
                return raw, moved, refetched

    def ends(self, topic: str, ask: Ask) -> Ends:
        """Who knows where partitions of a topic end: whoever fetches them."""
        del ask

        def progress() -> dict[int, dict[str, Any]] | None:
            if self._is_closed:
                return None
            return {lane: told for (name, lane), told in self._fetcher.progress().items() if name == topic}

        return FetchedEnds(progress)

    def discard(self, timeout_s: float) -> bool:
        """See `ConsumerReader`: nothing is lost, as the consumer brings nothing."""
        self._serve()
        time.sleep(min(timeout_s, POLL_INTERVAL_S))
        return False

    def _serve(self) -> None:
        """Has the client call back. What it brings is of partitions that it did not keep paused, and of no use."""
        failures = self._failures
        messages = self._consume(STRAYS_AT_ONCE, 0.0, is_silent=False)
        if self._failures == failures:
            self._failures = 0  # it brings no records by which that would show
        for message in messages:
            place = message.topic(), message.partition()
            if message.error() is not None:
                self._source.refuse(message.error(), place if None not in place else None)
            else:
                self._stray(message)

    def _failed_once(self) -> None:
        """Nothing: what the fetcher has is right whatever the client's call came to."""

    def _stray(self, message: Any) -> None:
        self.strays += 1
        log.warning(
            "%s [%d]: the client brought a record though it is paused; it is left out",
            message.topic(),
            message.partition(),
        )
        self.consumer.pause(partition_list(message.topic(), [message.partition()]))

    def close(self) -> None:
        """Leaves the group at once, and ends the fetcher."""
        try:
            super().close()  # calls back
        finally:
            self._is_closed = True
            self._fetcher.close()


def places(parts: Sequence[Any]) -> list[Place]:
    """Their topics and numbers."""
    return [(part.topic, part.partition) for part in parts]
