"""Owns moving a pipeline's state to an input with another number of partitions.

Before it: `committed_state.py`, with the state in its old layout. After it: the next layout (`layouts.py`), and `streamcore state
rescale`, which tells what was moved.
Invariant: the new layout, its mark, those in the old one and the group's offsets are one transaction under the group's own fence; until
it is committed the old layout is the truth, and what there is of the new one is deleted by a later try, once that is committed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from streamcore import _core
from streamcore.committed_state import CommittedState, LaneState
from streamcore.config import KafkaSourceConfig
from streamcore.errors import StateError
from streamcore.faults import fault_point
from streamcore.gaps import Skipped, added_by, offsets_of, skipped, skipped_by
from streamcore.kafka_client import Topic
from streamcore.lateness import Late, made_late, refusal
from streamcore.layouts import BEGIN, MEETING_LANE, NEXT, meeting_topic, state_topic
from streamcore.manifests import SEAL_BITS, facts_of
from streamcore.next_layout import await_layout, delete_layouts, make_layout, next_number
from streamcore.sources.kafka_positions import start_positions
from streamcore.state_changes import Placed, claim
from streamcore.unread import Unread, unread


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for."""

    to: int
    """Partitions of the input, as a check that this is meant."""
    partitioner: str | None = None
    """How the producers choose the partition of a key."""
    drained: bool = False
    """It is said that the old input was read to its end, where it cannot be looked at any more."""
    accept_gap: bool = False
    """What is left is read without records that retention deleted before they were read."""
    accept_late: bool = False
    """The state is moved although records that are not read yet will be late by it."""


@dataclass(frozen=True, slots=True)
class Rescaled:
    """What was moved."""

    before: int
    after: int
    layout: int
    """Of the new topics."""
    topic: str
    old_topics: list[str]
    """They are not used any more."""
    rows: int
    """Rows of windows."""
    digest: str
    """Sum of their digests as they are now: what it was before where no row is `merged` or `cut`."""
    merged: int
    """Rows that became one with another of their key: of another lane, or of the same one where what told them apart has left."""
    cut: int
    """Rows of windows that overlap, which count for fewer of them than before, as the others have left."""
    early: int
    """Rows in the lane where their key goes now: of records that came after the topic grew."""
    offsets: dict[int, int]
    """Where each lane goes on."""
    late: dict[int, Late]
    """By lane, records that are not read yet and will be late: see `lateness.py`."""


@dataclass(slots=True)
class _Old:
    """The state in its old layout."""

    size: int
    states: dict[int, LaneState]
    manifests: dict[int, dict[str, Any]]
    """Of lanes that have one."""
    topic: str
    """The input it was made from."""
    topic_id: str
    positions: dict[int, int]
    files: dict[int, dict[str, list[str]]]
    """By lane and folder: what its last epoch publishes."""
    is_all_old: bool = False
    """Whether nothing is left but what the old layout may read."""
    skipped: dict[int, Mapping[str, Skipped]] = field(default_factory=dict)
    """By lane and topic: what accepted gaps have passed over."""

    def files_of(self, lane: int, count: int) -> dict[str, list[str]]:
        """What one of `count` new lanes publishes in the place of old ones."""
        found: dict[str, list[str]] = {}
        for other, files in self.files.items():
            if lane == (other if other == MEETING_LANE else other % count):
                for folder, entries in files.items():
                    found.setdefault(folder, []).extend(entries)
        return found

    def lanes_of(self, topic: Topic) -> dict[int, LaneState]:
        """The lanes that have read partitions of the input as it is now; none where it is another topic."""
        return self.states if (topic.name, topic.topic_id) == (self.topic, self.topic_id) else {}

    def skipped_of(self, lane: int, count: int) -> dict[str, Skipped]:
        """What one of `count` new lanes has of that, in the place of old ones."""
        found: dict[str, Skipped] = {}
        for other, gaps in self.skipped.items():
            if other != MEETING_LANE and lane == other % count:
                found = added_by(found, gaps)
        return found

    @property
    def newest(self) -> int:
        """The last epoch of any lane."""
        return max(int(each["epoch"]) for state in self.states.values() for each, _ in state.found["manifests"])

    @property
    def owner(self) -> int:
        """The highest owner epoch."""
        return max(int(each["facts"]["owner"]) for each in self.manifests.values())


