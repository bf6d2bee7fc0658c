"""Owns what the first records say of fields that nobody declared: the types of an ephemeral run, and which there are none of.

Before it: the opened source. After it: the engine, with a complete schema.
Invariant: the source stands afterwards where it stood before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event
from typing import Any

from streamcore import _core
from streamcore.config import PipelineConfig
from streamcore.config.suggest import closest
from streamcore.errors import ConfigError, Problem
from streamcore.sources.base import Source

POLL_TIMEOUT_S = 0.1

log = logging.getLogger("streamcore.fields")


@dataclass(frozen=True)
class Undeclared:
    """Fields of one input that a pipeline uses and whose types nobody declared."""

    paths: Sequence[str]
    numbers: Collection[str] = ()
    """Those of them that are used as numbers."""
    table: str = "source.schema"
    """Where they would be declared."""

    @classmethod
    def of(cls, description: Mapping[str, Any], name: str | None) -> Undeclared:
        """Those of the input called `name`, which is None for the pipeline's own, of what `describe` gave."""
        of_input = [found for found in description["undeclared"] if found["input"] == name]
        return cls(
            [found["path"] for found in of_input],
            [found["path"] for found in of_input if found["takes_number"]],
            f"sources.{name}.schema" if name else "source.schema",
        )

    def as_text(self) -> dict[str, str]:
        """Their types where no record tells of them."""
        return dict.fromkeys(self.paths, "string")


def infer_types(source: Source, fields: Undeclared, stopping: Event) -> dict[str, str] | None:
    """Types of `fields` by what the first successful poll brings, waited for until `stopping` is set; None without one.

    Raises `ConfigError` as `types_of` does.
    """
    begin = source.positions()
    types = None
    while not stopping.is_set():
        polled = source.poll(POLL_TIMEOUT_S)
        if polled.raw is not None and len(polled.raw) > 0:
            is_all = partial(_is_over, source, stopping, ended=polled.ended)
            types = types_of(polled.raw, fields, is_all=is_all)
            break
        if polled.ended:
            break
    source.seek(begin)
    return types


def types_of(raw: _core.Raw, fields: Undeclared, *, is_all: Callable[[], bool]) -> dict[str, str]:
    """Types of `fields` by these records; where none has one that is used as a number, it is a float.

    `is_all` is asked, where that matters, whether there are no other records. Raises `ConfigError` for fields that none
    of them has, where another name was likely meant or no other record will come: nothing would come of them but nulls.
    Other such fields are warned of.
    """
    types, absent = _core.infer_fields(raw, fields.paths)
    if not absent:
        return types
    meant = {path: _meant(raw, path, *found) for path, found in absent.items()}
    refused = [path for path, instead in meant.items() if instead]
    if len(refused) < len(meant) and is_all():
        refused = list(meant)
    if refused:
        problems = [_problem(path, meant[path], fields.table) for path in refused]
        raise ConfigError("a field is used that the first records do not have", problems)
    for path in absent:
        types[path] = "float64" if path in fields.numbers else "string"
        log.warning(
            "none of the first records has a field %s, which the pipeline uses: it counts as %s; declare its type in "
            "[%s] if it comes later",
            path,
            types[path],
            fields.table,
        )
    return types


def _is_over(source: Source, stopping: Event, *, ended: bool) -> bool:
    """Whether no record is left in a source, which has said so already or is asked."""
    if ended:
        return True
    while source.bounded and not stopping.is_set():
        polled = source.poll(POLL_TIMEOUT_S)
        if polled.raw is not None and len(polled.raw) > 0:
            return False
        if polled.ended:
            return True
    return False


def _problem(path: str, meant: str | None, table: str) -> Problem:
    hint = f"if it comes later, declare its type in [{table}]"
    return Problem(
        path, "none of the first records has this field", hint=f'did you mean "{meant}"? {hint}' if meant else hint
    )


def _meant(raw: _core.Raw, path: str, segment: str, beside: Mapping[str, str], number: int = 0) -> str | None:
    """The path that was likely meant by one that these records do not have: one that they have, as far as they say."""
    for _ in range(len(path)):  # a segment less each time
        name = closest(segment, beside)
        if name is None:
            return None
        path = beside[name]
        absent = _core.absent_fields(raw, [path], number)
        if not absent:
            return path
        segment, beside = absent[path]
    return None


class FirstLook:
    """Warns of fields that none of the first records of an input has, though their types follow from their use."""

    def __init__(self, paths: Mapping[int, Sequence[str]], names: Sequence[str | None]) -> None:
        """`paths` are by the number of the input, and `names` those of all inputs."""
        self._paths = {number: list(of_input) for number, of_input in paths.items() if of_input}
        self._names = names

    def __call__(self, raw: _core.Raw) -> bool:
        """Looks at records; whether there is nothing left to look for."""
        for number, paths in list(self._paths.items()):
            absent = _core.absent_fields(raw, paths, number)
            if absent is None:
                continue
            del self._paths[number]
            for path, found in absent.items():
                self._warn(raw, path, found, number)
        return not self._paths

    def _warn(self, raw: _core.Raw, path: str, found: tuple[str, Mapping[str, str]], number: int) -> None:
        meant = _meant(raw, path, *found, number)
        name = self._names[number]
        log.warning(
            "none of the first records%s has a field %s, which the pipeline uses: it counts as null%s",
            f" of {name}" if name else "",
            path,
            f'; did you mean "{meant}"?' if meant else "; declare it in the schema if it comes later",
        )


def describe_types(types: dict[str, str] | None, table: str = "source.schema") -> str:
    """What to print: the guess, as the lines of `table` that would declare it."""
    if types is None:
        return "the input has no records to infer types from; what is not declared counts as text"
    lines = [f'  "{path}" = "{kind}"' for path, kind in sorted(types.items())]
    return "\n".join(["types inferred from the first records; declare them to be sure:", f"  [{table}]", *lines])


def with_types(config: PipelineConfig, name: str | None, types: dict[str, str]) -> PipelineConfig:
    """The configuration with these types in the schema of an input."""
    source = config.all_sources[name]
    source = source.model_copy(update={"types": {**source.types, **types}})
    if name is None:
        return config.model_copy(update={"source": source})
    return config.model_copy(update={"sources": {**config.sources, name: source}})
