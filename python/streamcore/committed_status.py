"""Owns the status of a pipeline as its committed state tells it: clocks, positions and open windows, without a run.

Before it: `committed_state.py`. After it: `streamcore why`, which explains it as it does that of a live run.
Invariant: nothing is written, created or consumed in the pipeline's group; it is as of the last commit of each lane.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streamcore.committed_state import CommittedState, LaneState, check_there
from streamcore.errors import Error, StateError
from streamcore.phase_reports import merged_windows, slowest_ms
from streamcore.report import COMBINE_LANE


@dataclass(slots=True)
class _Loaded:
    """What lanes of one phase told, by the engine's lanes."""

    positions: dict[int, int] = field(default_factory=dict)
    ends: dict[int, dict[str, Any]] = field(default_factory=dict)
    future: dict[int, int] = field(default_factory=dict)
    written_ms: int = 0
    is_any: bool = False
    """Whether a lane has committed anything."""


def committed_status(phases: Sequence[CommittedState], end_ms: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The status that `why.py` explains, and where it is from.

    Raises `StateError` for state that is not there or cannot be used, `Error` where nothing is committed yet.
    """
    check_there(phases)
    first, last = phases[0], phases[-1]
    loaded = [_load(committed) for committed in phases]
    if not any(one.is_any for one in loaded):
        raise Error(
            f"nothing of {first.name} is committed yet; wait for its first commit, or start it with --listen 127.0.0.1:0"
        )
    clocks: dict[int, Any] = dict(first.engine.clocks())
    windows = last.engine.open_at(end_ms)
    if last is not first:
        clocks[COMBINE_LANE] = {"watermark_ms": slowest_ms(last.engine.clocks())}
        windows = merged_windows(windows)
    workers = len(first.cluster.members(first.group))
    status = {
        "live": False,
        "runs": workers > 0,
        "clocks": clocks,
        "positions": loaded[0].positions,
        "ends": loaded[0].ends,
        "paused": [],
        "future": loaded[0].future,
        "source": first.source.describe(),
        "windows": windows,
    }
    age_s = max(0.0, time.time() - max(one.written_ms for one in loaded) / 1000)
    topics = [committed.states.place(0)[0] for committed in phases]
    return status, {"state": topics, "age_s": round(age_s, 1), "workers": workers}


def _load(committed: CommittedState) -> _Loaded:
    """Puts all lanes of a phase into its engine."""
    size = committed.check_size()
    if size is not None:
        raise StateError(size)
    loaded = _Loaded()
    for state in committed.read_all():
        problems = committed.recover(state)
        if problems:
            lines = [f"  {committed.called(state.lane)}: {one}" for one in problems]
            raise StateError("\n".join(["the state cannot be used; streamcore state verify FILE", *lines]))
        loaded.is_any |= state.manifest is not None
        loaded.written_ms = max(loaded.written_ms, state.written_ms)
        _place(committed, state, loaded)
    for lane, counts in committed.engine.ledger().items():
        loaded.future[lane] = counts.get("future", 0)
    return loaded


def _place(committed: CommittedState, state: LaneState, loaded: _Loaded) -> None:
    """Where a lane stands in each topic of the input, and where that ends now."""
    for number, topic in zip(committed.source.numbers(state.lane), committed.source.topics, strict=False):
        if topic in state.positions:
            loaded.positions[number] = state.positions[topic]
        if topic in state.inputs:
            loaded.ends[number] = {"position": state.inputs[topic].end, "age_s": 0.0}
