"""Owns changing the committed state of a pipeline from outside a run: one claim, one transaction.

Before it: `committed_state.py`, which reads. After it: `savepoints.py`, `rescaling.py`, `resetting.py`, and `streamcore state repair`.
Invariant: what is written goes in under the group's own fence: the claim is its only member, has all partitions, and sends
their offsets in the same transaction as the records; a worker that joins meanwhile makes the transaction fail.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import orjson

from streamcore.committed_state import CommittedState, LaneState
from streamcore.config import KafkaSourceConfig, format_duration
from streamcore.errors import Error, FencedError, SinkError, SourceError, StateError
from streamcore.faults import fault_point
from streamcore.gaps import Skipped
from streamcore.kafka_client import partition_list
from streamcore.manifests import SEAL_BITS, by_topic, check_group, facts_of, groups_of, last_manifest
from streamcore.phases import FINAL, PARTIAL, partials_source
from streamcore.sources.base import Start
from streamcore.sources.kafka_joined import JoinedSource, member_source
from streamcore.sources.kafka_member import MemberSource
from streamcore.state_topics import nothing
from streamcore.transactions import OPEN_MAX_MS, Transactions, transactional_id

JOIN_TIMEOUT_S = 30.0
CALL_TIMEOUT_S = 30.0
TRANSACTION_MS = 60_000
"""How long the broker leaves a claim that died."""

FLUSH_BYTES = 64 << 20
"""Bytes on their way to the broker, at most."""

Record = tuple[bytes, bytes | None]
Placed = tuple[str, int, bytes, bytes | None]
"""Topic, partition, key and value."""

Offsets = Mapping[int, Mapping[str, int]]
"""By lane and topic."""


class _Seat:
    """Takes the lanes that the group gives, and notices when it takes them back."""

    def __init__(self) -> None:
        self.is_broken = False
        self.member = ""

    def assigned(self, lanes: list[int], member: str) -> None:
        """See `kafka_member.Listener`."""
        self.member = member

    def revoked(self, lanes: list[int]) -> None:
        """See `kafka_member.Listener`."""
        self.is_broken = True

    lost = revoked


class Claim:
    """The only seat of the group, and one transaction."""

    def __init__(
        self, committed: CommittedState, source: MemberSource | JoinedSource, transactions: Transactions
    ) -> None:
        self._committed = committed
        self._source = source
        self._transactions = transactions
        self._seat = _Seat()
        self.is_done = False
        """Whether the transaction that it was for is committed."""

    def take(self) -> None:
        """Joins the group and waits for all partitions. Raises `FencedError` where others are in it."""
        self._source.join(self._seat)
        deadline = time.monotonic() + JOIN_TIMEOUT_S
        while not self._source.owns_all:
            self._source.poll(0.1)
            if time.monotonic() > deadline:
                others = self._committed.cluster.members(self._committed.group)
                raise FencedError(
                    f"not all partitions of {self._source.topic} were to be had within {JOIN_TIMEOUT_S:.0f} s; members of group "
                    f"{self._committed.group}: {', '.join(map(str, others)) or 'none'}"
                )
        self._transactions.renew(CALL_TIMEOUT_S)

    @property
    def topics(self) -> Sequence[str]:
        """What the group reads."""
        return self._source.topics

    @property
    def is_broken(self) -> bool:
        """Whether the group has taken the seat away."""
        return self._seat.is_broken

    def keep(self) -> None:
        """To be called where other work takes long, or the group takes the seat away. Raises `FencedError` where it has.

        Not once the transaction is committed: whoever joins then waits until what was written is read.
        """
        if not self.is_done:
            self.look()

    def look(self) -> None:
        """Raises `FencedError` where the group has taken the seat away."""
        self._source.poll(0.0)
        self.metadata()

    def metadata(self) -> Any:
        """What fences. That of a consumer without a seat would be taken from anybody."""
        member, metadata = self._source.membership()
        if self._seat.is_broken or member != self._seat.member:
            if self.is_done:
                raise FencedError(
                    f"the state was changed, and the command has then lost its seat in group {self._committed.group}, to a worker or by "
                    "standing still for too long; look with streamcore state verify FILE"
                )
            raise FencedError(
                f"the state was not changed: the command has lost its seat in group {self._committed.group}, to a worker or by standing still "
                "for too long; stop the workers and try again"
            )
        return metadata

    def place(self, lanes: Sequence[int]) -> Offsets:
        """Where a run would begin in lanes of which nothing is known."""
        numbers = [number for lane in lanes for number in self._source.numbers(lane)]
        found = self._source.place(dict.fromkeys(numbers)) if numbers else {}
        return {lane: by_topic(self._source, lane, found) for lane in lanes}

    def write(self, records: Mapping[int, Sequence[Record]], offsets: Offsets) -> None:
        """Writes records of lanes, and the group's offsets, in one transaction. Raises `FencedError`, `SourceError`."""
        self.write_placed(self.placed(records), offsets)

    def placed(self, records: Mapping[int, Sequence[Record]]) -> list[Placed]:
        """Records of lanes with their topics and partitions."""
        places = {lane: self._committed.states.place(lane) for lane in records}
        return [(*places[lane], key, value) for lane, of_lane in records.items() for key, value in of_lane]

    def write_placed(
        self, records: Sequence[Placed], offsets: Offsets, *, beside: Sequence[tuple[Claim, Offsets]] = ()
    ) -> None:
        """The same of records with their topics and partitions, in that order.

        `beside`: claims on other groups whose offsets go into the same transaction, which fails where a worker joins any of them.
        """
        from confluent_kafka import KafkaException

        claims = [(self, offsets), *beside]
        for claimed, _ in claims:
            claimed.keep()
        try:
            bytes_in_all = sum(len(value or b"") for _, _, _, value in records)
            self._transactions.begin(len(records), size_bytes=bytes_in_all)
            self._send(records, [claimed for claimed, _ in claims])
            fault_point("claim-sent")
            for claimed, of_group in claims:
                places = ((topic, lane, offset) for lane, at in of_group.items() for topic, offset in at.items())
                parts = [part for topic, lane, offset in places for part in partition_list(topic, {lane: offset})]
                self._transactions.send_offsets(parts, claimed.metadata(), CALL_TIMEOUT_S)
                fault_point("claim-offsets")
            self._transactions.commit(CALL_TIMEOUT_S)
            for claimed, _ in claims:
                claimed.is_done = True
            fault_point("claim-committed")
        except (KafkaException, BufferError, Error) as error:
            # Without a producer, as where a longer transaction is refused, nothing is open.
            with suppress(KafkaException, SinkError):
                self._transactions.abort(CALL_TIMEOUT_S)
            if not isinstance(error, KafkaException):
                raise
            topics = [topic for each, _ in claims for topic in each.topics]
            is_broken = any(each.is_broken for each, _ in claims)
            raise self._told(error.args[0], is_broken=is_broken, topics=topics) from error

    def _send(self, records: Sequence[Placed], claims: Sequence[Claim]) -> None:
        unflushed = 0
        for number, (topic, partition, key, value) in enumerate(records):
            self._transactions.send(topic, key=key, value=value, partition=partition)
            unflushed += len(value or b"")
            if number == len(records) // 2:
                fault_point("claim-half")
            if unflushed >= FLUSH_BYTES:
                self._transactions.flush(CALL_TIMEOUT_S)
                for claimed in claims:
                    claimed.keep()
                unflushed = 0
        left = self._transactions.flush(CALL_TIMEOUT_S)
        if left:
            raise SourceError(f"{left} records of the state are not acknowledged; nothing was changed")

    def _told(self, reason: Any, *, is_broken: bool, topics: Sequence[str]) -> Error:
        text = f"{reason.str()} ({reason.name()})"
        refusal = self._transactions.denied(reason, "the state was not changed", topics)
        if refusal is not None:
            return refusal
        if is_broken or reason.fatal() or reason.txn_requires_abort():
            return FencedError(
                f"the state was not changed: a worker has joined the group, or another command runs: {text}"
            )
        return SourceError(
            f"whether the state was changed is not known: {text}; look with streamcore state verify FILE",
            unreachable=True,
        )


