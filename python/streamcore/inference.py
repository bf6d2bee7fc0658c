"""Owns what the first records say of fields that nobody declared: the types of an ephemeral run, and which there are none of.

Before it: the opened source. After it: the engine, with a complete schema.
Invariant: the source stands afterwards where it stood before.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from threading import Event

from streamcore import _core
from streamcore.config.suggest import did_you_mean
from streamcore.errors import ConfigError, Problem
from streamcore.sources.base import Source

POLL_TIMEOUT_S = 0.1

log = logging.getLogger("streamcore.fields")


def infer_types(
    source: Source, paths: Sequence[str], stopping: Event, *, table: str = "source.schema"
) -> dict[str, str] | None:
    """Types of `paths` by what the first successful poll brings, waited for until `stopping` is set; None without one.

    Raises `ConfigError` for paths that none of the records looked at has: nothing would come of them but nulls.
    """
    begin = source.positions()
    types = None
    while not stopping.is_set():
        polled = source.poll(POLL_TIMEOUT_S)
        if polled.raw is not None and len(polled.raw) > 0:
            absent = _core.absent_fields(polled.raw, paths)
            if absent:
                problems = [_problem(path, names, table) for path, names in absent.items()]
                raise ConfigError("a field is used that the first records do not have", problems)
            types = _core.infer_types(polled.raw, paths)
            break
        if polled.ended:
            break
    source.seek(begin)
    return types


def _problem(path: str, names: Sequence[str], table: str) -> Problem:
    hint = f"if it comes later, declare its type in [{table}]"
    meant = _meant(path, names)
    return Problem(path, "none of the first records has this field", hint=f"{meant} {hint}" if meant else hint)


def _meant(path: str, names: Sequence[str]) -> str | None:
    parent, _, name = path.rpartition(".")
    return did_you_mean(name, names, within=parent)


def warn_of_absent(raw: _core.Raw, paths: Sequence[str]) -> None:
    """Says in the log which of `paths`, whose types follow from their use, none of the first records has."""
    for path, names in _core.absent_fields(raw, paths).items():
        meant = _meant(path, names)
        log.warning(
            "none of the first records has a field %s, which the pipeline uses: it counts as null%s",
            path,
            f"; {meant}" if meant else "; declare it in the schema if it comes later",
        )


def describe_types(types: dict[str, str] | None, table: str = "source.schema") -> str:
    """What to print: the guess, as the lines of `table` that would declare it."""
    if types is None:
        return "the input has no records to infer types from; what is not declared counts as text"
    lines = [f'  "{path}" = "{kind}"' for path, kind in sorted(types.items())]
    return "\n".join(["types inferred from the first records; declare them to be sure:", f"  [{table}]", *lines])
