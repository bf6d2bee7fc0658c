"""Owns `streamcore verify`: whether the engine's windows of a range are what a batch makes of the same records.

Before it: `cli.py`. After it: `verification.py`.
Invariant: nothing is written, committed or created.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from streamcore.commands import Subparsers, add_command
from streamcore.commands.run import load_target

if TYPE_CHECKING:
    from streamcore.verification import Difference, Verified

SHOWN_MAX = 10
"""Differences that are shown."""

CELL_MAX = 60
"""Characters of a key or value that are shown."""

HEADINGS = ("window", "key", "column", "engine", "recomputed")

NEXT = """\
hint: one of the two sides is wrong, and both are streamcore's: please report it, with the pipeline file and the records of a \
window that differs; --start and --stop make the range small, --json shows every difference"""

EXAMPLES = """
streamcore verify page_counts.toml --against polars
streamcore verify page_counts.toml --against polars --start -2h --stop -1h --json
"""

DETAILS = """
A range of a topic goes by the Kafka timestamps of its records, not by their event times. Windows that are not over where it ends at
a time are left out. What can be worked out anew is listed in docs/state.md; columns that cannot are named, and left out.
Exit code 1 where a window differs, or where there was nothing to compare.
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declares the command."""
    summary = "replay a range of the input, and compare every final window with a batch"
    parser = add_command(subparsers, "verify", run, summary=summary, examples=EXAMPLES)
    parser.add_argument("target", metavar="FILE", help="pipeline file, or module.py:name of a pipeline in Python")
    parser.add_argument("--against", choices=("polars",), required=True, help="what works the windows out anew")
    parser.description = f"{parser.description}\n{DETAILS.rstrip()}"
    parser.add_argument(
        "--start", metavar="T", help="where to begin: earliest, a time, -2h; by the records' Kafka timestamps"
    )
    parser.add_argument(
        "--stop",
        metavar="T",
        help="where to end: a time, -1h; by the records' Kafka timestamps; unset: its end, where all windows close",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="override a key of the file; may be repeated"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; 1 where a window differs, or none was compared."""
    from streamcore.cli import error_text
    from streamcore.config.environment import fill_from_environment
    from streamcore.verification import verify

    config = fill_from_environment(load_target(arguments.target, arguments.set).config, os.environ)
    found = verify(config, start=arguments.start, stop=arguments.stop)
    if arguments.json:
        print(json.dumps(_plain(asdict(found))))
        return 1 if found.differences or found.nothing else 0
    for line in table_lines(found.differences[:SHOWN_MAX]):
        print(line)
    if len(found.differences) > SHOWN_MAX:
        print(f"and {len(found.differences) - SHOWN_MAX} more")
    for column in found.columns_left_out:
        print(f"not compared: {column}")
    print(_summary(found))
    sys.stdout.flush()
    if found.differences:
        print(NEXT, file=sys.stderr)
    if found.nothing:
        print(error_text(f"nothing was compared: {found.nothing}"), file=sys.stderr)
    return 1 if found.differences or found.nothing else 0


def _summary(found: Verified) -> str:
    agreed = f"{found.differing} windows differ" if found.differences else "all windows agree"
    agreed = "nothing was compared" if found.nothing else agreed
    still_open = f", {found.open} still open" if found.open else ""
    return f"{found.records} records, {found.left_out} of them left out, {found.windows} windows{still_open}: {agreed}"


def _plain(value: Any) -> Any:
    """What JSON can hold: numbers that are none of it as text."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def table_lines(differences: Sequence[Difference]) -> Iterator[str]:
    """A line of headings, then one a difference, in columns; none without differences."""
    rows = [HEADINGS, *(_cells(one) for one in differences)] if differences else []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _cells(one: Difference) -> tuple[str, ...]:
    key = ", ".join(f"{name} {_text(value)}" for name, value in one.key.items())
    sides = [
        _text(side) if one.column is not None else "no row" if side is None else _row_text(side)
        for side in (one.engine, one.recomputed)
    ]
    return (
        f"{one.window_start} to {one.window_end}",
        _cut(key or "-"),
        one.column or "(the row)",
        *map(_cut, sides),
    )


def _row_text(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in values.items())


def _text(value: Any) -> str:
    return "null" if value is None else repr(value)


def _cut(text: str) -> str:
    return text if len(text) <= CELL_MAX else f"{text[: CELL_MAX - 3]}..."
