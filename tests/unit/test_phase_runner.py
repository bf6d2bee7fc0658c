"""Two phases as one run: how they end, whoever ends first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import cast

import pytest

from streamcore.errors import FencedError, StateError
from streamcore.phase_runner import PhasesRunner
from streamcore.report import Report
from streamcore.runner import Observer, Runner


class FakeRunner:
    """Goes on until `ends` gives a state, or raises."""

    def __init__(self, ends: Callable[[], str | None]) -> None:
        self.ends = ends
        self.observers: list[Observer] = []
        self.commits: list[threading.Event] = []
        self.running = threading.Event()

    def observe(self, observer: Observer) -> None:
        self.observers.append(observer)

    def request_commit(self) -> threading.Event:
        self.commits.append(threading.Event())
        return self.commits[-1]

    def ask_status(self, window_end_ms: int | None) -> None:
        return None

    def report(self, state: str = "running") -> Report:
        return Report(name="p", state=state, lanes={0: {"read": 1}})

    def run(self) -> Report:
        self.running.set()
        while (state := self.ends()) is None:
            for observer in self.observers:
                observer(self.report())
            time.sleep(0.005)
        return self.report(state)


class Both:
    def __init__(self, partial: Callable[[Both], str | None], final: Callable[[Both], str | None]) -> None:
        self.stopping, self.final_stopping, self.is_over = threading.Event(), threading.Event(), threading.Event()
        self.partial, self.final = FakeRunner(lambda: partial(self)), FakeRunner(lambda: final(self))
        self.runner = PhasesRunner(
            cast("Runner", self.partial),
            cast("Runner", self.final),
            stopping=self.stopping,
            final_stopping=self.final_stopping,
            over=self.is_over.set,
        )


def _when(event: threading.Event, state: str) -> str | None:
    return state if event.is_set() else None


def _raising(error: Exception) -> str | None:
    raise error


def test_the_final_phase_ends_behind_the_partial_one() -> None:
    both = Both(lambda _: "ended", lambda it: _when(it.is_over, "ended"))
    assert both.runner.run().state == "ended"
    assert not both.final_stopping.is_set()


def test_a_stop_ends_the_partial_phase_first_and_then_waits_for_the_other_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamcore.phase_runner.DRAIN_S", 0.2)
    both = Both(lambda it: _when(it.stopping, "stopped"), lambda it: _when(it.final_stopping, "stopped"))
    threading.Timer(0.05, both.stopping.set).start()
    assert both.runner.run().state == "stopped"
    assert both.is_over.is_set()


def test_a_stop_while_the_final_phase_waits_for_others_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamcore.phase_runner.DRAIN_S", 0.1)
    both = Both(lambda _: "ended", lambda it: _when(it.final_stopping, "stopped"))
    threading.Timer(0.1, both.stopping.set).start()
    assert both.runner.run().state == "ended"


def test_what_ends_one_phase_ends_both_with_its_own_reason() -> None:
    both = Both(lambda _: _raising(FencedError("taken")), lambda it: _when(it.final_stopping, "stopped"))
    with pytest.raises(FencedError, match="taken"):
        both.runner.run()
    assert not both.is_over.is_set()
    both = Both(lambda it: _when(it.stopping, "stopped"), lambda _: _raising(StateError("damaged")))
    with pytest.raises(StateError, match="damaged"):
        both.runner.run()
    # What came first counts.
    both = Both(
        lambda it: _raising(FencedError("second")) if it.stopping.is_set() else None,
        lambda _: _raising(StateError("first")),
    )
    with pytest.raises(StateError, match="first"):
        both.runner.run()


def test_both_are_told_of_as_one() -> None:
    told: list[Report] = []
    both = Both(lambda _: "ended" if len(told) > 3 else None, lambda it: _when(it.is_over, "ended"))
    both.runner.observe(told.append)
    assert both.runner.run().lanes[-1] == {"read": 1}
    assert {report.state for report in told} == {"running"}


def test_a_commit_is_one_of_both() -> None:
    both = Both(lambda it: _when(it.stopping, "stopped"), lambda it: _when(it.final_stopping, "stopped"))
    thread = threading.Thread(target=both.runner.run)
    thread.start()
    try:
        assert both.final.running.wait(5)
        done = both.runner.request_commit()
        (first,), (second,) = both.partial.commits, both.final.commits
        first.set()
        assert not done.wait(0.01)
        second.set()
        assert done.wait(0.01)
        assert both.runner.ask_status(None) is None
    finally:
        both.stopping.set()
        both.final_stopping.set()
        thread.join()


def test_the_failure_that_is_not_raised_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """The partial phase's was often the cause, and nobody was told."""
    both = Both(
        lambda _: _raising(FencedError("taken by another")),
        lambda it: _raising(StateError("followed")) if it.final_stopping.is_set() else None,
    )
    with pytest.raises(StateError, match="followed"):
        both.runner.run()
    assert "the partial phase failed as well: FencedError: taken by another" in caplog.text
