"""F2, F5 and F6: workers that are killed, come, go and stand still at random, one or several on one topic.

`STREAMCORE_FAULT_RUNS` says how often each is tried; the seed is the number of the run. Invariant: between two faults the
group gets further, and at the end each row is there once.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time

import pytest

from tests.faults.workers import PARTITIONS, RUN_S, SESSION_S, Job

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
KILLS = 5


@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_killed_at_random_lose_and_repeat_nothing(job: Job, workers: int, run: int) -> None:
    chance, stream = random.Random(run), job.stream(run)
    job.end(stream, job.run_and_kill(workers, chance, KILLS))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", range(RUNS))
def test_workers_that_come_and_go_lose_and_repeat_nothing(job: Job, run: int) -> None:
    chance, stream = random.Random(run), job.stream(run)
    running = {"w0": job.start(worker="w0")}
    offsets = job.await_progress({})
    for number in range(1, 21):
        time.sleep(chance.uniform(0.0, 1.0))
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
            # One that has only just begun has no handler yet, or is interrupted before it has joined.
            assert process.wait(RUN_S) in (0, -signal.SIGTERM, 130), job.log(worker)
        if not running:
            running[f"w{number}"] = job.start(worker=f"w{number}")
    offsets = job.await_progress(offsets)
    job.end(stream, running)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("point", ["before-push", "before-send_offsets", "after-send_offsets"])
def test_a_worker_that_stood_still_commits_nothing_of_what_another_has_taken(job: Job, point: str, run: int) -> None:
    stream = job.stream(run)
    zombie = job.start(worker="zombie", faults=f"{point}:5:stop")
    job.await_stopped(zombie)
    offsets = job.offsets()
    running = {"heir": job.start(worker="heir")}
    job.await_progress(offsets, within_s=4 * SESSION_S + 20)
    zombie.send_signal(signal.SIGCONT)
    try:
        # It ends as one that was fenced, or it has let go and joins again.
        assert zombie.wait(10) == 7, job.log("zombie")
    except subprocess.TimeoutExpired:
        running["zombie"] = zombie
    job.end(stream, running)


@pytest.mark.timeout(240)
def test_what_comes_after_a_late_start_is_read_though_the_worker_dies_before_its_first_interval_is_over(
    job: Job,
) -> None:
    """Where it began is committed before anything is read: the next start does not begin at another end."""
    job.file.write_text(
        job.file.read_text()
        .replace('type = "kafka"', 'type = "kafka"\nstart = "latest"', 1)
        .replace('commit_interval = "200ms"', 'commit_interval = "5m"')
    )
    process = job.start()
    job.await_progress(dict.fromkeys(range(PARTITIONS), -1))
    stream = job.stream(0)
    time.sleep(2.0)
    process.kill()
    process.wait()
    time.sleep(1.0)
    stream.close()
    job.finish()
    job.check()
