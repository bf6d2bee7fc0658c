"""Owns `streamcore config`: the effective configuration, what decided each key, the JSON Schema, the reference page.

Before it: `cli.py`. After it: nothing; it only shows.
Invariant: no secret is printed.
"""

from __future__ import annotations

import argparse
import json

from streamcore.commands import Subparsers, add_command

EXAMPLES = """
streamcore config page_counts.toml
streamcore config page_counts.toml --origin --set commit_interval=5s
streamcore config schema > streamcore.schema.json
streamcore config reference > docs/pipeline-toml.md
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declares the command."""
    parser = add_command(
        subparsers,
        "config",
        run,
        summary="show the effective configuration, its JSON Schema, or every key there is",
        examples=EXAMPLES,
    )
    parser.add_argument(
        "target",
        metavar="FILE",
        help="pipeline file; or schema, for the JSON Schema; or reference, for every key as Markdown",
    )
    parser.add_argument("--origin", action="store_true", help="also show what decided each key")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="override a key of the file; may be repeated"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    if arguments.target == "reference":
        from streamcore.config.reference import reference

        print(reference(), end="")
        return 0
    if arguments.target == "schema":
        from streamcore.config.schema import json_schema

        print(json.dumps(json_schema(), indent=2))
        return 0
    from streamcore.config.loading import parse, read_document
    from streamcore.config.origins import settings

    document = read_document(arguments.target, arguments.set)
    shown = list(settings(document, parse(document, types_required=False)))
    width = max(len(f"{setting.path} = {setting.value}") for setting in shown)
    for setting in shown:
        line = f"{setting.path} = {setting.value}"
        print(f"{line:<{min(width, 80)}}  # {setting.origin}" if arguments.origin else line)
    return 0
