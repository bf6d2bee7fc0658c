"""Owns what of a pipeline a batch works out anew: the steps, keys and columns, read from its configuration.

Before it: a configuration. After it: `recompute.py`, which does so.
Invariant: what cannot be worked out exactly is refused by its name, or left out by its name where it is a column that no other needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamcore.config import PipelineConfig
from streamcore.config.steps import (
    DedupeStep,
    FilterStep,
    HoppingStep,
    SelectStep,
    SessionStep,
    StepBase,
    TumblingStep,
    WindowStep,
    tag_of,
)

FIELD = r"[A-Za-z][\w]*(?:\.[A-Za-z_][\w]*)*"
CALL = re.compile(rf"(count|sum|min|max|mean)\(\s*({FIELD})?\s*\)(?:\s+where\s+(.+))?", re.DOTALL)
COMPARISON = re.compile(rf"({FIELD})\s*(==|=|!=|<=|>=|<|>)\s*(-?\d+(?:\.\d+)?|'[^'\\]*'|\"[^\"\\]*\"|true|false)")
PRESENCE = re.compile(rf"({FIELD})\s+is\s+(not\s+)?null")
TYPES = ("string", "int64", "float64", "bool")

SCALAR = "scalar"
"""The type of a field that nobody declared and that is only counted, or compared with itself: text, number or bool, as written."""

Condition = list[tuple[str, str, Any]]
"""Field, operator and literal, all of which must hold; `is` and `is not` have None."""


@dataclass(frozen=True, slots=True)
class Dedupe:
    """Of the records with one id, the first of each lane."""

    id: str
    """The field."""
    within_ms: int


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One result column."""

    name: str
    function: str
    field: str | None
    where: Condition


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is worked out."""

    event_time: str | None
    unit: str
    out_of_orderness_ms: int | None
    """None: the clock does not move before the end of the input."""
    where: Condition
    """What a record must meet to be seen by the clock."""
    steps: list[Condition | Dedupe]
    """Behind the clock, in order."""
    keys: dict[str, str]
    """Name and field."""
    aggregates: list[Aggregate]
    window: TumblingStep | HoppingStep | SessionStep
    types: dict[str, str]
    left_out: list[str]
    """Columns of the result that are not worked out, and why."""

    @property
    def columns(self) -> list[str]:
        """Of the table of windows."""
        return [*self.keys, "window_start", "window_end", *(one.name for one in self.aggregates)]

    @property
    def has_dedupe(self) -> bool:
        """Whether what becomes of a record depends on those before it."""
        return any(isinstance(step, Dedupe) for step in self.steps)


@dataclass(slots=True)
class _Reading:
    """What was read so far."""

    declared: Mapping[str, str]
    names: dict[str, str] | None = None
    """Behind a `select`: what the columns are called, and their fields."""
    conditions: list[Condition] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def field(self, text: str, place: str) -> str:
        """The field of the record that `text` is."""
        name = text.strip()
        if not re.fullmatch(FIELD, name):
            self.refused.append(f"{place}: {name} is more than a field")
            return ""
        if self.names is None:
            return name
        if name not in self.names:
            self.refused.append(f"{place}: {name} is no column of the select before")
        return self.names.get(name, "")

    def condition(self, text: str, place: str) -> Condition:
        """Comparisons of a field with a literal, joined by `and`."""
        found: Condition = []
        for part in re.split(r"\s+and\s+", text.strip()):
            compared, asked = COMPARISON.fullmatch(part.strip()), PRESENCE.fullmatch(part.strip())
            if compared is not None:
                operator = {"=": "=="}.get(compared[2], compared[2])
                found.append((self.field(compared[1], place), operator, _literal(compared[3])))
            elif asked is not None:
                found.append((self.field(asked[1], place), "is not" if asked[2] else "is", None))
            else:
                self.refused.append(f"{place}: {part.strip()} is more than a field compared with a literal")
        self.conditions.append(found)
        return found

    def type_of(self, name: str, *, shown: bool) -> str | None:
        """The type of a field, undeclared that of what it is compared with; None where none is worked out.

        `shown`: its values are looked at.
        """
        if name in self.declared:
            return self.declared[name] if self.declared[name] in TYPES else None
        of_name = (part for condition in self.conditions for part in condition if part[0] == name)
        compared = {_type_of_literal(literal) for _, _, literal in of_name if literal is not None}
        if compared:
            return compared.pop() if len(compared) == 1 else None
        return None if shown else SCALAR

    def check_type(self, name: str, *, shown: bool, place: str = "source.schema") -> str | None:
        """What is wrong with the type of a field, if anything is."""
        if not name or self.type_of(name, shown=shown) is not None:
            return None
        kind = self.declared.get(name)
        what = "has no declared type" if kind is None else f"is of type {kind}"
        return f"{place}: {name} {what}; recomputed are {', '.join(TYPES)}"


def recipe_of(config: PipelineConfig) -> tuple[Recipe | None, list[str]]:
    """What to work out, or what of the pipeline cannot be."""
    source = config.source
    reading = _Reading(source.types)
    if config.sources:
        reading.refused.append("sources: a join is not recomputed")
    if source.format != "json":
        reading.refused.append(f'source.format: "{source.format}" is not recomputed')
    where = reading.condition(source.where, "source.where") if source.where else []
    steps: list[Condition | Dedupe] = []
    window = _steps(config.steps, steps, reading)
    if not isinstance(window, TumblingStep | HoppingStep | SessionStep):
        return None, reading.refused or ["steps: there is no window"]
    place = f"steps[{len(config.steps) - 1}]"
    keys = {name: reading.field(text, f"{place}.by.{name}") for name, text in window.by.items()}
    aggregates, left_out = _aggregates(window, place, reading)
    ids = [step.id for step in steps if isinstance(step, Dedupe)]
    _check_types(keys.values(), ids, reading)
    _check_ids(ids, [window.aggregate[name] for name in left_out], reading)
    if not aggregates:
        reading.refused += [what for found in left_out.values() for what in found]
    if reading.refused:
        return None, list(dict.fromkeys(reading.refused))
    counted = [one.field for one in aggregates if one.field is not None]
    compared = [name for condition in reading.conditions for name, _, _ in condition]
    used = dict.fromkeys([*keys.values(), *counted, *ids, *compared])
    types = {name: kind for name in used if (kind := reading.type_of(name, shown=False)) is not None}
    recipe = Recipe(
        event_time=source.event_time,
        unit=source.event_time_unit,
        out_of_orderness_ms=source.out_of_orderness_ms,
        where=where,
        steps=steps,
        keys=keys,
        aggregates=aggregates,
        window=window,
        types=types,
        left_out=[what for found in left_out.values() for what in found],
    )
    return recipe, []


def _steps(steps: Iterable[StepBase], taken: list[Condition | Dedupe], reading: _Reading) -> WindowStep | None:
    """The window; what stands before it is added to `taken`."""
    window: WindowStep | None = None
    for number, step in enumerate(steps):
        place = f"steps[{number}]"
        if window is not None:
            reading.refused.append(f"{place}: a step behind a window is not recomputed")
        elif isinstance(step, FilterStep) and not step.parameters:
            taken.append(reading.condition(step.filter, f"{place}.filter"))
        elif isinstance(step, DedupeStep) and step.method == "exact":
            taken.append(Dedupe(reading.field(step.dedupe, f"{place}.dedupe"), step.within))
        elif isinstance(step, SelectStep) and not step.parameters:
            select = {name: reading.field(text, f"{place}.select.{name}") for name, text in step.select.items()}
            reading.names = select
        elif isinstance(step, TumblingStep | HoppingStep | SessionStep):
            window = step
            reading.refused += _refused_keys(step, place)
        else:
            by_guess = isinstance(step, DedupeStep)
            what = 'dedupe with method = "bloom", which drops some by guess,' if by_guess else tag_of(step)
            reading.refused.append(f"{place}: {what} is not recomputed")
    return window


def _check_types(keys: Iterable[str], ids: Iterable[str], reading: _Reading) -> None:
    compared = [name for condition in reading.conditions for name, _, _ in condition]
    wrong = [reading.check_type(name, shown=True) for name in keys]
    wrong += [reading.check_type(name, shown=False) for name in (*ids, *compared)]
    reading.refused += [what for what in wrong if what is not None]


def _check_ids(ids: Iterable[str], texts: Iterable[str], reading: _Reading) -> None:
    """What an id without a declared type is compared by may depend on a column that is left out."""
    for name in ids:
        named = re.compile(rf"(?<![\w.]){re.escape(name)}(?![\w.])")
        if name and name not in reading.declared and any(named.search(text) for text in texts):
            reading.refused.append(f"source.schema: {name} has no declared type, and dedupe compares it; declare it")


def _refused_keys(step: WindowStep, place: str) -> Iterator[str]:
    for key in ("timezone", "min_start", "max_length", "week_start"):
        if getattr(step, key, None) is not None:
            yield f"{place}.{key}: is not recomputed"
    if step.functions or step.parameters:
        yield f"{place}: functions and parameters are not recomputed"


def _aggregates(window: WindowStep, place: str, reading: _Reading) -> tuple[list[Aggregate], dict[str, list[str]]]:
    """The columns that are worked out, and of the others what is wrong."""
    found: list[Aggregate] = []
    wrong: dict[str, list[str]] = {}
    for name, text in window.aggregate.items():
        before, conditions = reading.refused, len(reading.conditions)
        reading.refused, of_column = [], f"{place}.aggregate.{name}"
        aggregate = _aggregate(name, text, of_column, reading)
        types = [reading.check_type(field, shown=False, place=of_column) for field, _, _ in aggregate.where]
        if aggregate.field is not None:
            types.append(reading.check_type(aggregate.field, shown=aggregate.function != "count", place=of_column))
        refused = [*reading.refused, *(what for what in types if what is not None)]
        reading.refused = before
        if refused:
            wrong[name] = refused
            del reading.conditions[conditions:]
        else:
            found.append(aggregate)
    return found, wrong


def _aggregate(name: str, text: str, place: str, reading: _Reading) -> Aggregate:
    found = CALL.fullmatch(text.strip())
    if found is None or (found[2] is None and found[1] != "count"):
        reading.refused.append(f"{place}: {text} is none of count, sum, min, max or mean of a field")
        return Aggregate(name, "count", None, [])
    argument = None if found[2] is None else reading.field(found[2], place)
    return Aggregate(name, found[1], argument, reading.condition(found[3], place) if found[3] else [])


def _literal(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    if text[0] in "'\"":
        return text[1:-1]
    return float(text) if "." in text else int(text)


def _type_of_literal(literal: Any) -> str:
    if isinstance(literal, bool):
        return "bool"
    return "string" if isinstance(literal, str) else "float64"
