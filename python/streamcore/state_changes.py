"""Owns changing the committed state of a pipeline from outside a run: one claim, one transaction.

Before it: `committed_state.py`, which reads. After it: `streamcore state restore`, `repair` and `reset`.
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
from streamcore.config import KafkaSourceConfig
from streamcore.errors import Error, FencedError, SourceError, StateError
from streamcore.faults import fault_point
from streamcore.kafka_client import partition_list
from streamcore.layouts import MEETING_LANE
from streamcore.manifests import SEAL_BITS, facts_of, last_manifest
from streamcore.sources.base import Start
from streamcore.sources.kafka_member import MemberSource
from streamcore.transactions import Transactions

JOIN_TIMEOUT_S = 30.0
CALL_TIMEOUT_S = 30.0
TRANSACTION_MS = 60_000
"""How long the broker leaves a claim that died."""

BYTES_OF_A_ROW = 500
"""As many as a row of output, by which a transaction's time is measured, has about."""
FLUSH_BYTES = 64 << 20
"""Bytes on their way to the broker, at most."""

Record = tuple[bytes, bytes | None]
Placed = tuple[str, int, bytes, bytes | None]
"""Topic, partition, key and value."""


class _Seat:
    """Takes the lanes that the group gives, and notices when it takes them back."""

    def __init__(self) -> None:
        self.is_broken = False

    def assigned(self, lanes: list[int], member: str) -> None:
        """See `kafka_member.Listener`."""

    def revoked(self, lanes: list[int]) -> None:
        """See `kafka_member.Listener`."""
        self.is_broken = True

    lost = revoked


