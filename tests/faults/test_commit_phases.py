"""F1, CP6 to CP8: SIGKILL of a worker between the phases of the broker's own commit.

CP6: the request to commit has not arrived; it never does, or late. CP7: it has, and the worker does not know. CP8: the broker has
decided, and the markers of the transaction are not written yet. (One broker writes all markers at one request, so they are
there all or not at all; some without the others needs two brokers.) Invariant: the epoch is there whole, or not at all.
"""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from tests.faults.network import Network
from tests.faults.proxy import END_TXN, WRITE_TXN_MARKERS
from tests.faults.workers import Job

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
PULL = pytest.mark.column("pull")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("heir", ["w0", pytest.param("heir", marks=PULL)])
@pytest.mark.parametrize("phase", ["CP6 lost", pytest.param("CP6 late", marks=PULL), "CP7", "CP8"])
def test_a_worker_killed_in_the_broker_s_commit_loses_and_repeats_nothing(
    network: Network, far_job: Job, phase: str, heir: str, run: int
) -> None:
    chance, job = random.Random(run), far_job
    stream = job.stream(run)
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
    process = job.start(worker=heir)
    if phase in ("CP6 late", "CP8"):
        # Before, in or after the successor's recovery.
        time.sleep(chance.uniform(0.0, 6.0))
        (network.markers if phase == "CP8" else network.workers).release(caught)
    job.end(stream, {heir: process})
