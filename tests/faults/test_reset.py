"""A `state reset` that stands still once its transaction is committed: its lanes are somebody else's when it goes on.

Invariant: it deletes nothing of what began after it, neither state nor partials nor offsets, and ends with 7.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from tests.faults import assertions, traffic
from tests.faults.test_combine import TEXT
from tests.faults.workers import PARTITIONS, RUN_S, SOURCE_AND_STEPS, TOPIC_SINK, Job
from tests.servers.kafka import KafkaServer

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
RECORDS, KEYS = 6_000, 500
"""Of each of three parts."""


@pytest.fixture(params=["k", "p"], ids=["a stage", "two stages"])
def job(request: pytest.FixtureRequest, kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Iterator[Job]:
    """One whose windows are of the record key, and one whose windows meet through a topic."""
    text = TEXT if request.param == "p" else SOURCE_AND_STEPS + TOPIC_SINK
    job = Job(kafka_server, unique, tmp_path, text=text, by=request.param)
    yield job
    job.kill_all()


class Resets:
    """A job whose state is discarded, and all that was sent to it."""

    def __init__(self, job: Job, seed: int) -> None:
        self.job, self.seed = job, seed

    def send(self) -> None:
        self.seed += RUNS
        servers = self.job.server.bootstrap_servers
        sent = traffic.Stream(
            servers, self.job.input, self.seed, RECORDS, partitions=PARTITIONS, keys=KEYS, pause_s=0.001
        )
        sent.close(finish=True)

    def reset(self, faults: str = "") -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "streamcore", "state", "reset", str(self.job.file), "--yes"]
        environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": self.job.server.bootstrap_servers}
        environment["STREAMCORE_FAULTS"] = faults
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def reset_again(self) -> None:
        """As soon as the group has noticed that the one before stands still."""
        deadline = time.monotonic() + RUN_S
        while True:
            again = self.reset()
            _, told = again.communicate(timeout=RUN_S)
            if again.returncode != 7 or "has 1 member" not in told:
                assert again.returncode == 0, told
                return
            assert time.monotonic() < deadline, told
            time.sleep(1)

    def topics(self) -> set[str]:
        admin = AdminClient({"bootstrap.servers": self.job.server.bootstrap_servers})
        return {name for name in admin.list_topics(timeout=RUN_S).topics if name.startswith(f"{self.job.name}.")}


@pytest.mark.column("pull")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", range(RUNS))
def test_a_reset_that_stood_still_deletes_nothing_of_what_began_after_it(job: Job, run: int) -> None:
    resets, stages = Resets(job, run), 1 if job.by == "k" else 2
    resets.send()
    running = {"w0": job.start()}
    job.await_end(running)
    job.leave(running)
    asleep = resets.reset(f"claim-committed:{stages}:stop")
    job.await_stopped(asleep)  # type: ignore[arg-type]
    try:
        resets.reset_again()
        running = {"w0": job.start()}
        resets.send()
        job.await_end(running)
        before = resets.topics()
        asleep.send_signal(signal.SIGCONT)
        _, told = asleep.communicate(timeout=RUN_S)
    finally:
        asleep.kill()
    assert asleep.returncode == 7, told
    assert "the state was discarded" in told or "another command has made layout" in told or "lost its seat" in told
    assert resets.topics() == before
    # The worker goes on, and so does the one after it.
    resets.send()
    job.await_end(running)
    job.leave(running)
    job.finish()
    assertions.state_is_whole(job.file, job.server.bootstrap_servers)
    audited = assertions.audited(job.file, job.server.bootstrap_servers)
    assert audited["total"]["read"] == 3 * RECORDS
