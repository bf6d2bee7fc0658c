"""Owns which assignment of the group an epoch belongs to, and the metadata that proves it to the broker.

Before it: the callbacks of the group, through `epochs.py`. After it: the transaction, whose offsets are fenced by it.
Invariant: an epoch is proven by the metadata of the assignment that it was read under, never by that of a later one.
"""

from __future__ import annotations

import time
from typing import Any

from streamcore.errors import FencedError
from streamcore.layouts import MEETING_LANE
from streamcore.sources.kafka_joined import JoinedSource
from streamcore.sources.kafka_member import MemberSource, generation_of
from streamcore.transaction_errors import refuses_member

REBALANCE_S = 10.0
"""How long the group takes to give out anew what a dead member had, once its session is over."""

ASK_S = 2.0
"""How long a broker may take to say who is in the group."""

ALONE = 'windows of all partitions are merged in one process (combine = "local"); stop the other worker, or see combine = "topic"'


class Membership:
    """The seat of one worker."""

    def __init__(self, source: MemberSource | JoinedSource) -> None:
        self._source = source
        self._generation = -1
        self._is_member = False
        """Whether the group knew this member when it gave it its lanes: the coordinator lets metadata without a member pass from anybody."""
        self._metadata: Any = None
        """Of the last assignment."""
        self._first: Any = None
        """Of the first one: for a mistake that the commit machine makes on purpose."""
        self.refusal: str | None = None
        """Why the group did not let an epoch be committed, the last time that it did not."""

    def began(self, member: str) -> bool:
        """An assignment begins; tells whether it is of the group's next generation."""
        before, (named, self._metadata) = self._generation, self._source.membership()
        self._is_member = bool(named) and named == member
        self._generation = generation_of(self._metadata)
        if self._first is None:
            self._first = self._metadata
        return 0 <= before == self._generation - 1

    def moves_on(self) -> bool:
        """Whether the group goes on to the generation behind that of the assignment."""
        now = generation_of(self._source.membership()[1])
        # An eager client has its partitions taken away before it joins again.
        return 0 <= self._generation == (now if self._source.is_eager else now - 1)

    def note(self, failure: Exception) -> None:
        """Looks whether what the client raised is the group's refusal."""
        if refuses_member(failure):
            self.refusal = failure.args[0].name()

    def fencing(self, group: str, member: str) -> tuple[Any, str | None]:
        """The metadata to send offsets with, as the commit machine names it, or why there is none."""
        metadata, refusal = self._fencing(group, member)
        self.refusal = refusal or self.refusal
        return metadata, refusal

    def _fencing(self, group: str, member: str) -> tuple[Any, str | None]:
        if group == "first":
            return self._first, None
        if group == "assigned" and not self._is_member:
            return None, "the group had forgotten this member when it was given its lanes"
        if group == "missing":
            return self._source.foreign_metadata(), None
        if group == "fresh":
            named, metadata = self._source.membership()
            if named != member:
                return None, f"the member is {named or 'none'} now, and the epoch was read by {member}"
            return metadata, None
        return self._metadata, None


class Meeting:
    """Lanes that share state: they are this worker's only when all of them are, with what they share."""

    def __init__(
        self, source: MemberSource | JoinedSource, *, group: str, meets: bool, session_timeout_ms: int
    ) -> None:
        """`meets`: whether there is such state; without it lanes pass as they come."""
        self._source = source
        self._group = group
        self.meets = meets
        self._patience_s = session_timeout_ms / 1_000 + REBALANCE_S
        self._met: set[int] = set()
        """Lanes that the machine was told of."""
        self._waits_since_s: float | None = None
        """Since when the group has given this worker less than all (monotonic)."""

    def came(self, lanes: list[int]) -> list[int]:
        """The lanes that the machine is told of when the group has given `lanes`."""
        if not self.meets:
            return lanes
        owns_all = self._source.owns_all
        since_s = time.monotonic() if self._waits_since_s is None else self._waits_since_s
        self._waits_since_s = None if owns_all else since_s
        meeting = {*self._source.partitions, MEETING_LANE} if owns_all else set()
        new = sorted(meeting - self._met)
        self._met |= meeting
        return new

    def gone(self, lanes: list[int]) -> list[int]:
        """The lanes that are gone for the machine when `lanes` are: where they meet, all that it was told of."""
        if not self.meets:
            return lanes
        # What is given next may be all of them.
        self._waits_since_s = None
        gone, self._met = sorted(self._met), set()
        return gone

    def check_taken(self, lanes: list[int]) -> None:
        """Raises `FencedError` where the group took `lanes` away, which are of use only together."""
        if self.meets and lanes:
            raise FencedError(
                f"another member has joined the group and took partitions {sorted(lanes)} of {self._source.topic}: {ALONE}"
            )

    def check_whole(self) -> None:
        """Raises `FencedError` where another member has had the other lanes for longer than a dead one could.

        Of two such workers the one without the first partition goes first, and the other gets what it leaves. Where the group
        lists nobody else they are on their way, and the time begins anew.
        """
        if self._waits_since_s is None:
            return
        waited_s, owned = time.monotonic() - self._waits_since_s, sorted(self._source.owned)
        goes_first = self._source.partitions[0] not in owned
        if waited_s <= self._patience_s * (1 if goes_first else 2):
            return
        name, _ = self._source.membership()
        others = [
            other for other in self._source.cluster.members_now(self._group, ASK_S) if name and other.member_id != name
        ]
        if others:
            raise FencedError(
                f"the group has given this worker only partitions {owned} of {self._source.topic} for {waited_s:.0f} s, and has another "
                f"member, {', '.join(map(str, others))}: {ALONE}"
            )
        self._waits_since_s = time.monotonic()
