"""Owns reading the topic of partials: as any topic that is shared, but it has an end only when the other phase has one.

Before it: the partial phases of all workers, which write the topic. After it: the final phase of this worker.
Invariant: it ends only behind all that this worker's own partial phase has committed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from streamcore.errors import SourceError
from streamcore.sources.base import Polled
from streamcore.sources.kafka_member import MemberSource


class PartialsSource(MemberSource):
    """The topic of partials."""

    def __init__(self, *arguments: Any, until_ended: bool, have_ended: Callable[[], bool], **options: Any) -> None:
        """The others as `MemberSource` has them. `until_ended`: the input has an end, and it is waited for.

        `have_ended` says whether all lanes of the input have told all partitions of this worker that they ended, and rows have left.
        """
        super().__init__(*arguments, **options)
        self._until_ended = until_ended
        self._have_ended = have_ended
        self._finishing = threading.Event()
        self._known_ends: dict[int, int] = {}
        """Where partitions ended when the partial phase was over."""

    def finish(self) -> None:
        """The partial phase of this worker is over and committed. From any thread."""
        self._finishing.set()

    def poll(self, timeout_s: float) -> Polled:
        """The next partials of the partitions that are fed; `ended` where nothing more is to be waited for."""
        polled = super().poll(timeout_s)
        polled.ended = self._finishing.is_set() and polled.raw is None and self._is_over()
        return polled

    def _is_over(self) -> bool:
        if not self._fed or self._fed != self._owned:
            return False
        if not self._known_ends:
            try:
                # A commit is answered before its markers are in the partitions: what is readable may end before it.
                self._known_ends = self._cluster.offsets(
                    self._topic.name, self._topic.partitions, "latest", committed=False
                )
            except SourceError as error:
                if not error.unreachable:
                    raise
                return False
        if any(self._next[self._topic.name, lane] < self._known_ends[lane] for lane in self._fed):
            return False
        return not self._until_ended or self._have_ended()
