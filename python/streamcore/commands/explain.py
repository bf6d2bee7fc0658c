"""Owns `streamcore explain`: the plan of a pipeline as text.

Before it: `cli.py`. After it: nothing; it only shows.
Invariant: nothing is opened or connected.
"""

from __future__ import annotations

import argparse

from streamcore.commands import Subparsers, add_command
from streamcore.commands.run import load_target

EXAMPLES = """
streamcore explain page_counts.toml
streamcore explain pipeline.py:pages
streamcore explain page_counts.toml --set combine=none
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declares the command."""
    parser = add_command(subparsers, "explain", run, summary="show the plan of a pipeline", examples=EXAMPLES)
    parser.add_argument("target", metavar="FILE", help="pipeline file, or module.py:name of a pipeline in Python")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="override a key of the file; may be repeated"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    print(load_target(arguments.target, arguments.set).explain(), end="")
    return 0
