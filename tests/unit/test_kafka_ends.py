"""When a lane counts as read to its end: only on the broker's word, and only while that is fresh."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from streamcore.sources.base import End
from streamcore.sources.kafka_ends import (
    ANSWER_TIMEOUT_S,
    ASK_INTERVAL_S,
    FRESH_S,
    LOOK_INTERVAL_S,
    EndWatch,
    FetchedEnds,
)


class Broker:
    """Answers when told to."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.open: dict[int, Future[Any]] = {}

    def ask(self, lanes: list[int]) -> dict[int, Future[Any]]:
        self.asked.append(lanes)
        self.open = {lane: Future() for lane in lanes}
        return self.open

    def answer(self, **ends: int) -> None:
        for lane, end in ends.items():
            self.open[int(lane[1:])].set_result(SimpleNamespace(offset=end))


def test_a_lane_is_at_its_end_once_the_broker_says_so() -> None:
    broker = Broker()
    watch = EndWatch(broker.ask)
    assert watch.caught_up({0: 10, 1: 5}, 0.0) == ()
    broker.answer(_0=10, _1=6)
    assert watch.caught_up({0: 10, 1: 5}, 0.1) == (0,)
    assert watch.caught_up({0: 10, 1: 6}, 0.1) == (0, 1)
    assert broker.asked == [[0, 1]]


def test_an_end_that_was_not_told_ends_nothing() -> None:
    """The client gave -1001 where its connection had been lost; every lane was at its end then."""
    broker = Broker()
    watch = EndWatch(broker.ask)
    watch.caught_up({0: 10}, 0.0)
    broker.answer(_0=-1001)
    assert watch.caught_up({0: 10}, 0.1) == ()
    assert watch.ends(0.1) == {}


def test_questions_are_asked_at_intervals_and_one_at_a_time() -> None:
    broker = Broker()
    watch = EndWatch(broker.ask)
    for tenth in range(20):
        watch.caught_up({0: 0}, tenth / 10)
    assert len(broker.asked) == 1  # no answer yet
    broker.answer(_0=0)
    for tenth in range(20, 40):
        watch.caught_up({0: 0}, tenth / 10)
    assert len(broker.asked) == 2
    assert ASK_INTERVAL_S < ANSWER_TIMEOUT_S < FRESH_S


def test_a_question_that_stays_open_is_given_up_and_asked_again() -> None:
    broker = Broker()
    watch = EndWatch(broker.ask)
    watch.caught_up({0: 3}, 0.0)
    late = broker.open[0]
    watch.caught_up({0: 3}, ANSWER_TIMEOUT_S)
    assert len(broker.asked) == 2
    assert watch.outage_s(ANSWER_TIMEOUT_S) == ANSWER_TIMEOUT_S
    late.set_result(SimpleNamespace(offset=3))
    assert watch.caught_up({0: 3}, ANSWER_TIMEOUT_S + 0.1) == ()  # it answers a question of long ago


def test_an_old_answer_means_nothing() -> None:
    broker = Broker()
    watch = EndWatch(broker.ask)
    watch.caught_up({0: 3}, 0.0)
    broker.answer(_0=3)
    assert watch.caught_up({0: 3}, FRESH_S - 0.1) == (0,)
    # The next question is open from here on: during an outage nobody answers it.
    assert watch.caught_up({0: 3}, FRESH_S + 0.1) == ()


def test_a_failed_question_is_no_answer() -> None:
    broker = Broker()
    watch = EndWatch(broker.ask)
    watch.caught_up({0: 3}, 0.0)
    broker.open[0].set_exception(RuntimeError("broker gone"))
    assert watch.caught_up({0: 3}, 0.5) == ()
    assert watch.caught_up({0: 3}, ASK_INTERVAL_S) == ()
    broker.answer(_0=3)
    assert watch.caught_up({0: 3}, ASK_INTERVAL_S + 0.1) == (0,)


def test_nothing_is_asked_about_lanes_that_are_busy() -> None:
    broker = Broker()
    assert EndWatch(broker.ask).caught_up({}, 0.0) == ()
    assert broker.asked == []


def test_an_outage_lasts_from_the_first_question_without_an_answer() -> None:
    broker = Broker()
    watch = EndWatch(broker.ask)
    for second in range(4):
        watch.caught_up({0: 3}, float(second))
        assert watch.outage_s(second) == second
        broker.open[0].set_exception(RuntimeError("broker gone"))
    watch.caught_up({0: 3}, 4.0)
    broker.answer(_0=3)
    watch.caught_up({0: 3}, 4.1)
    assert watch.outage_s(4.1) == 0.0


def test_records_end_an_outage_and_lanes_that_are_not_asked_about_have_none() -> None:
    broker = Broker()
    watch = EndWatch(broker.ask)
    watch.caught_up({0: 3}, 0.0)
    broker.open[0].set_exception(RuntimeError("broker gone"))
    watch.caught_up({0: 3}, 0.5)
    assert watch.outage_s(2.0) == 2.0
    watch.heard()
    watch.caught_up({}, 100.0)
    assert watch.outage_s(100.0) == 0.0


