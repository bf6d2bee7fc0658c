"""What holds at the end of every run beside its rows: ledgers, state, logs; see `docs/reliability.md` for A1 to A9.

Before it: a job whose workers have read everything. After it: `oracle.py`, which says what is right.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from tests.faults import oracle

COMMAND_S = 150.0

TROUBLE = ("Traceback (most recent call last)", "panicked at", "SIGSEGV")
"""What no log may have: whatever happens is told in a line."""


def command(file: Path, servers: str, *arguments: str) -> str:
    """What a command of streamcore prints that must end well."""
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": servers}
    words = [sys.executable, "-m", "streamcore", *arguments]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    assert done.returncode == 0, (
        f"{' '.join(arguments)} of {file} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    )
    return done.stdout


def audited(file: Path, servers: str) -> dict[str, Any]:
    """A5: the ledger as `audit` reads it from the committed state; it adds up."""
    found: dict[str, Any] = json.loads(command(file, servers, "audit", str(file), "--json"))
    assert found["adds_up"], found
    return found


def ledgers_are_right(ledgers: dict[int, dict[str, int]], wanted: oracle.Expected) -> None:
    """A5: what became of the records is what the oracle says."""
    read = {lane: counts["read"] for lane, counts in ledgers.items()}
    assert read == wanted.ends
    total = Counter[str]()
    for counts in ledgers.values():
        total.update(counts)
    dead, counted = len(wanted.dead), sum(count for count, _ in wanted.rows.values())
    duplicate = sum(wanted.ends.values()) - dead - counted
    assert (total["rejected"], total["applied"], total["duplicate"]) == (dead, counted, duplicate)


def state_is_whole(file: Path, servers: str) -> None:
    """A6: what the newest manifests name is there, and has the digest that they say."""
    command(file, servers, "state", "verify", str(file))


def state_is_right(file: Path, servers: str, *, output: str, wanted: oracle.Expected) -> None:
    """A6: rows that have left and windows that are still held are all there are, each once."""
    saved = file.parent / f"saved-{uuid.uuid4().hex[:8]}"
    command(file, servers, "state", "savepoint", str(file), str(saved))
    columns = ["k", pl.col("window_start").dt.epoch("ms"), "n", "s"]
    held = [row for path in saved.glob("*.parquet") for row in pl.read_parquet(path).select(columns).rows()]
    left = [oracle.row_of(message) for message in oracle.read(servers, output)]
    assert Counter([*left, *held]) == wanted.counted()


def logs_are_clear(folder: Path) -> None:
    """A9: no worker's log tells of a mistake of streamcore's."""
    for path in sorted(folder.glob("*.log")):
        text = path.read_text()
        assert not any(trouble in text for trouble in TROUBLE), f"{path}:\n{text[-4000:]}"
