"""File to final windows: 1-minute counts per page over a file of JSON lines, against DuckDB and polars.

All three may use every core, read the same file from a warm page cache, and take only the two fields they need;
streamcore validates each record whole.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from bench.python.clickstream import Input
from bench.python.measure import Contestant, Figure, Measured, figure, measure

BENCH = "file_to_windows"
TARGETS = {"duckdb": 2.0, "polars": 5.0}


@dataclass(frozen=True)
class FileBench:
    clicks: Input
    rivals: str
    rounds: int

    def run(self) -> tuple[list[Measured], list[Figure]]:
        arguments = {"path": str(self.clicks.path), "events": self.clicks.events}
        contestants = [
            Contestant("streamcore", "python/streamcore_file.py", sys.executable, arguments, self.clicks.counts),
            Contestant("duckdb", "peers/duckdb_file.py", self.rivals, arguments, self.clicks.counts),
            Contestant("polars", "peers/polars_file.py", self.rivals, arguments, self.clicks.counts),
        ]
        warm(self.clicks.path)
        found = measure(contestants, self.rounds)
        figures = [
            figure(BENCH, f"file to windows vs {name}", found["streamcore"], found[name], target)
            for name, target in TARGETS.items()
        ]
        return list(found.values()), figures


def warm(path: Path) -> None:
    """Reads the file once, so that whoever is first in the first round does not read it from disk."""
    with path.open("rb", buffering=0) as file:
        while file.read(8 << 20):
            pass
