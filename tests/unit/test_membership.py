"""Lanes that meet, and how long a worker that is given a part of them waits; the rest is held by tests/faults."""

from __future__ import annotations

from typing import Any, cast

import pytest

from streamcore import membership
from streamcore.errors import FencedError
from streamcore.kafka_client import Member
from streamcore.membership import REBALANCE_S, Meeting

SESSION_S = 6.0
PATIENCE_S = SESSION_S + REBALANCE_S


class Given:
    """A source of three partitions, of which the group gives some."""

    topic = "in"
    others: tuple[Member, ...] = (Member("other", "streamcore-w1", "/127.0.0.1"),)
    partitions = (0, 1, 2)
    owned: frozenset[int] = frozenset()

    def membership(self) -> tuple[str, Any]:
        return "own", None

    @property
    def cluster(self) -> Given:
        return self

    def members_now(self, group: str, timeout_s: float) -> list[Member]:
        assert group == "g"
        return [Member("own", "streamcore-w0", "/127.0.0.1"), *self.others]

    @property
    def owns_all(self) -> bool:
        return self.owned == set(self.partitions)


class Hours:
    """A clock that is set by hand."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> Hours:
    hours = Hours()
    monkeypatch.setattr(membership, "time", hours)
    return hours


def _meeting(source: Given) -> Meeting:
    return Meeting(cast("Any", source), group="g", meets=True, session_timeout_ms=int(1_000 * SESSION_S))


def _is_refused(meeting: Meeting) -> bool:
    try:
        meeting.check_whole()
    except FencedError:
        return True
    return False


@pytest.mark.parametrize(("owned", "patience_s"), [({1, 2}, PATIENCE_S), (set(), PATIENCE_S), ({0}, 2 * PATIENCE_S)])
def test_a_part_of_the_lanes_is_refused_first_by_who_has_not_the_first_one(
    hours: Hours, owned: set[int], patience_s: float
) -> None:
    source = Given()
    source.owned, hours.now_s = frozenset(owned), 100.0
    meeting = _meeting(source)
    assert meeting.came(sorted(owned)) == []
    hours.now_s += patience_s - 0.1
    # Another assignment that is not all of them either is no new beginning.
    meeting.came([])
    assert not _is_refused(meeting)
    hours.now_s += 0.2
    with pytest.raises(
        FencedError, match=rf"only partitions \[.*\] of in for {patience_s:.0f} s.*stop the other worker"
    ):
        meeting.check_whole()


def test_whoever_gets_the_other_lanes_in_time_goes_on(hours: Hours) -> None:
    source = Given()
    source.owned = frozenset({0, 1})
    meeting = _meeting(source)
    meeting.came([0, 1])
    hours.now_s += PATIENCE_S
    source.owned = frozenset({0, 1, 2})
    assert meeting.came([2]) == [-1, 0, 1, 2]
    hours.now_s += 10 * PATIENCE_S
    assert not _is_refused(meeting)
    # And when it is given less again, its time begins anew.
    source.owned = frozenset({1})
    assert meeting.gone([0, 2]) == [-1, 0, 1, 2]
    meeting.came([])
    assert not _is_refused(meeting)
    hours.now_s += PATIENCE_S + 0.1
    assert _is_refused(meeting)


def test_whoever_is_alone_in_the_group_goes_on_waiting(hours: Hours) -> None:
    source = Given()
    source.others = ()
    meeting = _meeting(source)
    meeting.came([])
    hours.now_s += PATIENCE_S + 0.1
    assert not _is_refused(meeting)
    source.others = Given.others
    hours.now_s += PATIENCE_S - 0.1
    assert not _is_refused(meeting)
    hours.now_s += 0.2
    assert _is_refused(meeting)


def test_lanes_that_share_nothing_are_taken_as_they_come(hours: Hours) -> None:
    meeting = Meeting(cast("Any", Given()), group="g", meets=False, session_timeout_ms=6_000)
    assert meeting.came([1]) == [1]
    assert meeting.gone([1]) == [1]
    hours.now_s += 1_000.0
    assert not _is_refused(meeting)
