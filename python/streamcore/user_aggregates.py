"""Owns aggregates of the user: a class with three functions on Arrow, the types between them, and calls in windows.

Before it: the user's class. After it: `.agg(...)`; `functions.py` hands the functions to the engine.
Invariant: a call holds what a pipeline file would: the text, and the table that declares the aggregate there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streamcore.errors import ConfigError, Problem

PARTS = ("init", "merge", "finish")
"""The functions of an aggregate."""

_NAME = re.compile(r"[^\W\d]\w*")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregate of the user; called with expressions, it gives a column of `.agg(...)`."""

    name: str
    """What calls in expressions name it."""
    function: type
    """The class with the methods `init`, `merge` and `finish`."""
    declared: Mapping[str, Any]
    """The types and the version, as a pipeline file has them."""

    def __call__(self, *arguments: str, where: str | None = None) -> AggregateCall:
        """The aggregate of expressions, one for each argument: `skew("payload.ms", where="country == 'GB'")`."""
        condition = f" where {where}" if where is not None else ""
        return AggregateCall(f"{self.name}({', '.join(arguments)}){condition}", self)


@dataclass(frozen=True, slots=True)
class AggregateCall:
    """A call of an aggregate of the user, as `.agg(...)` takes it."""

    text: str
    aggregate: Aggregate


def aggregate(
    functions: type,
    /,
    *,
    arguments: Mapping[str, str],
    state: Mapping[str, str],
    returns: str,
    version: int = 1,
    name: str | None = None,
) -> Aggregate:
    """Makes an aggregate of a class whose objects have the methods `init`, `merge` and `finish`, from Arrow to Arrow.

    `arguments`, `state` and `returns` name columns and types, as a source's `schema` does. `init` is given rows of the
    arguments and gives a state for each, in their order. `merge` is given states behind a column `group` (int64) and
    gives one state for each group: it must not matter in which order or how often states are merged. `finish` is given
    states and gives a value for each, in their order. A row with a null among its arguments does not count. The class is
    made without arguments, once a run, and its methods may be called by several threads at once. `version` is of the
    state: raise it when what a state means changes, and saved state of another version is refused. Expressions call the
    aggregate by `name`, which is the class's, as `geometric_mean` of `GeometricMean`, if not given.

    Raises `ConfigError` for a class without one of the methods, or no name.
    """
    called = name if name is not None else _HUMP.sub("_", functions.__name__).lower()
    if not _NAME.fullmatch(called):
        raise ConfigError(f"{called} is no name that expressions could call")
    if problem := missing_part(functions, called):
        raise ConfigError(f"{called} is no aggregate", [problem])
    types = {"arguments": dict(arguments), "state": dict(state)}
    return Aggregate(called, functions, {**types, "returns": returns, "version": version})


def missing_part(functions: object, path: str) -> Problem | None:
    """What a class lacks to be an aggregate."""
    missing = [part for part in PARTS if not callable(getattr(functions, part, None))]
    if not missing:
        return None
    hint = "an aggregate has init (rows to states), merge (states to one a group) and finish (states to values)"
    return Problem(path, f"it has no {missing[0]}", hint=hint)
