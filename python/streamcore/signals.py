"""Owns SIGINT and SIGTERM for the command line, the only part of streamcore that handles signals.

Before it: a command. After it: a run that finishes its epoch.
Invariant: the first signal asks, the second one forces, until the process is over; where none came, the handlers from before are
put back.
"""

from __future__ import annotations

import atexit
import os
import signal
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from streamcore.run import Run

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopOnSignal:
    """While it is entered, signals stop the run that `watch` names; before that they interrupt."""

    def __init__(self) -> None:
        self.received: int | None = None
        """The first signal that came."""
        self._run: Run | None = None
        self._before: dict[int, Any] = {}

    def watch(self, run: Run) -> None:
        """This is the run to stop."""
        self._run = run

    def __enter__(self) -> Self:
        # What is registered here first is called last at the end, behind a run that is still to be closed.
        atexit.register(_ignore_signals)
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # After a signal the process ends; with Python's own handler another one would leave a traceback, and another exit code.
        if self.received is None:
            atexit.unregister(_ignore_signals)
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            # Asked twice: whatever is in flight counts as a crash, which state and sinks are made for.
            os._exit(128 + number)
        self.received = number
        if self._run is None:
            raise KeyboardInterrupt
        self._run.stop()


def _ignore_signals() -> None:
    """As Python ends it lets go of its handlers, and a signal that is still on its way would be the exit code."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
