"""F23: hours of work with a random fault every 30 to 120 seconds, and all assertions at the end (A1 to A9).

`make test-soak`; `STREAMCORE_SOAK_S` says for how long (an hour), `STREAMCORE_SOAK_SEED` with which faults. Shorter ones have their faults
closer together. Invariant: nothing is lost, doubled or left hanging, what a worker takes does not grow, and after each
fault the group is back within a bound.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults import oracle, traffic
from tests.faults.network import Network
from tests.faults.proxy import END_TXN, Weather
from tests.faults.vitals import BOUNDS, Vitals
from tests.faults.workers import RESTARTABLE, RUN_S, SESSION_S, SOURCE_AND_STEPS, TOPIC_SINK, Job
from tests.servers.wall_clock import JUMPS_S, WallClock

SOAK_S = float(os.environ.get("STREAMCORE_SOAK_S", "3600"))
SEED = int(os.environ.get("STREAMCORE_SOAK_SEED", "0"))
GAP_S = (30.0, 120.0)
FULL_S = 3600.0
BACK_S = 45.0
"""How soon after a fault is over the group must get further: session, transaction and restart, on a machine with two cores."""

WEATHERS: tuple[Weather, ...] = ("cut", "blackhole", "reset", "slow", "slices", "deaf", "mute")
PARTS = 8
"""Of a life, in what is told of it."""

PAUSE_S = 0.2
"""Between hundreds of records."""

ELDER = "w0"
"""A worker that nobody ends, so that it lives long."""

pytestmark = [pytest.mark.column("soak"), pytest.mark.timeout(SOAK_S + 1800)]


@dataclass
class Soak:
    """What faults are done to."""

    network: Network
    job: Job
    clock: WallClock
    chance: random.Random
    vitals: Vitals
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    offsets: dict[int, int] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    back_s: list[float] = field(default_factory=list)
    warm_s: float | None = None
    """When each fault had been done (monotonic)."""

    def start(self, worker: str) -> None:
        self.running[worker] = self.job.start(worker=worker)

    def another(self) -> str:
        """A worker that may be ended."""
        return self.chance.choice(sorted(set(self.running) - {ELDER}))

    def progress(self, within_s: float) -> None:
        """The group gets further; who had to end is started again."""
        since_s = time.monotonic()
        self.offsets = self.job.await_progress(self.job.offsets(), running=self.running, within_s=within_s)
        self.back_s.append(time.monotonic() - since_s)
        for worker, process in self.running.items():
            self.vitals.watch(worker, process.pid)

    def rest(self, seconds: float) -> None:
        """Until the next fault; workers that end for a reason of the fault before are started again."""
        due_s = time.monotonic() + seconds
        while time.monotonic() < due_s:
            self.progress(BACK_S)
            time.sleep(1.0)


def _kill(soak: Soak) -> None:
    worker = soak.another()
    soak.running[worker].kill()
    soak.running[worker].wait()
    soak.start(worker)


def _leave(soak: Soak) -> None:
    worker = soak.another()
    process = soak.running.pop(worker)
    process.send_signal(signal.SIGTERM)
    # One that has only just begun has no handler yet; one that was fenced by what came before says so.
    assert process.wait(RUN_S) in (0, 4, 7, 130, -signal.SIGTERM), soak.job.log(worker)
    time.sleep(soak.chance.uniform(0.0, 5.0))
    soak.start(worker)


def _join(soak: Soak) -> None:
    guest = "guest"
    soak.start(guest)
    time.sleep(soak.chance.uniform(0.0, 10.0))
    process = soak.running.pop(guest)
    process.send_signal(signal.SIGTERM)
    assert process.wait(RUN_S) in (0, 4, 7, 130, -signal.SIGTERM), soak.job.log(guest)


def _stand_still(soak: Soak) -> None:
    process = soak.running[soak.another()]
    process.send_signal(signal.SIGSTOP)
    time.sleep(soak.chance.uniform(0.5, 2.0) * SESSION_S)
    process.send_signal(signal.SIGCONT)


def _bad_weather(soak: Soak) -> None:
    soak.network.workers.set(soak.chance.choice(WEATHERS), seed=soak.chance.randrange(1000))
    time.sleep(soak.chance.uniform(0.5, 1.5 * SESSION_S))
    soak.network.workers.set("clear")
    if soak.chance.random() < 0.5:
        soak.network.workers.reset()


def _kill_the_broker(soak: Soak) -> None:
    soak.network.server.process.kill()
    time.sleep(soak.chance.uniform(0.0, 3.0))
    soak.network.server.start()


def _late_commit(soak: Soak) -> None:
    rule = soak.network.workers.add(END_TXN, "hold", skip=soak.chance.randrange(5))
    caught = rule.await_caught()
    time.sleep(soak.chance.uniform(1.0, 12.0))
    soak.network.workers.release(caught, anew=soak.chance.random() < 0.5)


def _lost_answer(soak: Soak) -> None:
    rule = soak.network.workers.add(END_TXN, "swallow reply", skip=soak.chance.randrange(5))
    caught = rule.await_caught()
    if soak.chance.random() < 0.5:
        soak.network.workers.break_off(caught)


def _set_clocks(soak: Soak) -> None:
    for _ in range(3):
        soak.clock.set(soak.chance.choice(JUMPS_S))
        time.sleep(soak.chance.uniform(0.5, 2.0))
    soak.clock.set(0)


FAULTS: tuple[Callable[[Soak], None], ...] = (
    *(_kill, _leave, _join, _stand_still, _bad_weather, _kill_the_broker, _late_commit, _lost_answer, _set_clocks),
)


@pytest.fixture
def soak(network: Network, unique: str, tmp_path: Path) -> Iterator[Soak]:
    text = SOURCE_AND_STEPS.replace('within = "1h"', 'within = "1m"') + TOPIC_SINK
    job = Job(network.server, unique, tmp_path, bootstrap=network.bootstrap, text=text)
    clock = WallClock(tmp_path)
    job.environment |= clock.environment
    soak = Soak(network, job, clock, random.Random(SEED), Vitals())
    yield soak
    soak.vitals.close()
    job.kill_all()


def test_hours_of_faults_lose_and_repeat_nothing_and_take_no_more(soak: Soak) -> None:
    job = soak.job
    stream = job.stream(SEED, pause_s=PAUSE_S)
    for worker in (ELDER, "w1", "w2"):
        soak.start(worker)
    soak.progress(RUN_S)
    _faults(soak)
    _end(soak, stream)


def _faults(soak: Soak) -> None:
    ends_s, waiting = time.monotonic() + SOAK_S, list[Callable[[Soak], None]]()
    closer = min(1.0, SOAK_S / FULL_S)
    while (left_s := ends_s - time.monotonic()) > 0:
        if not waiting:
            # Each of them, in an order by chance.
            waiting = soak.chance.sample(FAULTS, len(FAULTS))
        soak.rest(min(left_s, max(10.0, soak.chance.uniform(*GAP_S) * closer)))
        fault = waiting.pop()
        print(f"{SOAK_S - (ends_s - time.monotonic()):.0f} s: {fault.__name__.strip('_')}", flush=True)
        fault(soak)
        soak.done[fault.__name__.strip("_")] += 1
        soak.progress(BACK_S)
        if soak.warm_s is None and len(soak.done) == len(FAULTS):
            soak.warm_s = time.monotonic()


def _end(soak: Soak, stream: traffic.Stream) -> None:
    job = soak.job
    stream.close()
    job.await_end(soak.running, revives=True, within_s=600)
    soak.vitals.close()
    for worker, process in soak.running.items():
        process.send_signal(signal.SIGTERM)
        assert process.wait(RUN_S) in (0, *RESTARTABLE), job.log(worker)
    job.check_state()
    job.finish(revives=True)
    job.check()
    wanted = oracle.expected(job.server.bootstrap_servers, job.input)
    print(f"faults: {dict(soak.done)}; records: {sum(wanted.ends.values()):,}; rows: {len(wanted.rows):,}")
    print(f"back after {max(soak.back_s):.1f} s at most; exit codes: {Counter(one.returncode for one in job.workers)}")
    _nothing_grows(soak.vitals, soak.warm_s)


def _nothing_grows(vitals: Vitals, warm_s: float | None) -> None:
    """Of whoever lived longest, once each fault had been done."""
    life = vitals.longest()
    assert warm_s is not None, "too short for each fault to be done"
    assert life.at_s[0] < warm_s < life.at_s[-1], "nobody lived long enough to tell"
    growth = {name: life.growth(name, warm_s) for name in BOUNDS}
    for name in BOUNDS:
        course = " ".join(f"{value:.0f}" for value in life.course(name, PARTS))
        print(
            f"{life.name}, {life.length_s:.0f} s, {name}: {course}; by {growth[name]:+.1f} in the last {life.at_s[-1] - warm_s:.0f} s"
        )
    assert {name: more for name, more in growth.items() if more > BOUNDS[name]} == {}
