"""How long one waits: `import streamcore`, `streamcore --help`, and the demo's first window.

Imports and help are the median of several new processes with warm files; the demo is timed from the start of its
process to its first row on standard output.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from bench.python.measure import Figure, WrongAnswerError, machine

BENCH = "startup"
IMPORT_MS, HELP_MS, DEMO_MS = 100.0, 250.0, 3000.0
IMPORT = "import time; began = time.perf_counter(); import streamcore; print((time.perf_counter() - began) * 1000)"


def run(rounds: int) -> list[Figure]:
    timed = {"import streamcore": (import_ms, IMPORT_MS), "--help": (help_ms, HELP_MS), "demo": (demo_ms, DEMO_MS)}
    return [_figure(name, measure, limit, rounds) for name, (measure, limit) in timed.items()]


def _figure(name: str, measure: Callable[[], float], limit_ms: float, rounds: int) -> Figure:
    measure()  # brings the files into memory
    value = statistics.median(measure() for _ in range(rounds))
    return Figure(BENCH, name, round(value, 1), "ms", None, None, limit_ms, value <= limit_ms, machine())


def import_ms() -> float:
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, check=True, text=True)
    return float(done.stdout)


def help_ms() -> float:
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "streamcore", "--help"], capture_output=True, check=True, text=True)
    elapsed = time.perf_counter() - began
    if "demo" not in done.stdout:
        raise WrongAnswerError("--help does not name the demo")
    return elapsed * 1000


def demo_ms() -> float:
    """Time to the first row; the demo is left to end by itself."""
    command = [sys.executable, "-m", "streamcore", "demo", "--for", "4s", "--output", "jsonl"]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        elapsed = time.perf_counter() - began
        if "window_end" not in json.loads(first):
            raise WrongAnswerError(f"the demo's first line is no window: {first!r}")
        process.stdout.read()
    return elapsed * 1000
