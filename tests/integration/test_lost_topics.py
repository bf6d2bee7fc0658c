"""Topics that are deleted, or made again, under a worker that runs: it ends, and says which."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.kafka_tools import TIMEOUT_S, committed_offsets, produce
from tests.integration.state_job import Job
from tests.servers.kafka import KafkaServer
from tests.servers.process import ServerProcess

EXIT_FAILED, EXIT_STATE = 1, 6
STANDS_S = 2.0


class Worker:
    """A worker of the job, which has committed."""

    def __init__(self, job: Job) -> None:
        self.job = job
        command = [sys.executable, "-m", "streamcore", "run", str(job.file)]
        self.process = ServerProcess(command, job.folder / "log", env=dict(os.environ))

    def has_read(self, records: int) -> None:
        def committed() -> bool:
            found = committed_offsets(self.job.server, self.job.name, f"{self.job.name}-in", self.job.partitions)
            return sum(found.values()) >= records

        self.process.wait_until(committed, "what was sent", TIMEOUT_S)

    def ended(self) -> tuple[int, str]:
        """Its exit code, and what it said."""
        try:
            return self.process.process.wait(TIMEOUT_S), self.process.log.read_text()
        except subprocess.TimeoutExpired:
            pytest.fail(f"it goes on: {self.process.log_tail()}")


@pytest.fixture
def worker(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Iterator[Worker]:
    job = Job(kafka_server, unique, tmp_path)
    made = Worker(job)
    try:
        job.send(range(25))
        made.has_read(25 * 3 * job.partitions)
        yield made
    finally:
        made.process.kill()


@pytest.mark.timeout(90)
def test_an_input_that_was_made_again_while_the_worker_stood_still_is_not_read_on(worker: Worker) -> None:
    job = worker.job
    rows = job.rows()
    os.kill(worker.process.pid, signal.SIGSTOP)
    job.make_again(f"{job.name}-in", job.partitions)
    job.send(range(100, 225))
    time.sleep(STANDS_S)
    os.kill(worker.process.pid, signal.SIGCONT)
    code, said = worker.ended()
    assert code == EXIT_STATE, said
    # Whoever hears of it first: the native transport, or the question beside a transaction.
    told = (
        f"topic {job.name}-in, which is read, was deleted and made again",
        f"of {job.name}-in: its topic was made again",
    )
    assert any(each in said for each in told), said
    assert job.rows() == rows


@pytest.mark.timeout(90)
def test_a_state_topic_that_was_made_again_ends_the_worker(worker: Worker) -> None:
    job = worker.job
    job.make_again(job.state_topic, job.partitions)
    for second in range(25, 50):  # for several transactions: the answer to what is asked with one may come behind it
        job.send(range(second, second + 1))
    code, said = worker.ended()
    assert code == EXIT_STATE, said
    assert f"topic {job.state_topic}, which keeps the state, was deleted" in said


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    ("role", "exit_code"), [("out", EXIT_FAILED), ("dead letters", EXIT_FAILED), ("state", EXIT_STATE)]
)
def test_a_topic_that_is_deleted_ends_the_worker_with_its_name(worker: Worker, role: str, exit_code: int) -> None:
    job = worker.job
    topic = {"out": f"{job.name}-out", "dead letters": f"{job.name}.dead-letters", "state": job.state_topic}[role]
    job.admin.delete_topics([topic])[topic].result(TIMEOUT_S)
    if role == "dead letters":
        produce(job.server, f"{job.name}-in", [b"no json"])
    job.send(range(25, 50))
    code, said = worker.ended()
    assert code == exit_code, said
    assert f"topic {topic}, " in said
    assert "was deleted" in said
