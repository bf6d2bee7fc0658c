"""Owns reading a topic that grew as it was before: its old partitions alone, each up to an offset.

Before it: the consumer group, which gives out all partitions there are. After it: `epochs.py`, which is told of the old ones.
Invariant: nothing of a new partition is read, and nothing behind an end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from streamcore.kafka_client import partition_list
from streamcore.sources.base import Start
from streamcore.sources.kafka_member import MemberSource


class OldLayoutSource(MemberSource):
    """The partitions that a topic had; see `MemberSource`."""

    def __init__(self, *arguments: Any, ends: Mapping[int, int], **options: Any) -> None:
        """`ends` has an offset for each partition that there was. The others are as `MemberSource` has them."""
        super().__init__(*arguments, **options)
        self._old_ends = dict(ends)

    def open(self, start: Start) -> list[int]:
        """Finds the topic, and takes it as it was."""
        super().open(start)
        self._topic = replace(self._topic, partitions=tuple(sorted(self._old_ends)))
        # It ends there, and that is no end of the input: windows stay open.
        self._stop, self._stops, self.bounded = "end of the old partitions", self._old_ends, False
        return []

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        new = [part for part in partitions if part.partition not in self._old_ends]
        if new:
            # They are ours, so that nobody else is given them, and stay as they are.
            consumer.incremental_assign(partition_list(self._topic.name, {part.partition: 0 for part in new}))
            consumer.pause(partition_list(self._topic.name, [part.partition for part in new]))
        super()._on_assign(consumer, [part for part in partitions if part.partition in self._old_ends])

    def _check_size(self, lanes: list[int]) -> None:
        """It has grown: that is known."""

    def _take_away(self, lanes: list[int], how: str) -> None:
        super()._take_away([lane for lane in lanes if lane in self._old_ends], how)
