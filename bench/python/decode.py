"""JSON records to columns: streamcore beside the fastest parsers of Rust, and orjson in Python.

Criterion measures all that is Rust (`rust/benches/decode.rs`) and leaves each corpus in a folder, with its answer and
the times; orjson then reads the same records. Times are of one thread on a processor, not of a clock.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.python import criterion
from bench.python.measure import Contestant, Figure, Measured, WrongAnswerError, machine, say, work

BENCH = "decode"
FASTEST = ("simd-json", "sonic-rs")
"""Crates: the better of them is what a target is about."""

TARGETS = {"reference": 5.0, "random order": 2.0, "all different": 0.9, "escapes": 0.9}
TARGET_ELSEWHERE = 0.8


@dataclass(frozen=True)
class Corpus:
    name: str
    event_bytes: float
    own: Measured
    rivals: Sequence[Measured]

    @property
    def entries(self) -> list[Measured]:
        return [self.own, *self.rivals]

    @property
    def best(self) -> Measured:
        return min((rival for rival in self.rivals if rival.name.startswith(FASTEST)), key=self.ratio)

    def ratio(self, rival: Measured) -> float:
        """How many times as fast as the rival: in each round, then the median."""
        return statistics.median(own / other for own, other in zip(self.own.rates, rival.rates, strict=True))

    def figures(self) -> list[Figure]:
        return [self._figure(rival) for rival in self.rivals]

    def _figure(self, rival: Measured) -> Figure:
        name, title, ratio = f"{self.name} vs {rival.name}", f"{rival.name} {rival.version}", self.ratio(rival)
        target = TARGETS.get(self.name, TARGET_ELSEWHERE) if rival is self.best else None
        holds = None if target is None else ratio >= target
        value = round(nanoseconds(self.own), 1)
        return Figure(BENCH, name, value, "ns/event", title, round(ratio, 2), target, holds, machine())

    def row(self) -> list[str]:
        held = self._figure(self.best)
        times = (f"{nanoseconds(entry):,.0f}" for entry in self.entries)
        rate = f"{self.event_bytes / nanoseconds(self.own):.2f}"
        holds = "yes" if held.holds else "no"
        return [self.name, f"{self.event_bytes:,.0f}", *times, rate, f"{held.ratio:.2f}", f"{held.target}", holds]

    def rounds(self) -> list[Measured]:
        """Named so that they can stand beside those of other corpora."""
        return [replace(entry, name=f"{self.name}: {entry.name}") for entry in self.entries]


def run(folder: Path, rounds: int) -> list[Corpus]:
    """Raises `WrongAnswerError`."""
    paths, versions = criterion.run(BENCH, folder, rounds), criterion.locked_versions()
    corpora = []
    for path in paths:
        found = json.loads(path.read_text())
        own, *rivals = (
            Measured(name, versions[name.split()[0]], [1e9 / ns for ns in times]) for name, times in found["ns"]
        )
        rivals.append(orjson(path, found["columns"], rounds))
        corpora.append(Corpus(found["name"], found["bytes"] / found["events"], own, rivals))
    return corpora


def orjson(answer: Path, columns: Sequence[tuple[str, Sequence[Any]]], rounds: int) -> Measured:
    fields = [field for field, _ in columns]
    arguments = {"path": str(answer.with_suffix(".jsonl")), "fields": fields}
    contestant = Contestant("orjson", "python/orjson_decode.py", sys.executable, arguments, None)
    measured = Measured(contestant.name)
    for _ in range(rounds):
        result = work(contestant)
        if result["columns"] != [values for _, values in columns]:
            raise WrongAnswerError(f"orjson reads {answer.stem} differently")
        measured.version = result["version"]
        measured.rates.append(result["events"] / result["seconds"])
    return measured


def nanoseconds(measured: Measured) -> float:
    """An event."""
    return 1e9 / measured.median


def show(corpora: Sequence[Corpus]) -> None:
    """Nanoseconds an event of everyone, and streamcore against the better of `FASTEST`."""
    names = [entry.name.partition(" ") for entry in corpora[0].entries]
    rows = [
        ["ns/event", "bytes", *(name for name, _, _ in names), "GB/s", "ratio", "target", "holds"],
        ["", "", *(way for _, _, way in names), "", "", "", ""],
        *(corpus.row() for corpus in corpora),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (f"  {cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        say(f"{first:<{widths[0]}}{''.join(cells)}")
