"""F7: the network between workers and the broker is cut, silent, slow or in pieces, and heals.

Invariant: after it each row is there once; workers live through it, or end as those do that are to be started again.
"""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from tests.faults import traffic
from tests.faults.network import Network
from tests.faults.proxy import Weather
from tests.faults.workers import PARTITIONS, RUN_S, SESSION_S, Job

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
RECORDS = 1_000_000
EPISODES = 3

PULL = pytest.mark.column("pull")
WEATHERS = [
    "cut",
    "blackhole",
    *(pytest.param(name, marks=PULL) for name in ("reset", "slow", "slices", "deaf", "mute")),
]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("weather", WEATHERS)
def test_bad_weather_loses_and_repeats_nothing(network: Network, far_job: Job, weather: Weather, run: int) -> None:
    chance, job = random.Random(run), far_job
    stream = traffic.Stream(job.server.bootstrap_servers, job.input, run, RECORDS, partitions=PARTITIONS, keys=500)
    running = {worker: job.start(worker=worker) for worker in ("w0", "w1")}
    offsets = job.await_progress({}, running=running)
    for _ in range(EPISODES):
        time.sleep(chance.uniform(0.0, 1.0))
        network.workers.set(weather, seed=run)
        time.sleep(chance.uniform(0.5, 1.5 * SESSION_S))
        network.workers.set("clear")
        if chance.random() < 0.5:
            # What was on its way is lost, not late.
            network.workers.reset()
        offsets = job.await_progress(offsets, running=running)
    stream.close()
    job.await_end(running, revives=True)
    for worker, process in running.items():
        process.send_signal(signal.SIGTERM)
        assert process.wait(RUN_S) == 0, job.log(worker)
    job.finish()
    job.check()
