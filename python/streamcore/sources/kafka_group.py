"""Owns a Kafka source's seat in its consumer group: one live member that has all partitions.

Before it: the group's name and where each lane starts. After it: `kafka.py`, which polls the seated consumer.
Invariant: callbacks never raise, since an exception inside one destroys messages whose positions have moved;
they note what happened, and `check` raises it after the poll.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from streamcore.config import format_duration
from streamcore.errors import Error, FencedError, SourceError, StateError
from streamcore.kafka_client import Cluster, Member, log, partition_list

if TYPE_CHECKING:
    from streamcore.sources.kafka_reader import ConsumerReader

SEAT_MARGIN_S = 2.0
"""The broker looks for dead members in its own time, a little after their session has ended."""

SEAT_INTERVAL_S = 0.25
JOIN_TIMEOUT_S = 60.0
"""A first join waits for the broker's initial rebalance delay and for a rebalance under way."""

OTHERS_TIMEOUT_S = 2.0
"""How long a lost seat's callback asks who else is there: until it returns, no signal is served."""

TOLD_MAX = 256
"""Offsets a lane's group may be found at: more than are committed until a dead session is noticed."""

Positions = Callable[[], dict[int, int]]


def wait_for_free_group(
    cluster: Cluster,
    group: str,
    session_timeout_ms: int,
    *,
    seat: str | None = None,
    advice: str = "stop the other worker, or set another group_id",
) -> None:
    """Returns once the group has no member. A member that outlives the session timeout is alive: `FencedError`.

    `seat` is this worker's own, if the group keeps one for it: nobody else. `advice` is for whoever is refused.
    A killed worker cannot be told from a live one by looking once: the broker lists it until its session ends.
    """
    deadline = time.monotonic() + session_timeout_ms / 1000 + SEAT_MARGIN_S
    told = False
    while members := [member for member in cluster.members(group) if seat is None or member.seat != seat]:
        names = ", ".join(str(member) for member in members)
        if time.monotonic() > deadline:
            raise FencedError(
                f"group {group} has another live member ({names}) and this pipeline needs all partitions to itself; "
                f"{advice}"
            )
        if not told:
            told = True
            log.warning(
                "group %s still lists %s; waiting up to %s for a dead one to be dropped",
                group,
                names,
                format_duration(session_timeout_ms),
            )
        time.sleep(SEAT_INTERVAL_S)


class Seat:
    """Membership of one consumer in one group, for all partitions of one topic.

    Partitions go in three ways. Revoked: another member joined; the run is over. Lost while another member is there:
    it has taken the seat of a worker that was held up; the run is over, and it is left in peace. Lost otherwise: the
    broker was away, or this process was; the client joins again by itself, and `regained` asks the owner of this
    seat to make sure that nobody worked meanwhile.
    """

    def __init__(self, reader: ConsumerReader, topic: str, group: str, cluster: Cluster, positions: Positions) -> None:
        self._reader = reader
        self._topic = topic
        self._group = group
        self._cluster = cluster
        """Knows the group's members."""
        self._positions = positions
        """The next offset of every lane, asked for when partitions are assigned."""
        self._member_ids: set[str] = set()
        """What the group has called us: the broker lists the seat we lost until its session ends there."""
        self._told: dict[int, deque[int | None]] = {}
        """Per lane the offsets the group may hold if nobody but us has worked; see `tell`."""
        self._failure: Error | None = None
        self._leaving = False
        self.owned: set[int] = set()
        """Partitions assigned to us now."""
        self.lost_s: float | None = None
        """When the seat was lost to an outage (monotonic), until it is regained."""

    def join(self) -> None:
        """Starts the join; it goes on inside the consumer's polls."""
        self._reader.consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def check(self) -> None:
        """Raises what a callback noted since the last time: `FencedError`, `StateError` or `SourceError`."""
        if self._failure is not None:
            raise self._failure

    def tell(self, offsets: Mapping[int, int | None]) -> None:
        """Notes what the group holds or was told last.

        Older ones count too: nobody waits for the broker's answer, and an outage may have swallowed the last few.
        """
        for lane, offset in offsets.items():
            self._told.setdefault(lane, deque(maxlen=TOLD_MAX)).append(offset)

    def undisturbed(self, found: Mapping[int, int]) -> bool:
        """Whether the group's offsets are where we left them: no successor has come, worked and gone."""
        return all(found.get(lane) in told for lane, told in self._told.items())

    @property
    def whole(self) -> bool:
        """True while every partition is ours: only then may anything be committed."""
        return self._failure is None and self.owned == self._positions().keys()

    @property
    def regained(self) -> bool:
        """True when everything is ours again after an outage, and nobody has looked yet who worked meanwhile."""
        return self.lost_s is not None and self.whole

    def leave(self) -> None:
        """What the group does from now on is no failure: we are closing."""
        self._leaving = True

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        try:
            self._member_ids.add(consumer.memberid())
            positions = self._positions()
            lanes = {part.partition for part in partitions}
            strange = lanes - positions.keys()
            if strange:
                self._note(
                    StateError(
                        f"topic {self._topic} now has partitions {sorted(strange)}, which it did not have at the start: "
                        "keys have moved between partitions, so state kept per partition no longer fits them"
                    )
                )
                lanes -= strange
            # The consumer is told where to start in the same call: it never fetches from anywhere else.
            self._reader.assign(
                partition_list(self._topic, {lane: positions[lane] for lane in lanes}), incremental=True
            )
            self.owned |= lanes
        except Exception as error:  # noqa: BLE001 - see the invariant
            self._note(SourceError(f"partitions of {self._topic} could not be taken over: {error}"))

    def _on_revoke(self, consumer: Any, partitions: list[Any]) -> None:
        del consumer
        self._gone(partitions, "another member joined")

    def _on_lost(self, consumer: Any, partitions: list[Any]) -> None:
        """The client joins again when this returns, so it is now that a successor can be spared.

        How long we were away tells nothing: a worker that waits in the flush of a sink for the same broker was silent
        for as long as one that was stopped.
        """
        del consumer
        if self._leaving or (others := self._others()):
            names = "" if self._leaving else ", ".join(str(member) for member in others)
            self._gone(partitions, f"{names} has joined while this worker was out of contact")
            return
        self.owned -= {part.partition for part in partitions}
        self._reader.revoke(partitions)
        if self.lost_s is None:
            self.lost_s = time.monotonic()
            log.warning("group %s: no word from its broker; joining again when there is", self._group)

    def _others(self) -> list[Member]:
        """Live members that are not us; none where the broker cannot be asked, as in an outage."""
        try:
            members = self._cluster.members_now(self._group, OTHERS_TIMEOUT_S)
        except Exception:  # noqa: BLE001 - see the invariant; the offsets are looked at after joining again
            return []
        return [member for member in members if member.member_id not in self._member_ids]

    def _gone(self, partitions: list[Any], why: str) -> None:
        lanes = sorted(part.partition for part in partitions)
        self.owned -= set(lanes)
        self._reader.revoke(partitions)
        if not self._leaving and lanes:
            self._note(
                FencedError(
                    f"group {self._group} took partitions {lanes} of {self._topic} away: {why}; restart to go on"
                )
            )

    def _note(self, failure: Error) -> None:
        if self._failure is None:
            self._failure = failure
