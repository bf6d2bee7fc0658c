"""Owns reading what is left of an input's old partitions with the state as it was, before that is moved.

Before it: `streamcore state rescale --drain`. After it: a run of the pipeline, as a worker of its own, and `rescaling.py`.
Invariant: it reads up to the last record whose key goes to another partition since the input grew, or all there is where nothing was
written by the new number yet; and no window closes but by the clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from threading import Event

from streamcore.assemble import assemble, make_plan
from streamcore.clock import SystemClock
from streamcore.committed_state import CommittedState
from streamcore.errors import StateError
from streamcore.kafka_client import Topic
from streamcore.options import RunOptions
from streamcore.rescaling import Request, check_parted, is_all_old, left_of, placed
from streamcore.unread import Unread


def drain(committed: CommittedState, request: Request) -> int:
    """Reads on, where there is anything to read; gives how many records that were. Raises as a run does."""
    topic = committed.topic
    positions = placed(committed, topic, _positions(committed, topic), committed.size)
    left = left_of(
        committed, topic, positions, (committed.size, request.to), None if committed.meets else request.partitioner
    )
    check_parted(topic, left)
    ends = _ends(committed, topic, positions, left)
    if ends == positions:
        return 0
    _check_gaps(committed, topic, positions, request)
    plan = make_plan(committed.plan.config, RunOptions(old_ends=ends, accept_gap=request.accept_gap))
    with closing(assemble(plan, clock=SystemClock(), stopping=Event())) as assembled:
        return assembled.runner.run().ledger.read


def _ends(
    committed: CommittedState, topic: Topic, positions: Mapping[int, int], left: Mapping[int, Unread]
) -> dict[int, int]:
    """Where the old layout ends: behind all there is, or, where producers knew of the growth already, no further than it has to."""
    if not committed.meets and is_all_old(committed, topic, left):
        return {lane: one.end if one.records else positions[lane] for lane, one in left.items()}
    return {lane: one.cut or positions[lane] for lane, one in left.items()}


def _check_gaps(committed: CommittedState, topic: Topic, positions: Mapping[int, int], request: Request) -> None:
    """What is to be read is still there, or it was said that it may be left out. Raises `StateError`."""
    begins = committed.cluster.offsets(topic.name, positions, "earliest")
    gaps = [
        f"  records {position} to {begins[lane] - 1} of partition {lane}"
        for lane, position in positions.items()
        if position < begins[lane]
    ]
    if gaps and not request.accept_gap:
        what = f"records of {topic.name} were deleted before they were read, and nothing was changed"
        raise StateError("\n".join([f"{what}; to go on without them: --drain --accept-gap", *gaps]))


def _positions(committed: CommittedState, topic: Topic) -> dict[int, int]:
    found = {}
    for state in committed.read_all():
        if state.manifest is None:
            continue
        facts = state.manifest["facts"]
        if (facts["source"]["topic"], facts["source"]["topic_id"]) != (topic.name, topic.topic_id):
            raise StateError(
                f"the state was made from topic {facts['source']['topic']} with id {facts['source']['topic_id']}, which is not the "
                "input now: there is nothing that could be read on with it"
            )
        if topic.name in facts["positions"]:
            found[state.lane] = facts["positions"][topic.name]
    return found
