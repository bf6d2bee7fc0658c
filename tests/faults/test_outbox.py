"""F16 with Redis: it stands still, dies, comes back without what it had acknowledged, and workers die beside it.

Redis is an outbox of a pipeline that commits exactly once. Invariant: the worker commits on as if there were no Redis, and at the
end every window's row is in it, once and right.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.faults import oracle
from tests.faults.workers import RUN_S, SOURCE_AND_STEPS, Job
from tests.servers.kafka import KafkaServer
from tests.servers.redis import RedisServer

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))

STILL_S = 25.0
"""Longer than any timeout of the worker's: what is not polled that long is out of its group."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def job(kafka_server: KafkaServer, server: RedisServer, unique: str, tmp_path: Path) -> Iterator[Job]:
    sink = f'[[sinks]]\ntype = "redis"\nurl = "{server.url}"\nkey_template = "{unique}:{{{{k}}}}:{{{{window_start:epoch_ms}}}}"\n'
    job = Job(kafka_server, unique, tmp_path, text=SOURCE_AND_STEPS + sink)
    yield job
    job.kill_all()


def _rows(job: Job, server: RedisServer) -> dict[tuple[str, int], tuple[int, int]]:
    client = redis.Redis.from_url(server.url, decode_responses=True)
    found = {}
    for key in client.scan_iter(f"{job.name}:*", count=10_000):
        _, name, start = key.split(":")
        row = client.hgetall(key)
        found[name, int(start)] = int(row["n"]), int(row["s"])
    client.close()
    return found


def _check(job: Job, server: RedisServer) -> None:
    servers = job.server.bootstrap_servers
    wanted = oracle.expected(servers, job.input)
    found = _rows(job, server)
    wrong = {key: (wanted.rows.get(key), found.get(key)) for key in {*wanted.rows, *found}}
    assert {key: both for key, both in wrong.items() if both[0] != both[1]} == {}, job.log()
    job.check_ended([f"{job.name}.out", f"{job.name}.dead-letters", f"{job.name}.0.state.g1"])
    assert job.offsets() == wanted.ends


def _await_rows(job: Job, server: RedisServer) -> None:
    deadline = time.monotonic() + 60
    while not _rows(job, server):
        assert time.monotonic() < deadline, job.log()
        time.sleep(0.2)


@pytest.mark.column("pull")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("run", range(RUNS))
def test_a_redis_that_stands_still_holds_up_nobody(job: Job, server: RedisServer, run: int) -> None:
    stream = job.stream(run)
    process = job.start()
    _await_rows(job, server)
    os.kill(server.process.pid, signal.SIGSTOP)
    until, offsets = time.monotonic() + STILL_S, job.offsets()
    while time.monotonic() < until:
        offsets = job.await_progress(offsets, within_s=15)
        assert process.poll() is None, job.log()
    os.kill(server.process.pid, signal.SIGCONT)
    stream.close()
    job.await_end({"w0": process})
    job.leave({"w0": process})
    assert "rebalance" not in job.log(), "the worker kept its seat"
    job.finish()
    _check(job, server)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("run", range(RUNS))
def test_a_redis_that_forgot_what_it_had_taken_gets_it_again(job: Job, server: RedisServer, run: int) -> None:
    """It is killed and comes back empty, twice; the second time nothing new is on its way."""
    stream = job.stream(run)
    process = job.start()
    _await_rows(job, server)
    server.process.kill()
    offsets = job.await_progress(job.offsets())
    server.start()
    _await_rows(job, server)
    job.await_progress(offsets)
    stream.close()
    job.await_end({"w0": process})
    redis.Redis.from_url(server.url).flushall()
    process.send_signal(signal.SIGTERM)
    assert process.wait(RUN_S) == 0, job.log()
    job.finish()
    _check(job, server)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("run", range(RUNS))
def test_workers_that_are_killed_leave_every_row_in_redis(job: Job, server: RedisServer, run: int) -> None:
    stream = job.stream(run)
    for nth in range(3):
        process = job.start(worker=f"w{nth}", faults=f"after-commit:{4 + nth}:kill")
        assert process.wait(RUN_S) == -signal.SIGKILL, job.log()
    stream.close()
    job.finish()
    _check(job, server)


@pytest.mark.column("pull")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("run", range(RUNS))
def test_a_worker_that_starts_without_redis_waits_for_it_beside_its_work(
    job: Job, server: RedisServer, run: int
) -> None:
    server.process.kill()
    stream = job.stream(run)
    process = job.start()
    job.await_progress(job.await_progress({}))
    server.start()
    _await_rows(job, server)
    stream.close()
    job.await_end({"w0": process})
    job.leave({"w0": process})
    job.finish()
    _check(job, server)
