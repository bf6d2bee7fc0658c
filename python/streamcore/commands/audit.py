"""Owns `streamcore audit`: whether every record that a pipeline has read is accounted for.

Before it: `cli.py`. After it: `audit.py`, which adds up; here it is shown.
Invariant: the command succeeds only where all of it adds up.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from streamcore.commands import Subparsers, add_command
from streamcore.commands.run import load_target

if TYPE_CHECKING:
    from streamcore.audit import Audit

EXAMPLES = """
streamcore audit page_counts.toml
streamcore audit page_counts.toml --json
"""


def add_parser(subparsers: Subparsers) -> None:
    """Declares the command."""
    summary = "add up where every record went, from the committed state"
    parser = add_command(subparsers, "audit", run, summary=summary, examples=EXAMPLES)
    parser.add_argument("target", metavar="FILE", help="pipeline file, or module.py:name of a pipeline in Python")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="override a key of the file; may be repeated"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command. Raises `StateError` for state that cannot be used, `LedgerError` for what does not add up."""
    from streamcore.audit import audit, to_json
    from streamcore.committed_state import check_there, committed_phases
    from streamcore.config.environment import fill_from_environment
    from streamcore.errors import LedgerError, StateError

    config = fill_from_environment(load_target(arguments.target, arguments.set).config, os.environ)
    with committed_phases(config) as phases:
        check_there(phases)
        found = audit(phases)
    if arguments.json:
        print(json.dumps(to_json(found)))
    else:
        for line in _lines(found):
            print(line)
    if found.unusable:
        lines = [f"  {_lane(lane)}: {why}" for lane, problems in sorted(found.unusable.items()) for why in problems]
        raise StateError("\n".join(["the state of a lane cannot be read; streamcore state verify FILE", *lines]))
    if found.differences:
        raise LedgerError(
            "\n".join(["the ledger does not add up; please report it", *(f"  {one}" for one in found.differences)])
        )
    return 0


def _lines(found: Audit) -> Iterator[str]:
    from streamcore.audit import COMBINED_LANE, PARTIAL_PLACES, PLACES, ROW_PLACES
    from streamcore.gaps import offsets_of

    for lane, counts in sorted(found.lanes.items()):
        where = "where lanes meet" if lane < 0 else f"lane {lane}"
        yield f"{where}, epoch {found.epochs[lane]}: {_sum(counts, PLACES) if lane >= 0 else _plain(counts)}"
        yield from _skipped(found, lane)
    for lane, counts in sorted(found.combined.items()):
        parts = " + ".join(f"{place} {counts[place]}" for place in PARTIAL_PLACES if counts[place])
        yield f"combine lane {lane}: {counts['partials']} records in partials = {parts or 0}{_missing(counts)}"
        yield from _skipped(found, COMBINED_LANE - lane)
    for name, counts in found.stages.items():
        yield f"rows that reached {name}: {_sum(counts, ROW_PLACES)}"
    if not found.lanes:
        yield "nothing is committed yet"
    elif not found.unusable and not found.differences:
        offsets = sum(offsets_of(gaps) for gaps in found.skipped.values())
        without = f", without {offsets} offset{'' if offsets == 1 else 's'} of accepted gaps" if offsets else ""
        total = found.total()
        if found.unmerged:
            yield f"in no window: {found.unmerged} of {total['applied']} applied records, whose partials are missing"
        yield f"{'the rest adds up' if found.unmerged else 'adds up'}: {_sum(total, PLACES)}{without}"


def _missing(counts: dict[str, int]) -> str:
    missing = counts.get("missing", 0)
    return (
        f", without {missing} epoch{'' if missing == 1 else 's'} of lanes, whose partials are missing"
        if missing
        else ""
    )


def _skipped(found: Audit, lane: int) -> Iterator[str]:
    from streamcore.gaps import in_words

    for topic, gaps in found.skipped.get(lane, {}).items():
        yield f"  of {topic} {in_words(gaps)}"


def _lane(lane: int) -> str:
    """A lane's name; those of partitions of partials come as they stand beside lanes."""
    from streamcore.audit import COMBINED_LANE

    return f"combine lane {COMBINED_LANE - lane}" if lane <= COMBINED_LANE else f"lane {lane}"


def _sum(counts: dict[str, int], places: tuple[str, ...]) -> str:
    parts = " + ".join(f"{place} {counts[place]}" for place in places if counts.get(place))
    return f"read {counts.get('read', 0)} = {parts or 0}"


def _plain(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