def test_what_was_told_before_a_seek_is_asked_anew() -> None:
    broker = Broker()
    watch = EndWatch(broker.ask)
    watch.caught_up({0: 10, 1: 5}, 0.0)
    broker.answer(_0=10, _1=6)
    assert watch.caught_up({0: 10, 1: 5}, 0.1) == (0,)
    watch.forget([0])
    assert watch.caught_up({0: 10, 1: 6}, 0.2) == (1,), "and asked at once"
    broker.answer(_0=12, _1=6)
    assert watch.caught_up({0: 10, 1: 6}, 0.3) == (1,)
    assert broker.asked == [[0, 1], [0, 1]]


def test_while_nothing_is_asked_nobody_is_silent() -> None:
    broker = Broker()
    watch = EndWatch(broker.ask)
    watch.caught_up({0: 3}, 0.0)
    watch.caught_up({0: 3}, ANSWER_TIMEOUT_S)  # given up
    watch.caught_up({}, 60.0)  # lanes are held, or are brought to their state
    assert watch.outage_s(200.0) == 0.0
    watch.caught_up({0: 3}, 200.0)
    watch.caught_up({0: 3}, 200.0 + ANSWER_TIMEOUT_S)
    assert watch.outage_s(210.0) == 10.0


class Fetching:
    """What a fetcher knows."""

    def __init__(self, **told: dict[str, Any]) -> None:
        self.lanes = {int(lane[1:]): known for lane, known in told.items()}

    def progress(self) -> dict[int, dict[str, Any]]:
        return {lane: dict(known) for lane, known in self.lanes.items()}


def known(end: int | None, *, answered_s: float | None = 0.0, silent_s: float | None = 0.0) -> dict[str, Any]:
    high = None if end is None else end + 2
    return {
        "last_stable_offset": end,
        "high_watermark": high,
        "answered_s": answered_s,
        "silent_s": silent_s,
        "last_failure": None,
    }


def test_answers_to_fetches_tell_where_lanes_end() -> None:
    fetching = Fetching(_0=known(10), _1=known(6, answered_s=FRESH_S + 1), _2=known(None))
    ends = FetchedEnds(fetching.progress)
    assert ends.caught_up({0: 9, 1: 6, 2: 0}, 100.0) == ()
    assert ends.caught_up({0: 10, 1: 6, 2: 0}, 100.0) == (0,)
    assert {lane: (end.position, end.age_s) for lane, end in ends.ends(100.0).items()} == {0: (10, 0.0), 1: (6, 6.0)}
    assert ends.ends(100.0)[0].high_watermark == 12
    # What was looked at a moment ago is a moment older.
    assert ends.ends(100.0 + LOOK_INTERVAL_S / 2)[0].age_s == pytest.approx(LOOK_INTERVAL_S / 2)
    fetching.lanes[0] = known(12)
    assert ends.caught_up({0: 10}, 100.0 + 2 * LOOK_INTERVAL_S) == ()


def test_an_end_that_was_told_before_it_was_forgotten_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 50.0)
    fetching = Fetching(_0=known(10, answered_s=1.0))
    ends = FetchedEnds(fetching.progress)
    ends.forget([0])
    assert ends.caught_up({0: 10}, 50.5) == ()
    fetching.lanes[0] = known(10, answered_s=0.1)
    assert ends.caught_up({0: 10}, 51.0) == (0,)


def test_an_outage_is_of_all_lanes_that_are_read_and_a_stall_of_one() -> None:
    fetching = Fetching(_0=known(10, silent_s=40.0), _1=known(6, silent_s=3.0), _2=known(1, silent_s=90.0))
    fetching.lanes[0]["last_failure"] = "nobody leads it"
    ends = FetchedEnds(fetching.progress)
    ends.caught_up({0: 10, 1: 6}, 100.0)
    assert ends.outage_s(100.0) == 3.0
    assert ends.stalled(30.0) == (0, "nobody leads it")
    assert ends.stalled(60.0) is None
    # While none is answered for it is an outage, which is borne for longer.
    fetching.lanes[1] = known(6, silent_s=FRESH_S + 1)
    ends.caught_up({0: 10, 1: 6}, 101.0)
    assert (ends.stalled(30.0), ends.outage_s(101.0)) == (None, FRESH_S + 1)
    ends.caught_up({}, 101.0)
    assert (ends.outage_s(101.0), ends.stalled(1.0)) == (0.0, None)


def test_what_was_told_last_stays_once_the_fetcher_is_closed() -> None:
    fetching: list[dict[int, dict[str, Any]] | None] = [{0: known(10)}, None]
    ends = FetchedEnds(lambda: fetching.pop(0))
    assert ends.ends(100.0)[0].position == 10
    assert ends.ends(200.0)[0] == End(10, 100.0, 12)
