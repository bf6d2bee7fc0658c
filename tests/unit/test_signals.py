from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import cast

import pytest

from streamcore.run import Run
from streamcore.signals import SIGNALS, StopOnSignal


class FakeRun:
    stops = 0

    def stop(self) -> None:
        self.stops += 1


@pytest.mark.parametrize("number", SIGNALS)
def test_without_a_signal_the_handlers_from_before_are_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopOnSignal():
        assert signal.getsignal(number) is not before
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_stops_the_run(number: signal.Signals) -> None:
    run = FakeRun()
    with StopOnSignal() as signals:
        signals.watch(cast("Run", run))
        os.kill(os.getpid(), number)
        assert (run.stops, signals.received) == (1, number)


def test_before_there_is_a_run_a_signal_interrupts() -> None:
    with pytest.raises(KeyboardInterrupt), StopOnSignal():
        os.kill(os.getpid(), signal.SIGTERM)


PROGRAM = """
import os, signal
from streamcore.signals import StopOnSignal
class Run:
    def stop(self): print("asked", flush=True)
with StopOnSignal() as signals:
    signals.watch(Run())
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    print("never", flush=True)
"""


def test_the_second_signal_forces() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, b"asked\n")


INTERRUPTED = """
import atexit, os, signal, sys, time
from streamcore.signals import StopOnSignal
def close():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
atexit.register(close)
try:
    with StopOnSignal():
        os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    WHERE
    sys.exit(130)
"""


@pytest.mark.parametrize("where", ["pass", "os.kill(os.getpid(), signal.SIGINT)"])
def test_a_signal_behind_the_one_that_interrupted_leaves_no_traceback(where: str) -> None:
    program = INTERRUPTED.replace("WHERE", where)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (128 + signal.SIGINT, b"")
