"""Owns working windows out anew, as a batch in polars, from records as they came.

Before it: `verification.py`, which reads them, and `recipe.py`. After it: a table of windows, to be held against the engine's.
Invariant: nothing of the engine is used; copies are told apart in plain Python, record by record, everything else in polars.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from streamcore.config.steps import HoppingStep, SessionStep
from streamcore.recipe import SCALAR, Aggregate, Condition, Dedupe, Recipe

if TYPE_CHECKING:
    import polars as pl

NEWEST = "\0newest"
"""A column of the table of windows: the newest event time, ms, of the lane that has the window; of several the least."""

GENERATIONS = 8
"""Ids are forgotten by eighths of the horizon (`docs/semantics.md`, Copies)."""


@dataclass(frozen=True, slots=True)
class Row:
    """A record that moved the clock, if `where` let it."""

    lane: int
    time_ms: int
    values: list[Any]
    is_left_out: bool
    """The engine took it into no window: late, or refused by a step. Those behind it may be copies of it."""


@dataclass(frozen=True, slots=True)
class _Number:
    """A number as it was written."""

    text: str


def row_of(recipe: Recipe, value: bytes, timestamp_ms: int | None) -> tuple[int | None, list[Any]]:
    """Event time, None without one, and fields of one record."""
    read = json.loads(value, parse_float=_Number, parse_int=_Number)
    time_ms = timestamp_ms if recipe.event_time is None else _time_ms(_walk(read, recipe.event_time), recipe.unit)
    return time_ms, [_typed(_walk(read, field), kind) for field, kind in recipe.types.items()]


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
    if not isinstance(value, _Number):
        return None
    in_ms = {"s": Decimal(1000), "ms": Decimal(1), "us": Decimal("0.001"), "ns": Decimal("0.000001")}[unit]
    return int((Decimal(value.text) * in_ms).to_integral_value("ROUND_FLOOR"))


def _typed(value: Any, kind: str) -> Any:
    if value is None:
        return None
    if kind == SCALAR:
        # As written, so that 1, 1.0 and "1" are three.
        return f"#{value.text}" if isinstance(value, _Number) else f"'{value}" if isinstance(value, str) else str(value)
    if isinstance(value, _Number):
        return int(Decimal(value.text)) if kind == "int64" else float(value.text)
    return value


def entered(recipe: Recipe, rows: Sequence[Row]) -> tuple[pl.DataFrame, dict[int, int]]:
    """The rows that windows take, in the order they came, and the newest event time of each lane, ms."""
    import polars as pl

    kinds = {"string": pl.String, "int64": pl.Int64, "float64": pl.Float64, "bool": pl.Boolean, SCALAR: pl.String}
    columns = dict(zip(recipe.types, zip(*(row.values for row in rows), strict=True), strict=True)) if rows else {}
    series = [pl.Series(field, columns.get(field, ()), dtype=kinds[kind]) for field, kind in recipe.types.items()]
    frame = pl.DataFrame(
        [
            pl.Series("\0t", [row.time_ms for row in rows], dtype=pl.Int64),
            pl.Series("\0lane", [row.lane for row in rows], dtype=pl.Int64),
            pl.Series("\0out", [row.is_left_out for row in rows], dtype=pl.Boolean),
            *series,
        ]
    )
    if recipe.where:
        frame = frame.filter(_expression(recipe.where))
    newest = pl.col("\0t").cum_max().over("\0lane")
    # The clock as it stood before the record.
    frame = frame.with_columns(
        newest.shift(1).over("\0lane").alias("\0before"), pl.col("\0t").max().over("\0lane").alias(NEWEST)
    )
    newest_ms = dict(frame.select("\0lane", NEWEST).unique().rows())
    for step in recipe.steps:
        if isinstance(step, Dedupe):
            frame = frame.filter(pl.Series(_are_first(recipe, step, frame), dtype=pl.Boolean))
        else:
            frame = frame.filter(_expression(step))
    frame = frame.filter(~pl.col("\0out"))
    if recipe.window.null_keys == "drop":
        frame = frame.drop_nulls(list(recipe.keys.values()))
    return frame, newest_ms


def _are_first(recipe: Recipe, step: Dedupe, frame: pl.DataFrame) -> list[bool]:
    """For each row whether it is the first with its id in its lane, of those that are remembered."""
    generation_ms = max(1, step.within_ms // GENERATIONS)
    bound_ms = recipe.out_of_orderness_ms
    forgotten_at: dict[tuple[int, Any], int] = {}
    """By lane and id: the reading of the clock that forgets it."""
    found = []
    for lane, time_ms, before_ms, id_ in frame.select("\0lane", "\0t", "\0before", step.id).iter_rows():
        over_at_ms = (time_ms // generation_ms + 1) * generation_ms + step.within_ms
        known_until_ms = forgotten_at.get((lane, id_))
        if before_ms is None or bound_ms is None:
            # The clock has not moved: nothing is forgotten, and nothing is too old.
            is_first = known_until_ms is None
        else:
            clock_ms = before_ms - bound_ms - 1
            is_first = clock_ms < over_at_ms and (known_until_ms is None or clock_ms >= known_until_ms)
        # Without an id it is refused.
        is_first = is_first and id_ is not None
        if is_first:
            forgotten_at[lane, id_] = over_at_ms
        found.append(is_first)
    return found


def behind(recipe: Recipe, frame: pl.DataFrame) -> int:
    """How many rows came further behind the newest of their lane than `out_of_orderness`."""
    import polars as pl

    if recipe.out_of_orderness_ms is None:
        return 0
    return frame.filter(pl.col("\0before") - pl.col("\0t") > recipe.out_of_orderness_ms).height


def recompute(recipe: Recipe, frame: pl.DataFrame) -> pl.DataFrame:
    """The table of windows of the rows of `entered`, by key and start; times in ms."""
    import polars as pl

    by = [pl.col(field).alias(name) for name, field in recipe.keys.items()]
    bounds = [pl.col("\0s").alias("window_start"), pl.col("\0e").alias("window_end")]
    aggregated = [*(_aggregated(one) for one in recipe.aggregates), pl.col(NEWEST).min()]
    found = _windows(recipe, frame).group_by(*by, *bounds).agg(*aggregated)
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
