"""Owns discarding a pipeline's state, so that its next run begins anew.

Before it: `state_changes.py`, for one claim on each phase. After it: `streamcore state reset`.
Invariant: what discards the state is one transaction a phase, under the group's own fence: it begins an empty layout, and says in
the one before that it has gone there. All that is deleted afterwards could not count any more by then, whoever has begun meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import orjson

from streamcore.committed_state import CommittedState, make_partials
from streamcore.errors import ConfigError, FencedError
from streamcore.layouts import BEGIN, EMPTY, NEXT, state_topic, topics_there
from streamcore.next_layout import await_layout, delete_layouts, make_layout, next_number
from streamcore.phases import FINAL
from streamcore.state_changes import Claim, Placed, claim

log = logging.getLogger("streamcore.state")


@dataclass(slots=True)
class _Reset:
    """What is done to a phase."""

    committed: CommittedState
    held: Claim
    layout: int | None = None
    """The empty one that takes the state's place; None: there is nothing, or it is emptied where it is."""
    has_topics: bool = True
    partials: dict[int, int] = field(default_factory=dict)
    """Where the topic of partials ended when nobody could write to it: what is before that is merged by nobody any more."""
    deleted: dict[int, int] = field(default_factory=dict)
    """Records of the state, by lane."""


def reset(phases: Sequence[CommittedState]) -> list[tuple[CommittedState, dict[int, int]]]:
    """Discards the state of all lanes and the groups' offsets; gives how many records were deleted of each lane, by phase.

    Topics of a new layout take its place, for as many partitions as the input has. What lies between two phases goes as well, or it
    would be merged once more. Raises `FencedError` where workers are alive.
    """
    if phases[-1].size:  # or that of the final stage would stay
        make_partials(phases)
    with ExitStack() as stack:
        there = [committed for committed in phases if committed.partitions]
        resets = [_Reset(committed, stack.enter_context(claim(committed, is_reset=True))) for committed in there]
        # 1. What takes the state's place is there, and does not count yet.
        for one in resets:
            _prepare(one)
        # 2. It counts, phase by phase, and the group stands where it stood: a run that begins before step 5 is refused.
        for number, one in enumerate(resets):
            try:
                _discard(one)
            except FencedError as error:
                if number == 0:
                    raise
                raise FencedError(f"the first of two stages is discarded; of the second one, {error}") from error
        # 3. For whoever looks.
        for one in resets:
            if one.layout is not None:
                await_layout(one.committed, one.layout)
        # 4. What cannot count any more goes.
        for one in resets:
            _delete(one)
    # 5. The next run begins by `start`.
    for one in resets:
        _delete_group(one)
    return [(one.committed, one.deleted) for one in resets]


def _prepare(one: _Reset) -> None:
    committed = one.committed
    if committed.phase is FINAL:
        topic = committed.topic
        one.partials = committed.cluster.offsets(topic.name, topic.partitions, "latest", committed=False)
    one.has_topics = bool(topics_there(committed.cluster, committed.name, committed.phase.stage))
    if not one.has_topics:
        return
    number = next_number(committed)
    try:
        make_layout(committed, one.held, number, len(committed.partitions))
    except ConfigError as error:
        if committed.states.layout > 1 or committed.check_size() is not None or not committed.size:
            raise
        # Who may write to topics, and not make them: these fit the input as they are.
        log.warning("%s; the records of the topics there are are deleted, and they are used again", error)
        return
    one.layout = number


def _discard(one: _Reset) -> None:
    """Deletes all records of the state of a phase, and begins the layout that takes its place."""
    committed, layout = one.committed, one.layout
    keys = {state.lane: state.records.keys() for state in committed.read_all()}
    one.deleted = {lane: len(found) for lane, found in keys.items()}
    placed: list[Placed] = []
    if layout is not None:
        topic = state_topic(committed.name, committed.phase.stage, layout)
        begin = {"layout": layout, "partitions": len(committed.partitions), EMPTY: True}
        placed.append((topic, 0, BEGIN, orjson.dumps(begin)))
        gone = orjson.dumps({"layout": layout, "topic": topic})
        placed += [(*committed.states.place(lane), NEXT, gone) for lane in keys]
    placed += [(*committed.states.place(lane), key, None) for lane, found in keys.items() for key in found]
    if placed:
        one.held.write_placed(placed, _known_offsets(committed) or {0: {committed.topic.name: 0}})


def _delete(one: _Reset) -> None:
    """Topics of the layouts before, and partials of lanes that are not there any more; neither is of anybody who has begun since."""
    committed = one.committed
    if one.layout is not None:
        delete_layouts(committed, range(1, one.layout), below=one.layout)
    if one.partials:
        committed.cluster.delete_records(committed.topic.name, one.partials)


def _delete_group(one: _Reset) -> None:
    """Offsets of a group that somebody else has by now are theirs. Raises `FencedError` then."""
    committed, cluster = one.committed, one.committed.cluster
    committed.look_again()
    is_there = bool(topics_there(cluster, committed.name, committed.phase.stage))
    if is_there != one.has_topics or (one.layout is not None and committed.states.layout != one.layout):
        raise FencedError(
            f"the state of {committed.name} was discarded, and another command or a worker has gone on since; look with "
            "streamcore state verify FILE"
        )
    members = ", ".join(map(str, cluster.members(committed.group)))
    try:
        if not members:
            cluster.delete_group(committed.group)
    except FencedError:
        members = "one that has just joined"
    if members:
        raise FencedError(
            f"the state of {committed.name} was discarded, and the offsets of group {committed.group} are still there, as it has got "
            f"members meanwhile: {members}; stop them, and call streamcore state reset FILE again"
        )


def _known_offsets(committed: CommittedState) -> Mapping[int, Mapping[str, int]]:
    """The group's offsets, of those lanes that it has any of."""
    found: dict[int, dict[str, int]] = {}
    for topic in committed.topics:
        for lane, offset in committed.cluster.group_offsets(committed.group, topic.name, topic.partitions).items():
            if offset is not None:
                found.setdefault(lane, {})[topic.name] = offset
    return found