def rescale(committed: CommittedState, request: Request) -> Rescaled:
    """Moves the state. Raises `StateError` where it cannot be moved, `FencedError` where workers are alive."""
    check_asked(committed, request)
    with claim(committed) as held:
        check_asked(committed, request)
        old = _load(committed)
        before, moved = (
            committed.engine.contents(),
            orjson.loads(committed.engine.rescale(request.to, request.partitioner)),
        )
        _check_moved(before, moved)
        held.keep()
        # By the right partitioner, as the state has shown.
        offsets = _new_offsets(committed, old, request)
        before_layout, layout = committed.states.layout, next_number(committed)
        records = _written(committed, old, offsets)
        there = _check_records(committed, records)
        held.keep()
        late = made_late(committed, old.lanes_of(committed.topic), there, offsets, between=held.keep)
        if late and not request.accept_late:
            raise refusal(old.states, late, can_drain=old.is_all_old)
        fault_point("rescale-moved")
        make_layout(committed, held, layout, request.to)
        fault_point("rescale-topics-made")
        old_topics = _old_topics(committed)
        places = {lane: {committed.topic.name: offset} for lane, offset in offsets.items()}
        held.write_placed(_placed(committed, old, (layout, records), (moved, offsets)), places)
        # Still the only member: a worker that is started again waits, and what is read is what was written.
        await_layout(committed, layout)
        try:
            _check_written(committed, layout)
        except StateError:
            held.look()  # what was written since is another matter
            raise
        # Of tries that died: they never counted, and the one that did was the last.
        delete_layouts(committed, range(before_layout + 1, layout), below=layout)
    return Rescaled(
        before=old.size,
        after=request.to,
        layout=layout,
        topic=state_topic(committed.name, layout=layout),
        old_topics=old_topics,
        rows=moved["rows"],
        digest=f"{moved['digest']:016x}",
        merged=moved["merged"],
        cut=moved["cut"],
        early=moved["early"],
        offsets=offsets,
        late=late,
    )


def _check_moved(before: tuple[int, int], moved: Mapping[str, int]) -> None:
    """The rows that there were are those that were moved; the same ones, where none has changed on the way. Raises `StateError`."""
    rows, digest = before
    is_same = moved["merged"] == moved["cut"] == 0
    if moved["rows"] + moved["merged"] != rows or (is_same and moved["digest"] != digest):
        raise StateError(
            f"{rows} rows of digest {digest:016x} were read and {moved['rows']} of {moved['digest']:016x} moved; nothing was changed; "
            "please report this"
        )


def check_asked(committed: CommittedState, request: Request) -> None:
    """What can be told before anything is read. Raises `StateError`."""
    count = len(committed.topic.partitions)
    if len(committed.topics) > 1:
        raise StateError(
            f"{committed.name} reads several inputs: the state of a join is not moved; begin anew, under another name or after "
            "streamcore state reset FILE"
        )
    if request.to != count:
        raise StateError(
            f"--to {request.to}, and the input {committed.topic.name} has {count} partitions: the state is moved to as many as the "
            "input has; change that first"
        )
    if committed.size == count:
        raise StateError(f"the state has {count} partitions already; there is nothing to move")
    if request.partitioner is None and not committed.meets:
        raise StateError(
            f"how the producers of {committed.topic.name} choose the partition of a key has to be said, as --partitioner: "
            "murmur2_random for Java's clients, consistent_random for librdkafka's where nothing else is set"
        )


