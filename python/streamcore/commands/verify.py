"""Owns `streamcore verify`: whether the engine's windows of a range are what a batch makes of the same records.

Before it: `cli.py`. After it: `verification.py`.
Invariant: nothing is written, committed or created.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict

from streamcore.commands import Subparsers, add_command
from streamcore.commands.run import load_target

SHOWN_MAX = 20
"""Differences that are shown."""

EXAMPLES = """
streamcore verify page_counts.toml --against polars
streamcore verify page_counts.toml --against polars --start -2h --stop -1h --json
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declares the command."""
    summary = "replay a range of the input, and compare every final window with a batch"
    parser = add_command(subparsers, "verify", run, summary=summary, examples=EXAMPLES)
    parser.add_argument("target", metavar="FILE", help="pipeline file, or module.py:name of a pipeline in Python")
    parser.add_argument("--against", choices=("polars",), required=True, help="what works the windows out anew")
    parser.add_argument("--start", metavar="T", help="where to begin: earliest, a time, -2h")
    parser.add_argument(
        "--stop", metavar="T", help="where to end: a time, -1h; unset: its end, where all windows close"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="override a key of the file; may be repeated"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; 1 where a window differs."""
    from streamcore.config.environment import fill_from_environment
    from streamcore.verification import verify

    config = fill_from_environment(load_target(arguments.target, arguments.set).config, os.environ)
    found = verify(config, start=arguments.start, stop=arguments.stop)
    if arguments.json:
        print(json.dumps(asdict(found)))
        return 1 if found.differences else 0
    for difference in found.differences[:SHOWN_MAX]:
        print(difference)
    if len(found.differences) > SHOWN_MAX:
        print(f"and {len(found.differences) - SHOWN_MAX} more")
    agreed = "differ" if found.differences else "all windows agree"
    still_open = f", {found.open} still open" if found.open else ""
    print(f"{found.records} records, {found.left_out} of them left out, {found.windows} windows{still_open}: {agreed}")
    return 1 if found.differences else 0
