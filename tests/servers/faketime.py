"""A clock on the wall that a test sets, for a process of its own: Debian's libfaketime, preloaded.

`scripts/install-servers.sh` installs it. Before it: the environment of a process that a test starts. After it: what that process reads
when it asks for the time of day. Clocks that nobody sets (`CLOCK_MONOTONIC`) stay as they are, as when a real clock is set;
unlike then, who waits for a time of day waits as long as it was when the waiting began.
"""

from __future__ import annotations

import random
import subprocess
import threading
from pathlib import Path

from tests.servers.process import ServerError

SLEEP = """
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *request, struct timespec *left) {
    return syscall(SYS_clock_nanosleep, clock, flags, request, left) ? errno : 0;
}

int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until) {
    struct timespec now, steady;
    timespec_get(&now, TIME_UTC);
    clock_gettime(CLOCK_MONOTONIC, &steady);
    long long left = (until->tv_sec - now.tv_sec) * 1000000000LL + until->tv_nsec - now.tv_nsec;
    long long end = steady.tv_sec * 1000000000LL + steady.tv_nsec + (left > 0 ? left : 0);
    steady.tv_sec = end / 1000000000LL;
    steady.tv_nsec = end % 1000000000LL;
    int failed = pthread_cond_clockwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, CLOCK_MONOTONIC, &steady);
    return failed == 0 ? thrd_success : failed == ETIMEDOUT ? thrd_timedout : thrd_error;
}
"""
"""In C. Libfaketime 0.9.10 refuses a sleep until a time of the clock that it was told to leave alone, which is every `time.sleep` of Python. And it does
not know `cnd_timedwait`, by which all threads of the Kafka client wait: they would wait by the right clock for a time that the wrong one told them, for a
day where that was a day ahead.
"""

FOLDERS = ("/usr/lib", "/usr/local/lib")
LIBRARY = "faketime/libfaketimeMT.so.1"
"""For processes of several threads."""

SECOND_S, HOUR_S, DAY_S = 5, 3_600, 86_400
JUMPS_S = (SECOND_S, -SECOND_S, HOUR_S, -HOUR_S, DAY_S, -DAY_S)


def library() -> Path:
    """Where libfaketime is. Raises `ServerError` with the line to type."""
    for folder in map(Path, FOLDERS):
        for found in (folder / LIBRARY, *sorted(folder.glob(f"*/{LIBRARY}"))):
            if found.is_file():
                return found
    raise ServerError("libfaketime is missing: apt-get install libfaketime")


def _sleep(folder: Path) -> Path:
    """`SLEEP`, by the compiler that Rust links with."""
    source, made = folder / "sleep.c", folder / "sleep.so"
    source.write_text(SLEEP)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", made, source], check=True, timeout=60)
    return made


class WallClock:
    """Right at first; `set` moves it by seconds from what is right."""

    def __init__(self, folder: Path) -> None:
        """Keeps its offset in a file there."""
        self._file = folder / "faketime"
        self.environment = {
            "LD_PRELOAD": f"{_sleep(folder)}:{library()}",
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        """Of the process that is to read it."""
        self.set(0)

    def set(self, ahead_s: int) -> None:
        """Whole or not at all: who reads the file meanwhile finds the offset before or this one."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead_s:+d}\n")
        new.replace(self._file)


class Jumps:
    """Sets a clock forth or back by one of `JUMPS_S`, and right again, every `EVERY_S`, from a thread of its own until `close`."""

    EVERY_S = 1.0

    def __init__(self, clock: WallClock, seed: int) -> None:
        self.clock = clock
        self.count = 0
        self._chance = random.Random(seed)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        order: list[int] = []
        while not self._stopping.wait(self.EVERY_S):
            if not order:
                # Each of them, in an order by chance.
                order = self._chance.sample(JUMPS_S, len(JUMPS_S))
            self.clock.set(order.pop())
            self.count += 1
            if self._stopping.wait(self.EVERY_S):
                break
            self.clock.set(0)
        self.clock.set(0)

    def close(self) -> None:
        """Right again, for good."""
        self._stopping.set()
        self._thread.join()
