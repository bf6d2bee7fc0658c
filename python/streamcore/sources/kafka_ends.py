"""Owns the knowledge of which lanes of a topic have nothing left to read, as their broker says: asked for it, or with each fetch.

Before it: positions after a poll. After it: idle lanes, and the notice that no broker answers any more.
Invariant: a lane counts as read to its end only on the broker's word, not older than `FRESH_S`: during an outage
nobody knows, and no window may close by idleness.

librdkafka's end-of-partition events are not used: with batch `consume` they move the consumer's position one past
the end, and a later resume starts there, behind a record that was never read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from streamcore.kafka_questions import is_told
from streamcore.sources.base import End

ASK_INTERVAL_S = 1.0
ANSWER_TIMEOUT_S = 3.0
"""A question is given up after this: while no broker is there, the client may keep it open for ever."""

FRESH_S = 5.0

LOOK_INTERVAL_S = 0.02
"""How often the answers to fetches are looked at."""

Ask = Callable[[list[int]], Mapping[int, "Future[Any]"]]


class Ends(Protocol):
    """Where lanes end."""

    def caught_up(self, positions: Mapping[int, int], now_s: float) -> tuple[int, ...]:
        """Those of the lanes in `positions`, which are read, that had read everything readable when last heard of."""

    def ends(self, now_s: float) -> dict[int, End]:
        """The ends that were told, and how old each is."""

    def forget(self, lanes: Iterable[int]) -> None:
        """What was told of these lanes is of before; only what is told from now on counts."""

    def outage_s(self, now_s: float) -> float:
        """How long no broker has answered; 0 while one does, or nothing is asked because records come or no lane is read."""

    def heard(self) -> None:
        """Records came: a broker is there."""

    def stalled(self, longest_s: float) -> tuple[int, str] | None:
        """A lane that is read and that no broker answers for, for longer than that, and what is known of why."""


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

    def stalled(self, longest_s: float) -> tuple[int, str] | None:
        """Nothing is known of single lanes: the client keeps that to itself."""
        del longest_s
        return None


class FetchedEnds:
    """Knows what came with the answers to fetches; see `Ends`."""

    def __init__(self, progress: Callable[[], Mapping[int, Mapping[str, Any]] | None]) -> None:
        """`progress` is that of `_core.Fetcher`, by lane; None once that is closed: what was told last stays."""
        self._progress = progress
        self._told: Mapping[int, Mapping[str, Any]] = {}
        self._looked_s = float("-inf")
        self._forgotten_s: dict[int, float] = {}
        self._read: set[int] = set()

    def _look(self, now_s: float) -> Mapping[int, Mapping[str, Any]]:
        if now_s - self._looked_s >= LOOK_INTERVAL_S and (told := self._progress()) is not None:
            self._told, self._looked_s = told, now_s
        return self._told

    def caught_up(self, positions: Mapping[int, int], now_s: float) -> tuple[int, ...]:
        """See `Ends`."""
        self._read = set(positions)
        ends = {lane: end for lane, end in self.ends(now_s).items() if end.age_s <= FRESH_S}
        return tuple(sorted(lane for lane in positions.keys() & ends.keys() if positions[lane] >= ends[lane].position))

    def ends(self, now_s: float) -> dict[int, End]:
        """See `Ends`."""
        found = {}
        for lane, told in self._look(now_s).items():
            age_s = None if told["answered_s"] is None else told["answered_s"] + now_s - self._looked_s
            is_known = age_s is not None and now_s - age_s > self._forgotten_s.get(lane, float("-inf"))
            if is_known and age_s is not None and told["last_stable_offset"] is not None:
                found[lane] = End(told["last_stable_offset"], age_s, told["high_watermark"])
        return found

    def forget(self, lanes: Iterable[int]) -> None:
        """See `Ends`."""
        self._looked_s = float("-inf")
        self._forgotten_s |= dict.fromkeys(lanes, time.monotonic())

    def outage_s(self, now_s: float) -> float:
        """See `Ends`."""
        silent = [told["silent_s"] or 0.0 for lane, told in self._look(now_s).items() if lane in self._read]
        return min(silent, default=0.0)

    def heard(self) -> None:
        """Nothing: each answer tells."""

    def stalled(self, longest_s: float) -> tuple[int, str] | None:
        """See `Ends`."""
        silent = {lane: told["silent_s"] or 0.0 for lane, told in self._told.items() if lane in self._read}
        if len(silent) > 1 and min(silent.values()) > FRESH_S:
            return None  # nobody answers: an outage, which is borne for as long as that is
        for lane in sorted(lane for lane, silent_s in silent.items() if silent_s > longest_s):
            return lane, self._told[lane]["last_failure"] or "no answer came"
        return None
