"""Owns sinks that are fed from a committed topic, each by a thread of its own beside the worker.

Before it: transactions that were committed to the topic. After it: Redis, or an HTTP server.
Invariant: what such a sink does, or does not do, never holds the worker up: it is never called from the worker's thread, and what
waits for it lies in the topic. A row leaves only once its transaction is committed, and every row does, in the order of its
partition, again from where the sink says that it is. Rows that the topic lost before are told and counted, or end the run.
"""

from __future__ import annotations

import logging
import random
import sys
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from streamcore.committed_reader import Committed, CommittedReader
from streamcore.errors import Error, SinkError, StateError

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

ANSWER_S = 10.0
"""How much longer it waits for one that hangs in a question nobody answers."""


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

    def skip(self, partition: int, offset: int) -> None:
        """Goes on as if it had all rows before `offset`: the topic has them no more. Raises `SinkError`."""

    def close(self) -> None:
        """Lets go of connections. Safe to call twice."""


class Outbox:
    """One sink and its thread."""

    def __init__(self, taker: Taker, reader: CommittedReader, *, name: str = "", accept_gap: bool = False) -> None:
        """`name` is what the report calls it; with `accept_gap` it goes on without rows that the topic has lost."""
        self._taker = taker
        self._reader = reader
        self._accept_gap = accept_gap
        self.name = name or taker.place
        self.skipped: dict[str, int] = {}
        """By name: offsets that it went on without."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._main, name=f"streamcore-outbox-{taker.place}", daemon=True)
        self._opened = self._connected = False
        self._taken: dict[int, int] = {}
        """By partition: the offset after the last record that the sink took."""
        self._passed: dict[int, int] = {}
        """By partition: the offset behind the last control record that the sink's place was moved over."""
        self._failures = 0
        self._again_s: float | None = None
        """When to try again what failed; None: nothing did."""
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

    def join(self, timeout_s: float) -> None:
        """Waits for the end; a thread that does not come to it is left behind, and ends itself once it has its answer."""
        if self._thread.ident is None:
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            log.warning(
                "%s still waits for an answer and is left behind; the next start goes on from there", self.place
            )

    def _main(self) -> None:
        try:
            while not self._may_end():
                self._attempt()
            if not self._is_drained:
                log.warning("%s is not up to date; the next start goes on from there", self.place)
        except BaseException as error:  # noqa: BLE001 - told to the worker
            log.error("%s gets no more rows: %s", self.place, error)  # noqa: TRY400 - the worker raises it
            self.failure = error
        finally:
            self._taker.close()
            self._reader.close()

    def _may_end(self) -> bool:
        if not self._stopping.is_set():
            return False
        now_s = time.monotonic()
        return self._is_drained or now_s >= self._stop_by_s or now_s - self._moved_s >= STANDSTILL_S

    def _attempt(self) -> None:
        """A round; behind one that failed, the pause before the next, which may fail as well and then begins again."""
        try:
            if self._again_s is None:
                self._round()
                self._recovered()
            else:
                self._pause(self._again_s)
                self._again_s = None
        except Error as error:
            if not isinstance(error, SinkError) or not error.retriable:
                raise
            self._failures += 1
            self._warn(error)
            self._again_s = time.monotonic() + self._delay_s(error)

    def _recovered(self) -> None:
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

    def _pause(self, until_s: float) -> None:
        """Waits, and keeps the seat in the group meanwhile. Raises `SinkError`."""
        # First of all, so that what fails at once in here is not asked again at once.
        time.sleep(POLL_S)
        if not self._opened:
            while time.monotonic() < until_s and not self._may_end():
                time.sleep(POLL_S)
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
            self._passed.pop(partition, None)
            self._place(partition, self._taker.position(partition))
        self._look()
        if self._pass_on():
            self._moved_s = time.monotonic()
            return
        self._pass_markers()
        if self._stopping.is_set() and self._reader.joined and not self._reader.unplaced:
            self._is_drained = self._reader.waiting() == 0

    def _pass_on(self) -> bool:
        """Hands the next records to the sink; gives whether there were any."""
        before = self._reader.placed
        try:
            found = self._reader.poll(RECORDS_AT_ONCE, POLL_S)
            for partition, records in found.items():
                self._take(partition, records)
                before.pop(partition, None)
        except Error:
            # What nobody has taken comes again, whatever failed: the client has it behind itself.
            self._reader.back_to(before)
            raise
        return bool(found)

    def _pass_markers(self) -> None:
        """The sink's place moves behind control records at the end of what it took: retention may delete them, and they are no rows."""
        for partition, position in self._reader.passed().items():
            if position > self._taken.get(partition, self._passed.get(partition, -1)):
                self._taker.skip(partition, position)
                self._passed[partition] = position
                if partition in self._taken:
                    self._taken[partition] = position

    def _take(self, partition: int, records: Sequence[Committed]) -> None:
        elsewhere = self._taker.take(partition, records)
        if elsewhere is None:
            self._taken[partition] = records[-1].offset + 1
        elif elsewhere >= records[0].offset:
            self._reader.back_to({partition: elsewhere})
        else:
            self._go_elsewhere(partition, elsewhere)

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
        self._place(partition, None if offset < 0 else offset)

    def _place(self, partition: int, offset: int | None) -> None:
        """Has a partition read from where the sink is on. Raises `StateError` where the topic does not have what comes there."""
        first, end = self._reader.bounds(partition)
        where = f"partition {partition} of topic {self.topic}"
        if offset is None:
            if first > 0:
                log.warning(
                    "%s knows no row of %s, which begins with %d by now: it gets none before", self.place, where, first
                )
        elif offset < first:
            self._skip(partition, offset, first)
        elif offset > end:
            raise StateError(
                f"{where} ends at {end}, before the offset {offset} up to which {self.place} has its rows: the topic was cut; a sink "
                "with another name in the pipeline file gets all rows that are there"
            )
        self._reader.place(partition, first if offset is None else max(offset, first))

    def _skip(self, partition: int, offset: int, first: int) -> None:
        """Goes on without rows that the topic has lost, where that was said. Raises `StateError` where it was not."""
        lost = f"rows {offset} to {first - 1} of partition {partition} of topic {self.topic} were deleted before {self.place} had them"
        if not self._accept_gap:
            raise StateError(
                f"{lost} (retention of the topic is shorter than the time the sink was away or behind); to go on without them: "
                "streamcore run FILE --accept-gap"
            )
        # It counts once: the sink is behind the gap from now on.
        self._taker.skip(partition, first)
        self.skipped[self.name] = self.skipped.get(self.name, 0) + first - offset
        log.warning("%s; going on without them, as --accept-gap says", lost)


class Outboxes:
    """All outboxes of a worker."""

    def __init__(self, outboxes: Sequence[Outbox] = ()) -> None:
        self._outboxes: list[Outbox] = []
        self.skipped: dict[str, int] = {}
        """By name of an outbox, 0 included: offsets that it went on without. Filled by their threads."""
        for outbox in outboxes:
            self.add(outbox)

    def add(self, outbox: Outbox) -> None:
        """Takes another one, before `start`."""
        self._outboxes.append(outbox)
        self.skipped[outbox.name] = 0
        outbox.skipped = self.skipped

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
        """Waits, not for long, until all are up to date, and ends them. Raises what ended one, unless the run fails anyway."""
        for outbox in self._outboxes:
            outbox.stop()
        until_s = time.monotonic() + DRAIN_S + ANSWER_S
        for outbox in self._outboxes:
            outbox.join(max(0.0, until_s - time.monotonic()))
        if sys.exception() is None:
            self.check()
