"""One lane from memory to the rows of windows, on one core: with and without deduplication.

Criterion measures it (`rust/benches/lane.rs`), which first compares all rows with an independent count. It has no
rivals: what is held to a target is how many events a second one core takes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bench.python import criterion
from bench.python.measure import Figure, Measured, machine

BENCH = "lane"

TARGETS = {"decode + window": 8_000_000, "decode + dedupe + window": 6_000_000}
"""Events a second, by the names of the jobs in Rust."""


def run(folder: Path, rounds: int) -> list[Measured]:
    """The jobs, with their rates in events a second of processor time."""
    (path,) = criterion.run(BENCH, folder, rounds)
    version = criterion.locked_versions()["streamcore"]
    times = json.loads(path.read_text())["ns"]
    return [Measured(name, version, [1e9 / event_ns for event_ns in rounds_ns]) for name, rounds_ns in times]


def figures(jobs: Sequence[Measured]) -> list[Figure]:
    return [_figure(job, TARGETS[job.name]) for job in jobs]


def _figure(job: Measured, target: int) -> Figure:
    name, value = f"{job.name}, one lane", round(job.median)
    return Figure(BENCH, name, value, "events/s", None, None, target, value >= target, machine())
