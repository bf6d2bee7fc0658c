"""Columns in memory to count, sum, least and most by key and minute: streamcore beside polars' and DuckDB's group-by.

`rust/benches/group_by.rs` leaves the columns and the answer, counted from the numbers drawn, and is streamcore's worker.
Each contestant is a process that has the columns in memory and takes its turns when it is told; the first one's rows are
compared with the answer. With one thread each, a time is what the process had of a processor; with as many as there are
processors, of a clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from bench.python import criterion
from bench.python.measure import BENCH as BENCH_FOLDER
from bench.python.measure import Figure, Measured, WrongAnswerError, machine, say

BENCH = "group_by"
RIVALS = ("polars", "duckdb")


@dataclass
class Worker:
    """A contestant in a process of its own."""

    name: str
    threads: int | None
    """None: as many as it takes by itself."""
    command: Sequence[str]
    measured: Measured = field(init=False)
    process: subprocess.Popen[str] = field(init=False)

    def start(self, version: str | None) -> None:
        """Raises `RuntimeError` where the process ends instead."""
        self.process = subprocess.Popen(self.command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        ready = self._line()
        self.measured = Measured(self.name, version or ready["version"])

    def turn(self, rows: Path | None = None) -> dict[str, Any]:
        """One; its rows go to the file `rows`."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{rows or ''}\n")
        self.process.stdin.flush()
        return self._line()

    def stop(self) -> None:
        self.process.communicate()

    def _line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with {self.process.wait()}: see above")
        found: dict[str, Any] = json.loads(line)
        return found


def run(folder: Path, rivals: str, rounds: int) -> tuple[list[Measured], list[Figure]]:
    """`rivals`: Python that has them. Raises `WrongAnswerError`."""
    about = next(path for path in criterion.run(BENCH, folder, rounds, arguments=()) if path.suffix == ".json")
    found = json.loads(about.read_text())
    measured: list[Measured] = []
    figures: list[Figure] = []
    for keys in found["keys"]:
        for threads in (1, None):
            workers = contestants(folder, found["worker"], rivals, keys, threads)
            title = f"{keys:,} keys, {'1 thread' if threads else 'default threads'}"
            compete(workers, folder / f"{keys}.answer.arrow", found["events"], rounds, title)
            figures += compare(title, workers)
            measured += [worker.measured for worker in workers]
    return measured, figures


def contestants(folder: Path, program: str, rivals: str, keys: int, threads: int | None) -> list[Worker]:
    lanes = threads or len(os.sched_getaffinity(0))
    own = Worker("streamcore", threads, [program, "worker", str(keys), str(lanes)])
    arguments = json.dumps({"columns": str(folder / f"{keys}.columns.arrow"), "threads": threads})
    scripts = {name: str(BENCH_FOLDER / "peers" / f"{name}_group_by.py") for name in RIVALS}
    return [own, *(Worker(name, threads, [rivals, script, arguments]) for name, script in scripts.items())]


def compete(workers: Sequence[Worker], answer: Path, events: int, rounds: int, title: str) -> None:
    """Gives all their turns, after one whose rows are compared."""
    expected = in_order(answer)
    with contextlib.ExitStack() as stack:
        for worker in workers:
            worker.start(criterion.locked_versions()["streamcore"] if worker.name == "streamcore" else None)
            stack.callback(worker.stop)
        for worker in workers:
            rows = answer.with_name(f"{worker.name}.rows.arrow")
            worker.turn(rows)
            if not in_order(rows).equals(expected):
                raise WrongAnswerError(f"{worker.name} groups {title} differently")
        for number in range(rounds):
            for worker in workers:
                turn = worker.turn()
                if turn["rows"] != expected.height:
                    raise WrongAnswerError(f"{worker.name} gave {turn['rows']} rows of {title}, not {expected.height}")
                seconds = turn["cpu_seconds" if worker.threads == 1 else "seconds"]
                worker.measured.rates.append(events / seconds)
                say(f"  {title}, round {number + 1}: {worker.name}: {1e9 * seconds / events:.1f} ns an event")


def in_order(path: Path) -> pl.DataFrame:
    """The rows of a file, sorted, with the types of the answer."""
    frame = pl.read_ipc(path)
    columns = (pl.col(name) if name == "key" else pl.col(name).cast(pl.Int64) for name in frame.columns)
    return frame.select(columns).sort("key", "window_start")


def compare(title: str, workers: Sequence[Worker]) -> list[Figure]:
    """How many times as fast as each rival: in each round, then the median."""
    own, *others = (worker.measured for worker in workers)
    figures = []
    for other in others:
        ratio = statistics.median(mine / theirs for mine, theirs in zip(own.rates, other.rates, strict=True))
        rival = f"{other.name} {other.version}"
        figures.append(
            Figure(
                BENCH,
                f"{title} vs {other.name}",
                round(own.median),
                "events/s",
                rival,
                round(ratio, 2),
                None,
                None,
                machine(),
            )
        )
    for worker in workers:
        worker.measured.name = f"{title}: {worker.measured.name}"
    return figures