@contextmanager
def claim(committed: CommittedState, *, is_reset: bool = False) -> Iterator[Claim]:
    """A claim on the whole pipeline, whose state is looked at anew; `is_reset`: state that two groups have written may go, where neither has workers.

    Reading the state may take longer than the group waits for a member that does not ask; so it asks in between.
    Raises `FencedError` where workers are alive, `StateError` where the state is of another group.
    """
    _check_members(committed, committed.group)
    options: dict[str, Any] = {"group": committed.group, "instance_id": "state-command"}
    member: MemberSource | JoinedSource
    own = partials_source(committed.config) if committed.phase is FINAL else committed.config.source
    assert isinstance(own, KafkaSourceConfig)  # noqa: S101 - checked by `choose_committed`
    if committed.phase is FINAL:
        member = MemberSource(committed.connection, own, **options)
    else:
        member = member_source(committed.config, committed.connection, **options)
    allowed_ms = committed.cluster.broker_setting("transaction.max.timeout.ms") or OPEN_MAX_MS
    transactions = Transactions(
        committed.connection,
        transactional_id=transactional_id(committed.group, "/state"),
        timeout_ms=min(TRANSACTION_MS, allowed_ms),
        open_max_ms=min(OPEN_MAX_MS, allowed_ms),
        shorter="",
    )
    try:
        member.open(Start(default=own.start))
        held = Claim(committed, member, transactions)
        held.take()
        committed.states.between = held.keep
        # A command that changed it before is over by now: either nothing of it counts, or all.
        committed.look_again()
        _check_groups(committed, held, is_reset=is_reset)
        yield held
    finally:
        committed.states.between = nothing
        transactions.close()
        member.close()


