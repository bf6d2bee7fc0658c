"""F1, F2, F5 and F6 of pipelines that join two topics partition by partition: killed at crash points and at random, coming, going.

`STREAMCORE_FAULT_RUNS` says how often each is tried; the seed is the number of the run. Invariant: at the end each pair of
rows, each window and each dead letter is there once, as an oracle works them out that looks at both topics alone.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.join_jobs import TEXTS, JoinJob
from tests.faults.network import Network
from tests.faults.proxy import END_TXN, WRITE_TXN_MARKERS
from tests.faults.workers import RUN_S
from tests.servers.kafka import KafkaServer

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
KILLS = 5

POINTS = {
    "CP2 applied, not sealed": "before-seal:3:kill",
    "CP3 rows partly sent": "after-produce-outputs:3:kill",
    "CP4 sent, no offsets": "before-send_offsets:3:kill",
    "CP5 offsets sent, not flushed": "after-send_offsets:3:kill",
    "CP5 flushed, not committed": "after-flush:3:kill",
    "CP9 committed, undo log not dropped": "after-commit:3:kill",
    "CP13 while recovering": "after-read_state:1:kill",
    "CP13 recovered, not started": "after-restore:1:kill",
    "CP14 state sent, manifest not": "after-produce-state:4:kill",
}


@pytest.fixture(params=sorted(TEXTS))
def join_job(
    request: pytest.FixtureRequest, kafka_server: KafkaServer, unique: str, tmp_path: Path
) -> Iterator[JoinJob]:
    """A join of streams, and one with a table."""
    job = JoinJob(kafka_server, unique, tmp_path, text=TEXTS[request.param])
    yield job
    job.kill_all()


@pytest.fixture(params=sorted(TEXTS))
def far_join_job(request: pytest.FixtureRequest, network: Network, unique: str, tmp_path: Path) -> Iterator[JoinJob]:
    """The same, with workers that reach the broker through the proxy."""
    job = JoinJob(network.server, unique, tmp_path, bootstrap=network.bootstrap, text=TEXTS[request.param])
    yield job
    job.kill_all()


@pytest.mark.timeout(240)
@pytest.mark.column("pull")
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("point", POINTS)
def test_a_join_killed_at_a_crash_point_loses_and_repeats_nothing(join_job: JoinJob, point: str, run: int) -> None:
    streams = join_job.streams(run)
    process = join_job.start(faults=POINTS[point])
    assert process.wait(RUN_S) == -signal.SIGKILL, f"the point was not reached:\n{join_job.log()}"
    streams.close()
    join_job.finish()
    join_job.check(recovered=not point.startswith("CP13"))  # killed before its first commit


@pytest.mark.timeout(240)
@pytest.mark.column("pull")
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("point", ["before-revoke-seal", "after-revoke-flush", "after-revoke-commit"])
def test_a_join_killed_while_it_gives_lanes_away_loses_and_repeats_nothing(
    join_job: JoinJob, point: str, run: int
) -> None:
    """CP12: with the range assignor every lane is given away when another worker comes."""
    streams = join_job.streams(run)
    process = join_job.start(faults=f"{point}:1:kill")
    offsets = join_job.await_progress({})
    heir = join_job.killed_by_a_join(process)
    join_job.await_progress(offsets)
    join_job.end(streams, {"heir": heir})


@pytest.mark.timeout(300)
@pytest.mark.column("pull")
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("phase", ["CP6 lost", "CP6 late", "CP7", "CP8"])
def test_a_join_killed_in_the_broker_s_commit_loses_and_repeats_nothing(
    network: Network, far_join_job: JoinJob, phase: str, run: int
) -> None:
    """As `test_commit_phases.py` has it."""
    chance, job = random.Random(run), far_join_job
    streams = job.streams(run)
    process = job.start()
    job.await_progress({})
    skip = chance.randrange(5)
    if phase == "CP8":
        rule = network.markers.add(WRITE_TXN_MARKERS, "hold", skip=skip)
    else:
        rule = network.workers.add(END_TXN, "swallow reply" if phase == "CP7" else "hold", skip=skip)
    caught = rule.await_caught()
    process.kill()
    assert process.wait() == -signal.SIGKILL
    running = {"heir": job.start(worker="heir")}
    if phase in ("CP6 late", "CP8"):
        # Before, in or after the successor's recovery.
        time.sleep(chance.uniform(0.0, 6.0))
        (network.markers if phase == "CP8" else network.workers).release(caught)
    job.end(streams, running)


@pytest.mark.timeout(600)
@pytest.mark.column("pull")
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_of_a_join_killed_at_random_lose_and_repeat_nothing(join_job: JoinJob, workers: int, run: int) -> None:
    _kill_at_random(join_job, workers, run, KILLS)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("workers", [1, 3])
def test_a_join_is_killed_once(kafka_server: KafkaServer, unique: str, tmp_path: Path, workers: int) -> None:
    """The essential part."""
    job = JoinJob(kafka_server, unique, tmp_path, text=TEXTS["streams" if workers == 1 else "table"])
    try:
        _kill_at_random(job, workers, 0, 1)
    finally:
        job.kill_all()


def _kill_at_random(job: JoinJob, workers: int, seed: int, kills: int) -> None:
    chance, streams = random.Random(seed), job.streams(seed)
    running = {f"w{number}": job.start(worker=f"w{number}") for number in range(workers)}
    offsets = job.await_progress({})
    for _ in range(kills):
        time.sleep(chance.uniform(0.2, 2.0))
        worker = chance.choice(sorted(running))
        running[worker].kill()
        assert running[worker].wait() == -signal.SIGKILL, job.log(worker)
        running[worker] = job.start(worker=worker)
        offsets = job.await_progress(offsets)
    job.end(streams, running)


@pytest.mark.timeout(600)
@pytest.mark.column("nightly")
@pytest.mark.parametrize("run", range(RUNS))
def test_workers_of_a_join_that_come_and_go_lose_and_repeat_nothing(join_job: JoinJob, run: int) -> None:
    chance, streams = random.Random(run), join_job.streams(run)
    running = {"w0": join_job.start(worker="w0")}
    offsets = join_job.await_progress({})
    for number in range(1, 13):
        time.sleep(chance.uniform(0.0, 1.5))
        if len(running) < 3 and (len(running) == 1 or chance.random() < 0.5):
            running[f"w{number}"] = join_job.start(worker=f"w{number}")
            continue
        worker = chance.choice(sorted(running))
        process = running.pop(worker)
        if chance.random() < 0.3:
            process.kill()
            process.wait()
        else:
            process.send_signal(signal.SIGTERM)
            # One that has only just begun has no handler yet, or is interrupted before it has joined.
            assert process.wait(RUN_S) in (0, -signal.SIGTERM, 130), join_job.log(worker)
    join_job.await_progress(offsets)
    join_job.end(streams, running)


@pytest.mark.timeout(600)
@pytest.mark.column("nightly")
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("point", ["before-push", "before-send_offsets", "after-send_offsets"])
def test_a_join_that_stood_still_commits_nothing_of_what_another_has_taken(
    join_job: JoinJob, point: str, run: int
) -> None:
    streams = join_job.streams(run)
    zombie = join_job.start(worker="zombie", faults=f"{point}:5:stop")
    join_job.await_stopped(zombie)
    offsets = join_job.offsets()
    running = {"heir": join_job.start(worker="heir")}
    join_job.await_progress(offsets)
    zombie.send_signal(signal.SIGCONT)
    try:
        assert zombie.wait(10) == 7, join_job.log("zombie")
    except subprocess.TimeoutExpired:
        running["zombie"] = zombie
    join_job.end(streams, running)