class Claim:
    """The only seat of the group, and one transaction."""

    def __init__(self, committed: CommittedState, source: MemberSource, transactions: Transactions) -> None:
        self._committed = committed
        self._source = source
        self._transactions = transactions
        self._seat = _Seat()

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

    def place(self, lanes: Sequence[int]) -> dict[int, int]:
        """Where a run would begin in lanes of which nothing is known."""
        return self._source.place(dict.fromkeys(lanes)) if lanes else {}

    def write(self, records: Mapping[int, Sequence[Record]], offsets: Mapping[int, int]) -> None:
        """Writes records of lanes, and the group's offsets, in one transaction. Raises `FencedError`, `SourceError`."""
        placed = [
            (*self._committed.states.place(lane), key, value)
            for lane, of_lane in records.items()
            for key, value in of_lane
        ]
        self.write_placed(placed, offsets)

    def write_placed(self, records: Sequence[Placed], offsets: Mapping[int, int]) -> None:
        """The same of records with their topics and partitions, in that order."""
        from confluent_kafka import KafkaException

        try:
            bytes_in_all = sum(len(value or b"") for _, _, _, value in records)
            self._transactions.begin(max(len(records), bytes_in_all // BYTES_OF_A_ROW))
            self._send(records)
            fault_point("claim-sent")
            _, metadata = self._source.membership()
            parts = partition_list(self._source.topic, offsets)
            self._transactions.send_offsets(parts, metadata, CALL_TIMEOUT_S)
            fault_point("claim-offsets")
            self._transactions.commit(CALL_TIMEOUT_S)
            fault_point("claim-committed")
        except (KafkaException, BufferError, SourceError) as error:
            with suppress(KafkaException):
                self._transactions.abort(CALL_TIMEOUT_S)
            if not isinstance(error, KafkaException):
                raise
            raise self._told(error.args[0]) from error

    def _send(self, records: Sequence[Placed]) -> None:
        unflushed = 0
        for number, (topic, partition, key, value) in enumerate(records):
            self._transactions.send(topic, key=key, value=value, partition=partition)
            unflushed += len(value or b"")
            if number == len(records) // 2:
                fault_point("claim-half")
            if unflushed >= FLUSH_BYTES:
                self._transactions.flush(CALL_TIMEOUT_S)
                unflushed = 0
        left = self._transactions.flush(CALL_TIMEOUT_S)
        if left:
            raise SourceError(f"{left} records of the state are not acknowledged; nothing was changed")

    def _told(self, reason: Any) -> Error:
        text = f"{reason.str()} ({reason.name()})"
        if self._seat.is_broken or reason.fatal() or reason.txn_requires_abort():
            return FencedError(
                f"the state was not changed: a worker has joined the group, or another command runs: {text}"
            )
        return SourceError(
            f"whether the state was changed is not known: {text}; look with streamcore state verify FILE",
            unreachable=True,
        )


@contextmanager
def claim(committed: CommittedState) -> Iterator[Claim]:
    """A claim on the whole pipeline. Raises `FencedError` where workers are alive."""
    members = committed.cluster.members(committed.group)
    if members:
        raise FencedError(
            f"group {committed.group} has {len(members)} member{'s' * (len(members) > 1)}: {', '.join(map(str, members))}; stop "
            "them first (one that was killed counts until its session is over)"
        )
    source = committed.config.source
    assert isinstance(source, KafkaSourceConfig)  # noqa: S101 - checked by `choose_committed`
    member = MemberSource(committed.connection, source, group=committed.group, instance_id="state-command")
    transactions = Transactions(
        committed.connection, transactional_id=f"streamcore-{committed.group}-state", timeout_ms=TRANSACTION_MS
    )
    try:
        member.open(Start(default=source.start))
        held = Claim(committed, member, transactions)
        held.take()
        yield held
    finally:
        transactions.close()
        member.close()


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
    again: tuple[int, int] | None
    """Offsets of records that are read again; None where none is."""


def repair(committed: CommittedState) -> list[Repaired]:
    """Brings lanes that cannot be gone on from back to their newest whole epoch, under a higher owner epoch.

    Raises `StateError` where there is none, `FencedError` where workers are alive.
    """
    size = committed.check_size()
    if size is not None:
        raise StateError(f"{size}; this is not repaired")
    with claim(committed) as held:
        done, records, offsets = [], {}, {}
        states = list(committed.read_all())
        owner = max((each["facts"]["owner"] for state in states for each, _ in state.found["manifests"]), default=0) + 1
        for state in states:
            problems = [one for one in committed.recover(state) if one not in _of_input(committed, state)]
            if problems:
                repaired, records[state.lane] = _repair_lane(committed, state, problems, owner)
                done.append(repaired)
                manifest = last_manifest(committed.engine, state.lane, records[state.lane])
                if state.lane != MEETING_LANE:
                    offsets[state.lane] = manifest["facts"]["positions"][committed.topic.name]
            elif state.lane != MEETING_LANE and state.manifest is not None:
                offsets[state.lane] = state.manifest["facts"]["positions"][committed.topic.name]
        if records:
            held.write(records, offsets or held.place(committed.topic.partitions))
    return done


def _of_input(committed: CommittedState, state: LaneState) -> list[str]:
    """Problems that are none of the state: what the input has lost, `run --accept-gap` leaves out."""
    manifest = state.manifest
    position = None if manifest is None else manifest["facts"]["positions"].get(committed.topic.name)
    if position is None or state.input_begin is None or position >= state.input_begin:
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
    if committed.meets and taken["epoch"] < newest:
        raise StateError(
            f"lane {lane} can only go back to epoch {taken['epoch']} of {newest}, and lanes of this pipeline share state: the "
            "others would be ahead of it; nothing was changed; restore a savepoint, or streamcore state reset FILE"
        )
    facts = taken["facts"]
    facts |= {"owner": owner, "seal": secrets.randbits(SEAL_BITS)}
    records = committed.engine.rewrite(lane, state.records, orjson.dumps(facts))
    position = facts["positions"].get(committed.topic.name)
    reached = max(
        [state.group_offset or 0, *(_position(each, committed.topic.name) for each, _ in state.found["manifests"])]
    )
    again = None if position is None or reached <= position else (position, reached)
    written = last_manifest(committed.engine, lane, records)["epoch"]
    return Repaired(lane, problems, newest, taken["epoch"], written, again), records


def _position(manifest: Mapping[str, Any], topic: str) -> int:
    return int(manifest["facts"]["positions"].get(topic, 0))


def rewritten_facts(
    committed: CommittedState, *, position: int | None, owner: int, seal: int, ended: bool, generation: int
) -> bytes:
    """Facts of a manifest that no run writes."""
    identity = committed.identity(generation)
    return facts_of(identity, committed.source, position=position, owner=owner, seal=seal, ended=ended, files={})


def reset(committed: CommittedState) -> dict[int, int]:
    """Discards the state of all lanes and the group's offsets; gives how many records were deleted of each lane.

    Raises `FencedError` where workers are alive.
    """
    with claim(committed) as held:
        keys = {state.lane: state.records.keys() for state in committed.read_all()}
        records: dict[int, list[Record]] = {lane: [(key, None) for key in found] for lane, found in keys.items()}
        if any(records.values()):
            known = committed.cluster.group_offsets(committed.group, committed.topic.name, committed.topic.partitions)
            offsets = {lane: offset for lane, offset in known.items() if offset is not None}
            held.write(records, offsets or {committed.topic.partitions[0]: 0})
    committed.cluster.delete_group(committed.group)
    return {lane: len(found) for lane, found in records.items()}
