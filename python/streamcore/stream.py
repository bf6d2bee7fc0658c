"""Owns the hand-over of batches to Python: a bounded queue between the runner's thread and whoever iterates a `Run`.

Before it: the runner, as one more sink. After it: `Run.stream` and `Run.astream`.
Invariant: with `acknowledged`, an epoch is committed only when every one of its batches was taken and the next asked
for; what was taken and not followed up is handed out again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection
from typing import Self

from streamcore import _core
from streamcore.errors import ConfigError
from streamcore.outputs import UndeliveredError
from streamcore.sinks.base import Version
from streamcore.tables import Batch

QUEUE_BATCHES_MAX = 64
"""A full queue makes the runner wait, and the runner then reads no more."""

WAIT_S = 0.1
"""How often a waiting thread wakes to notice Ctrl-C."""


class StreamSink:
    """A sink whose rows are taken by iterating."""

    output = "all"

    def __init__(self, stopping: threading.Event, *, acknowledged: bool) -> None:
        """`stopping` is the run's; without `acknowledged` a commit does not wait for the rows to be taken."""
        self._stopping = stopping
        self._acknowledged = acknowledged
        self._changed = threading.Condition()
        self._outputs: Collection[str] = ()
        self._queue: deque[tuple[int, _core.Batch]] = deque()
        self._taken: tuple[int, _core.Batch] | None = None
        self._takers = 0
        self._taker_thread: int | None = None
        """The thread that asked for rows last; while it does something else, it cannot ask for the next."""
        self._committed = 0
        self._closed = False

    def open(self) -> None:
        """Nothing to connect."""

    def write(self, batch: _core.Batch, version: Version) -> None:
        """Queues the batch if its output is asked for; waits while the queue is full."""
        with self._changed:
            if batch.output not in self._outputs:
                return
            while len(self._queue) >= QUEUE_BATCHES_MAX:
                self._wait_for_taker()
            self._queue.append((version.epoch, batch))
            self._changed.notify_all()

    def flush(self) -> None:
        """Waits until every batch was taken, where the commit depends on it."""
        with self._changed:
            while self._acknowledged and (self._queue or self._taken is not None):
                self._wait_for_taker()

    def committed(self, epoch: int) -> None:
        """Rows of this epoch will not be written again."""
        self._committed = epoch

    def discard(self) -> None:
        """Drops what the rolled back epoch has queued; it will be written again."""
        with self._changed:
            self._queue = deque(entry for entry in self._queue if entry[0] <= self._committed)
            self._taken = None
            self._changed.notify_all()

    def close(self) -> None:
        """Ends the iteration once the queue is empty."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def subscribe(self, outputs: Collection[str]) -> None:
        """A taker arrives, and wants rows of these outputs from now on. Raises `ConfigError` beside another taker."""
        with self._changed:
            if self._takers:
                # Two would take each other's rows, and each would acknowledge what the other has in hand.
                raise ConfigError(
                    "the rows of this run are being taken already; close that iterator first, or ask one stream for "
                    'all outputs, as run.stream(("result", "late"))'
                )
            self._outputs = frozenset(outputs)
            self._takers = 1
            self._taker_thread = threading.get_ident()
            if self._taken is not None:
                # It was taken by somebody who left before asking for the next: it did not arrive.
                self._queue.appendleft(self._taken)
                self._taken = None

    def unsubscribe(self) -> None:
        """A taker leaves."""
        with self._changed:
            self._takers = 0
            self._changed.notify_all()

    def abandon(self) -> None:
        """Nobody will take anything any more, whatever iterators are still about."""
        with self._changed:
            self._takers = 0
            self._changed.notify_all()

    def waits_for(self, thread: int) -> bool:
        """Whether a commit has to wait until `thread` asks for more rows."""
        with self._changed:
            undelivered = bool(self._queue) or self._taken is not None
            return self._acknowledged and undelivered and self._taker_thread == thread

    def take(self, left: threading.Event, thread: int) -> _core.Batch | None:
        """The next batch, or None at the end of the run; taking it says that the one before has arrived.

        A taker that sets `left` gets None, too. `thread` is where the rows are used.
        """
        with self._changed:
            self._taker_thread = thread
            if left.is_set():
                return None
            self._taken = None
            self._changed.notify_all()
            while not self._queue:
                if self._closed or left.is_set():
                    return None
                self._changed.wait(WAIT_S)
            taken = self._queue.popleft()
            self._taken = taken if self._acknowledged else None
            self._changed.notify_all()
            return taken[1]

    def _wait_for_taker(self) -> None:
        if self._takers == 0 and self._stopping.is_set():
            raise UndeliveredError
        self._changed.wait(WAIT_S)


class BatchStream:
    """An iterator over batches, made by `Run.stream`. Closing it, or dropping it, leaves the rest for the next one."""

    def __init__(self, sink: StreamSink, outputs: Collection[str], *, at_end: Callable[[], None]) -> None:
        """`at_end` raises what made the run fail, if it failed."""
        self._sink = sink
        self._at_end = at_end
        self._left = threading.Event()
        self._left.set()  # until it has arrived: one that is refused must not sign the other off
        sink.subscribe(outputs)
        self._left.clear()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        batch = self.next_or_none()
        if batch is None:
            raise StopIteration
        return batch

    def next_or_none(self, thread: int | None = None) -> Batch | None:
        """The next batch, or None at the end; `thread` uses it (unset: this one). Raises what made the run fail."""
        batch = self._sink.take(self._left, threading.get_ident() if thread is None else thread)
        if batch is not None:
            return Batch(batch)
        self.close()
        self._at_end()
        return None

    def close(self) -> None:
        """Leaves. Safe to call twice."""
        if not self._left.is_set():
            self._left.set()
            self._sink.unsubscribe()

    def __del__(self) -> None:
        self.close()
