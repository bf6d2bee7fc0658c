"""Joins of two inputs of 100,000 keys: how many records of both a core takes in a second.

`rust/benches/joins.rs` measures it, and first compares number and sum of all rows with an independent count.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from bench.python import criterion
from bench.python.measure import Figure, machine

BENCH = "joins"


def run(folder: Path, rounds: int) -> list[Figure]:
    """A figure for each kind of join."""
    (path,) = criterion.run(BENCH, folder, rounds, arguments=())
    return [_figure(part["join"], round(1e9 / statistics.median(part["ns"]))) for part in json.loads(path.read_text())]


def _figure(join: str, records: float) -> Figure:
    return Figure(BENCH, join, records, "records/s", None, None, None, None, machine())
