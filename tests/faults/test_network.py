"""F7: the network between workers and the broker is cut, silent, slow or in pieces, and heals.

Invariant: after it each row is there once; workers live through it, or end as those do that are to be started again.
"""

from __future__ import annotations

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from streamcore.config import KafkaConnection
from streamcore.kafka_client import Cluster
from tests.faults.network import Network
from tests.faults.proxy import LIST_OFFSETS, Weather
from tests.faults.workers import RUN_S, SESSION_S, Job
from tests.integration.kafka_tools import create_topic, produce

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
EPISODES = 3
UNDECIDED = "stopped, the last epoch may be read again"

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
    stream = job.stream(run)
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
        # One that still asks what became of its last epoch says so, and leaves it to the next start.
        code = process.wait(RUN_S)
        assert code == 0 or (code == 1 and UNDECIDED in job.log(worker)), job.log(worker)
    job.finish()
    job.check()


def test_an_end_whose_question_was_lost_is_asked_for_again(network: Network, unique: str) -> None:
    """The client gave -1001 for it, without an error: a lane's state was at its end before any of it was read, and began empty."""
    topic = create_topic(network.server, unique)
    produce(network.server, topic, [b"one", b"two"])
    cluster = Cluster(KafkaConnection(bootstrap_servers=network.bootstrap))
    assert cluster.offsets(topic, [0], "latest") == {0: 2}
    rule = network.workers.add(LIST_OFFSETS, "hold")
    with ThreadPoolExecutor(1) as thread:
        answer = thread.submit(cluster.offsets, topic, [0], "latest")
        network.workers.break_off(rule.await_caught())
        assert answer.result() == {0: 2}
