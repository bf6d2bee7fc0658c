"""From files to files with `delivery = "exactly_once"`: a run killed with SIGKILL at each step of its commits, and at random.

Invariant: at the end every row is in one Parquet file and every dead letter once in its file, by a recount in plain Python.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from tests.faults import traffic
from tests.faults.workers import STEPS

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
RECORDS, SIZE_MS, KEYS = 200_000, 10_000, 50
STARTS_MAX = 12

PIPELINE = (
    """
name = "job"
delivery = "exactly_once"
commit_interval = "1ms"
state_dir = "state"

[source]
type = "files"
path = "in.jsonl"
piece_bytes = 4096
event_time = "t"
event_time_unit = "ms"
out_of_orderness = "100ms"

"""
    + STEPS
    + """
[[sinks]]
type = "parquet"
path = "out"

[dead_letters]
path = "letters.jsonl"
"""
)

POINTS = [
    "before-checkpoint:1:kill",
    "before-checkpoint:2:kill",
    "after-checkpoint:1:kill",
    "after-checkpoint:2:kill",
    "publish-renamed:1:kill",
    "publish-renamed:2:kill",
    "after-committed:2:kill",
]


def _start(folder: Path, faults: str = "") -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "streamcore", "run", "job.toml", "--stop", "end"],
            cwd=folder,
            env={**os.environ, "STREAMCORE_FAULTS": faults},
            stdout=log,
            stderr=log,
        )


def _prepare(folder: Path, seed: int) -> None:
    (folder / "job.toml").write_text(PIPELINE)
    lines = [value for _, _, value in traffic.records(seed, RECORDS, partitions=1, keys=KEYS)]
    (folder / "in.jsonl").write_bytes(b"\n".join([*lines, b""]))


def _saved(folder: Path) -> int | None:
    """Tells checkpoints apart; None: there is none."""
    try:
        return (folder / "state" / "job" / "checkpoint").stat().st_ino
    except FileNotFoundError:
        return None


def _check(folder: Path) -> None:
    rows: dict[tuple[str, int], tuple[int, int]] = {}
    poison: Counter[str] = Counter()
    seen = set()
    for line in (folder / "in.jsonl").read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            poison[line] += 1
            continue
        if row["id"] in seen:
            continue
        seen.add(row["id"])
        window = row["k"], row["t"] // SIZE_MS * SIZE_MS
        count, total = rows.get(window, (0, 0))
        rows[window] = count + 1, total + row["v"]
    columns = ["k", pl.col("window_start").dt.epoch("ms"), "n", "s"]
    files = sorted((folder / "out").glob("*.parquet"))
    found = Counter(row for path in files for row in pl.read_parquet(path).select(columns).rows())
    right = Counter({(*window, *values): 1 for window, values in rows.items()})
    log = (folder / "log").read_text()[-2000:]
    assert (right - found, found - right) == (Counter(), Counter()), log
    assert list((folder / "out").glob(".*")) == []
    letters = [json.loads(line) for line in (folder / "letters.jsonl").read_text().splitlines()]
    assert Counter(letter["value"] for letter in letters) == poison, log
    assert len({letter["offset"] for letter in letters}) == len(letters), log


def _was_killed(process: subprocess.Popen[bytes], folder: Path) -> bool:
    """Whether a run was killed before it got through; it does not end otherwise."""
    code = process.wait(60)
    assert code in (0, -signal.SIGKILL), (folder / "log").read_text()[-2000:]
    return code != 0


def _finish(folder: Path, kills: int) -> None:
    """A last run, and what all of them left."""
    assert kills
    assert not _was_killed(_start(folder), folder)
    _check(folder)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("point", POINTS)
def test_a_run_killed_at_each_step_writes_every_row_and_letter_once(point: str, run: int, tmp_path: Path) -> None:
    """It is started again with the same order to die, until it gets through or has died often enough."""
    _prepare(tmp_path, run)
    kills = 0
    for _ in range(6):
        if not _was_killed(_start(tmp_path, point), tmp_path):
            break
        kills += 1
    _finish(tmp_path, kills)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", range(RUNS))
def test_a_run_killed_at_random_writes_every_row_and_letter_once(run: int, tmp_path: Path) -> None:
    chance = random.Random(run)
    _prepare(tmp_path, run)
    kills = 0
    for _ in range(STARTS_MAX):
        before = _saved(tmp_path)
        process = _start(tmp_path)
        while process.poll() is None and _saved(tmp_path) == before:
            time.sleep(0.005)
        time.sleep(chance.uniform(0.0, 0.15))
        process.kill()
        if not _was_killed(process, tmp_path):
            break
        kills += 1
    _finish(tmp_path, kills)
