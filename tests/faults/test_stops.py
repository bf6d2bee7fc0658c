"""Stops that meet something: a rebalance, an epoch in doubt, a recovery, a second signal; and revokes that a broker holds up.

Invariant: a worker that is told to stop ends with code 0, whoever has its partitions by then; what it could not commit is read by
them, and each row is there once.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

import streamcore as sc
from streamcore.epochs import REVOKE_S
from streamcore.transactions import Transactions
from tests.faults.network import Network
from tests.faults.proxy import END_TXN, PRODUCE, TXN_OFFSET_COMMIT
from tests.faults.test_combine import TEXT
from tests.faults.workers import PARTITIONS, RUN_S, SOURCE_AND_STEPS, TOPIC_SINK, Job
from tests.servers.kafka import KafkaServer

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
OFFSET_FETCH, INIT_PRODUCER_ID = 9, 22
RARELY = "60s"
"""Between two commits, so that the one at the stop is the first."""

MOVED = "stopped while the group was giving out its partitions anew"
FORCED = 128 + signal.SIGTERM
QUEUE = 100
"""Records that a worker's producer takes at once."""

MARGIN_S = 15.0
"""For a machine that does other things as well; far less than what a revoke took that was not bounded."""


def _await(what: Callable[[], Any], wanted: Any, job: Job) -> None:
    deadline = time.monotonic() + RUN_S
    while (found := what()) != wanted:
        assert time.monotonic() < deadline, f"{found} is not {wanted}\n{job.log()}"
        time.sleep(0.1)


def _shares(job: Job) -> dict[str, int]:
    """How many partitions the group has given to each worker."""
    admin = AdminClient({"bootstrap.servers": job.server.bootstrap_servers})
    group: Any = admin.describe_consumer_groups([job.name])[job.name].result(30)
    return {member.client_id: len(member.assignment.topic_partitions) for member in group.members}


def _calls(job: Job, worker: str) -> list[dict[str, Any]]:
    """What the commit machine of a worker was told and answered."""
    lines = [line for path in job.folder.glob(f"{worker}-*.jsonl") for line in path.read_text().split("\n")[1:-1]]
    return [json.loads(line) for line in lines]


def _is_fed(job: Job, worker: str) -> bool:
    """Whether a worker has been given every partition, and reads them."""
    return any(len(action.get("feed", ())) == PARTITIONS for call in _calls(job, worker) for action in call["actions"])


def through_a_topic(server: KafkaServer, name: str, folder: Path) -> Job:
    """One whose windows meet through a topic."""
    return Job(server, name, folder, text=TEXT, by="p")


def _slow_job(server: KafkaServer, name: str, folder: Path) -> Job:
    return Job(server, name, folder, commit_interval=RARELY)


def _finish(job: Job, running: dict[str, subprocess.Popen[bytes]]) -> None:
    job.leave(running)
    job.finish("last")
    job.check(recovered=bool(running))


@pytest.mark.timeout(300)
def test_a_stop_after_its_partitions_went_to_another_ends_well(
    kafka_server: KafkaServer, unique: str, tmp_path: Path
) -> None:
    """It stands still in its last commit until the group has forgotten it."""
    job = _slow_job(kafka_server, unique, tmp_path)
    try:
        stream = job.stream(0)
        process = job.start(faults="before-send_offsets:1:stop")
        _await(lambda: _is_fed(job, "w0"), True, job)
        time.sleep(1.0)
        process.send_signal(signal.SIGTERM)
        job.await_stopped(process)
        heir = job.start(worker="heir")
        _await(lambda: _shares(job), {"streamcore-heir": PARTITIONS}, job)
        process.send_signal(signal.SIGCONT)
        assert process.wait(RUN_S) == 0, job.log("w0")
        assert MOVED in job.log("w0")
        _await(lambda: _is_fed(job, "heir"), True, job)
        stream.close()
        _finish(job, {"heir": heir})
    finally:
        job.kill_all()


