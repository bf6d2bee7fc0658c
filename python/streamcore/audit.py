"""Owns the audit: whether every record that a pipeline has read is accounted for, from its committed state alone.

Before it: `committed_state.py`. After it: `streamcore audit`.
Invariant: each number is held against another that came to be elsewhere: the counts of a manifest against each other, against
those in the blocks of the state, and against the positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streamcore.committed_state import CommittedState
from streamcore.report import COMBINE_LANE, Ledgers

PLACES = ("applied", "filtered", "duplicate", "late", "future", "rejected", "tombstone")
"""Where a record can have gone; each has gone to one."""

ROW_PLACES = ("applied", "filtered", "duplicate", "late", "rejected")
"""The same for rows of a window in the stage behind it."""

PARTS = (("no_window", "filtered"), ("shed", "rejected"))
"""Counts that are part of another."""


@dataclass(slots=True)
class Audit:
    """What was found."""

    lanes: Ledgers = field(default_factory=dict)
    """The ledger of each lane; what lanes share has `late_after_combine` alone."""
    stages: dict[str, dict[str, int]] = field(default_factory=dict)
    """Where rows of a window went in the stage behind it."""
    epochs: dict[int, int] = field(default_factory=dict)
    """The epoch that each lane's numbers are of."""
    unusable: dict[int, list[str]] = field(default_factory=dict)
    """Lanes whose state cannot be read, and why."""
    differences: list[str] = field(default_factory=list)
    """What does not add up."""

    def total(self) -> dict[str, int]:
        """The sum over lanes."""
        names = dict.fromkeys(name for counts in self.lanes.values() for name in counts)
        return {name: sum(counts.get(name, 0) for counts in self.lanes.values()) for name in names}


def audit(committed: CommittedState) -> Audit:
    """Reads the state of all lanes and adds it up. Raises `SourceError`."""
    found = Audit()
    for state in committed.read_all():
        problems = committed.recover(state)
        if problems:
            found.unusable[state.lane] = problems
            continue
        manifest = state.manifest
        if manifest is None:
            continue
        found.epochs[state.lane] = manifest["epoch"]
        if state.lane != COMBINE_LANE:
            counted = committed.engine.ledger()[state.lane]
            position = _moved(manifest["facts"]["positions"].get(committed.topic.name), committed, state.lane)
            found.lanes[state.lane] = counted
            found.differences += differences(state.lane, manifest["ledger"], counted, position)
    if COMBINE_LANE in found.epochs:
        found.lanes[COMBINE_LANE] = committed.engine.ledger()[COMBINE_LANE]
    found.stages = committed.engine.stages()
    for name, counts in found.stages.items():
        found.differences += unbalanced(f"the rows that reached {name}", counts, ROW_PLACES)
    return found


def _moved(position: int | None, committed: CommittedState, lane: int) -> int | None:
    """A position with what the lane had counted before its state was rescaled in the place of where it began then."""
    began = committed.states.begun.get("lanes", {}).get(str(lane))
    return position if position is None or began is None else position - began["position"] + began["read"]


def differences(lane: int, told: Mapping[str, int], counted: Mapping[str, int], position: int | None) -> list[str]:
    """What does not add up in a lane: the manifest's counts, those of the state, and the position."""
    found = unbalanced(f"lane {lane}", counted, PLACES)
    for name in sorted({*told, *counted}):
        if told.get(name, 0) != counted.get(name, 0):
            found.append(
                f"lane {lane}: the manifest says {name} {told.get(name, 0)}, and the state {counted.get(name, 0)}"
            )
    for part, whole in PARTS:
        if counted.get(part, 0) > counted.get(whole, 0):
            found.append(f"lane {lane}: {part} {counted[part]} cannot be part of {whole} {counted.get(whole, 0)}")
    if position is not None and counted.get("read", 0) > position:
        found.append(f"lane {lane}: read {counted['read']} records, and stands at offset {position}")
    return found


def unbalanced(what: str, counts: Mapping[str, int], places: tuple[str, ...]) -> list[str]:
    """In words, that `read` is not the sum of where it went."""
    read, out = counts.get("read", 0), sum(counts.get(place, 0) for place in places)
    if read == out:
        return []
    return [
        f"{what}: read {read}, accounted for {out}, so {read - out:+d} {'is' if abs(read - out) == 1 else 'are'} missing"
    ]


def to_json(found: Audit) -> dict[str, Any]:
    """Plain values."""
    return {
        "lanes": {str(lane): counts for lane, counts in sorted(found.lanes.items())},
        "epochs": {str(lane): epoch for lane, epoch in sorted(found.epochs.items())},
        "stages": found.stages,
        "total": found.total(),
        "unusable": {str(lane): why for lane, why in sorted(found.unusable.items())},
        "differences": found.differences,
        "adds_up": not found.unusable and not found.differences,
    }
