"""Owns the list of the repository's files: what git tracks or would track."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def files() -> tuple[Path, ...]:
    """Every file of the repository, relative to its root; build products and caches are ignored by git."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    names = sorted({name for name in listed.stdout.split("\0") if name})
    return tuple(Path(name) for name in names if (ROOT / name).is_file())


def below(folder: str, suffix: str) -> list[Path]:
    return [path for path in files() if path.suffix == suffix and path.is_relative_to(folder)]


def text(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")
