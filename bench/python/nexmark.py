"""Nexmark's window queries over event time, on one core, beside what others have published for one core.

`rust/benches/nexmark.rs` measures it, and first compares all rows with an independent count. Published figures were
taken on other machines and with other sources, so they are shown and nothing is held to them.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from bench.python import criterion
from bench.python.measure import Figure, machine

BENCH = "nexmark"

FLINK: dict[str, float] = {"q5": 22_140, "q7": 12_330, "q8": 146_140, "q11": 39_700, "q12": 75_670}
"""Flink 1.13: events a second and core, from `README.md` of https://github.com/nexmark/nexmark."""

FELDERA: dict[str, float] = {"q5": 6_589_786 / 16, "q7": 3_136_763 / 16, "q8": 6_641_870 / 16, "q12": 6_682_259 / 16}
"""Feldera on 16 cores, from `benchmark/README.md` of https://github.com/feldera/feldera; it has no q11."""


def run(folder: Path, rounds: int) -> list[Figure]:
    """A figure for each query and each published one of its number."""
    (path,) = criterion.run(BENCH, folder, rounds, arguments=())
    found: list[Figure] = []
    for name, times in json.loads(path.read_text())["ns"]:
        value = round(1e9 / statistics.median(times))
        query = name.split()[0]
        for rival, rates in (("Flink 1.13, published", FLINK), ("Feldera, published", FELDERA)):
            if query in rates:
                ratio = round(value / rates[query], 1)
                found.append(Figure(BENCH, name, value, "events/s", rival, ratio, None, None, machine()))
    return found