def _load(committed: CommittedState) -> _Old:
    """Reads every lane of the old layout into the engine, comparing its digest. Raises `StateError`."""
    states = {state.lane: state for state in committed.read_all()}
    problems = []
    for lane, state in states.items():
        found = committed.problems(state) if state.manifest is None else state.found["problems"]
        problems += [f"  lane {lane}: {one}" for one in found]
        try:
            committed.engine.recover(lane, state.records)
        except StateError as error:
            problems.append(f"  lane {lane}: {error}")
    manifests = {lane: state.manifest for lane, state in states.items() if state.manifest is not None}
    if problems or not manifests:
        why = problems or ["  no lane has committed anything yet; streamcore state reset FILE lets a run begin anew"]
        raise StateError("\n".join(["the state cannot be moved, and nothing was changed", *why]))
    sources = [manifest["facts"]["source"] for manifest in manifests.values()]
    topic, topic_id = sources[0]["topic"], sources[0]["topic_id"]
    positions = {
        lane: manifest["facts"]["positions"][topic]
        for lane, manifest in manifests.items()
        if topic in manifest["facts"]["positions"]
    }
    files = {lane: manifest["facts"]["files"] for lane, manifest in manifests.items()}
    old = _Old(committed.size, states, manifests, topic, topic_id, positions, files)
    old.skipped |= {lane: skipped_by(manifest["facts"]) for lane, manifest in manifests.items()}
    return old


def _new_offsets(committed: CommittedState, old: _Old, request: Request) -> dict[int, int]:
    """Where each new lane goes on; checks that the old layout has nothing left to read. Raises `StateError`."""
    now = committed.topic
    first = committed.cluster.offsets(now.name, now.partitions, "earliest")
    is_same = bool(old.lanes_of(now))
    there = now if is_same else _old_input(committed, old)
    if there is None and not request.drained:
        raise StateError(
            f"the input {old.topic} that the state was made from is gone, so whether it was read to its end cannot be seen; it was "
            f"read up to {_places(old.positions)}; if that was all, say --drained"
        )
    if there is None:
        return first
    old.positions = placed(committed, there, old.positions, old.size)
    if not is_same:
        _check_all_read(committed, old, there, request)
        return first
    _check_read(committed, old, there, request)
    return {lane: old.positions[lane] if lane < old.size else first[lane] for lane in now.partitions}


def placed(committed: CommittedState, topic: Topic, positions: Mapping[int, int], size: int) -> dict[int, int]:
    """`positions`, and of lanes of the old layout that have none, as they have read nothing, where a run would begin in them."""
    lanes = [lane for lane in topic.partitions if lane < size and lane not in positions]
    assert isinstance(committed.config.source, KafkaSourceConfig)  # noqa: S101 - checked by `choose_committed`
    now_ms, start = time.time_ns() // 1_000_000, committed.config.source.start
    found = start_positions(committed.cluster, topic, {}, start, now_ms, lanes=lanes) if lanes else {}
    return {**positions, **found}


def _old_input(committed: CommittedState, old: _Old) -> Topic | None:
    found = committed.cluster.topic(old.topic)
    return found if found is not None and found.topic_id == old.topic_id else None


def _check_read(committed: CommittedState, old: _Old, topic: Topic, grown: Request) -> None:
    """What the old layout has not read of a topic that grew is for the new one to read."""
    if committed.meets:
        return
    found = left_of(committed, topic, old.positions, (old.size, grown.to), grown.partitioner)
    old.is_all_old = is_all_old(committed, topic, found)
    wrong = [f"  {text}" for lane, one in found.items() if (text := _left(lane, one))]
    if wrong:
        raise StateError("\n".join([_refusal(topic, found), *wrong]))


