"""F16 with an HTTP server: one that answers 503, 429, half, or not at all, and workers that die beside it.

It is an outbox of a pipeline that commits exactly once, and the server honours the idempotency key. Invariant: every
window's row was taken once, or is a dead letter where the server does not want it, and the worker never waits for it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import oracle
from tests.faults.workers import RUN_S, SOURCE_AND_STEPS, Job
from tests.servers.kafka import KafkaServer
from tests.servers.webhook import WebhookServer

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))

KEYS = 20
UNWANTED = "k7"
"""The key whose rows the server refuses."""

WEATHER = ["503", "429 after 0.2", "hang", "half", "cut", "500"]


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    with WebhookServer(hang_s=1.5) as server:
        yield server


@pytest.fixture
def job(kafka_server: KafkaServer, server: WebhookServer, unique: str, tmp_path: Path) -> Iterator[Job]:
    sink = f'[[sinks]]\ntype = "webhook"\nurl = "{server.url}"\ntimeout = "1s"\n'
    job = Job(kafka_server, unique, tmp_path, text=SOURCE_AND_STEPS + sink)
    yield job
    job.kill_all()


def _finish(job: Job) -> None:
    """As often as it takes until everything is sent: the end of a run does not wait for ever."""
    for number in range(8):
        job.finish(f"last{number}")
        if "is not up to date" not in job.log(f"last{number}"):
            return
    raise AssertionError(job.log())


def _check(job: Job, server: WebhookServer) -> None:
    servers = job.server.bootstrap_servers
    wanted = oracle.expected(servers, job.input)
    right = Counter({(key, start, *values): 1 for (key, start), values in wanted.rows.items() if key != UNWANTED})
    found = Counter(map(_row, server.taken.values()))
    assert (right - found, found - right) == (Counter(), Counter()), job.log()
    letters = [message for message in oracle.read(servers, f"{job.name}.dead-letters") if message.value()]
    refused = [each for each in letters if dict(each.headers())["dlq.reason"] == b"SINK_REFUSED"]
    unwanted = {(start, *values) for (key, start), values in wanted.rows.items() if key == UNWANTED}
    assert {_row(json.loads(each.value()))[1:] for each in refused} == unwanted, job.log()
    places = Counter((dict(each.headers())["dlq.partition"], dict(each.headers())["dlq.offset"]) for each in refused)
    assert len(places) == len(unwanted), "a letter that comes twice is of the same place"
    assert job.offsets() == wanted.ends
    assert "canary" not in job.log()
    assert server.wrong == []


def _row(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["k"], oracle._ms(row["window_start"]), row["n"], row["s"]


@pytest.mark.column("pull")
@pytest.mark.timeout(400)
@pytest.mark.parametrize("run", range(RUNS))
def test_a_server_in_every_bad_mood_gets_every_row_once(job: Job, server: WebhookServer, run: int) -> None:
    chance = random.Random(run)

    def behave(row: dict[str, Any]) -> str:
        if row["k"] == UNWANTED:
            return "422"
        return chance.choice(WEATHER) if chance.random() < 0.01 else "ok"

    server.behave = behave
    stream = job.stream(run, keys=KEYS)
    for nth in range(2):
        process = job.start(worker=f"w{nth}", faults=f"after-commit:{2 + nth}:kill")
        assert process.wait(RUN_S) == -signal.SIGKILL, job.log()
    stream.close()
    _finish(job)
    _check(job, server)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("run", range(RUNS))
def test_a_server_that_is_away_holds_up_nobody(job: Job, server: WebhookServer, run: int) -> None:
    server.behave = lambda _row: "503"
    stream = job.stream(run, keys=KEYS)
    process = job.start()
    until, offsets = time.monotonic() + 10, job.await_progress({})
    while time.monotonic() < until:
        offsets = job.await_progress(offsets, within_s=15)
        assert process.poll() is None, job.log()
    assert server.taken == {}
    server.behave = lambda row: "422" if row["k"] == UNWANTED else "ok"
    stream.close()
    job.await_end({"w0": process})
    process.send_signal(signal.SIGTERM)
    assert process.wait(RUN_S) == 0, job.log()
    _finish(job)
    _check(job, server)
