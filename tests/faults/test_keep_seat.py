"""`--keep-seat`: the partitions of a worker that restarts wait for it, and its seat is one worker's.

Invariant: nothing moves while the worker is away, and nothing is lost or doubled by it.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

import streamcore as sc
from streamcore.errors import ConfigError
from tests.faults.workers import PARTITIONS, RUN_S, SESSION_S, Job

KEEP = ("--keep-seat",)
FENCED = 7


def _seats(job: Job) -> dict[str, list[int]]:
    """Partitions by seat, as the group has them."""
    admin = AdminClient({"bootstrap.servers": job.server.bootstrap_servers})
    group: Any = admin.describe_consumer_groups([job.name])[job.name].result(30)
    return {
        member.group_instance_id: sorted(part.partition for part in member.assignment.topic_partitions)
        for member in group.members
    }


def _await_shared(job: Job) -> dict[str, list[int]]:
    deadline = time.monotonic() + RUN_S
    while True:
        seats = _seats(job)
        if len(seats) == 2 and all(seats.values()) and sum(map(len, seats.values())) == PARTITIONS:
            return seats
        assert time.monotonic() < deadline, f"{seats}\n{job.log()}"
        time.sleep(0.2)


@pytest.mark.timeout(300)
def test_partitions_wait_for_a_worker_that_restarts(job: Job) -> None:
    stream = job.stream(0)
    first, second = job.start(worker="w0", more=KEEP), job.start(worker="w1", more=KEEP)
    job.await_progress({})  # there is a group then
    seats = _await_shared(job)
    job.await_progress(job.offsets())
    job.leave({"w0": first})
    time.sleep(SESSION_S / 3)
    assert _seats(job) == seats
    away = job.offsets()
    first = job.start(worker="w0", more=KEEP)
    deadline = time.monotonic() + RUN_S
    while any(at <= away[lane] for lane, at in job.offsets().items()):
        assert time.monotonic() < deadline, job.log()
        time.sleep(0.1)
    assert _seats(job) == seats
    # One seat, one worker: of two the later one has it.
    twin = job.start(worker="twin", instance="w1", more=KEEP)
    assert second.wait(RUN_S) == FENCED, job.log()
    stream.close()
    running = {"w0": first, "twin": twin}
    job.await_end(running)
    job.leave(running)
    time.sleep(SESSION_S)  # the seats are free then, for one worker that has every partition
    job.finish()
    job.check()


def test_a_seat_is_kept_only_in_a_group() -> None:
    flow = sc.records([{"k": "a"}], schema={"k": "string"}).sink_memory("out")
    with pytest.raises(ConfigError, match="--keep-seat is for workers that share a topic"):
        flow.run(keep_seat=True)
