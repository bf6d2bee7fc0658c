"""F1 at the end of a bounded input: workers with `--stop end` share a topic, and one is killed in its end.

The other one ends by itself, and the one that was killed, started again, takes over what it left and what the other has ended. Invariant: each row is
there once; the end of a partition that is committed is not given again.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import traffic
from tests.faults.join_jobs import STREAMS, JoinJob
from tests.faults.workers import RUN_S, SOURCE_AND_STEPS, TOPIC_SINK, Job
from tests.servers.kafka import KafkaServer

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
SENDING_S, POLL_RECORDS = 5.0, 2
PAUSE_S = traffic.PAUSE_S / 4
"""One worker takes longer to read what is sent of windows than two to share it."""

POINTS = {
    "rows partly sent": "after-produce-outputs:1:kill",
    "sent, not committed": "after-flush:1:kill",
    "committed, still in the group": "after-commit:1:kill",
}
"""The first commit that is not for a rebalance is that of the end."""


@pytest.fixture(params=["windows", "joins"])
def end_job(request: pytest.FixtureRequest, kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Iterator[Job]:
    make, text = {"windows": (Job, SOURCE_AND_STEPS + TOPIC_SINK), "joins": (JoinJob, STREAMS)}[request.param]
    # Slow enough for the group to share the partitions before one of them has read its own.
    text = text.replace("poll_records_max = 2000", f"poll_records_max = {POLL_RECORDS}")
    job = make(kafka_server, unique, tmp_path, commit_interval="20s", text=text)
    yield job
    job.kill_all()


@pytest.mark.column("pull")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("point", POINTS)
def test_one_of_two_workers_killed_in_its_end_loses_and_repeats_nothing(end_job: Job, point: str, run: int) -> None:
    stream = end_job.streams(run) if isinstance(end_job, JoinJob) else end_job.stream(run, pause_s=PAUSE_S)
    time.sleep(SENDING_S)
    stream.close()
    victim = end_job.start(worker="victim", stop="end", faults=POINTS[point])
    other = end_job.start(worker="other", stop="end")
    assert victim.wait(RUN_S) == -signal.SIGKILL, f"the point was not reached:\n{end_job.log()}"
    assert other.wait(RUN_S) == 0, end_job.log()
    assert _committed(end_job, "other") > 0, "the other one had no partitions"
    # Started again it waits until the group has forgotten it, and has all partitions then; under its name, so what it left open is over.
    end_job.finish("victim")
    end_job.check()
    end_job.finish("last")
    end_job.check()


def _committed(job: Job, worker: str) -> int:
    """Transactions of a worker."""
    (trace,) = job.folder.glob(f"{worker}-*.jsonl")
    return trace.read_text().count('"event":"transaction_committed"')
