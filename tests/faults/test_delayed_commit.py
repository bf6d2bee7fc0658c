"""F18: the request that ends a transaction is late, is sent twice, or its reply is lost; the client moves on meanwhile.

A late EndTxn of a transaction that is over would commit whatever is open when it arrives. Invariant: it never does, for the
producer has been replaced by then (rule 7), which the recorded traces show.
"""

from __future__ import annotations

import os
import random
import subprocess
import time

import pytest

from tests.faults import traces, traffic
from tests.faults.network import Network
from tests.faults.proxy import END_TXN, PRODUCE
from tests.faults.workers import PARTITIONS, Job

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
FENCED = (47, 90)
"""INVALID_PRODUCER_EPOCH, PRODUCER_FENCED."""
COMMIT_S = 5.0
"""One call of commit."""


def _begin(job: Job, seed: int) -> tuple[traffic.Stream, subprocess.Popen[bytes]]:
    stream = job.stream(seed)
    process = job.start()
    job.await_progress({})
    return stream, process


def _end(job: Job, stream: traffic.Stream, process: subprocess.Popen[bytes]) -> list[str]:
    """Reads all there is, checks, and gives why rule 7 was due."""
    job.end(stream, {"w0": process})
    return [why for trace in job.traces() for why in traces.doubts(trace)]


@pytest.mark.column("pull")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("slowest_s", [4, 30])
def test_a_commit_that_arrives_late_tears_and_loses_no_epoch(
    network: Network, far_job: Job, slowest_s: int, run: int
) -> None:
    chance = random.Random(run)
    stream, process = _begin(far_job, run)
    expected = 0
    for _ in range(2):
        held_s, offsets = chance.uniform(1, slowest_s), far_job.offsets()
        rule = network.workers.add(END_TXN, "hold", skip=chance.randrange(5))
        caught = rule.await_caught()
        time.sleep(held_s)
        answer = network.workers.release(caught, anew=chance.random() < 0.5)
        if held_s > COMMIT_S + 1:
            assert answer in (None, *FENCED), answer
        expected += held_s > traces.SLOW_MS / 1000
        far_job.await_progress(offsets)
    assert len(_end(far_job, stream, process)) >= expected


@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("dies", [False, True])
def test_a_commit_that_was_repeated_does_not_strike_the_next_epoch(
    network: Network, far_job: Job, dies: bool, run: int
) -> None:
    """The first request is on its way when its connection ends; the client's second one succeeds."""
    stream, process = _begin(far_job, run)
    strike_the_next_epoch(network, far_job, process, skip=run % 4, dies=dies, codes=FENCED)
    if dies:
        process = far_job.start()
    assert "a connection was lost" in _end(far_job, stream, process)


def strike_the_next_epoch(
    network: Network, job: Job, process: subprocess.Popen[bytes], *, skip: int, dies: bool, codes: tuple[int, ...]
) -> None:
    """Delivers the first of two EndTxn when rows of the next epoch are with the broker and its state is not.

    `codes`: what the broker may answer; nothing: anything.
    """
    rule = network.workers.add(END_TXN, "hold", skip=skip)
    first = rule.await_caught()
    state = network.workers.add(PRODUCE, "hold", contains=f"{job.name}.0.state.g1".encode(), times=PARTITIONS)
    network.workers.break_off(first)
    state.await_caught()
    time.sleep(0.5)  # rows have arrived
    answer = network.workers.release(first, anew=True)
    assert codes == () or answer in codes
    if dies:
        process.kill()
        process.wait()
        network.workers.clear()
    else:
        state.times = 0
        for caught in list(state.caught):
            network.workers.release(caught)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("breaks_off", [pytest.param(False, marks=pytest.mark.column("pull")), True])
def test_a_commit_whose_answer_is_lost_counts_once(network: Network, far_job: Job, breaks_off: bool, run: int) -> None:
    """Either nobody says so until the call is over, or the connection ends and the client asks again."""
    chance = random.Random(run)
    stream, process = _begin(far_job, run)
    for _ in range(3):
        rule = network.workers.add(END_TXN, "swallow reply", skip=chance.randrange(4))
        caught = rule.await_caught()
        offsets = far_job.offsets()  # of the epoch that is committed, though its worker does not know
        if breaks_off:
            network.workers.break_off(caught)
        far_job.await_progress(offsets)
    assert len(_end(far_job, stream, process)) >= 3
