"""F12 and F19: two workers under one name, and a worker that stands still longer than a transaction may stay open.

Invariant: of two one goes on; the other commits nothing any more, and ends with exit code 7.
"""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from tests.faults.workers import RUN_S, SESSION_S, Job

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
FENCED = 7


@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", range(RUNS))
def test_of_two_workers_with_one_name_one_goes_on(job: Job, run: int) -> None:
    chance = random.Random(run)
    stream = job.stream(run)
    first = job.start(worker="first", instance="w0")
    if chance.random() < 0.7:
        offsets = job.await_progress({})
    else:
        offsets = {}
        time.sleep(chance.uniform(0.0, 2.0))
    second = job.start(worker="second", instance="w0")
    deadline = time.monotonic() + RUN_S
    while first.poll() is None and second.poll() is None:
        assert time.monotonic() < deadline, f"both run on:\n{job.log()}"
        time.sleep(0.1)
    ended, running = (first, {"second": second}) if first.poll() is not None else (second, {"first": first})
    assert ended.returncode == FENCED, job.log()
    told = job.log("second" if ended is second else "first")
    assert "another worker has the name of this one, w0: give each worker an instance_id of its own" in told
    job.await_progress(offsets)
    job.end(stream, running)


@pytest.mark.column("pull")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("point", ["after-produce-outputs", "after-send_offsets"])
def test_a_worker_that_stood_still_for_longer_than_its_transaction_begins_the_epoch_anew(
    job: Job, point: str, run: int
) -> None:
    """The transaction's timeout is that of the session here."""
    stream = job.stream(run)
    process = job.start(faults=f"{point}:{3 + run % 5}:stop")
    job.await_stopped(process)
    time.sleep(2 * SESSION_S)
    process.send_signal(signal.SIGCONT)
    running = {"w0": process}
    deadline = time.monotonic() + 10
    while not (revived := job.revive(running)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert revived in ([], [FENCED])
    job.end(stream, running)
