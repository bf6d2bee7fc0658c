"""Owns how rows fit the width of a terminal: what is left out, what is shortened, and what never is.

Before it: `console.py`, with the newest rows. After it: a rich table.
Invariant: a number is shown whole or not at all; a count that lost its last digits would be read as another count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

CELL_CHARACTERS_MAX = 40

BORDER_CHARACTERS = 3
"""What a column costs beside its text: a blank on both sides and a line; the table costs one line more."""

LEFT_OUT_FIRST = ("revision", "is_final")
"""They tell rows of one window apart; its numbers are what the table is looked at for."""

TEXT_CHARACTERS_MIN = 8
HEADER_CHARACTERS_MIN = 3

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column as text."""

    name: str
    cells: Sequence[str]
    width: int
    """Characters it gets."""
    text: bool
    """Whether its cells may be shortened."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Rows as they are shown."""

    columns: Sequence[Column]
    day: date | None = None
    """The day of every time, where times are shown without it."""
    left_out: Sequence[str] = ()
    """Columns that no shortening made room for."""

    @property
    def width(self) -> int:
        """Of the whole table, in characters."""
        return 1 + sum(column.width + BORDER_CHARACTERS for column in self.columns)


def fit(rows: Sequence[Row], names: Sequence[str], width: int) -> Fitted:
    """`rows` in at most `width` characters, giving up as little as that takes, the least telling first."""
    fitted = Fitted([_column(rows, name) for name in names])
    if fitted.width > width:
        names = [name for name in names if name not in LEFT_OUT_FIRST]
        fitted = Fitted([_column(rows, name) for name in names])
    if fitted.width > width:
        day = _shared_day(rows, names)
        fitted = Fitted([_column(rows, name, "%H:%M:%S" if day else "%m-%d %H:%M:%S") for name in names], day)
    if fitted.width > width:
        fitted = replace(fitted, columns=_shortened(fitted.columns, fitted.width - width))
    while fitted.width > width and len(fitted.columns) > 1:
        # The end of a window tells its start, so that goes before any count does.
        names = [column.name for column in fitted.columns]
        name = "window_start" if {"window_start", "window_end"} <= set(names) else names[-1]
        columns = [column for column in fitted.columns if column.name != name]
        fitted = replace(fitted, columns=columns, left_out=[*fitted.left_out, name])
    return fitted


def cell_text(value: Any, time_format: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A value as a table shows it: times to the second, control characters made visible."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return value.strftime(time_format)
    if isinstance(value, float):
        return f"{value:.6g}"
    text = "".join(character if character.isprintable() else "�" for character in str(value))
    return text if len(text) <= CELL_CHARACTERS_MAX else text[: CELL_CHARACTERS_MAX - 1] + "…"


def _column(rows: Sequence[Row], name: str, time_format: str = "%Y-%m-%d %H:%M:%S") -> Column:
    from rich.cells import cell_len

    cells = [cell_text(row[name], time_format) for row in rows]
    width = max(cell_len(text) for text in (name, *cells))
    # A number never is, nor a time, and a flag is short.
    text = not any(isinstance(row[name], (bool, int, float, datetime)) for row in rows)
    return Column(name, cells, width, text)


def _shared_day(rows: Sequence[Row], names: Sequence[str]) -> date | None:
    days = {row[name].date() for row in rows for name in names if isinstance(row[name], datetime)}
    return days.pop() if len(days) == 1 else None


def _shortened(columns: Sequence[Column], excess: int) -> list[Column]:
    """Columns `excess` characters narrower, or as narrow as they get: headers first, then the widest texts."""
    from rich.cells import cell_len

    widths = [column.width for column in columns]
    floors = [
        TEXT_CHARACTERS_MIN if column.text else max([HEADER_CHARACTERS_MIN, *(cell_len(cell) for cell in column.cells)])
        for column in columns
    ]
    for texts in (False, True):
        kind = [index for index, column in enumerate(columns) if column.text is texts]
        while excess > 0 and (wide := [index for index in kind if widths[index] > floors[index]]):
            widths[max(wide, key=widths.__getitem__)] -= 1
            excess -= 1
    return [replace(column, width=width) for column, width in zip(columns, widths, strict=True)]
