"""What every sink does for the runner.

Per epoch the runner calls `write` for each batch of the sink's output, then `flush` once, and after the
checkpoint is durable `committed`. `write` may buffer; `flush` returns only when everything written since
the last flush is durable, or raises `SinkError`. After a rollback the runner calls `discard`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from streamcore import _core


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """Orders writes of one pipeline: idempotent sinks keep the row with the higher version."""

    generation: int
    """State generation: grows when state is reset."""
    epoch: int
    sequence: int
    """Number of the batch in its epoch."""

    def __str__(self) -> str:
        """Fixed width, so that versions compare as text."""
        return f"{self.generation:010d}-{self.epoch:015d}-{self.sequence:010d}"


class Sink(Protocol):
    """Takes batches of one output of a pipeline."""

    output: str
    """`result`, `late`, `future` or `rejected`."""

    def open(self) -> None:
        """Connects and checks that writing will work. Raises `SinkError`, or `ConfigError` when it never can."""

    def write(self, batch: _core.Batch, version: Version) -> None:
        """Takes a batch of this epoch."""

    def flush(self) -> None:
        """Makes everything written durable."""

    def committed(self, epoch: int) -> None:
        """The checkpoint of `epoch` is durable: publish what had to wait for it."""

    def discard(self) -> None:
        """The epoch was rolled back: drop what is buffered."""

    def close(self) -> None:
        """Lets go of connections. Safe to call twice, and after a failed `open`."""


@runtime_checkable
class Publisher(Protocol):
    """A sink whose files appear only after the checkpoint that lists them (Parquet)."""

    folder: str
    """Names the sink in the checkpoint."""

    def pending(self) -> list[str]:
        """Files flushed in this epoch, to be listed in its checkpoint and published by `committed`."""

    def recover(self, listed: Collection[str]) -> None:
        """After a restart: publishes the files the checkpoint lists, deletes unpublished ones it does not."""


@runtime_checkable
class Gatherer(Protocol):
    """A sink whose files stay beside those of earlier runs (Parquet)."""

    folder: str
    """Where they are."""

    def earlier_files(self, *, after: tuple[int, int] | None = None) -> list[str]:
        """Files that earlier runs of the pipeline published there; of one without a name, those of any run.

        `after`: only those of later epochs than this, which is a generation and an epoch of it.
        """


@dataclass(frozen=True, slots=True)
class Home:
    """The lane whose manifest lists the files of an epoch."""

    lane: int
    epoch: int
    """That the lane gets by the commit."""
    offset: int
    """Where the lane's epoch ends."""
    seal: int
    """Tells this try of the epoch from any other."""


@runtime_checkable
class LanePublisher(Protocol):
    """A sink whose files appear only after the transaction whose manifests list them (Parquet).

    `Sink.committed` says that the transaction is; `publish` comes after it, and after a recovery.
    """

    folder: str
    """Names the sink in manifests."""

    def write_files(self, home: Home) -> None:
        """Makes the rows of the epoch durable, under names nobody reads. Raises `SinkError`."""

    def listed(self, lane: int) -> list[str]:
        """What the lane's next manifest lists."""

    def recover_lane(self, lane: int, epoch: int, listed: Collection[str]) -> list[str]:
        """Takes over what a lane's manifest lists, deletes what it does not; gives what is none of this sink's.

        Raises `FilesAheadError`, `StateError`, `SinkError`.
        """

    @property
    def waits(self) -> bool:
        """Whether files of committed epochs have no name yet."""

    def publish(self, epochs: Mapping[int, int] | None = None) -> None:
        """Gives files of committed epochs their names; `epochs` are those that lanes have reached. Raises `SinkError`."""

    def forget(self, lanes: Collection[int]) -> None:
        """These lanes are not ours any more."""
