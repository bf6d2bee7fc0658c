"""Owns the audit: whether every record that a pipeline has read is accounted for, from its committed state alone.

Before it: `committed_state.py`. After it: `streamcore audit`.
Invariant: each number is held against another that came to be elsewhere: the counts of a manifest against each other, against
those in the blocks of the state, and against the positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamcore.committed_state import CommittedState
from streamcore.gaps import Skipped, offsets_of, skipped_by
from streamcore.report import COMBINE_LANE, Ledgers

PLACES = ("applied", "filtered", "duplicate", "late", "future", "rejected", "tombstone")
"""Where a record can have gone; each has gone to one."""

ROW_PLACES = ("applied", "filtered", "duplicate", "late", "rejected")
"""The same for rows of a window in the stage behind it."""

PARTIAL_PLACES = ("merged", "late_after_combine")
"""The same for the records that are counted in partials."""

COMBINED_LANE = -2
"""Partitions of partials are numbered down from it where they stand beside lanes."""

PARTS = (("no_window", "filtered"), ("shed", "rejected"))
"""Counts that are part of another."""


@dataclass(slots=True)
class Audit:
    """What was found."""

    lanes: Ledgers = field(default_factory=dict)
    """The ledger of each lane; what lanes share has `late_after_combine` alone."""
    stages: dict[str, dict[str, int]] = field(default_factory=dict)
    """Where rows of a window went in the stage behind it."""
    combined: Ledgers = field(default_factory=dict)
    """The counts of each partition of partials, where lanes' windows meet through a topic."""
    epochs: dict[int, int] = field(default_factory=dict)
    """The epoch that each lane's numbers are of."""
    skipped: dict[int, dict[str, Skipped]] = field(default_factory=dict)
    """Of lanes, and of partitions of partials as in `unusable`, by topic: offsets that accepted gaps have passed over, whose records
    nobody has counted."""
    unmerged: int = 0
    """Records that lanes applied and no partition of partials has merged, where epochs of lanes are missing there: they are in no window.
    Partials that are on their way beside a worker count as well."""
    unusable: dict[int, list[str]] = field(default_factory=dict)
    """Lanes whose state cannot be read, and why."""
    differences: list[str] = field(default_factory=list)
    """What does not add up."""

    def total(self) -> dict[str, int]:
        """The sum over lanes."""
        names = dict.fromkeys(name for counts in self.lanes.values() for name in counts)
        return {name: sum(counts.get(name, 0) for counts in self.lanes.values()) for name in names}


def audit(phases: Sequence[CommittedState]) -> Audit:
    """Reads the state of all lanes and adds it up. Raises `SourceError`."""
    first, *others = phases
    # What is merged is read first: partials that are committed meanwhile are not missed then.
    finals = [(final, _audit_final(final)) for final in others]
    found = _audit_records(first)
    for final, of_final in finals:
        found.combined = of_final.lanes
        found.unusable |= {COMBINED_LANE - lane: why for lane, why in of_final.unusable.items()}
        found.skipped |= {COMBINED_LANE - lane: gaps for lane, gaps in of_final.skipped.items()}
        found.stages = final.engine.stages()
        is_read = _is_read(final, of_final.positions)
        found.differences += of_final.told + combined_differences(found, is_read=is_read)
        found.unmerged = unmerged(found)
    for name, counts in found.stages.items():
        found.differences += unbalanced(f"the rows that reached {name}", counts, ROW_PLACES)
    return found


@dataclass(slots=True)
class _Final:
    """Of each partition of partials: its counts, or what is wrong with its state, and where it stands; and what differs."""

    lanes: Ledgers = field(default_factory=dict)
    unusable: dict[int, list[str]] = field(default_factory=dict)
    positions: dict[int, int] = field(default_factory=dict)
    skipped: dict[int, dict[str, Skipped]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)


def _audit_final(committed: CommittedState) -> _Final:
    """The partitions of partials."""
    found = _Final()
    for state in committed.read_all():
        problems = committed.recover(state)
        if problems:
            found.unusable[state.lane] = problems
        elif state.manifest is not None:
            facts = state.manifest["facts"]
            found.lanes[state.lane] = counted = committed.engine.ledger()[state.lane]
            found.told += told_otherwise(committed.called(state.lane), state.manifest["ledger"], counted)
            found.positions[state.lane] = facts["positions"].get(committed.topic.name, 0)
            if gaps := skipped_by(facts):
                found.skipped[state.lane] = gaps
    return found


def _is_read(committed: CommittedState, positions: Mapping[int, int]) -> bool:
    """Whether all partials that are committed by now were merged at `positions`."""
    ends = committed.cluster.offsets(committed.topic.name, committed.topic.partitions, "latest")
    return all(positions.get(lane, 0) >= end for lane, end in ends.items())


def combined_differences(found: Audit, *, is_read: bool) -> list[str]:
    """What does not add up between lanes and partitions of partials."""
    told = []
    for lane, counts in sorted(found.combined.items()):
        taken, out = counts["partials"], sum(counts[place] for place in PARTIAL_PLACES)
        if taken != out:
            told.append(f"combine lane {lane}: took {taken} records in partials, and accounts for {out}")
    if found.unusable:
        return told
    applied = sum(counts.get("applied", 0) for counts in found.lanes.values())
    merged = sum(counts["partials"] for counts in found.combined.values())
    missing = sum(counts["missing"] for counts in found.combined.values())
    if merged > applied or (is_read and not missing and merged != applied):
        told.append(f"lanes applied {applied} records, and {merged} were taken where their windows meet")
    return told


