"""A clock on the wall that a test sets, for a process of its own: a library of a page, preloaded.

Before it: the environment of a process that a test starts. After it: what that process reads when it asks for the time of day. Clocks that
nobody sets (`CLOCK_MONOTONIC`) stay as they are, as when a real clock is set; unlike then, who waits for a time of day waits as long as it
was when the waiting began.

Libfaketime is not used: it does not know `cnd_timedwait`, by which the Kafka client waits, and a broker does not start with it.
"""

from __future__ import annotations

import random
import struct
import subprocess
import threading
from pathlib import Path

VARIABLE = "STREAMCORE_TEST_CLOCK"

CLOCK = """
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static const long long second = 1000000000LL;
static const volatile long long *ahead_ns;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("STREAMCORE_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *found = file < 0 ? MAP_FAILED : mmap(NULL, sizeof *ahead_ns, PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) ahead_ns = found;
    if (file >= 0) close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (syscall(SYS_clock_gettime, clock, now)) return -1;
    if (ahead_ns && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        long long ns = now->tv_sec * second + now->tv_nsec + *ahead_ns;
        now->tv_sec = ns / second;
        now->tv_nsec = ns % second;
    }
    return 0;
}

int timespec_get(struct timespec *now, int base) {
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec found;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &found)) return -1;
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec found;
    if (clock_gettime(CLOCK_REALTIME, &found)) return -1;
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
    struct timespec now, steady;
    clock_gettime(CLOCK_REALTIME, &now);
    clock_gettime(CLOCK_MONOTONIC, &steady);
    long long left = (until->tv_sec - now.tv_sec) * second + until->tv_nsec - now.tv_nsec;
    long long end = steady.tv_sec * second + steady.tv_nsec + (left > 0 ? left : 0);
    steady.tv_sec = end / second;
    steady.tv_nsec = end % second;
    int failed = pthread_cond_clockwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, CLOCK_MONOTONIC, &steady);
    return failed == 0 ? thrd_success : failed == ETIMEDOUT ? thrd_timedout : thrd_error;
}
"""
"""In C. How far the clock is ahead, in nanoseconds, is the first eight bytes of a file."""

SECOND_S, HOUR_S, DAY_S = 5, 3_600, 86_400
JUMPS_S = (SECOND_S, -SECOND_S, HOUR_S, -HOUR_S, DAY_S, -DAY_S)


def _library(folder: Path) -> Path:
    """`CLOCK`, by the compiler that Rust links with."""
    source, made = folder / "clock.c", folder / "clock.so"
    source.write_text(CLOCK)
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", made, source], check=True, timeout=60)
    return made


class WallClock:
    """Right at first; `set` moves it by seconds from what is right."""

    def __init__(self, folder: Path) -> None:
        """Keeps its offset in a file there."""
        self._file = folder / "clock.ns"
        self._file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(_library(folder)), VARIABLE: str(self._file)}
        """Of the process that is to read it."""

    def set(self, ahead_s: int) -> None:
        """At once, for all who read it."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", ahead_s * 1_000_000_000))


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
