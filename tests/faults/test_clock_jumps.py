"""F11: the clock on the wall of a worker, or of the broker, is set forth and back by seconds, an hour, a day, every second.

Invariant: windows are of event time, whatever the clock on the wall says, and what is waited for is waited for as long as it takes,
neither less nor more.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.faults import oracle, traffic
from tests.faults.network import PROPERTIES
from tests.faults.workers import PARTITIONS, SOURCE_AND_STEPS, TOPIC_SINK, Job
from tests.servers.kafka import KafkaServer
from tests.servers.wall_clock import DAY_S, JUMPS_S, Jumps, WallClock

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
ROUNDS = 2
"""How often each jump is made."""

IDLE_S = 6
PAUSE_S = 0.1
"""Between hundreds of records."""
SOON_S = 20.0

pytestmark = [pytest.mark.column("pull"), pytest.mark.timeout(400)]


def _jump_about(
    job: Job, stream: traffic.Stream, clock: WallClock, seed: int, running: dict[str, subprocess.Popen[bytes]]
) -> None:
    """Every jump, and back, while records come; the group gets further all the while, and all is right at the end."""
    offsets = job.await_progress({}, running=running)
    jumps = Jumps(clock, seed)
    try:
        while jumps.count < ROUNDS * len(JUMPS_S):
            offsets = job.await_progress(offsets, running=running)
    finally:
        jumps.close()
    job.end(stream, running, revives=True)


@pytest.mark.parametrize("run", range(RUNS))
def test_a_worker_whose_clock_is_set_makes_the_same_windows(job: Job, run: int) -> None:
    """Epochs may be aborted meanwhile: threads of the client wait by the clock on the wall, so that a message may time out, and
    a broker refuses records of tomorrow.
    """
    clock = WallClock(job.folder)
    stream = job.stream(run, pause_s=PAUSE_S)
    job.environment |= clock.environment
    _jump_about(job, stream, clock, run, {"w0": job.start()})


ANY_TIME = {"log.message.timestamp.after.max.ms": "9223372036854775807"}
"""Records of tomorrow are taken: what a broker refuses of the input comes behind its time, and is late, which the oracle does not know."""


@pytest.mark.parametrize("run", range(RUNS))
def test_a_broker_whose_clock_is_set_costs_no_row(tmp_path: Path, unique: str, run: int) -> None:
    """It takes transactions for overdue, and producers for forgotten; workers may have to begin anew."""
    clock = WallClock(tmp_path)
    looks_often = {name: value for name, value in PROPERTIES.items() if name.startswith("transaction.")}
    with KafkaServer(environment=clock.environment, properties={**looks_often, **ANY_TIME}) as server:
        job = Job(server, unique, tmp_path)
        try:
            stream = job.stream(run, pause_s=PAUSE_S)
            running = {worker: job.start(worker=worker) for worker in ("w0", "w1")}
            _jump_about(job, stream, clock, run, running)
        finally:
            job.kill_all()


@pytest.mark.parametrize(("when", "ahead_s"), [("before", DAY_S), ("in silence", DAY_S), ("in silence", -DAY_S)])
def test_silence_is_as_long_as_it_is(
    kafka_server: KafkaServer, unique: str, tmp_path: Path, when: str, ahead_s: int
) -> None:
    """Idle lanes go on by themselves after `idle_timeout`: not at once as the clock jumps, and not never as it has jumped."""
    text = SOURCE_AND_STEPS.replace('idle_timeout = "1h"', f'idle_timeout = "{IDLE_S}s"') + TOPIC_SINK
    job, clock = Job(kafka_server, unique, tmp_path, text=text), WallClock(tmp_path)
    job.environment |= clock.environment
    process = job.start()
    try:
        _send_to_each(job, 1_000)
        job.await_progress({0: PARTITIONS - 1})
        if when == "before":
            _jump_once(clock, ahead_s)
        since_s = time.monotonic()
        _send_to_each(job, 8_000)
        if when == "in silence":
            _jump_once(clock, ahead_s)
        while len(oracle.read(kafka_server.bootstrap_servers, f"{unique}.out")) < PARTITIONS:
            assert time.monotonic() < since_s + IDLE_S + SOON_S, job.log()
            time.sleep(0.1)
        assert time.monotonic() > since_s + IDLE_S
        job.leave({"w0": process})
        job.check(recovered=False)
    finally:
        job.kill_all()


def _jump_once(clock: WallClock, ahead_s: int) -> None:
    for offset_s in (ahead_s, 0):
        clock.set(offset_s)
        time.sleep(Jumps.EVERY_S)


def _send_to_each(job: Job, time_ms: int) -> None:
    """A record for each lane, in the window that is over at 10 s."""
    producer = Producer({"bootstrap.servers": job.server.bootstrap_servers, "enable.idempotence": True})
    for lane in range(PARTITIONS):
        row = {"t": time_ms, "k": f"k{lane}", "v": 1, "id": f"{lane}-{time_ms}"}
        producer.produce(job.input, key=f"k{lane}", value=json.dumps(row), partition=lane)
    assert producer.flush(60) == 0