def _check_all_read(committed: CommittedState, old: _Old, topic: Topic, request: Request) -> None:
    """Nobody reads the old topic any more: all of it was read, with the partitions that it got since."""
    begins = committed.cluster.offsets(topic.name, topic.partitions, "earliest")
    ends = committed.cluster.offsets(topic.name, topic.partitions, "latest")
    ranges = {lane: (max(old.positions.get(lane, 0), begins[lane]), ends[lane]) for lane in topic.partitions}
    found = unread(committed.connection, topic.name, ranges, (old.size, 1), None)
    wrong = []
    for lane, one in found.items():
        position = old.positions.get(lane)
        if position is not None and position < begins[lane]:
            if not request.drained:
                wrong.append(
                    f"  records {position} to {begins[lane] - 1} of partition {lane} were deleted, and nobody has read them; where "
                    "there were none, or to go on without them, say --drained"
                )
            gap = {topic.name: skipped([(position, begins[lane])])}
            old.skipped[lane] = added_by(old.skipped.get(lane, {}), gap)
        if one.records:
            newer = "" if lane < old.size else ", and the state has no such partition: the topic has grown since"
            wrong.append(f"  partition {lane}: {one.records} records from {one.first} on are not read{newer}")
    if wrong:
        raise StateError("\n".join([_refusal(topic, {}), *wrong, *_way_out(old, topic, found)]))


def _way_out(old: _Old, topic: Topic, found: Mapping[int, Unread]) -> list[str]:
    if not any(one.records for lane, one in found.items() if lane >= old.size):
        return []
    moved = f"move the state to its {len(topic.partitions)} partitions"
    return [f"set topic to {topic.name} again, {moved}, and let a worker read them; then move it here"]


def check_parted(topic: Topic, found: Mapping[int, Unread]) -> None:
    """What is old is in front of what is new in every partition. Raises `StateError`."""
    mixed = {lane: one for lane, one in found.items() if one.is_mixed}
    if mixed:
        wrong = [f"  {_left(lane, one)}" for lane, one in mixed.items()]
        raise StateError("\n".join([_refusal(topic, mixed), *wrong]))


def _refusal(topic: Topic, found: Mapping[int, Unread]) -> str:
    what = f"the old partitions of {topic.name} have records that are to be read with the state as it was; nothing was changed"
    can_be_drained = any(one.cut for one in found.values()) and not any(one.is_mixed for one in found.values())
    return f"{what}; --drain reads them first" if can_be_drained else what


def left_of(
    committed: CommittedState, topic: Topic, positions: Mapping[int, int], sizes: tuple[int, int], by: str | None
) -> dict[int, Unread]:
    """What the old layout has not read of its partitions, and is still there. See `unread`.

    A gap that retention has made is for the next run to judge: it goes on at the same positions.
    """
    lanes = [lane for lane in topic.partitions if lane < sizes[0]]
    begins = committed.cluster.offsets(topic.name, lanes, "earliest")
    ends = committed.cluster.offsets(topic.name, lanes, "latest")
    ranges = {lane: (max(positions[lane], begins[lane]), ends[lane]) for lane in lanes}
    return unread(committed.connection, topic.name, ranges, sizes, by)


def is_all_old(committed: CommittedState, topic: Topic, left: Mapping[int, Unread]) -> bool:
    """Whether nothing tells that producers knew of the growth, so that the old layout may read all there is."""
    new = [lane for lane in topic.partitions if lane not in left]
    begins, ends = (committed.cluster.offsets(topic.name, new, at) for at in ("earliest", "latest"))
    return all(one.first_new is None for one in left.values()) and begins == ends


def _left(lane: int, one: Unread) -> str | None:
    """In words, what is wrong with what is left of a partition."""
    if not one.old or one.last_old is None:
        return None
    offset, key = one.last_old
    mixed = ""
    if one.is_mixed and one.first_new is not None:
        mixed = (
            f"; and the one at {one.first_new[0]}, with the key {_shown(one.first_new[1])}, came after the growth: producers that knew of it "
            "and others wrote in turn, so no offset parts what is old from what is new"
        )
    return (
        f"partition {lane}: {one.old} records of {one.records} that are not read yet have keys that go elsewhere now (the last is at "
        f"{offset}, with the key {_shown(key)}){mixed}"
    )


def _shown(key: bytes) -> str:
    return repr(key.decode(errors="replace"))


def _places(positions: Mapping[int, int]) -> str:
    return ", ".join(f"{offset} of partition {lane}" for lane, offset in sorted(positions.items()))


