"""Owns the types of an ephemeral run that nobody declared: guessed from the first records.

Before it: the opened source. After it: the engine, with a complete schema.
Invariant: the source stands afterwards where it stood before.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event

from streamcore import _core
from streamcore.sources.base import Source

POLL_TIMEOUT_S = 0.1


def infer_types(source: Source, paths: Sequence[str], stopping: Event) -> dict[str, str]:
    """Types of `paths` by what the first successful poll brings; waits for it until `stopping` is set."""
    begin = source.positions()
    types = dict.fromkeys(paths, "string")
    while not stopping.is_set():
        polled = source.poll(POLL_TIMEOUT_S)
        if polled.raw is not None and len(polled.raw) > 0:
            types = _core.infer_types(polled.raw, paths)
            break
        if polled.ended:
            break
    source.seek(begin)
    return types


def describe_types(types: dict[str, str], table: str = "source.schema") -> str:
    """What to print: the guess, as the lines of `table` that would declare it."""
    lines = [f'  "{path}" = "{kind}"' for path, kind in sorted(types.items())]
    return "\n".join(["types inferred from the first records; declare them to be sure:", f"  [{table}]", *lines])
