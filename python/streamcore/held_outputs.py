"""Owns rows that wait for their transaction.

Before it: the engine's batches, as the runner and `epochs.py` get them. After it: `outputs.py`, when the epoch is produced.
Invariant: rows of an epoch leave only when its transaction is open, and those of one that is taken back never do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from streamcore import _core
from streamcore.errors import SinkError
from streamcore.outboxes import Outboxes
from streamcore.outputs import Outputs


class HeldOutputs:
    """Takes the place of `Outputs` for the runner."""

    def __init__(self, outputs: Outputs, outboxes: Outboxes | None = None) -> None:
        """`outboxes` take rows once they are committed."""
        self._outputs = outputs
        self._outboxes = outboxes or Outboxes()
        self._held: list[tuple[int, _core.Batch]] = []
        self.held_rows = 0
        """Rows that wait."""

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each output in committed epochs and the one being filled."""
        rows = dict(self._outputs.rows)
        for _, batch in self._held:
            rows[batch.output] = rows.get(batch.output, 0) + batch.num_rows
        return rows

    @property
    def skipped_by_outboxes(self) -> dict[str, int]:
        """See `Report`. It goes on being filled until the outboxes have ended."""
        return self._outboxes.skipped

    @property
    def dead_letters_place(self) -> str | None:
        """See `Outputs`."""
        return self._outputs.dead_letters_place

    def open(self, listed: Mapping[str, Sequence[str]]) -> None:
        """See `Outputs`."""
        self._outputs.open(listed)

    def write(self, batches: Iterable[_core.Batch], *, epoch: int) -> None:
        """Holds batches until the epoch is produced."""
        self.hold(batches, epoch=epoch)

    def hold(self, batches: Iterable[_core.Batch], *, epoch: int) -> None:
        """The same, where it is the commit that gets them."""
        for batch in batches:
            if batch.num_rows:
                self._held.append((epoch, batch))
                self.held_rows += batch.num_rows

    def check(self) -> None:
        """Raises what ended an outbox by itself."""
        self._outboxes.check()

    def send(self) -> None:
        """Produces what is held."""
        held, self._held, self.held_rows = self._held, [], 0
        for epoch, batch in held:
            self._outputs.write([batch], epoch=epoch)

    def keep_dead_letters(self) -> None:
        """Raises `SinkError`: they are part of the epoch, and a run that breaks off commits none."""
        raise SinkError("they belong to the epoch, which is not committed; the next start reads its records again")

    def committed(self, epoch: int) -> None:
        """The epoch is durable."""
        self._outputs.committed(epoch)

    def discard(self) -> None:
        """The epoch was rolled back."""
        self._held, self.held_rows = [], 0
        self._outputs.discard()

    def close(self) -> None:
        """See `Outputs`."""
        self._outputs.close()
