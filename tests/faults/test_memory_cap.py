"""F17: keys that never come again, without end, while the worker may have a gibibyte of memory and no more.

Invariant: the bound of the state is reached before that of the machine. Then the worker stops, with all before committed, or leaves the
records out that would add to it, one dead letter each; it is never the system that ends it. With more room it goes on and ends exactly.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.faults import oracle
from tests.faults.workers import PARTITIONS, RUN_S, SOURCE_AND_STEPS, TOPIC_SINK, TRANSPORT, Job
from tests.servers.kafka import KafkaServer

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
STATE_FULL = 6
RECORDS, KEY_LENGTH = 200_000, 400
"""A state of about 100 MiB."""

CAP = ("prlimit", f"--as={1 << 30}", f"--stack={2 << 20}", "--")
"""Of addresses, so that what is asked for counts, whether it is used or not: then stacks of threads, and what the allocator sets aside
for each of them, must not be as large as they come."""
ARENAS = {"MALLOC_ARENA_MAX": "2"}

LIMITS = """
[dead_letters]
error_rate_max = 1.0

[limits]
max_state_bytes = {bytes}
on_full = "{on_full}"
threads = 2
"""
STOPS_AT, SHEDS_AT, AMPLE = 40 << 20, 20 << 20, 1 << 30
"""What all lanes hold, or, where rows are shed, each of them."""

pytestmark = [pytest.mark.column("pull"), pytest.mark.timeout(600)]
MakeJob = Callable[[str], Job]


@pytest.fixture
def flooded(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Iterator[MakeJob]:
    """A pipeline whose input waits, by what it is to do where the state is full."""
    jobs: list[Job] = []

    def make(on_full: str) -> Job:
        job = Job(kafka_server, unique, tmp_path, text=SOURCE_AND_STEPS + TOPIC_SINK)
        job.environment |= ARENAS
        _give(job, STOPS_AT if on_full == "stop" else SHEDS_AT, on_full)
        _flood(job)
        jobs.append(job)
        return job

    yield make
    for job in jobs:
        job.kill_all()


def _give(job: Job, state_bytes: int, on_full: str) -> None:
    """How much state may be held; what was committed stays of use."""
    text = job.file.read_text().partition("\n[dead_letters]")[0]
    job.file.write_text(text + LIMITS.format(bytes=state_bytes, on_full=on_full))


def _flood(job: Job) -> None:
    servers = job.server.bootstrap_servers
    producer = Producer(
        {"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 20, "compression.type": "lz4"}
    )
    for number in range(RECORDS):
        key = f"{number:0{KEY_LENGTH}}"
        row = {"t": number % 5_000, "k": key, "v": number % 7, "id": str(number)}
        while True:
            try:
                producer.produce(job.input, key=key, value=json.dumps(row), partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0


def _ended(job: Job, process: subprocess.Popen[bytes]) -> int:
    code = process.wait(RUN_S)
    assert code not in (-signal.SIGKILL, -signal.SIGABRT, -signal.SIGSEGV, 1), f"ended by {code}\n{job.log()}"
    return code


@pytest.mark.parametrize("run", range(RUNS))
def test_a_flood_of_keys_stops_the_worker_and_more_room_ends_it_exactly(flooded: MakeJob, run: int) -> None:
    job = flooded("stop")
    killed = job.start(under=CAP, faults=f"after-flush:{2 + run % 3}:kill")
    assert killed.wait(RUN_S) == -signal.SIGKILL, job.log()
    assert _ended(job, job.start(under=CAP)) == STATE_FULL
    committed = job.offsets()
    assert sum(committed.values()) > 0, "the state was full before anything was committed"
    if TRANSPORT != "librdkafka":  # whose queue has one fetch behind the other
        assert min(committed.values()) > max(committed.values()) / 4, f"lanes are not read in turn: {committed}"
    errors = [line for line in job.log().splitlines() if line.startswith("error:")]
    assert len(errors) == 1, errors
    assert f"limits.max_state_bytes = {STOPS_AT}" in errors[0]
    # A state that is full is recovered within the same memory.
    assert _ended(job, job.start(under=CAP)) == STATE_FULL
    assert all(offset >= committed[lane] for lane, offset in job.offsets().items())
    _give(job, AMPLE, "stop")
    job.finish()
    job.check()


@pytest.mark.parametrize("run", range(RUNS))
def test_a_flood_of_keys_is_shed_to_dead_letters_one_each(flooded: MakeJob, run: int) -> None:
    job = flooded("shed")
    killed = job.start(under=CAP, faults=f"after-flush:{3 + run % 5}:kill")
    assert killed.wait(RUN_S) == -signal.SIGKILL, job.log()
    process = job.start(under=CAP)
    job.await_end({"w0": process})
    assert process.poll() is None, job.log()
    job.leave({"w0": process})
    shed = oracle.shed(job.server.bootstrap_servers, f"{job.name}.dead-letters")
    assert RECORDS / 10 < len(shed) < RECORDS, len(shed)
    _give(job, AMPLE, "shed")
    job.finish()
    job.check()
