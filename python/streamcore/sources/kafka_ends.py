"""Owns the knowledge of which lanes of a topic have nothing left to read, as their broker says.

Before it: positions after a poll. After it: idle lanes, and the notice that no broker answers any more.
Invariant: a lane counts as read to its end only on the broker's word, not older than `FRESH_S`: during an outage
nobody knows, and no window may close by idleness.

librdkafka's end-of-partition events are not used: with batch `consume` they move the consumer's position one past
the end, and a later resume starts there, behind a record that was never read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from streamcore.kafka_questions import is_told
from streamcore.sources.base import End

ASK_INTERVAL_S = 1.0
ANSWER_TIMEOUT_S = 3.0
"""A question is given up after this: while no broker is there, the client may keep it open for ever."""

FRESH_S = 5.0

Ask = Callable[[list[int]], Mapping[int, "Future[Any]"]]


class EndWatch:
    """Asks for the last stable offsets of lanes that are read, about once a second, and never waits for the answer."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._asked_s = float("-inf")
        self._waiting: dict[int, Future[Any]] = {}
        self._ends: dict[int, tuple[int, float]] = {}
        """Per lane the last stable offset, and when it was asked for."""
        self._silent_since_s: float | None = None
        """When the first question was asked that, like all since, got no answer."""

    def caught_up(self, positions: Mapping[int, int], now_s: float) -> tuple[int, ...]:
        """Those of the lanes in `positions` that had read everything readable when last heard of."""
        self._collect(now_s)
        if not positions:
            self._silent_since_s = None
        if not self._waiting and positions and now_s - self._asked_s >= ASK_INTERVAL_S:
            self._asked_s = now_s
            self._waiting = dict(self._ask(sorted(positions)))
        return tuple(sorted(lane for lane, position in positions.items() if self._at_end(lane, position, now_s)))

    def ends(self, now_s: float) -> dict[int, End]:
        """The ends that were told, and how old each is."""
        return {lane: End(offset, now_s - asked_s) for lane, (offset, asked_s) in self._ends.items()}

    def _at_end(self, lane: int, position: int, now_s: float) -> bool:
        end, asked_s = self._ends.get(lane, (-1, float("-inf")))
        return now_s - asked_s <= FRESH_S and position >= end

    def _collect(self, now_s: float) -> None:
        over = now_s - self._asked_s >= ANSWER_TIMEOUT_S
        for lane in [lane for lane, future in self._waiting.items() if over or future.done()]:
            future = self._waiting.pop(lane)
            if future.done() and future.exception() is None and is_told(future.result().offset):
                self._ends[lane] = (future.result().offset, self._asked_s)
                self._silent_since_s = None
            elif self._silent_since_s is None:
                self._silent_since_s = self._asked_s

    def forget(self, lanes: Iterable[int]) -> None:
        """What was told of these lanes is of before; they are asked for anew, and soon."""
        for lane in lanes:
            self._ends.pop(lane, None)
            self._waiting.pop(lane, None)
        if not self._waiting:
            self._asked_s = float("-inf")

    def outage_s(self, now_s: float) -> float:
        """How long no broker has answered; 0 while one does, or nothing is asked because records come or no lane is read."""
        return 0.0 if self._silent_since_s is None else now_s - self._silent_since_s

    def heard(self) -> None:
        """Records came: a broker is there."""
        self._silent_since_s = None
