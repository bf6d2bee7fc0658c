"""F12 and F19: two workers under one name, a worker that stands still longer than a transaction may stay open, and one of two that each need all lanes.

Invariant: of two one goes on; the other commits nothing any more, and ends with exit code 7.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer

from streamcore.kafka_consumer import member_settings
from tests.faults.workers import PARTITIONS, RUN_S, SESSION_S, SOURCE_AND_STEPS, TOPIC_SINK, Job
from tests.integration.kafka_tools import connection
from tests.servers.kafka import KafkaServer

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


@pytest.mark.column("pull")
@pytest.mark.timeout(300)
def test_a_worker_that_is_given_a_part_of_lanes_that_meet_ends(
    kafka_server: KafkaServer, unique: str, tmp_path: Path
) -> None:
    """Two that both lost their sessions may come back in the same moment; here the other comes when this one has looked that nobody is there."""
    text = SOURCE_AND_STEPS.replace('keyed_by = "k"\n', "") + TOPIC_SINK
    text = text.replace('delivery = "exactly_once"', 'delivery = "exactly_once"\ncombine = "local"')
    job = Job(kafka_server, unique, tmp_path, text=text)
    settings = {**member_settings(connection(kafka_server, session_timeout=f"{SESSION_S}s")), "group.id": unique}
    other = Consumer({**settings, "bootstrap.servers": kafka_server.bootstrap_servers})
    try:
        process = job.start(faults="before-new_producer:1:stop")
        job.await_stopped(process)
        other.subscribe([job.input])
        deadline = time.monotonic() + RUN_S
        while len(other.assignment()) < PARTITIONS:
            assert time.monotonic() < deadline
            other.poll(0.1)
        process.send_signal(signal.SIGCONT)
        while process.poll() is None:
            assert time.monotonic() < deadline, job.log()
            other.poll(0.1)
    finally:
        other.close()
        job.kill_all()
    assert process.returncode == FENCED, job.log()
    assert "the group has given this worker only partitions" in job.log()
    assert "hint: stop the other worker" in job.log()
