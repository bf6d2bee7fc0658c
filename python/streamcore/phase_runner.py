"""Owns running both phases of a pipeline whose windows meet through a topic, as one run: a thread and a runner each.

Before it: `assemble.py`. After it: `run.py`, for which it takes the place of a `Runner`.
Invariant: each engine is touched by its own thread only; the phases meet in the topic, and what is said of both is put together from
what each has said.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from streamcore.phase_reports import merged_report, merged_status
from streamcore.report import Report
from streamcore.runner import Observer, Runner

log = logging.getLogger("streamcore.commit")

DRAIN_S = 1.0
"""How long, after a stop, the final phase goes on to merge what the partial phase has committed; others wait for its partitions."""

WAIT_S = 0.05


class Requested:
    """Is set when several are; of `threading.Event` it has what a caller waits with."""

    def __init__(self, parts: Sequence[threading.Event]) -> None:
        self._parts = parts

    def wait(self, timeout: float) -> bool:
        """Whether all are set, at the latest after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        return all(part.wait(max(0.0, deadline - time.monotonic())) for part in self._parts)


class PhasesRunner:
    """One execution of both phases."""

    def __init__(
        self,
        partial: Runner,
        final: Runner,
        *,
        stopping: threading.Event,
        final_stopping: threading.Event,
        over: Callable[[], None],
    ) -> None:
        """`stopping` ends the partial phase, `final_stopping` the other; `over` is called when the partial phase has ended well."""
        self._partial = partial
        self._final = final
        self._stopping = stopping
        self._final_stopping = final_stopping
        self._over = over
        self._observers: list[Observer] = []
        self._partial_report: Report | None = None
        self._final_report: Report | None = None
        self._partial_is_over = False
        self._final_done = threading.Event()
        self._failure: BaseException | None = None
        """What ended the final phase."""

    def observe(self, observer: Observer) -> None:
        """See `Runner`; from the thread of either phase, never of both at once."""
        if not self._observers:
            self._partial.observe(self._tell_partial)
            self._final.observe(self._tell_final)
        self._observers.append(observer)

    def _tell_partial(self, report: Report) -> None:
        self._partial_report = report
        self._tell()

    def _tell_final(self, report: Report) -> None:
        self._final_report = report
        if self._partial_is_over:
            self._tell()

    def _tell(self) -> None:
        if self._partial_report is None:
            return
        report = merged_report(self._partial_report, self._final_report, state="running")
        for observer in self._observers:
            observer(report)

    def request_commit(self) -> Requested:
        """See `Runner`. From any thread."""
        over = self._partial_is_over
        return Requested([*([] if over else [self._partial.request_commit()]), self._final.request_commit()])

    def ask_status(self, window_end_ms: int | None) -> dict[str, Any] | None:
        """See `Runner`; None as well where the partial phase is over. From any thread."""
        if self._partial_is_over:
            return None
        partial, final = self._partial.ask_status(window_end_ms), self._final.ask_status(window_end_ms)
        return None if partial is None or final is None else merged_status(partial, final)

    def report(self, state: str = "running") -> Report:
        """Both phases so far. Where neither runs."""
        return merged_report(self._partial.report(state), self._final.report(state), state=state)

    def run(self) -> Report:
        """Runs the partial phase here and the other beside it. Raises what made one of them fail, which ends both."""
        thread = threading.Thread(target=self._run_final, name="streamcore-combine", daemon=True)
        thread.start()
        try:
            partial = self._partial.run()
            self._partial_report, self._partial_is_over = partial, True
            self._over()
            self._await_final(stopped=partial.state == "stopped")
        except BaseException as error:
            self._final_stopping.set()
            self._final_done.wait()
            if self._failure is None:
                raise
            # Only one can be raised, and this may be what the other followed from.
            log.error("the partial phase failed as well: %s: %s", type(error).__name__, error)  # noqa: TRY400
        thread.join()
        if self._failure is not None:
            raise self._failure
        return merged_report(partial, self._final_report, state=partial.state)

    def _run_final(self) -> None:
        try:
            self._final_report = self._final.run()
        except BaseException as error:  # noqa: BLE001 - raised where both are waited for
            self._failure = error
            self._stopping.set()
        finally:
            self._final_done.set()

    def _await_final(self, *, stopped: bool) -> None:
        """The final phase ends by itself, behind all there is; where a stop was asked for, at the latest after a while."""
        deadline: float | None = None
        while not self._final_done.wait(WAIT_S):
            if deadline is None and (stopped or self._stopping.is_set()):
                deadline = time.monotonic() + DRAIN_S
            if deadline is not None and time.monotonic() >= deadline:
                self._final_stopping.set()
