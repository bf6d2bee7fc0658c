"""One child process: started with a log file, waited for, and stopped by its process id.

`kafka.py` and `redis.py` build on it. Invariant: the child dies with its parent, also when the parent is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

PR_SET_PDEATHSIG = 1
STOP_TIMEOUT_S = 10.0
POLL_INTERVAL_S = 0.05


class ServerError(RuntimeError):
    """A server cannot be installed or started; the message says what to do."""


def die_with_parent() -> Callable[[], None] | None:
    """What a child runs before its program so that the kernel ends it when its parent goes (Linux only).

    The library handle is taken here, in the parent: between fork and exec a child must not load anything.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask_kernel() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it went between fork and prctl
            os._exit(1)

    return ask_kernel


class Server(ABC):
    """A server that stops with its `with` block."""

    @abstractmethod
    def stop(self) -> None:
        """Ends the process and removes what it left."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class ServerProcess:
    """A running program with its output in `log`."""

    def __init__(
        self, command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.log = log
        self.command = list(command)
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else {**os.environ, **env},
                cwd=cwd,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - it only calls prctl, whose handle is taken before
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until(self, ready: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Returns once `ready()`; raises `ServerError` with the end of the log when it dies or takes too long."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if self.process.poll() is not None:
                raise ServerError(f"{what} ended with code {self.process.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.stop()
                raise ServerError(f"{what} was not ready within {timeout_s:.0f} s:\n{self.log_tail()}")
            time.sleep(POLL_INTERVAL_S)

    def log_tail(self, lines: int = 20) -> str:
        """The end of the log, and before that its first errors, where a server tells much of its end."""
        told = self.log.read_text(errors="replace").splitlines()
        errors = [line for line in told[:-lines] if " ERROR " in line or "Exception" in line]
        return "\n".join([*errors[:lines], *told[-lines:]])

    def kill(self) -> None:
        """SIGKILL, then reaps."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM, then SIGKILL after `timeout_s`. Returns the exit code. Safe to call twice."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()
