"""Owns running a bench of `rust/benches/`: the settings it is given, and what it leaves.

Before it: `decode.py` and `lane.py`. After it: `rust/src/turns.rs`, which takes the times, of one thread on a processor
and not of a clock. Invariant: what is read was left by this run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from bench.python.measure import BENCH

RUST = BENCH / "rust"


def run(bench: str, folder: Path, rounds: int) -> list[Path]:
    """The JSON files that `bench` left in `folder`, oldest first. Its lines are talk, and go where talk goes."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    command = ["cargo", "bench", "--locked", "--manifest-path", str(RUST / "Cargo.toml"), "--bench", bench]
    settings = {"STREAMCORE_BENCH_FOLDER": str(folder), "STREAMCORE_BENCH_ROUNDS": str(rounds)}
    done = subprocess.run(
        [*command, "--", "--output-format", "bencher"], env={**os.environ, **settings}, stdout=sys.stderr, check=False
    )
    if done.returncode != 0:
        raise RuntimeError("cargo bench failed: see above")
    return sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)


def locked_versions() -> dict[str, str]:
    """Of every crate, by name."""
    packages = tomllib.loads((RUST / "Cargo.lock").read_text())["package"]
    return {package["name"]: package["version"] for package in packages}