def _check_members(committed: CommittedState, group: str) -> None:
    members = committed.cluster.members(group)
    if members:
        raise FencedError(
            f"group {group} has {len(members)} member{'s' * (len(members) > 1)}: {', '.join(map(str, members))}; stop "
            "them first (one that was killed, or stopped with --keep-seat, counts until its session is over, "
            f"{format_duration(committed.connection.session_timeout)} after its end)"
        )


def _check_groups(committed: CommittedState, held: Claim, *, is_reset: bool) -> None:
    """The state is of no group but that of the claim, which fences nobody else.

    Read behind the claim, which has ended what one that died has left open.
    """
    manifests: list[Mapping[str, Any]] = []
    for state in committed.read_all():
        manifests += [one for one, _ in state.found["manifests"]]
        held.keep()
    groups = groups_of(manifests)
    if not is_reset or committed.pipeline_group not in groups:
        check_group(committed.identity(), groups)
    for group in groups:
        if group != committed.pipeline_group:
            _check_members(committed, committed.phase.group(group))


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was done to a lane."""

    lane: int
    problems: list[str]
    """What was wrong."""
    newest: int
    """The last epoch that any record spoke of."""
    taken: int
    """The epoch that it goes on from."""
    written: int
    """The epoch that it was written as."""
    again: dict[str, tuple[int, int]]
    """Offsets of records that are read again, by topic."""


def repair(committed: CommittedState) -> list[Repaired]:
    """Brings lanes that cannot be gone on from back to their newest whole epoch, under a higher owner epoch.

    Raises `StateError` where there is none, `FencedError` where workers are alive.
    """
    _check_fits(committed)
    with claim(committed) as held:
        _check_fits(committed)
        done: list[Repaired] = []
        records: dict[int, list[Record]] = {}
        offsets: dict[int, dict[str, int]] = {}
        states = list(committed.read_all())
        owner = max((each["facts"]["owner"] for state in states for each, _ in state.found["manifests"]), default=0) + 1
        for state in states:
            problems = [one for one in committed.recover(state) if one not in of_input(committed, state)]
            if problems:
                repaired, records[state.lane] = _repair_lane(committed, state, problems, owner)
                done.append(repaired)
                manifest = last_manifest(committed.engine, state.lane, records[state.lane])
                offsets[state.lane] = manifest["facts"]["positions"]
            elif state.manifest is not None:
                offsets[state.lane] = state.positions
        if records:
            held.write(records, offsets if any(offsets.values()) else held.place(committed.partitions))
    return done


def _check_fits(committed: CommittedState) -> None:
    size = committed.check_size()
    if size is not None:
        raise StateError(f"{size}; this is not repaired")


def of_input(committed: CommittedState, state: LaneState) -> list[str]:
    """Problems that are none of the state: what the input has lost, `run --accept-gap` leaves out."""
    at = state.positions
    if all(at.get(topic, place.begin) >= place.begin for topic, place in state.inputs.items()):
        return []
    return [one for one in committed.problems(state) if "were deleted before they were read" in one]


def _repair_lane(
    committed: CommittedState, state: LaneState, problems: list[str], owner: int
) -> tuple[Repaired, list[Record]]:
    lane = state.lane
    try:
        found = committed.engine.recover(lane, state.records, repair=True)
    except StateError as error:
        found, problems = None, [*problems, str(error)]
    if found is None:
        raise StateError(
            "\n".join(
                [
                    (
                        f"nothing whole is left of lane {lane}, and nothing was changed; restore a savepoint, or streamcore state "
                        "reset FILE"
                    ),
                    *(f"  {one}" for one in problems),
                ]
            )
        )
    taken = orjson.loads(found)
    newest = max([taken["epoch"], *(each["epoch"] for each, _ in state.found["manifests"])])
    if (taken["epoch"] < newest and committed.meets) or _may_be_merged(committed, state, taken["epoch"], newest):
        others = "lanes of this pipeline share state: the others would be ahead of it"
        merged = "its later epochs have handed over partials, which may be merged"
        raise StateError(
            f"lane {lane} can only go back to epoch {taken['epoch']} of {newest}, and {others if committed.meets else merged}; "
            "nothing was changed; restore a savepoint, or streamcore state reset FILE"
        )
    facts = taken["facts"]
    facts |= {"owner": owner, "seal": secrets.randbits(SEAL_BITS)}
    facts["source"]["group"] = committed.pipeline_group
    records = committed.engine.rewrite(lane, state.records, orjson.dumps(facts))
    again: dict[str, tuple[int, int]] = {}
    for topic, position in facts["positions"].items():
        of_group = state.inputs[topic].group_offset if topic in state.inputs else None
        reached = max([of_group or 0, *(_position(each, topic) for each, _ in state.found["manifests"])])
        if reached > position:
            again[topic] = (position, reached)
    written = last_manifest(committed.engine, lane, records)["epoch"]
    return Repaired(lane, problems, newest, taken["epoch"], written, again), records


def _may_be_merged(committed: CommittedState, state: LaneState, taken: int, newest: int) -> bool:
    """Whether a later epoch of the lane than the one that is left may have handed over partials.

    Of a manifest that cannot be read nobody knows which epoch it was of.
    """
    return committed.phase is PARTIAL and (taken < newest or bool(state.found["problems"]))


def _position(manifest: Mapping[str, Any], topic: str) -> int:
    return int(manifest["facts"]["positions"].get(topic, 0))


def rewritten_facts(
    committed: CommittedState,
    *,
    positions: Mapping[str, int],
    owner: int,
    seal: int,
    ended: bool,
    generation: int,
    skipped: Mapping[str, Skipped],
) -> bytes:
    """Facts of a manifest that no run writes."""
    return facts_of(
        committed.identity(generation),
        committed.source,
        positions=positions,
        owner=owner,
        seal=seal,
        ended=ended,
        files={},
        skipped=skipped,
    )
