"""The commands of `streamcore`. One file each, with `add_parser(subparsers)` and `run(arguments) -> exit code`.

Before them: `cli.py`. Invariant: a command module imports only the standard library at its top.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

Subparsers = Any
"""What `argparse` makes of `add_subparsers`; it has no public name."""


def add_command(
    subparsers: Subparsers,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    summary: str,
    examples: str,
) -> argparse.ArgumentParser:
    """A parser whose help ends with `examples`, one a line."""
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=summary[:1].upper() + summary[1:] + ".",
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser
