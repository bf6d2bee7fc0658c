"""Owns `streamcore state`: looking at the committed state of a pipeline, and what operators do to it.

Before it: `cli.py`. After it: `state_actions.py` of this folder, a function for each action.
Invariant: only `restore`, `rescale`, `repair` and `reset` write, and they say what they did.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamcore.commands import Subparsers, add_command

EXAMPLES = """
streamcore state inspect page_counts.toml
streamcore state savepoint page_counts.toml monday
streamcore state rescale page_counts.toml --to 8 --partitioner murmur2_random
streamcore state reset page_counts.toml --yes
"""

ACTIONS: dict[str, str] = {
    "inspect": "show the committed state of each lane",
    "verify": "read all of it, load it and compare its digests; ends with 6 where it cannot be used",
    "savepoint": "write it to a new folder: to be kept, put back, and opened with polars",
    "restore": "put a savepoint back, as a new epoch of every lane",
    "rescale": "move it to an input that has another number of partitions now",
    "repair": "bring lanes that cannot be gone on from back to their newest whole epoch",
    "reset": "discard it, and the group's offsets: the next run begins anew",
}

OF_FOLDER = ("savepoint", "restore")


def add_parser(subparsers: Subparsers) -> None:
    """Declares the command."""
    parser = add_command(
        subparsers, "state", run, summary="look at the state of an exactly-once pipeline", examples=EXAMPLES
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, summary in ACTIONS.items():
        action = actions.add_parser(name, help=summary, description=summary[:1].upper() + summary[1:] + ".")
        action.add_argument("target", metavar="FILE", help="pipeline file, or module.py:name of a pipeline in Python")
        if name in OF_FOLDER:
            action.add_argument("folder", metavar="FOLDER", type=Path, help="folder of the savepoint")
        if name == "reset":
            action.add_argument("--yes", action="store_true", help="do not ask")
        if name == "rescale":
            _add_rescale(action)
        action.add_argument("--json", action="store_true", help="JSON instead of lines")
        action.add_argument(
            "--set",
            metavar="KEY=VALUE",
            action="append",
            default=[],
            help="override a key of the file; may be repeated",
        )


def _add_rescale(action: argparse.ArgumentParser) -> None:
    from streamcore import _core

    action.add_argument("--to", metavar="M", type=int, required=True, help="partitions that the input has now")
    action.add_argument(
        "--partitioner", choices=_core.PARTITIONERS, help="how the producers choose the partition of a key"
    )
    action.add_argument(
        "--drain", action="store_true", help="read what is left of the old partitions first, with the state as it was"
    )
    action.add_argument(
        "--accept-gap",
        action="store_true",
        help="with --drain: go on without records that retention deleted before they were read",
    )
    action.add_argument(
        "--accept-late",
        action="store_true",
        help="go on where records that are not read yet will be late by the clock of the partition that was furthest",
    )
    action.add_argument(
        "--drained",
        action="store_true",
        help="the old input was read to its end, where it is gone or records of it were deleted",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    import os

    from streamcore.commands import state_actions
    from streamcore.commands.run import load_target
    from streamcore.committed_state import check_there, committed_phases
    from streamcore.config.environment import fill_from_environment

    config = fill_from_environment(load_target(arguments.target, arguments.set).config, os.environ)
    act: Callable[[Any, argparse.Namespace], int] = getattr(state_actions, arguments.action)
    with committed_phases(config) as phases:
        if arguments.action != "restore":  # which may be there to make it
            check_there(phases, is_reset=arguments.action == "reset")
        return act(phases, arguments)
