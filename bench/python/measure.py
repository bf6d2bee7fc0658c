"""Owns how a bench measures: workers in processes of their own, rounds interleaved, medians, answers checked.

Before it: the bench files, which say who runs what. After it: `run.py`, which prints and keeps the figures.
Invariant: no time is reported whose answer was not equal to the independent count.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parents[1]
WORKER_TIMEOUT_S = 900


class WrongAnswerError(Exception):
    """A contestant's rows differ from the independent count; its time means nothing."""


@dataclass(frozen=True)
class Contestant:
    name: str
    worker: str
    """Path below `bench/`."""
    python: str
    arguments: Mapping[str, Any]
    answer: Mapping[tuple[str, int], int] | None
    """What its rows must be; None for one that computes nothing."""


@dataclass
class Measured:
    name: str
    version: str = ""
    rates: list[float] = field(default_factory=list)
    """Events a second, one a round."""

    @property
    def median(self) -> float:
        return statistics.median(self.rates)

    @property
    def spread(self) -> float:
        """Largest minus smallest, as a share of the median."""
        return (max(self.rates) - min(self.rates)) / self.median


@dataclass(frozen=True)
class Figure:
    """One line of the result, as `bench/README.md` describes it."""

    bench: str
    figure: str
    value: float
    unit: str
    rival: str | None
    ratio: float | None
    target: float | None
    holds: bool | None
    machine: str

    def line(self) -> str:
        return json.dumps(asdict(self))


def measure(contestants: Sequence[Contestant], rounds: int) -> dict[str, Measured]:
    """Runs all of them in turn, `rounds` times. Raises `WrongAnswerError`."""
    found = {contestant.name: Measured(contestant.name) for contestant in contestants}
    for number in range(rounds):
        for contestant in contestants:
            result = work(contestant)
            check(contestant, result)
            entry = found[contestant.name]
            entry.version = result["version"]
            entry.rates.append(result["events"] / result["seconds"])
            say(f"  round {number + 1}: {contestant.name}: {entry.rates[-1]:,.0f} events/s")
    return found


def work(contestant: Contestant) -> dict[str, Any]:
    """One run of one worker, in a new process: its last line of output is its result."""
    command = [contestant.python, str(BENCH / contestant.worker), json.dumps(dict(contestant.arguments))]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=WORKER_TIMEOUT_S)
    if done.returncode != 0:
        raise RuntimeError(f"{contestant.name} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def check(contestant: Contestant, result: Mapping[str, Any]) -> None:
    if contestant.answer is None:
        return
    rows = [((page, start), count) for page, start, count in result["rows"]]
    got = dict(rows)
    expected = contestant.answer
    if len(got) != len(rows):
        raise WrongAnswerError(f"{contestant.name} gave {len(rows) - len(got)} windows more than once")
    wrong = {place: count for place, count in got.items() if expected.get(place) != count}
    missing = len(set(expected) - set(got))
    if wrong or missing:
        shown = list(wrong.items())[:3]
        raise WrongAnswerError(f"{contestant.name}: {len(wrong)} rows wrong (such as {shown}), {missing} missing")


def figure(bench: str, name: str, own: Measured, rival: Measured, target: float | None) -> Figure:
    """`own` against `rival`: the median of the rounds' ratios, as a machine may be busy in one of them."""
    ratio = statistics.median(one / other for one, other in zip(own.rates, rival.rates, strict=True))
    holds = None if target is None else ratio >= target
    title = f"{rival.name} {rival.version}".strip()
    return Figure(bench, name, round(own.median), "events/s", title, round(ratio, 2), target, holds, machine())


def machine() -> str:
    """The processor and how many of it, short enough for a folder's name."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else ():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{len(os.sched_getaffinity(0))}x {model}"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
