"""Where lanes begin and end: asked for together, waited for no longer than a call may, and not by what is of before."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest

from streamcore import state_bounds
from streamcore.state_bounds import Bounds
from tests.state_log import StateLog, Worker, answered

SLOW_S = 0.02


class Slow(StateLog):
    """A broker whose answers come when they are let go."""

    def __init__(self) -> None:
        super().__init__(ends={0: 10, 1: 20})
        self.asked: list[tuple[str, list[tuple[str, int]]]] = []
        self.open: list[tuple[Future[SimpleNamespace], SimpleNamespace]] = []

    def places_later(
        self, places: Sequence[tuple[str, int]], at: str, *, committed: bool = True
    ) -> list[Future[SimpleNamespace]]:
        self.asked.append((at, list(places)))
        futures = super().places_later(places, at, committed=committed)
        held: list[Future[SimpleNamespace]] = [Future() for _ in futures]
        self.open += zip(held, [future.result() for future in futures], strict=True)
        return held

    def answer(self) -> None:
        for future, answer in self.open:
            future.set_result(answer)
        self.open = []


def _bounds(broker: Slow) -> Bounds:
    return Bounds(cast("Any", broker), lambda lane: ("state", lane))


def _find(bounds: Bounds, lanes: list[int], new: list[int]) -> bool:
    return bounds.find(lanes, new, committed=False, until_s=time.monotonic() + SLOW_S)


def test_all_lanes_are_asked_for_in_one_request() -> None:
    broker = Slow()
    _find(_bounds(broker), [0, 1], [1])
    assert broker.asked == [("latest", [("state", 0), ("state", 1)]), ("earliest", [("state", 1)])]


def test_an_answer_that_is_too_late_for_one_call_is_there_for_the_next() -> None:
    """A broker that needs a second for it would else be asked for ever, half a second each time."""
    broker = Slow()
    bounds = _bounds(broker)
    began_s = time.monotonic()
    assert not _find(bounds, [0, 1], [0, 1])
    assert time.monotonic() - began_s < 1
    broker.answer()
    assert _find(bounds, [0, 1], [0, 1])
    assert (bounds.end(0), bounds.end(1), bounds.begins) == (10, 20, {0: 0, 1: 0})
    assert len(broker.asked) == 2


def test_an_end_counts_until_it_is_reached_or_old(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = Slow()
    bounds = _bounds(broker)
    _find(bounds, [0, 1], [])
    broker.answer()
    assert _find(bounds, [0, 1], [])
    broker.ends = {0: 11, 1: 21}
    assert _find(bounds, [0, 1], [])
    bounds.forget([1])
    assert not _find(bounds, [0, 1], [])
    assert broker.asked[-1] == ("earliest", [])
    assert broker.asked[-2] == ("latest", [("state", 1)])
    broker.answer()
    assert _find(bounds, [0, 1], [])
    assert (bounds.end(0), bounds.end(1)) == (10, 21)
    monkeypatch.setattr(state_bounds, "FRESH_S", 0.0)
    assert not _find(bounds, [0, 1], [])


def test_what_was_asked_before_a_commit_was_waited_for_does_not_count() -> None:
    """The end may lie behind what was committed meanwhile: a lane would go on from an old manifest."""
    broker = Slow()
    bounds = _bounds(broker)
    _find(bounds, [0], [])
    bounds.ask_anew()
    broker.answer()
    broker.ends = {0: 12, 1: 20}
    assert not _find(bounds, [0], [])
    broker.answer()
    assert _find(bounds, [0], [])
    assert bounds.end(0) == 12
    bounds.ask_anew()
    assert not _find(bounds, [0], [])


def test_a_state_whose_end_nobody_tells_is_not_reached_and_read_later(tmp_path: Any) -> None:
    broker = Slow()
    broker.ends = {0: 0, 1: 0}
    worker = Worker(broker, tmp_path)
    broker.topics_later = lambda names: [  # type: ignore[method-assign]
        answered(SimpleNamespace(name=name, topic_id="first", partitions=[])) for name in names
    ]

    def read() -> dict[int, bool]:
        return worker.states.read([0], until="high_watermark", timeout_s=SLOW_S, records=worker.engine.state_records)

    assert read() == {0: False}
    assert worker.states.reading(0) is None
    broker.answer()
    assert read() == {0: True}
    worker.close()
