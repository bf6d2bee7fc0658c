"""What processes take while they run: memory, open files, threads; and whether any of it grows.

Invariant: only a process that lived long enough says something, and only what came after it had warmed up: what it does for the
first time takes memory that stays, for the threads, connections and buffers of the next time.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from statistics import median

EVERY_S = 2.0
POINTS_MAX = 200
"""Of a process, thinned out: slopes are taken between all pairs."""

BOUNDS = {"rss_mb": 32.0, "fds": 10.0, "threads": 10.0}
"""How much more of each a process may have at its end than at its beginning, by the slope."""


@dataclass
class Life:
    """Of one process: seconds, and what it had then."""

    name: str
    at_s: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in BOUNDS})

    def course(self, name: str, parts: int) -> list[float]:
        """What it had at the beginning of each of so many parts of its life, and at the end."""
        values = self.values[name]
        return [values[at * (len(values) - 1) // parts] for at in range(parts + 1)]

    @property
    def length_s(self) -> float:
        return self.at_s[-1] - self.at_s[0] if self.at_s else 0.0

    def growth(self, name: str, since_s: float) -> float:
        """The median of the slopes between all pairs of points since then (monotonic), times the time between the first and the last."""
        warm = [point for point in zip(self.at_s, self.values[name], strict=True) if point[0] >= since_s]
        points = warm[:: max(1, len(warm) // POINTS_MAX)]
        slopes = [(late[1] - early[1]) / (late[0] - early[0]) for early, late in combinations(points, 2)]
        return median(slopes) * (points[-1][0] - points[0][0]) if slopes else 0.0


class Vitals:
    """Watches processes, from a thread of its own until `close`."""

    def __init__(self) -> None:
        self.lives: dict[int, Life] = {}
        self._names: dict[int, str] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def watch(self, name: str, pid: int) -> None:
        self._names[pid] = name

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            for pid, name in list(self._names.items()):
                try:
                    found = _look(pid)
                except OSError:  # it has ended
                    del self._names[pid]
                    continue
                life = self.lives.setdefault(pid, Life(name))
                life.at_s.append(time.monotonic())
                for value_name, value in found.items():
                    life.values[value_name].append(value)

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()

    def longest(self) -> Life:
        """The process that lived longest."""
        return max(self.lives.values(), key=lambda life: life.length_s)


def _look(pid: int) -> dict[str, float]:
    folder = Path(f"/proc/{pid}")
    pages = int((folder / "statm").read_text().split()[1])
    return {
        "rss_mb": pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20),
        "fds": sum(1 for _ in (folder / "fd").iterdir()),
        "threads": sum(1 for _ in (folder / "task").iterdir()),
    }
