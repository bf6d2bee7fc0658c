"""F1, F2 and F5 where windows meet through a topic: a group key that is not the record key, by one worker and by several.

Two phases commit, each in transactions of its own; a worker dies in either. Invariant: at the end each row is there once, and right.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.network import Network
from tests.faults.proxy import END_TXN, WRITE_TXN_MARKERS
from tests.faults.workers import PARTITIONS, RUN_S, SOURCE_AND_STEPS, TOPIC_SINK, Job
from tests.servers.kafka import KafkaServer

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
PULL = pytest.mark.column("pull")
KILLS = 5

TEXT = (
    SOURCE_AND_STEPS.replace('v = "int64"', 'v = "int64"\np = "string"').replace('\nby = "k"', '\nby = "p"')
    + TOPIC_SINK
)
"""Records have the key `k`, as they are sent, and windows are of `p`, which is in any partition."""

POINTS = {
    "CP2 applied, not sealed": "before-{}seal:5:kill",
    "CP3 rows or partials partly sent": "after-{}produce-outputs:5:kill",
    "CP4 sent, no offsets": "before-{}send_offsets:5:kill",
    "CP5 offsets sent, not flushed": "after-{}send_offsets:5:kill",
    "CP5 flushed, not committed": "after-{}flush:5:kill",
    "CP9 committed, undo log not dropped": "after-{}commit:5:kill",
    "CP13 while recovering": "after-{}read_state:1:kill",
    "CP13 recovered, not started": "after-{}restore:1:kill",
    "CP14 state and partials sent, manifest not": "after-{}produce-state:5:kill",
    "CP14 manifest sent": "after-{}produce-manifests:5:kill",
}
"""With the prefix of the phase."""


@pytest.fixture
def job(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Iterator[Job]:
    job = Job(kafka_server, unique, tmp_path, text=TEXT, by="p")
    yield job
    job.kill_all()


@pytest.fixture
def far_job(network: Network, unique: str, tmp_path: Path) -> Iterator[Job]:
    job = Job(network.server, unique, tmp_path, bootstrap=network.bootstrap, text=TEXT, by="p")
    yield job
    job.kill_all()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("workers", [pytest.param(1, marks=PULL), 3])
def test_workers_killed_at_random_lose_and_repeat_nothing(job: Job, workers: int, run: int) -> None:
    chance, stream = random.Random(run), job.stream(run)
    running = {f"w{number}": job.start(worker=f"w{number}") for number in range(workers)}
    offsets = job.await_progress({})
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.2, 2.0))
        worker = chance.choice(sorted(running))
        running[worker].kill()
        assert running[worker].wait() == -signal.SIGKILL, job.log(worker)
        running[worker] = job.start(worker=worker)
        offsets = job.await_progress(offsets)
    job.end(stream, running)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", range(RUNS))
@PULL
def test_workers_that_come_and_go_lose_and_repeat_nothing(job: Job, run: int) -> None:
    chance, stream = random.Random(run), job.stream(run)
    running = {"w0": job.start(worker="w0")}
    offsets = job.await_progress({})
    for number in range(1, 13):
        time.sleep(chance.uniform(0.0, 1.5))
        if len(running) < 4 and (len(running) == 1 or chance.random() < 0.5):
            running[f"w{number}"] = job.start(worker=f"w{number}")
            continue
        worker = chance.choice(sorted(running))
        process = running.pop(worker)
        if chance.random() < 0.3:
            process.kill()
            process.wait()
        else:
            process.send_signal(signal.SIGTERM)
            assert process.wait(RUN_S) in (0, -signal.SIGTERM, 130), job.log(worker)
        if not running:
            running[f"w{number}"] = job.start(worker=f"w{number}")
    offsets = job.await_progress(offsets)
    job.end(stream, running)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("prefix", ["", "combine-"], ids=["partial", "final"])
@pytest.mark.parametrize("point", [pytest.param(name, marks=() if "CP5" in name else PULL) for name in POINTS])
def test_a_worker_killed_at_a_crash_point_of_either_phase_loses_and_repeats_nothing(
    job: Job, point: str, prefix: str, run: int
) -> None:
    stream = job.stream(run)
    if point.startswith("CP13"):
        # Of what a recovery finds: both phases have committed something.
        earlier = job.start()
        offsets: dict[int, int] = {}
        for _ in range(3):
            offsets = job.await_progress(offsets)
        earlier.kill()
        earlier.wait()
    process = job.start(faults=POINTS[point].format(prefix))
    assert process.wait(RUN_S) == -signal.SIGKILL, f"the point was not reached:\n{job.log()}"
    heir = job.start(worker="w0")
    job.await_progress(job.offsets())
    job.end(stream, {"w0": heir})


@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("phase", ["CP6 lost", "CP6 late", "CP7", "CP8"])
@PULL
def test_a_worker_killed_in_the_broker_s_commit_of_either_phase_loses_and_repeats_nothing(
    network: Network, far_job: Job, phase: str, run: int
) -> None:
    """The request that is caught is that of whichever phase commits then."""
    chance, job = random.Random(run), far_job
    stream = job.stream(run)
    process = job.start()
    job.await_progress({})
    skip = chance.randrange(6)
    if phase == "CP8":
        rule = network.markers.add(WRITE_TXN_MARKERS, "hold", skip=skip)
    else:
        rule = network.workers.add(END_TXN, "swallow reply" if phase == "CP7" else "hold", skip=skip)
    caught = rule.await_caught()
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process = job.start(worker="heir")
    if phase in ("CP6 late", "CP8"):
        time.sleep(chance.uniform(0.0, 6.0))
        (network.markers if phase == "CP8" else network.workers).release(caught)
    job.end(stream, {"heir": process})


@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", range(RUNS))
@PULL
def test_several_workers_that_read_to_the_end_close_each_window_once(job: Job, run: int) -> None:
    """One of them dies on the way, and is started again."""
    chance, stream = random.Random(run), job.stream(run)
    time.sleep(chance.uniform(3.0, 6.0))
    stream.close()
    workers = [f"w{number}" for number in range(PARTITIONS + 1)]
    running = {worker: job.start(worker=worker, stop="end") for worker in workers}
    time.sleep(chance.uniform(0.5, 3.0))
    victim = chance.choice(workers)
    if running[victim].poll() is None:
        running[victim].kill()
        running[victim].wait()
        running[victim] = job.start(worker=victim, stop="end")
    for worker, process in running.items():
        assert process.wait(RUN_S) == 0, job.log(worker)
    job.check(recovered=False)
