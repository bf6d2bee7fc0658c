"""Owns sinks that are fed from a committed topic, each by a thread of its own beside the worker.

Before it: transactions that were committed to the topic. After it: Redis, or an HTTP server.
Invariant: what such a sink does, or does not do, never holds the worker up: it is never called from the worker's thread, and what
waits for it lies in the topic. A row leaves only once its transaction is committed, and every row does, in the order of its
partition, again from where the sink says that it is.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from streamcore.committed_reader import Committed, CommittedReader
from streamcore.errors import Error, SinkError

log = logging.getLogger("streamcore.outbox")

RECORDS_AT_ONCE = 1_000
POLL_S = 0.1
LOOK_S = 5.0
"""How often a sink that gets nothing is asked where it is: one that forgot rows is brought up to date without new ones."""

BACKOFF_S, BACKOFF_MAX_S = 0.25, 8.0
WARN_S = 30.0
"""How often an outage that goes on is told again."""

DRAIN_S, STANDSTILL_S = 30.0, 10.0
"""How long the end of a run waits for its outboxes in all, and while nothing moves."""


class Taker(Protocol):
    """What an outbox writes to."""

    place: str
    """What messages call it."""

    def open(self, reader: CommittedReader) -> None:
        """Connects. Raises `SinkError`, or `ConfigError` when it never can. May be called again."""

    def position(self, partition: int) -> int | None:
        """The offset up to which the sink has taken all rows of a partition; None: it knows of none."""

    def take(self, partition: int, records: Sequence[Committed]) -> int | None:
        """Writes records of one partition in order. None: all are durable there; else where to read on from instead.

        That is among the records, where there was no time for more, or before them, where some were lost. -1 stands for the oldest record. Raises `SinkError`: nothing is known then, and the records come again.
        """

    def close(self) -> None:
        """Lets go of connections. Safe to call twice."""


class Outbox:
    """One sink and its thread."""

    def __init__(self, taker: Taker, reader: CommittedReader) -> None:
        self._taker = taker
        self._reader = reader
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._main, name=f"streamcore-outbox-{taker.place}", daemon=True)
        self._opened = self._connected = False
        self._taken: dict[int, int] = {}
        """By partition: the offset after the last record that the sink took."""
        self._failures = 0
        self._warn_due_s = 0.0
        self._look_due_s = 0.0
        self._moved_s = time.monotonic()
        """When a row was taken, or the end was found."""
        self._is_drained = False
        self.failure: BaseException | None = None
        """Why it ended by itself."""

    @property
    def place(self) -> str:
        """What messages call it."""
        return self._taker.place

    @property
    def topic(self) -> str:
        """What feeds it."""
        return self._reader.topic

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Asks it to end once it is up to date, or soon after nothing moves."""
        self._moved_s = time.monotonic()
        self._stop_by_s = self._moved_s + DRAIN_S
        self._stopping.set()

    def join(self) -> None:
        """Waits for the end."""
        if self._thread.ident is not None:
            self._thread.join()

    def _main(self) -> None:
        try:
            while not self._may_end():
                self._attempt(self._round)
        except BaseException as error:  # noqa: BLE001 - told to the worker
            self.failure = error
        finally:
            self._taker.close()
            self._reader.close()

    def _may_end(self) -> bool:
        if not self._stopping.is_set():
            return False
        now_s = time.monotonic()
        if not self._is_drained and now_s < self._stop_by_s and now_s - self._moved_s < STANDSTILL_S:
            return False
        if not self._is_drained:
            log.warning("%s is not up to date; the next start goes on from there", self.place)
        return True

    def _attempt(self, part: Callable[[], None]) -> None:
        try:
            part()
        except Error as error:
            if not isinstance(error, SinkError) or not error.retriable:
                raise
            self._failures += 1
            self._warn(error)
            self._pause(self._delay_s(error))
        else:
            if self._failures:
                log.warning("%s takes rows again", self.place)
            self._failures, self._warn_due_s = 0, 0.0

    def _delay_s(self, error: SinkError) -> float:
        """Doubling, with jitter, and not sooner than the server asked for."""
        wait_s = min(BACKOFF_S * 2.0 ** min(self._failures - 1, 10), BACKOFF_MAX_S)
        return max(error.after_s, wait_s * random.uniform(0.5, 1.0))

    def _warn(self, error: Error) -> None:
        if time.monotonic() >= self._warn_due_s:
            self._warn_due_s = time.monotonic() + WARN_S
            log.warning("%s; rows wait in the topic", error)

    def _pause(self, wait_s: float) -> None:
        """Waits, and keeps the seat in the group meanwhile."""
        until_s = time.monotonic() + wait_s
        if not self._opened:
            self._stopping.wait(wait_s)
            return
        self._reader.hold()
        while time.monotonic() < until_s and not self._may_end():
            self._reader.poll(1, POLL_S)
        self._reader.go_on()

    def _round(self) -> None:
        if not self._opened:
            self._reader.open()
            self._opened = True
        if not self._connected:
            self._taker.open(self._reader)
            self._connected = True
        for partition in self._reader.unplaced:
            self._taken.pop(partition, None)
            self._reader.place(partition, self._taker.position(partition))
        self._look()
        before = self._reader.placed
        found = self._reader.poll(RECORDS_AT_ONCE, POLL_S)
        for partition, records in found.items():
            self._take(partition, records, before)
        if found:
            self._moved_s = time.monotonic()
        elif self._stopping.is_set() and self._reader.joined and not self._reader.unplaced:
            self._is_drained = self._reader.waiting() == 0

    def _take(self, partition: int, records: Sequence[Committed], before: dict[int, int]) -> None:
        try:
            elsewhere = self._taker.take(partition, records)
        except Error:
            # What was polled with these comes again as well: nobody has taken it.
            self._reader.back_to(before)
            raise
        if elsewhere is None:
            self._taken[partition] = records[-1].offset + 1
        elif elsewhere >= records[0].offset:
            self._reader.back_to({partition: elsewhere})
        else:
            self._go_elsewhere(partition, elsewhere)
        before.pop(partition)

    def _look(self) -> None:
        """Asks the sink where it is: one that is behind what it took has lost it."""
        if time.monotonic() < self._look_due_s:
            return
        for partition, offset in list(self._taken.items()):
            at = self._taker.position(partition)
            if partition in self._reader.placed and (at is None or at < offset):
                self._go_elsewhere(partition, -1 if at is None else at)
        self._look_due_s = time.monotonic() + LOOK_S

    def _go_elsewhere(self, partition: int, offset: int) -> None:
        where = "from the beginning" if offset < 0 else f"at {offset}"
        log.warning("%s does not have the rows it had taken of partition %d; going on %s", self.place, partition, where)
        self._taken.pop(partition, None)
        self._reader.place(partition, None if offset < 0 else offset)


class Outboxes:
    """All outboxes of a worker."""

    def __init__(self, outboxes: Sequence[Outbox] = ()) -> None:
        self._outboxes = list(outboxes)

    def add(self, outbox: Outbox) -> None:
        """Takes another one, before `start`."""
        self._outboxes.append(outbox)

    def start(self) -> None:
        """Begins."""
        for outbox in self._outboxes:
            outbox.start()

    def check(self) -> None:
        """Raises what ended an outbox by itself: its rows would wait for ever."""
        for outbox in self._outboxes:
            if outbox.failure is not None:
                raise outbox.failure

    def close(self) -> None:
        """Waits, not for long, until all are up to date, and ends them."""
        for outbox in self._outboxes:
            outbox.stop()
        for outbox in self._outboxes:
            outbox.join()
