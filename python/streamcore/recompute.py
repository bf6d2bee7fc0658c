"""Owns working windows out anew, as a batch in polars, from records as they came.

Before it: `verification.py`, which reads them. After it: a table of windows, to be held against the engine's.
Invariant: nothing of the engine is used; what cannot be worked out exactly is refused by its name in the pipeline.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from streamcore.config import PipelineConfig
from streamcore.config.steps import FilterStep, HoppingStep, SessionStep, TumblingStep, WindowStep, tag_of

if TYPE_CHECKING:
    import polars as pl

FIELD = r"[A-Za-z_][\w]*(?:\.[A-Za-z_][\w]*)*"
CALL = re.compile(rf"(count|sum|min|max|mean)\(\s*({FIELD})?\s*\)(?:\s+where\s+(.+))?", re.DOTALL)
COMPARISON = re.compile(rf"({FIELD})\s*(==|=|!=|<=|>=|<|>)\s*(-?\d+(?:\.\d+)?|'[^'\\]*'|\"[^\"\\]*\"|true|false)")
PRESENCE = re.compile(rf"({FIELD})\s+is\s+(not\s+)?null")
TYPES = ("string", "int64", "float64", "bool")

Condition = list[tuple[str, str, Any]]
"""Field, operator and literal, all of which must hold; `is` and `is not` have None."""


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
    filters: list[Condition]
    keys: dict[str, str]
    """Name and field."""
    aggregates: list[Aggregate]
    window: TumblingStep | HoppingStep | SessionStep
    types: dict[str, str]

    @property
    def columns(self) -> list[str]:
        """Of the table of windows."""
        return [*self.keys, "window_start", "window_end", *(one.name for one in self.aggregates)]


def recipe_of(config: PipelineConfig) -> tuple[Recipe | None, list[str]]:
    """What to work out, or what of the pipeline cannot be."""
    source, refused = config.source, list[str]()
    if config.sources:
        refused.append("sources: a join is not recomputed")
    if source.format != "json":
        refused.append(f'source.format: "{source.format}" is not recomputed')
    filters = [_condition(source.where, "source.where", refused)] if source.where else []
    window = _steps(config, filters, refused)
    if not isinstance(window, TumblingStep | HoppingStep | SessionStep):
        return None, refused or ["steps: there is no window"]
    place = f"steps[{len(config.steps) - 1}]"
    keys = {name: _field(text, f"{place}.by.{name}", refused) for name, text in window.by.items()}
    aggregates = [
        _aggregate(name, text, f"{place}.aggregate.{name}", refused) for name, text in window.aggregate.items()
    ]
    types = _types(
        source.types,
        [*filters, *(one.where for one in aggregates)],
        [*keys.values(), *(one.field for one in aggregates)],
        refused,
    )
    if refused:
        return None, refused
    return Recipe(source.event_time, source.event_time_unit, filters, keys, aggregates, window, types), []


def _steps(config: PipelineConfig, filters: list[Condition], refused: list[str]) -> WindowStep | None:
    """The window; filters before it are added to `filters`."""
    window: WindowStep | None = None
    for number, step in enumerate(config.steps):
        place = f"steps[{number}]"
        if window is not None:
            refused.append(f"{place}: a step behind a window is not recomputed")
        elif isinstance(step, FilterStep) and not step.parameters:
            filters.append(_condition(step.filter, f"{place}.filter", refused))
        elif isinstance(step, TumblingStep | HoppingStep | SessionStep):
            window = step
            refused += _refused_keys(step, place)
        else:
            refused.append(f"{place}: {tag_of(step)} is not recomputed")
    return window


def _types(
    declared: Mapping[str, str], conditions: Sequence[Condition], fields: Sequence[str | None], refused: list[str]
) -> dict[str, str]:
    """Types of all fields that are used."""
    used = [*(field for field in fields if field), *(field for condition in conditions for field, _, _ in condition)]
    for field in dict.fromkeys(used):
        kind = declared.get(field)
        if kind not in TYPES:
            what = "has no declared type" if kind is None else f"is of type {kind}"
            refused.append(f"source.schema: {field} {what}; recomputed are {', '.join(TYPES)}")
    return {field: declared[field] for field in dict.fromkeys(used) if field in declared}


def _refused_keys(step: WindowStep, place: str) -> Iterator[str]:
    for key in ("timezone", "min_start", "max_length", "week_start"):
        if getattr(step, key, None) is not None:
            yield f"{place}.{key}: is not recomputed"
    if step.functions or step.parameters:
        yield f"{place}: functions and parameters are not recomputed"


def _field(text: str, place: str, refused: list[str]) -> str:
    if re.fullmatch(FIELD, text.strip()):
        return text.strip()
    refused.append(f"{place}: {text} is more than a field")
    return ""


def _aggregate(name: str, text: str, place: str, refused: list[str]) -> Aggregate:
    found = CALL.fullmatch(text.strip())
    if found is None or (found[2] is None and found[1] != "count"):
        refused.append(f"{place}: {text} is none of count, sum, min, max or mean of a field")
        return Aggregate(name, "count", None, [])
    return Aggregate(name, found[1], found[2], _condition(found[3], place, refused) if found[3] else [])


def _condition(text: str, place: str, refused: list[str]) -> Condition:
    """Comparisons of a field with a literal, joined by `and`."""
    found: Condition = []
    for part in re.split(r"\s+and\s+", text.strip()):
        compared, asked = COMPARISON.fullmatch(part.strip()), PRESENCE.fullmatch(part.strip())
        if compared is not None:
            found.append((compared[1], {"=": "=="}.get(compared[2], compared[2]), _literal(compared[3])))
        elif asked is not None:
            found.append((asked[1], "is not" if asked[2] else "is", None))
        else:
            refused.append(f"{place}: {part.strip()} is more than a field compared with a literal")
    return found


def _literal(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    if text[0] in "'\"":
        return text[1:-1]
    return float(text) if "." in text else int(text)


def row_of(recipe: Recipe, value: Mapping[str, Any], timestamp_ms: int | None) -> tuple[int, list[Any]]:
    """Event time and fields of one record. Raises `ValueError` for one without a time."""
    time_ms = timestamp_ms if recipe.event_time is None else _time_ms(_walk(value, recipe.event_time), recipe.unit)
    if time_ms is None:
        raise ValueError("a record that the engine took has no event time")
    return time_ms, [_typed(_walk(value, field), kind) for field, kind in recipe.types.items()]


def _walk(value: Any, path: str) -> Any:
    if isinstance(value, Mapping) and path in value:
        return value[path]
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _time_ms(value: Any, unit: str) -> int | None:
    if isinstance(value, str) and unit == "iso":
        found = datetime.fromisoformat(value)
        delta = found - datetime(1970, 1, 1, tzinfo=UTC)
        return (delta.days * 86_400_000_000 + delta.seconds * 1_000_000 + delta.microseconds) // 1000
    if value is None or isinstance(value, str | bool):
        return None
    in_ms = {"s": Decimal(1000), "ms": Decimal(1), "us": Decimal("0.001"), "ns": Decimal("0.000001")}[unit]
    return int((Decimal(value) * in_ms).to_integral_value("ROUND_FLOOR"))


def _typed(value: Any, kind: str) -> Any:
    if value is None:
        return None
    return {"string": str, "int64": int, "float64": float, "bool": bool}[kind](value)


def recompute(recipe: Recipe, times_ms: Sequence[int], rows: Sequence[Sequence[Any]]) -> pl.DataFrame:
    """The table of windows, by key and start; times in ms."""
    import polars as pl

    kinds = {"string": pl.String, "int64": pl.Int64, "float64": pl.Float64, "bool": pl.Boolean}
    columns = dict(zip(recipe.types, zip(*rows, strict=True), strict=True)) if rows else {}
    series = [pl.Series(field, columns.get(field, ()), dtype=kinds[kind]) for field, kind in recipe.types.items()]
    frame = pl.DataFrame([pl.Series("\0t", times_ms, dtype=pl.Int64), *series])
    for condition in recipe.filters:
        frame = frame.filter(_expression(condition))
    if recipe.window.null_keys == "drop":
        frame = frame.drop_nulls(list(recipe.keys.values()))
    by = [pl.col(field).alias(name) for name, field in recipe.keys.items()]
    bounds = [pl.col("\0s").alias("window_start"), pl.col("\0e").alias("window_end")]
    found = _windows(recipe, frame).group_by(*by, *bounds).agg(*(_aggregated(one) for one in recipe.aggregates))
    return found.sort(*recipe.keys, "window_start", nulls_last=True)


def _expression(condition: Condition) -> pl.Expr:
    import polars as pl

    parts = []
    for field, operator, literal in condition:
        column = pl.col(field)
        if operator in ("is", "is not"):
            parts.append(column.is_null() if operator == "is" else column.is_not_null())
            continue
        name = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}[operator]
        parts.append(getattr(column, name)(pl.lit(literal)))
    return pl.all_horizontal(parts)


def _aggregated(one: Aggregate) -> pl.Expr:
    import polars as pl

    if one.field is None:
        counted = pl.len() if not one.where else _expression(one.where).fill_null(value=False).sum()
        return counted.cast(pl.Int64).alias(one.name)
    column = pl.col(one.field) if not one.where else pl.col(one.field).filter(_expression(one.where))
    if one.function == "count":
        return column.count().cast(pl.Int64).alias(one.name)
    if one.function == "sum":
        # A sum of nothing is null, as of the engine.
        return pl.when(column.count() > 0).then(column.sum()).alias(one.name)
    return getattr(column, one.function)().alias(one.name)  # type: ignore[no-any-return]


def _windows(recipe: Recipe, frame: pl.DataFrame) -> pl.DataFrame:
    """The rows with the bounds of a window each is in; a row in several comes as often."""
    import polars as pl

    window, time = recipe.window, pl.col("\0t")
    if isinstance(window, SessionStep):
        return _sessions(recipe, window, frame)
    assert isinstance(window.size, int)  # noqa: S101 - calendars are refused
    size, slide = window.size, window.slide if isinstance(window, HoppingStep) else window.size
    last = (time - window.offset).floordiv(slide) * slide + window.offset
    starts = [(last - back * slide) for back in range(-(-size // slide))]
    frames = [
        frame.with_columns(start.alias("\0s")).with_columns((pl.col("\0s") + size).alias("\0e")) for start in starts
    ]
    return pl.concat(frames).filter(pl.col("\0e") > time)


def _sessions(recipe: Recipe, window: SessionStep, frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    fields = list(dict.fromkeys(recipe.keys.values()))
    ordered = frame.sort(*fields, "\0t")
    silence = pl.col("\0t").diff()
    silence = silence.over(fields) if fields else silence
    begins = (silence > window.gap if window.gap_inclusive else silence >= window.gap).fill_null(value=True)
    of_session = [*fields, "\0n"]
    return ordered.with_columns(begins.cum_sum().alias("\0n")).with_columns(
        pl.col("\0t").min().over(of_session).alias("\0s"),
        (pl.col("\0t").max().over(of_session) + window.gap).alias("\0e"),
    )
