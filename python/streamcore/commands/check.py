"""Owns `streamcore check`: every mistake in pipeline files at once, with line and column.

Before it: `cli.py`. After it: `sampling.py` for `--write-schema`, `reach.py` for `--connect`.
Invariant: without `--connect` or `--write-schema` nothing is opened but the files themselves.
"""

from __future__ import annotations

import argparse
import sys

from streamcore.commands import Subparsers, add_command

EXAMPLES = """
streamcore check page_counts.toml
streamcore check page_counts.toml --write-schema
streamcore check page_counts.toml --connect --set kafka.bootstrap_servers=broker:9092
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declares the command."""
    parser = add_command(subparsers, "check", run, summary="find every mistake in pipeline files", examples=EXAMPLES)
    parser.add_argument("files", metavar="FILE", nargs="+", help="pipeline file")
    parser.add_argument("--connect", action="store_true", help="also ask the brokers and stores it names")
    parser.add_argument(
        "--write-schema", action="store_true", help="read a sample and write undeclared types into the file"
    )
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="override a key of the file; may be repeated"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command: 0 when all is well, else the exit code of the first mistake."""
    from streamcore.errors import Error

    exit_code = 0
    for file in arguments.files:
        try:
            _check(file, arguments)
        except Error as error:
            print(f"error: {error}", file=sys.stderr)
            exit_code = exit_code or error.exit_code
    return exit_code


def _check(file: str, arguments: argparse.Namespace) -> None:
    from streamcore.config.advice import advice
    from streamcore.config.loading import parse, read_document

    if arguments.write_schema:
        _write_schema(file, arguments.set)
    document = read_document(file, arguments.set)
    config = parse(document)
    for word in advice(config, document):
        print(f"warning: {file}: {word}", file=sys.stderr)
    if arguments.connect:
        from streamcore.commands.reach import reach

        for line in reach(config):
            print(f"  {line}")
    print(f"ok {file}: {_summary(len(config.steps), 'step')}, {_summary(len(config.sinks), 'sink')}")


def _summary(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _write_schema(file: str, overrides: list[str]) -> None:
    from streamcore.commands.sampling import sample_types
    from streamcore.config.loading import parse, read_document
    from streamcore.config.schema_lines import replace_file, schema_lines, with_types

    document = read_document(file, overrides)
    types = sample_types(parse(document, types_required=False))
    if not types:
        print(f"{file}: every type that matters is declared", file=sys.stderr)
        return
    replace_file(file, with_types(document.text, types))
    print(f"{file}: added to [source.schema]", file=sys.stderr)
    for line in schema_lines(types):
        print(f"  {line}", file=sys.stderr)
