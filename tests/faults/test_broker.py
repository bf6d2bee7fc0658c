"""F3 and F4: the broker is killed and comes back on its data, or is away for a minute.

Invariant: nothing that was committed is lost; workers live through it, or end as those do that are to be started again.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults import traffic
from tests.faults.network import Network
from tests.faults.workers import Job

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
KILLS = 5
AWAY_S = 60.0
PAUSE_S = 0.1
"""Between hundreds of records: starts of a broker take long on a busy machine, and what was sent meanwhile must be read."""


def _begin(job: Job, seed: int) -> tuple[traffic.Stream, dict[str, subprocess.Popen[bytes]]]:
    stream = job.stream(seed, pause_s=PAUSE_S)
    return stream, {worker: job.start(worker=worker) for worker in ("w0", "w1")}


@pytest.mark.column("pull")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", range(RUNS))
def test_a_broker_that_is_killed_again_and_again_costs_no_row(network: Network, far_job: Job, run: int) -> None:
    chance, job = random.Random(run), far_job
    stream, running = _begin(job, run)
    offsets = job.await_progress({}, running=running)
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.0, 2.0))
        network.server.process.kill()
        time.sleep(chance.uniform(0.0, 2.0))
        network.server.start()
        offsets = job.await_progress(offsets, running=running)
    job.end(stream, running, revives=True)


@pytest.mark.column("nightly")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", range(RUNS))
def test_a_broker_that_is_away_for_a_minute_costs_no_row(network: Network, far_job: Job, run: int) -> None:
    job = far_job
    stream, running = _begin(job, run)
    offsets = job.await_progress({}, running=running)
    network.server.process.stop(AWAY_S)
    time.sleep(AWAY_S)
    assert all(_resident_mb(process) < 1000 for process in running.values() if process.poll() is None)
    network.server.start()
    job.await_progress(offsets, running=running)
    job.end(stream, running, revives=True)


def _resident_mb(process: subprocess.Popen[bytes]) -> int:
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20