def unmerged(found: Audit) -> int:
    """See `Audit`; 0 where no epoch is missing, as what is not merged is a difference then."""
    if found.unusable or not any(counts["missing"] for counts in found.combined.values()):
        return 0
    applied = sum(counts.get("applied", 0) for counts in found.lanes.values())
    return max(0, applied - sum(counts["partials"] for counts in found.combined.values()))


def _audit_records(committed: CommittedState) -> Audit:
    """The lanes of the input."""
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
        gaps = skipped_by(manifest["facts"])
        if gaps:
            found.skipped[state.lane] = gaps
        if state.lane != COMBINE_LANE:
            ledgers = committed.engine.ledger()
            numbers = committed.source.numbers(state.lane)
            counted = summed(ledgers[number] for number in numbers)
            found.lanes[state.lane] = counted
            at, own = state.positions, committed.topics[0].name
            one = _moved(at.get(own), committed, state.lane) if len(numbers) == 1 else None
            found.differences += differences(state.lane, manifest["ledger"], counted, one, offsets_of(gaps, own))
            if len(numbers) > 1:
                for number, topic in zip(numbers, committed.source.topics, strict=True):
                    left_out = offsets_of(gaps, topic)
                    found.differences += read_beyond(
                        state.lane, ledgers[number], at.get(topic), left_out, f" of {topic}"
                    )
    if COMBINE_LANE in found.epochs:
        found.lanes[COMBINE_LANE] = committed.engine.ledger()[COMBINE_LANE]
    found.stages = committed.engine.stages()
    return found


def _moved(position: int | None, committed: CommittedState, lane: int) -> int | None:
    """A position with what the lane had counted and skipped before its state was rescaled in the place of where it began then."""
    began = committed.states.begun.get("lanes", {}).get(str(lane))
    if position is None or began is None:
        return position
    return int(position - began["position"] + began.get("skipped", 0) + began["read"])


def differences(
    lane: int, told: Mapping[str, int], counted: Mapping[str, int], position: int | None, skipped: int = 0
) -> list[str]:
    """What does not add up in a lane: the manifest's counts, those of the state, and the position with what was skipped."""
    found = unbalanced(f"lane {lane}", counted, PLACES)
    found += told_otherwise(f"lane {lane}", told, counted)
    for part, whole in PARTS:
        if counted.get(part, 0) > counted.get(whole, 0):
            found.append(f"lane {lane}: {part} {counted[part]} cannot be part of {whole} {counted.get(whole, 0)}")
    return found + read_beyond(lane, counted, position, skipped, "")


def read_beyond(lane: int, counted: Mapping[str, int], position: int | None, skipped: int, of_topic: str) -> list[str]:
    """In words, that more records were counted than lie before the position, without those that were skipped."""
    if position is None or counted.get("read", 0) + skipped <= position:
        return []
    without = f"skipped {skipped} offsets, " if skipped else ""
    return [f"lane {lane}: read {counted['read']} records{of_topic}, {without}and stands at offset {position}"]


def summed(ledgers: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The counts of several lanes of the engine as those of one."""
    total: dict[str, int] = {}
    for counts in ledgers:
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return total


def told_otherwise(what: str, told: Mapping[str, int], counted: Mapping[str, int]) -> list[str]:
    """In words, counts of a manifest that are not those of the state."""
    return [
        f"{what}: the manifest says {name} {told.get(name, 0)}, and the state {counted.get(name, 0)}"
        for name in sorted({*told, *counted})
        if told.get(name, 0) != counted.get(name, 0)
    ]


def unbalanced(what: str, counts: Mapping[str, int], places: tuple[str, ...]) -> list[str]:
    """In words, that `read` is not the sum of where it went."""
    read, out = counts.get("read", 0), sum(counts.get(place, 0) for place in places)
    if read == out:
        return []
    return [
        f"{what}: read {read}, accounted for {out}, so {read - out:+d} {'is' if abs(read - out) == 1 else 'are'} missing"
    ]


def place_of(lane: int) -> str:
    """A lane as JSON names it; partitions of partials come as they stand beside lanes."""
    return f"combine {COMBINED_LANE - lane}" if lane <= COMBINED_LANE else str(lane)


def to_json(found: Audit) -> dict[str, Any]:
    """Plain values."""
    return {
        "lanes": {str(lane): counts for lane, counts in sorted(found.lanes.items())},
        "epochs": {str(lane): epoch for lane, epoch in sorted(found.epochs.items())},
        "combined": {str(lane): counts for lane, counts in sorted(found.combined.items())},
        "stages": found.stages,
        "skipped": {place_of(lane): dict(gaps) for lane, gaps in sorted(found.skipped.items(), reverse=True)},
        "unmerged": found.unmerged,
        "total": found.total(),
        "unusable": {str(lane): why for lane, why in sorted(found.unusable.items())},
        "differences": found.differences,
        "adds_up": not found.unusable and not found.differences,
    }
