"""Owns savepoints of a pipeline with two stages of state: what lanes hand over, and what is merged of it.

Before it: `savepoints.py`, which saves one stage and puts it back. After it: the commands.
Invariant: both stages are of one moment, with nothing on its way between them: each partition of partials has merged the last epoch
that each lane of the input has handed over. What is put back is so as well, as one transaction has both stages.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from streamcore.committed_state import CommittedState, make_partials
from streamcore.errors import StateError
from streamcore.manifests import lost_partials
from streamcore.phases import partials_plan
from streamcore.savepoints import (
    FORMAT_OF_PHASES,
    MANIFEST,
    WRITTEN,
    Savepoint,
    check_pipeline,
    check_written,
    delete_lost,
    load,
    new_folder,
    read_manifest,
    recovered,
    rewritten,
    write,
    write_manifest,
)
from streamcore.state_changes import Claim, claim


@dataclass(frozen=True, slots=True)
class StageSavepoints:
    """What was written, or put back."""

    folder: Path
    stages: list[tuple[CommittedState, Savepoint]]
    """In the order of the data."""
    rows: int
    """Rows of open windows; of a savepoint that was put back, 0."""


def save_stages(phases: Sequence[CommittedState], folder: Path) -> StageSavepoints:
    """Writes both stages to a new folder: each to one of its own in it, and the rows of open windows beside them.

    Raises `StateError` where partials are on their way, for state that cannot be used, or a folder that is there; `FencedError`
    where workers are alive.
    """
    partial, final = phases
    if not final.partitions:
        raise StateError(lost_partials(final.name, is_there=False))
    with ExitStack() as stack:
        _claims(phases, stack)
        manifests = [recovered(committed) for committed in phases]
        ahead = apart(partial.engine.told(), final.engine.inputs(), len(final.partitions))
        if ahead:
            reason = (
                f"{partial.name} has partials on their way between its stages, so this is no moment to save; run a worker, and stop it "
                "once it has merged them"
            )
            raise StateError("\n".join([reason, *(f"  {one}" for one in ahead)]))
        with new_folder(folder) as made:
            stages = _write_stages(list(zip(phases, manifests, strict=True)), made / WRITTEN)
    stages = [(committed, replace(saved, folder=folder / _name(committed))) for committed, saved in stages]
    return StageSavepoints(folder, stages, stages[-1][1].rows)


def _write_stages(
    stages: Sequence[tuple[CommittedState, dict[int, dict[str, Any]]]], folder: Path
) -> list[tuple[CommittedState, Savepoint]]:
    folder.mkdir()
    written = [
        (committed, write(committed, of_stage, folder / _name(committed), windows=folder))
        for committed, of_stage in stages
    ]
    final, saved = written[-1]
    content = {
        "format": FORMAT_OF_PHASES,
        "pipeline": final.name,
        "saved_at_ms": time.time_ns() // 1_000_000,
        "stages": {_name(committed): _hash(folder / _name(committed)) for committed, _ in stages},
        "partitions": len(final.partitions),
        "rows": saved.rows,
    }
    write_manifest(folder, content)
    return written


def restore_stages(phases: Sequence[CommittedState], folder: Path) -> StageSavepoints:
    """Puts both stages back in one transaction, and reads them again.

    Not one after the other: lanes that go on from the savepoint would hand over what a final stage of another moment cannot tell from lost
    partials, and where the first were put back alone a worker would commit epochs before anything is noticed.

    Partials that are there now are of what came after the savepoint and are passed over: the final stage goes on behind them. It has merged
    all that came before, so the topic of partials is made where it is lost.
    Raises `StateError` for a savepoint of another pipeline or input, or a damaged one; `FencedError` where workers are alive.
    """
    partial, final = phases
    content = read_manifest(folder, wanted=FORMAT_OF_PHASES)
    for committed in phases:
        if content["stages"].get(_name(committed)) != _hash(folder / _name(committed)):
            raise StateError(f"{folder}: {_name(committed)}/{MANIFEST} is not that of this savepoint")
        check_pipeline(committed, read_manifest(folder / _name(committed)))
    _check_partitions(phases, content["partitions"])
    make_partials(phases)
    loaded = [load(committed, folder / _name(committed)) for committed in phases]
    ahead = apart(loaded[0].engine.told(), loaded[1].engine.inputs(), len(final.partitions))
    if ahead:
        raise StateError("\n".join([f"{folder}: its stages are of different moments", *(f"  {one}" for one in ahead)]))
    with ExitStack() as stack:
        held = _claims(phases, stack)
        before = [committed.states.layout for committed in phases]
        ends = _ends(final)
        of_partial, offsets = rewritten(partial, loaded[0], held[0])
        of_final, offsets_final = rewritten(final, loaded[1], held[1], at=ends)
        held[0].write_placed([*of_partial, *of_final], offsets, beside=[(held[1], offsets_final)])
    for committed, of_stage, layout in zip(phases, loaded, before, strict=True):
        check_written(committed, of_stage.manifests)
        delete_lost(committed, layout)
    going_on = {lane: _at(manifest, ends[lane]) for lane, manifest in loaded[1].manifests.items()}
    done = [Savepoint(folder, loaded[0].manifests, 0), Savepoint(folder, going_on, 0)]
    return StageSavepoints(folder, list(zip(phases, done, strict=True)), 0)


def apart(told: Mapping[int, int], inputs: Mapping[int, Mapping[str, Any]], partitions: int) -> list[str]:
    """In words, what lanes have handed over and partitions have not merged, or the other way round.

    `told` is the number of the last epoch that each lane has handed over, `inputs` what each partition knows of lanes (see
    `_core.Pipeline`).
    """
    found = []
    for partition in range(partitions):
        known = inputs.get(partition, {"table": {}, "waiting": 0})
        merged = {lane: row["number"] for lane, row in known["table"].items()}
        for lane in sorted(told.keys() | merged.keys()):
            of_lane, there = told.get(lane, 0), merged.get(lane, 0)
            if of_lane != there:
                found.append(
                    f"lane {lane} has handed over {of_lane} epochs, and partition {partition} of partials has merged {there} of them"
                )
        if known["waiting"]:
            found.append(f"{known['waiting']} records of partition {partition} of partials wait to be merged")
    return found


def _claims(phases: Sequence[CommittedState], stack: ExitStack) -> list[Claim]:
    """A claim on each, kept while the state of either is read."""
    claims = [stack.enter_context(claim(committed)) for committed in phases]

    def keep() -> None:
        for held in claims:
            held.keep()

    for committed in phases:
        committed.states.between = keep
    return claims


def _check_partitions(phases: Sequence[CommittedState], saved: int) -> None:
    """The topic of partials has as many partitions as that of the savepoint, or will have when it is made."""
    partial, final = phases
    plan = partials_plan(partial.config, len(partial.partitions))
    count = len(final.partitions) or plan.partitions
    if count == saved:
        return
    way = f"begin anew: streamcore state reset FILE, or set combine_partitions to {saved} and delete {final.topic.name} (restore makes it)"
    raise StateError(
        f"STATE_PARTITION_MISMATCH: the savepoint is of {saved} partitions of partials, and {final.topic.name} has {count}; "
        f"{way if final.partitions else f'set combine_partitions to {saved}'}"
    )


def _ends(final: CommittedState) -> dict[int, dict[str, int]]:
    """Where the topic of partials ends, by lane and topic. Raises `StateError` where transactions are open on it."""
    name = final.topic.name
    ends = final.cluster.offsets(name, final.partitions, "latest")
    if ends != final.cluster.offsets(name, final.partitions, "latest", committed=False):
        raise StateError(
            f"a transaction is open on {name}; try again when the broker has ended it, within a minute or so"
        )
    return {lane: {name: end} for lane, end in ends.items()}


def _at(manifest: dict[str, Any], positions: dict[str, int]) -> dict[str, Any]:
    return {**manifest, "facts": {**manifest["facts"], "positions": positions}}


def _name(committed: CommittedState) -> str:
    return committed.phase.name or "whole"


def _hash(folder: Path) -> str | None:
    """Of the manifest in `folder`; None without one."""
    try:
        return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        return None
