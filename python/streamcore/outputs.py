"""Owns the way from the engine's batches to the sinks: routing, numbering, counting.

Before it: the runner, with batches of an epoch. After it: each sink of the batch's output, and the dead letters.
Invariant: within an epoch every batch has its own version, and versions rise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Protocol, runtime_checkable

from streamcore import _core
from streamcore.errors import SinkError
from streamcore.sinks.base import Publisher, Sink, Version
from streamcore.sinks.parquet import finish_folder


class UndeliveredError(SinkError):
    """Rows of this epoch were asked for in Python, and whoever asked is gone."""

    def __init__(self) -> None:
        super().__init__("rows of the last epoch were not taken; they come again at the next start", retriable=False)


class DeadLetters(Protocol):
    """Where refused records go."""

    @property
    def place(self) -> str:
        """Where a person finds them: a topic or a file."""

    def open(self) -> None:
        """Connects. Raises `SinkError`, or `ConfigError` when it never can."""

    def write(self, batch: _core.Batch) -> None:
        """Takes a batch of the output `rejected`."""

    def flush(self) -> None:
        """Makes everything written durable."""

    def keep_some(self) -> None:
        """The run breaks off because of them: makes enough of what was written durable to tell why."""

    def discard(self) -> None:
        """The epoch was rolled back: drop what is buffered."""

    def close(self) -> None:
        """Lets go of connections. Safe to call twice, and after a failed `open`."""


@runtime_checkable
class ExactDeadLetters(DeadLetters, Protocol):
    """Dead letters whose file can be cut back to a commit."""

    def durable_bytes(self) -> int:
        """How long the file is, with everything flushed."""

    def cut_back(self, length: int) -> None:
        """After a restart: takes away what came behind this length. Raises `StateError`."""


class Outputs:
    """All sinks of a run and its dead letters, as one."""

    def __init__(self, sinks: Sequence[Sink], dead_letters: DeadLetters | None, *, generation: int) -> None:
        self._sinks = sinks
        self._dead_letters = dead_letters
        self._generation = generation
        self._sequence = 0
        self._rows: dict[str, int] = {}
        self._rows_pending: dict[str, int] = {}

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each output in committed epochs and the one being filled."""
        names = sorted({*self._rows, *self._rows_pending})
        return {name: self._rows.get(name, 0) + self._rows_pending.get(name, 0) for name in names}

    @property
    def held_rows(self) -> int:
        """Rows that wait for the commit: none, sinks take them at once."""
        return 0

    @property
    def skipped_by_outboxes(self) -> dict[str, int]:
        """None: sinks are written at once."""
        return {}

    @property
    def dead_letters_place(self) -> str | None:
        """Where refused records are kept; None: nowhere."""
        return None if self._dead_letters is None else self._dead_letters.place

    def open(self, listed: Mapping[str, Sequence[str]], letters: Mapping[str, int] | None = None) -> None:
        """Connects every sink; `listed` are the files the checkpoint publishes, by folder.

        A folder whose sink was taken away since is finished as well, or its last rows would stay hidden. `letters` is what
        the checkpoint says of `letter_bytes`: what a crash left behind that comes again.
        """
        if self._dead_letters is not None:
            self._dead_letters.open()
            place = self._dead_letters.place
            if letters and place in letters and isinstance(self._dead_letters, ExactDeadLetters):
                self._dead_letters.cut_back(letters[place])
        for sink in self._sinks:
            sink.open()
            if isinstance(sink, Publisher):
                sink.recover(listed.get(sink.folder, ()))
        folders = {sink.folder for sink in self._sinks if isinstance(sink, Publisher)}
        for folder, names in listed.items():
            if folder not in folders:
                finish_folder(folder, names)

    def write(self, batches: Iterable[_core.Batch], *, epoch: int) -> None:
        """Hands each batch to the sinks of its output. Raises `SinkError`."""
        for batch in batches:
            if batch.num_rows == 0:
                continue
            version = Version(self._generation, epoch, self._sequence)
            self._sequence += 1
            name = batch.output
            self._rows_pending[name] = self._rows_pending.get(name, 0) + batch.num_rows
            if name == "rejected" and self._dead_letters is not None:
                self._dead_letters.write(batch)
            for sink in self._sinks:
                if sink.output in (name, "all"):
                    sink.write(batch, version)

    def flush(self) -> None:
        """Makes everything written in this epoch durable. Raises `SinkError`."""
        for sink in self._sinks:
            sink.flush()
        if self._dead_letters is not None:
            self._dead_letters.flush()

    def keep_dead_letters(self) -> None:
        """Makes dead letters durable that explain why the run breaks off; rows are left to the next start.

        Raises `SinkError`. The next start reads those records again, so their letters may come twice.
        """
        if self._dead_letters is not None:
            self._dead_letters.keep_some()

    def pending(self) -> dict[str, list[str]]:
        """Files that `committed` will publish, by folder."""
        files: dict[str, list[str]] = {}
        for sink in self._sinks:
            if isinstance(sink, Publisher):
                files.setdefault(sink.folder, []).extend(sink.pending())
        return files

    def letter_bytes(self) -> dict[str, int]:
        """By file: bytes of dead letters that are durable, to be listed in the checkpoint."""
        letters = self._dead_letters
        return {letters.place: letters.durable_bytes()} if isinstance(letters, ExactDeadLetters) else {}

    def committed(self, epoch: int) -> None:
        """The epoch is durable: whatever waited for that is published."""
        for sink in self._sinks:
            sink.committed(epoch)
        self._rows = self.rows
        self._next_epoch()

    def discard(self) -> None:
        """The epoch was rolled back."""
        for sink in self._sinks:
            sink.discard()
        if self._dead_letters is not None:
            self._dead_letters.discard()
        self._next_epoch()

    def close(self) -> None:
        """Closes every sink, also when one of them fails to."""
        with ExitStack() as stack:
            for sink in self._sinks:
                stack.callback(sink.close)
            if self._dead_letters is not None:
                stack.callback(self._dead_letters.close)

    def _next_epoch(self) -> None:
        self._rows_pending = {}
        self._sequence = 0
