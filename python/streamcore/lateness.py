"""Owns finding out how many records that are not read yet a move of the state would make late.

Before it: `rescaling.py`, with the lanes as they would be and as they were. After it: the same, which refuses or tells.
Invariant: nothing is written or committed; records are judged by engines of their own, as a run would judge them.

New lanes go on with the clock of the old one that was furthest. What a slower lane has left to read, and what new partitions got
since the input grew, may be of windows that are over by that clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from streamcore import _core
from streamcore.committed_state import CommittedState, LaneState
from streamcore.errors import StateError
from streamcore.layouts import MEETING_LANE
from streamcore.progress import time_text
from streamcore.unread import Range, messages_of

EPOCH_RECORDS = 50_000
"""Records after which an engine forgets how to go back."""


@dataclass(frozen=True, slots=True)
class Late:
    """Of what a partition has that is not read yet."""

    first: int
    """Offset of the first one."""
    records: int
    late: int
    """Records that would be late, and would not have been in their old lane."""
    windows: int
    """Windows that others would miss likewise."""


def made_late(
    committed: CommittedState,
    before: Mapping[int, LaneState],
    after: _core.Pipeline,
    offsets: Mapping[int, int],
    *,
    between: Callable[[], None],
) -> dict[int, Late]:
    """By lane, those that have any; `after` has the new lanes, and takes what there is from `offsets` on. `between` is called now and then.

    `before` are the lanes that would have read them: without one, a partition has no clock but that of its records. Where lanes
    meet none is put ahead. Raises `SourceError`, `StateError`.
    """
    topic = committed.topic
    begins, ends = (committed.cluster.offsets(topic.name, offsets, at) for at in ("earliest", "latest"))
    ranges = {lane: (max(offset, begins[lane]), ends[lane]) for lane, offset in offsets.items()}
    if committed.meets or all(start >= end for start, end in ranges.values()):
        return {}
    judged = _judged(committed, ranges, after, between)
    late = {lane: counts for lane, counts in judged.items() if any(counts[1:])}
    if not late:
        return {}
    again = {lane: ranges[lane] for lane in late}
    anyway = _judged(committed, again, _as_it_was(committed, before, offsets), between)
    found = {}
    for lane, (records, *counts) in late.items():
        of_move = [max(0, count - known) for count, known in zip(counts, anyway[lane][1:], strict=True)]
        if any(of_move):
            found[lane] = Late(ranges[lane][0], records, *of_move)
    return found


def _as_it_was(
    committed: CommittedState, before: Mapping[int, LaneState], offsets: Mapping[int, int]
) -> _core.Pipeline:
    """An engine with the old lanes, and the others empty."""
    engine = committed.new_engine()
    for lane, state in before.items():
        engine.recover(lane, state.records)
    engine.assign([lane for lane in offsets if lane not in before])
    return engine


def refusal(before: Mapping[int, LaneState], found: Mapping[int, Late], *, can_drain: bool) -> StateError:
    """Why the state is not moved, with numbers, and what can be done."""
    clocks = {
        lane: state.manifest["watermark_ms"]
        for lane, state in before.items()
        if state.manifest is not None and lane != MEETING_LANE
    }
    furthest = max(clocks, key=clocks.__getitem__)
    whole = Late(
        0,
        *(
            sum(counts)
            for counts in zip(*((one.records, one.late, one.windows) for one in found.values()), strict=True)
        ),
    )
    way = (
        "--drain reads them first, with the state as it was"
        if can_drain
        else "no lane is left that could read them by its own clock"
    )
    what = (
        f"{whole.late} of {whole.records} records that are not read yet would be late after the move{_missed(whole)}, as lanes go on with the clock of the one that "
        f"was furthest (lane {furthest} of the old ones, at {time_text(clocks[furthest])}), and nothing was changed; {way}; --accept-late moves the state, "
        "and they are counted as late when they are read"
    )
    return StateError("\n".join([what, *(f"  partition {lane}: {_told(one)}" for lane, one in sorted(found.items()))]))


def _told(one: Late) -> str:
    return f"{one.late} of {one.records} from offset {one.first} on{_missed(one)}"


def _missed(one: Late) -> str:
    return f", and others would miss {one.windows} of their windows" if one.windows else ""


def _judged(
    committed: CommittedState, ranges: Mapping[int, Range], engine: _core.Pipeline, between: Callable[[], None]
) -> dict[int, tuple[int, int, int]]:
    """By lane: records that were read, late ones, and windows that others missed."""
    topic, name = committed.topic, committed.topic.name
    started, unsealed = _counts(engine), 0
    for lane, messages in messages_of(committed.connection, name, ranges):
        between()
        intake = _core.Intake(
            {(name, lane): ranges[lane]},
            keys=True,
            headers=True,
            record_bytes_max=committed.config.limits.max_record_bytes,
        )
        intake.take(messages)
        if not len(intake):
            continue
        unsealed += len(intake)
        try:
            engine.push(intake.finish()[0], time.time_ns() // 1_000_000)
            engine.settle()
        except StateError as error:
            raise StateError(
                f"whether what is not read yet of partition {lane} of {topic.name} would be late cannot be told: {error}; nothing was "
                "changed"
            ) from error
        if unsealed >= EPOCH_RECORDS:
            _end_epoch(engine)
            unsealed = 0
    _end_epoch(engine)
    ended = _counts(engine)
    return {lane: _minus(ended[lane], started[lane]) for lane in ranges}


def _end_epoch(engine: _core.Pipeline) -> None:
    engine.seal()
    engine.committed()


def _counts(engine: _core.Pipeline) -> dict[int, tuple[int, int, int]]:
    ledgers = engine.ledger().items()
    return {lane: (counts["read"], counts["late"], counts["late_windows"]) for lane, counts in ledgers if lane >= 0}


def _minus(left: tuple[int, int, int], right: tuple[int, int, int]) -> tuple[int, int, int]:
    return left[0] - right[0], left[1] - right[1], left[2] - right[2]