def _written(
    committed: CommittedState, old: _Old, offsets: Mapping[int, int]
) -> dict[int, list[tuple[bytes, bytes | None]]]:
    """The records of every lane: an epoch that has everything, behind all epochs of the old layout."""
    seal, generation = secrets.randbits(SEAL_BITS), time.time_ns() // 1_000_000_000
    ended = all(manifest["facts"]["ended"] for manifest in old.manifests.values())
    lanes = [*offsets, *([MEETING_LANE] if MEETING_LANE in old.manifests else [])]
    records = {}
    for lane in lanes:
        facts = facts_of(
            committed.identity(generation),
            committed.source,
            positions={committed.topic.name: offsets[lane]} if lane in offsets else {},
            owner=old.owner + 1,
            seal=seal,
            ended=ended,
            files=old.files_of(lane, len(offsets)),
            skipped=old.skipped_of(lane, len(offsets)),
        )
        before = committed.engine.state_records(lane)
        before.write_behind(old.newest)
        records[lane] = committed.engine.rewrite(lane, before, facts)
    return records


def _check_records(
    committed: CommittedState, records: Mapping[int, Sequence[tuple[bytes, bytes | None]]]
) -> _core.Pipeline:
    """What is to be written puts together to what was moved, lane by lane to its digest; gives it. Raises `StateError`."""
    engine = committed.new_engine()
    for lane, of_lane in records.items():
        read = engine.state_records(lane)
        read.add(list(of_lane))
        engine.recover(lane, read)
    _check_contents(engine, committed.engine.contents(), "nothing was changed")
    return engine


def _check_contents(engine: _core.Pipeline, wanted: tuple[int, int], outcome: str) -> None:
    found = engine.contents()
    if found != wanted:
        raise StateError(
            f"{wanted[0]} rows of digest {wanted[1]:016x} were moved, and {found[0]} of {found[1]:016x} are read; {outcome}; please "
            "report this"
        )


def _old_topics(committed: CommittedState) -> list[str]:
    names = [committed.states.place(0)[0], committed.states.place(MEETING_LANE)[0]]
    return names if committed.meets else names[:1]


def _placed(
    committed: CommittedState,
    old: _Old,
    written: tuple[int, Mapping[int, Sequence[tuple[bytes, bytes | None]]]],
    told: tuple[Mapping[str, Any], Mapping[int, int]],
) -> list[Placed]:
    """All that is written: what the new layout begins with, its state, and in the old one where it has gone."""
    (layout, records), (moved, offsets) = written, told
    topic, meeting = state_topic(committed.name, layout=layout), meeting_topic(committed.name, layout)
    counted = committed.engine.ledger()
    read = {lane: position for lane, position in old.positions.items() if lane in old.manifests}
    gaps = {lane: offsets_of(old.skipped_of(lane, len(offsets)), committed.topic.name) for lane in offsets}
    lanes = {
        str(lane): {"position": offset, "read": counted[lane]["read"], "skipped": gaps[lane]}
        for lane, offset in offsets.items()
    }
    begin = {
        "layout": layout,
        "partitions": moved["after"],
        "from": {"layout": committed.states.layout, "partitions": old.size, "input": old.topic, "read": read},
        "rows": moved["rows"],
        "digest": f"{moved['digest']:016x}",
        "lanes": lanes,
    }
    next_layout = orjson.dumps({"layout": layout, "topic": topic})
    placed: list[Placed] = [(topic, 0, BEGIN, orjson.dumps(begin, option=orjson.OPT_NON_STR_KEYS))]
    for lane, of_lane in records.items():
        place = (meeting, 0) if lane == MEETING_LANE else (topic, lane)
        placed += [(*place, key, value) for key, value in of_lane]
    return placed + [(*committed.states.place(lane), NEXT, next_layout) for lane in old.states]


def _check_written(committed: CommittedState, layout: int) -> None:
    """Reads the new layout as a worker would. Raises `StateError`."""
    wanted, engine = committed.engine.contents(), committed.new_engine()
    for state in committed.read_all():
        engine.recover(state.lane, state.records)
    _check_contents(engine, wanted, f"they were written to {state_topic(committed.name, layout=layout)}")
