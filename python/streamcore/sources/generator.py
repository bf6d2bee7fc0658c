"""Owns the made-up input: seeded events, paced by the clock that it is given.

Before it: `_core.Generator`, which knows event i from the seed and i alone. After it: the runner.
Invariant: `rate` changes when events arrive, never which events they are.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from streamcore import _core
from streamcore.clock import Clock
from streamcore.config import GenerateSourceConfig
from streamcore.sources.base import Polled, Position, Start

POLL_EVENTS_MAX = 50_000
"""Most events of one poll."""

POLL_INTERVAL_S = 0.02
"""Events of a paced generator come in portions this far apart."""

DENSITY_DEFAULT = 20_000.0
"""Events per second of event time, at `speed` 1, where no `rate` says it."""


class GeneratorSource:
    """Makes events, `rate` of them a second."""

    def __init__(self, config: GenerateSourceConfig, clock: Clock) -> None:
        self.bounded = config.count is not None
        self._config = config
        self._clock = clock
        self._sleeper = threading.Event()
        self._generator = self._at(0)
        self._pace_started_s = 0.0
        self._pace_from = 0

    def open(self, start: Start) -> list[int]:
        """Places the generator; all lanes share one position."""
        self.seek(start.positions)
        return list(range(self._config.lanes))

    def poll(self, timeout_s: float) -> Polled:
        """The events that are due."""
        due = self._due()
        if due == 0 and not self._exhausted():
            self._clock.wait(self._sleeper, min(timeout_s, POLL_INTERVAL_S))
            due = self._due()
        raw = self._generator.read(due) if due else None
        lanes = tuple(range(self._config.lanes))
        return Polled(raw, caught_up=lanes if self._due() == 0 else (), ended=self._exhausted())

    def positions(self) -> dict[int, Position]:
        """Events made so far, the same number for every lane."""
        return dict.fromkeys(range(self._config.lanes), self._generator.position)

    def seek(self, positions: Mapping[int, Position]) -> None:
        """Goes back to event number `positions`; pacing starts anew from there."""
        self._generator = self._at(next(iter(positions.values()), 0))
        self._pace_started_s = self._clock.monotonic_s()
        self._pace_from = self._generator.position

    def pause(self, lanes: list[int]) -> None:
        """Nothing: events of all lanes are made in order of time, so no lane runs ahead."""

    def committed(self, positions: Mapping[int, Position]) -> None:
        """Nobody else needs to know."""

    def describe(self) -> dict[str, object]:
        """Everything the events depend on."""
        settings = self._config
        return {
            "type": "generate",
            "generator": settings.generator,
            "seed": settings.seed,
            "lanes": settings.lanes,
            "events_per_second": str(self._events_per_second()),
            "out_of_order_ms": settings.out_of_order,
            "duplicate_rate": str(settings.duplicate_rate),
        }

    def close(self) -> None:
        """Nothing to let go of."""

    def _at(self, position: int) -> _core.Generator:
        return _core.Generator(
            self._config.generator,
            seed=self._config.seed,
            lanes=self._config.lanes,
            events_per_second=self._events_per_second(),
            out_of_order_ms=self._config.out_of_order,
            duplicate_rate=self._config.duplicate_rate,
            position=position,
        )

    def _events_per_second(self) -> float:
        return (self._config.rate or DENSITY_DEFAULT) / self._config.speed

    def _due(self) -> int:
        position = self._generator.position
        due = POLL_EVENTS_MAX
        if self._config.rate:
            elapsed_s = self._clock.monotonic_s() - self._pace_started_s
            due = int(elapsed_s * self._config.rate) - (position - self._pace_from)
        if self._config.count is not None:
            due = min(due, self._config.count - position)
        return max(0, min(due, POLL_EVENTS_MAX))

    def _exhausted(self) -> bool:
        return self._config.count is not None and self._generator.position >= self._config.count
