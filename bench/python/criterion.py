"""Owns running a bench of `rust/benches/`: the settings it is given, and what it leaves.

Before it: the modules of their names. After it: `rust/src/turns.rs` and `rounds.rs`, which take the times, of one thread on a processor
and not of a clock. Invariant: what is read was left by this run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from bench.python.measure import BENCH

RUST = BENCH / "rust"


def run(bench: str, folder: Path, rounds: int, arguments: Sequence[str] = ("--output-format", "bencher")) -> list[Path]:
    """The JSON files that `bench` left in `folder`, oldest first. Its lines are talk, and go where talk goes.

    `arguments`: for the bench; those of Criterion unless given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    command = ["cargo", "bench", "--locked", "--manifest-path", str(RUST / "Cargo.toml"), "--bench", bench]
    settings = {"STREAMCORE_BENCH_FOLDER": str(folder), "STREAMCORE_BENCH_ROUNDS": str(rounds)}
    done = subprocess.run([*command, "--", *arguments], env={**os.environ, **settings}, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise RuntimeError("cargo bench failed: see above")
    return sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)


def locked_versions() -> dict[str, str]:
    """Of every crate, by name."""
    packages = tomllib.loads((RUST / "Cargo.lock").read_text())["package"]
    return {package["name"]: package["version"] for package in packages}