@pytest.mark.timeout(300)
def test_a_stop_while_another_joins_ends_well(
    kafka_server: KafkaServer,
    unique: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The group has gone on to its next generation, in the background, between the rows and the offsets of the last commit."""
    job = _slow_job(kafka_server, unique, tmp_path)
    variables = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka_server.bootstrap_servers,
        "STREAMCORE_STATE_DIR": str(tmp_path / "w0"),
        "STREAMCORE_INSTANCE_ID": "w0",
        "STREAMCORE_COMMIT_TRACE": str(tmp_path),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    others: dict[str, subprocess.Popen[bytes]] = {}
    send_offsets = Transactions.send_offsets

    def late(transactions: Transactions, *arguments: Any) -> None:
        others["w1"] = job.start(worker="w1")
        _await(lambda: len(_shares(job)) == 2 and _shares(job)["streamcore-w0"] < PARTITIONS, True, job)
        send_offsets(transactions, *arguments)

    monkeypatch.setattr(Transactions, "send_offsets", late)
    try:
        stream = job.stream(0)
        run = sc.load(job.file).start()
        _await(lambda: _is_fed(job, "w0"), True, job)
        time.sleep(1.0)
        run.stop()
        assert run.wait().state == "stopped"
        assert MOVED in caplog.text
        _await(lambda: _is_fed(job, "w1"), True, job)
        stream.close()
        _finish(job, others)
    finally:
        job.kill_all()


@pytest.mark.timeout(300)
def test_a_stop_waits_for_what_became_of_the_epoch_before(network: Network, far_job: Job) -> None:
    """The answer to a commit is lost, and the next producer, which will tell, is late."""
    stream, process = far_job.stream(0), far_job.start()
    far_job.await_progress({})
    producer = network.workers.add(INIT_PRODUCER_ID, "hold")
    network.workers.add(END_TXN, "swallow reply").await_caught()
    held = producer.await_caught()
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    network.workers.release(held)
    assert process.wait(RUN_S) == 0, far_job.log()
    stream.close()
    _finish(far_job, {})


@pytest.mark.timeout(300)
def test_a_stop_in_the_first_recovery_ends_well(network: Network, far_job: Job) -> None:
    stream = far_job.stream(0)
    rule = network.workers.add(OFFSET_FETCH, "hold", contains=b"streamcore-w0", times=1_000_000)
    process = far_job.start()
    rule.await_caught()
    process.send_signal(signal.SIGTERM)
    assert process.wait(RUN_S) == 0, far_job.log()
    assert not _is_fed(far_job, "w0")
    network.workers.clear()
    stream.close()
    far_job.finish()
    far_job.check(recovered=False)


@pytest.mark.timeout(300)
def test_a_second_signal_forces_and_nothing_is_lost(network: Network, far_job: Job) -> None:
    stream, process = far_job.stream(0), far_job.start()
    far_job.await_progress({})
    rule = network.workers.add(TXN_OFFSET_COMMIT, "hold", times=1_000_000)
    rule.await_caught()
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
    assert process.wait(RUN_S) == FORCED, far_job.log()
    network.workers.clear()
    stream.close()
    _finish(far_job, {})


@pytest.mark.timeout(300)
def test_a_revoke_is_bounded_also_where_a_broker_takes_no_records(
    network: Network, unique: str, tmp_path: Path
) -> None:
    """The group waits for it. The queue of the producer is full, and every record would wait for room."""
    text = (SOURCE_AND_STEPS + TOPIC_SINK).replace(
        "[source]", f'[kafka.options]\n"queue.buffering.max.messages" = {QUEUE}\n\n[source]', 1
    )
    job = Job(network.server, unique, tmp_path, bootstrap=network.bootstrap, commit_interval="10s", text=text)
    try:
        stream = job.stream(0)
        process = job.start(faults="before-revoke-produce-outputs:1:stop")
        offsets = job.await_progress({})
        other = job.start(worker="w1")
        job.await_stopped(process)
        rule = network.workers.add(PRODUCE, "hold", contains=b"/w0", times=1_000_000)
        process.send_signal(signal.SIGCONT)
        rule.await_caught()
        _await(lambda: _revoke_s(job) is not None, True, job)
        took_s = _revoke_s(job) or 0.0
        network.workers.clear()
        assert took_s < REVOKE_S + MARGIN_S, f"{took_s} s\n{job.log()}"
        job.await_progress(offsets)
        job.end(stream, {"w0": process, "w1": other})
    finally:
        job.kill_all()


def _revoke_s(job: Job) -> float | None:
    """How long the first worker's first revoke took, once it is over."""
    since_ms: int | None = None
    for call in _calls(job, "w0"):
        if call["event"]["event"] == "revoked" and since_ms is None:
            since_ms = call["now_ms"]
        if since_ms is not None and call["actions"][-1]["action"] == "rest":
            return float(call["now_ms"] - since_ms) / 1_000
    return None


ROLLING = {"one phase": Job, "two phases": through_a_topic}


@pytest.mark.column("pull")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("phases", ROLLING)
def test_workers_that_restart_one_behind_the_other_end_well(
    kafka_server: KafkaServer, unique: str, tmp_path: Path, phases: str, run: int
) -> None:
    """Each is stopped while the group still gives out what the one before has left or takes."""
    job = ROLLING[phases](kafka_server, unique, tmp_path)
    try:
        chance, stream = random.Random(run), job.stream(run)
        running = {f"w{number}": job.start(worker=f"w{number}") for number in range(3)}
        offsets = job.await_progress({})
        for _ in range(4):
            for worker in sorted(running):
                job.leave({worker: running[worker]})
                (job.folder / f"{worker}.log").unlink()
                running[worker] = job.start(worker=worker)
                time.sleep(chance.uniform(0.5, 3.0))
        job.await_progress(offsets)
        job.end(stream, running)
    finally:
        job.kill_all()
