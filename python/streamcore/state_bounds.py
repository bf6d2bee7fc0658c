"""Owns where the records of lanes begin and end in the topics of the state, as a broker tells it.

Before it: `state_topics.py`, at the beginning of a reading. After it: the cluster, which is asked for all lanes at once.
Invariant: no call waits for longer than it may. An answer that comes too late for one is there for the next, unless what it was
asked for may have moved on since: then `ask_anew` was called.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from streamcore.kafka_client import Cluster, Topic
from streamcore.kafka_questions import Question

FRESH_S = 10.0
"""So long an end counts that is not reached yet; later the topic may have been cut."""

Wanted = tuple[tuple[int, ...], tuple[int, ...], bool]
"""Lanes whose ends are asked for, those whose beginnings are, and whether committed ends."""


class Bounds:
    """First offsets and ends of lanes."""

    def __init__(self, cluster: Cluster, place: Callable[[int], tuple[str, int]]) -> None:
        """`place` gives topic and partition of a lane."""
        self._cluster = cluster
        self._place = place
        self._asked: tuple[Wanted, Question] | None = None
        """What is not answered yet."""
        self._ends: dict[int, tuple[int, float]] = {}
        """By lane that was not read to its end yet: the end, and when it was told."""
        self.begins: dict[int, int] = {}
        """By lane, the first offset that there was when its reading began."""
        self.topics: dict[str, Topic] = {}
        """By name, those of lanes whose reading began."""

    def find(self, lanes: Sequence[int], new: Sequence[int], *, committed: bool, until_s: float) -> bool:
        """Whether the ends of `lanes` are known by `until_s` (monotonic), and the beginnings of the `new` ones. Raises `SourceError`."""
        now_s = time.monotonic()
        missing = [lane for lane in lanes if now_s - self._ends.get(lane, (0, float("-inf")))[1] > FRESH_S]
        if not missing:
            return True
        wanted = (tuple(missing), tuple(new), committed)
        if self._asked is None or self._asked[0] != wanted:
            self._asked = (wanted, self._question(wanted))
        asked, self._asked = self._asked, None  # where it raises, it is asked anew
        answers = asked[1].answer(until_s)
        if answers is None:
            self._asked = asked
            return False
        told, told_s = iter(answers), time.monotonic()
        self._ends |= {lane: (next(told).offset, told_s) for lane in missing}
        self.begins |= {lane: next(told).offset for lane in new}
        self.topics |= {topic.name: topic for topic in map(Topic.of, told)}
        return True

    def _question(self, wanted: Wanted) -> Question:
        missing, new, committed = wanted
        ends, begins = ([self._place(lane) for lane in lanes] for lanes in (missing, new))
        topics = sorted({topic for topic, _ in begins})

        def ask() -> list[Future[Any]]:
            cluster = self._cluster
            return [
                *cluster.places_later(ends, "latest", committed=committed),
                *cluster.places_later(begins, "earliest"),
                *cluster.topics_later(topics),
            ]

        return self._cluster.ask(ask, f"offsets of {', '.join(sorted({topic for topic, _ in ends}))} cannot be listed")

    def end(self, lane: int) -> int:
        """Behind the last record that is to be read."""
        return self._ends[lane][0]

    def forget(self, lanes: Sequence[int]) -> None:
        """What was read to its end, or is begun anew: its end is asked for again."""
        for lane in lanes:
            self._ends.pop(lane, None)

    def ask_anew(self) -> None:
        """What was asked for until now may be of before somebody's commit."""
        self._asked, self._ends = None, {}
