"""Owns `streamcore test`: runs the `[[tests]]` of a pipeline file through the engine and shows what differs.

Before it: `cli.py`. After it: `streamcore.testing`, the same kit that tests in Python use.
Invariant: a test sees its own records and its own time; nothing is read from or written to the world.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from streamcore.commands import Subparsers, add_command

if TYPE_CHECKING:
    from streamcore.config import PipelineConfig, TestConfig

EXAMPLES = """
streamcore test page_counts.toml
streamcore test page_counts.toml --only "counts one view"
streamcore test a.toml b.toml
"""

EXIT_FAILED = 1
ROWS_SHOWN_MAX = 20
"""Rows of a difference that are printed; the rest is counted."""


def add_parser(subparsers: Subparsers) -> None:
    """Declares the command."""
    parser = add_command(subparsers, "test", run, summary="run the tests inside pipeline files", examples=EXAMPLES)
    parser.add_argument("files", metavar="FILE", nargs="+", help="pipeline file with [[tests]]")
    parser.add_argument("--only", metavar="NAME", help="run the test of this name alone")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command: 0 when every test passes, 1 otherwise."""
    from streamcore.config import load
    from streamcore.errors import ConfigError

    passed = failed = 0
    names: list[str] = []
    for file in arguments.files:
        config = load(file, types_required=False)
        names += [repr(test.name) for test in config.tests]
        tests = [test for test in config.tests if arguments.only in (None, test.name)]
        for test in tests:
            differences = run_test(config, test)
            passed, failed = passed + (not differences), failed + bool(differences)
            print(f"{'FAIL' if differences else 'ok  '} {file}: {test.name}")
            for line in differences:
                print(f"     {line}")
    if passed + failed == 0:
        where = ", ".join(arguments.files)
        if names:
            raise ConfigError(f"there is no test called {arguments.only!r} in {where}; there is {', '.join(names)}")
        raise ConfigError(f"there is no test in {where}; add a [[tests]] table")
    print(f"{passed} passed, {failed} failed", file=sys.stderr)
    return EXIT_FAILED if failed else 0


def run_test(config: PipelineConfig, test: TestConfig) -> list[str]:
    """What differs from what the test expects, as lines to print; empty when it passes."""
    from streamcore import testing

    with testing.start(config) as pipeline:
        for name, rows in test.inputs.items():
            pipeline.push([testing.record_of(row) for row in rows], name)
        pipeline.push([testing.record_of(row) for row in test.input])
        pipeline.end()
        differences: list[str] = []
        expectations = {"result": test.expect, "late": test.expect_late, "rejected": test.expect_rejected}
        for output, expected in expectations.items():
            if expected is not None:
                differences += compare(output, expected, pipeline.rows(output))
        for name, count in test.ledger.items():
            found = getattr(pipeline.ledger, name, None)
            if found != count:
                differences.append(
                    f"ledger.{name}: expected {count}, got {'no such count' if found is None else found}"
                )
    return differences


def compare(output: str, expected: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines `- row` for what is missing and `+ row` for what is too much; rows may come in any order.

    Only the columns that an expected row names are compared.
    """
    left = [dict(row) for row in rows]
    missing = []
    for wanted in expected:
        match = next((row for row in left if _fits(wanted, row)), None)
        if match is None:
            missing.append(wanted)
        else:
            left.remove(match)
    if not missing and not left:
        return []
    named = list(Counter(name for row in expected for name in row)) or None
    lines = [f"output {output}: {len(missing)} rows missing, {len(left)} rows too many"]
    lines += [f"- {_text(row)}" for row in missing[:ROWS_SHOWN_MAX]]
    lines += [f"+ {_text(row, named)}" for row in left[:ROWS_SHOWN_MAX]]
    hidden = max(0, len(missing) - ROWS_SHOWN_MAX) + max(0, len(left) - ROWS_SHOWN_MAX)
    return [*lines, f"... {hidden} more"] if hidden else lines


def _fits(wanted: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    return all(name in row and _same(value, row[name]) for name, value in wanted.items())


def _same(wanted: Any, found: Any) -> bool:
    if isinstance(found, datetime):
        return isinstance(wanted, str) and _instant(wanted) == found
    if isinstance(wanted, bool) or isinstance(found, bool):
        return wanted is found
    if isinstance(found, bytes) and isinstance(wanted, str):
        return wanted.encode() == found
    return bool(wanted == found) or (type(found).__name__ == "Decimal" and str(wanted) == str(found))


def _instant(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _text(row: Mapping[str, Any], columns: Sequence[str] | None = None) -> str:
    shown = {name: row[name] for name in columns if name in row} if columns else row
    return "{ " + ", ".join(f"{name} = {_value(value)}" for name, value in shown.items()) + " }"


def _value(value: Any) -> str:
    if isinstance(value, datetime):
        return f'"{value.isoformat(timespec="milliseconds").replace("+00:00", "Z")}"'
    return f'"{value}"' if isinstance(value, str) else str(value)
