"""Owns the commit: the one cut through engine, outputs, checkpoint and source.

Before it: the runner, between two pushes, when nothing is in flight but rows that are still to leave, which belong to the
next epoch. After it: that.
Invariant: a checkpoint never names a position whose rows are not durable. A crash at any point repeats rows of the
last epoch at most, with versions that are not lower than before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from streamcore import _core
from streamcore.checkpoint import Checkpoint, Header
from streamcore.faults import fault_point
from streamcore.gaps import added_by, skipped
from streamcore.outputs import Outputs
from streamcore.report import Ledgers, Stages, add_ledgers
from streamcore.sources.base import Gapped, Position, Source


class Commits(Protocol):
    """Whoever ends epochs: `Committer`, or `epochs.Epochs` in a transaction."""

    @property
    def is_kept(self) -> bool:
        """Whether what is committed outlives the run."""

    @property
    def writes_whole(self) -> bool:
        """Whether a commit writes the whole state, so that it is dear where that is large."""

    @property
    def stands(self) -> bool:
        """Whether nothing may change the engine: the outcome of an epoch is unknown, or some of the lanes are not back yet that the others need."""

    @property
    def header(self) -> Header:
        """Of the last committed epoch."""

    def ledger(self) -> Ledgers:
        """Counts of each lane in this run."""

    def stages(self) -> Stages:
        """Counts of each stage behind a window in this run."""

    def skipped(self) -> dict[int, int]:
        """Offsets that accepted gaps have passed over in this run, by lane."""

    def start(self) -> None:
        """The run begins."""

    def tick(self) -> None:
        """Called between two polls."""

    def commit(self, *, ended: bool) -> bool:
        """Makes the epoch durable; false where it was taken back, and what was read comes again."""

    def rollback(self) -> None:
        """Puts engine, outputs and source back to the end of the last committed epoch."""

    def stop(self) -> bool:
        """The run ends. True where the last epoch was committed by this, or left to the next run."""


class Committer:
    """Commits epochs, and goes back to the last committed one."""

    def __init__(
        self,
        *,
        engine: _core.Pipeline,
        source: Source,
        outputs: Outputs,
        checkpoint: Checkpoint | None,
        origin: Header,
    ) -> None:
        """`origin` is the header the run starts from; `checkpoint` is None for an ephemeral run."""
        self._engine = engine
        self._source = source
        self._outputs = outputs
        self._checkpoint = checkpoint
        self._header = origin
        self._ledger_restored = engine.ledger()
        self._stages_restored = engine.stages()
        self._ledger_before = origin.ledger
        gaps = source.gaps() if isinstance(source, Gapped) else {}
        self._gaps = {lane: skipped([gap]) for lane, gap in gaps.items()}
        self._skipped = added_by(origin.skipped, self._gaps)
        self._positions = source.positions()

    @property
    def is_kept(self) -> bool:
        """Whether what is committed outlives the run."""
        return self._checkpoint is not None

    @property
    def stands(self) -> bool:
        """False: a commit that fails is taken back."""
        return False

    @property
    def writes_whole(self) -> bool:
        """True: a checkpoint is one file."""
        return True

    @property
    def header(self) -> Header:
        """Of the last committed epoch."""
        return self._header

    @property
    def positions(self) -> dict[int, Position]:
        """Where the last committed epoch ends."""
        return self._positions

    def ledger(self) -> Ledgers:
        """Counts of each lane in this run."""
        return add_ledgers(self._engine.ledger(), self._ledger_restored, -1)

    def stages(self) -> Stages:
        """Counts of each stage behind a window in this run."""
        return add_ledgers(self._engine.stages(), self._stages_restored, -1)

    def skipped(self) -> dict[int, int]:
        """Offsets that accepted gaps have passed over in this run, by lane."""
        return {lane: int(gap["offsets"]) for lane, gap in self._gaps.items()}

    def start(self) -> None:
        """Lanes and state are there; where dead letters are to be there once, the first epoch goes by a checkpoint as well."""
        letters = self._outputs.letter_bytes()
        if self._checkpoint is not None and letters and self._header.epoch == 0:
            source = self._source.describe()
            self._header = replace(
                self._header, positions=self._positions, letters=letters, source=source, skipped=self._skipped
            )
            self._checkpoint.write(self._header, self._engine.save())

    def tick(self) -> None:
        """Nothing."""

    def stop(self) -> bool:
        """False: the runner commits what was read."""
        return False

    def commit(self, *, ended: bool) -> bool:
        """Makes the epoch durable, and gives true.

        1. Seal the epoch in the engine: its last rows, its digest.
        2. Write those rows.
        3. Flush sinks and dead letters: every row of the epoch is durable.
        4. Write the checkpoint: state, positions, files to publish. From here on the epoch counts.
        5. Let the engine forget how to go back.
        6. Let sinks publish what waited for the checkpoint.
        7. Tell the source (Kafka: the group's offsets, which serve monitoring; the checkpoint wins over them).

        Raises `SinkError` from steps 2 and 3: `rollback` then restores the last epoch. Anything raised later is not
        retried: the epoch is durable, and a restart finishes steps 6 and 7.
        """
        positions = self._source.positions()
        # 1
        sealed = self._engine.seal()
        # 2
        self._outputs.write(sealed.outputs, epoch=sealed.epoch)
        # 3
        self._outputs.flush()
        # 4
        self._header = self._next_header(sealed, positions, ended=ended)
        fault_point("before-checkpoint")
        if self._checkpoint is not None:
            self._checkpoint.write(self._header, self._engine.save())
        fault_point("after-checkpoint")
        # 5
        self._engine.committed()
        self._positions = positions
        # 6
        self._outputs.committed(sealed.epoch)
        fault_point("after-committed")
        # 7
        self._source.committed(positions)
        return True

    def rollback(self) -> None:
        """Puts engine, outputs and source back to the end of the last committed epoch."""
        self._engine.rollback()
        self._outputs.discard()
        self._source.seek(self._positions)

    def _next_header(self, sealed: _core.Sealed, positions: dict[int, Position], *, ended: bool) -> Header:
        return Header(
            pipeline=self._header.pipeline,
            fingerprint=self._engine.fingerprint,
            generation=self._header.generation,
            epoch=sealed.epoch,
            digest=sealed.digest,
            positions=positions,
            source=self._source.describe(),
            files=self._outputs.pending(),
            letters=self._outputs.letter_bytes(),
            ended=ended,
            ledger=add_ledgers(self._ledger_before, self.ledger()),
            skipped=self._skipped,
        )
