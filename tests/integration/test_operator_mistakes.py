"""What operators do to an exactly-once pipeline without meaning to: each is told, and nothing is lost."""

from __future__ import annotations

import errno
import os
import random
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from confluent_kafka import Consumer

from streamcore.kafka_client import Cluster
from tests.integration.kafka_tools import TIMEOUT_S, committed_offsets, create_topic, produce
from tests.integration.state_job import PIPELINE, Job
from tests.servers.kafka import KafkaServer
from tests.servers.process import ServerProcess

EXIT_FAILED, EXIT_CONFIG, EXIT_STATE, EXIT_FENCED = 1, 3, 6, 7


@pytest.fixture
def job(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Job:
    return Job(kafka_server, unique, tmp_path)


@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
def test_a_state_topic_that_retention_would_empty_is_refused(job: Job, policy: str) -> None:
    create_topic(job.server, job.state_topic, job.partitions, cleanup_policy=policy)
    job.send(range(25))
    refused = job.run()
    assert refused.code == EXIT_STATE
    assert f"{job.state_topic}, which keeps the state, has cleanup.policy={policy}" in refused.err


@pytest.mark.parametrize("delivery", ["effectively_once", "at_least_once"])
def test_state_of_exactly_once_is_not_passed_over_under_another_delivery(job: Job, delivery: str) -> None:
    job.send(range(25))
    assert job.run().code == 0
    rows = job.rows()
    job.send(range(25, 50))
    refused = job.run("--set", f"delivery={delivery}")
    assert refused.code == EXIT_STATE, refused.err
    assert f"{job.name} has state in the topic {job.state_topic}" in refused.err
    assert f"this run is {delivery}" in refused.err
    assert job.rows() == rows
    assert job.state("reset", "--yes").code == 0
    assert job.run("--set", f"delivery={delivery}").code == 0


def test_state_that_was_committed_since_a_reset_is_not_passed_over_either(job: Job) -> None:
    job.send(range(25))
    assert job.run().code == 0
    assert job.state("reset", "--yes").code == 0
    assert job.run().code == 0
    refused = job.run("--set", "delivery=at_least_once")
    assert (refused.code, f"state in the topic {job.name}.0.state.g2" in refused.err) == (EXIT_STATE, True), refused.err


@pytest.mark.timeout(60)
def test_a_row_that_its_topic_refuses_for_its_size_ends_the_run_with_its_topic(
    kafka_server: KafkaServer, unique: str, tmp_path: Path
) -> None:
    text = PIPELINE.replace("schema = {", 'schema = { x = "string",').replace('s = "sum(v)"', 'x = "last(x)"')
    job = Job(kafka_server, unique, tmp_path, text=text)
    create_topic(kafka_server, f"{unique}-out", 1, max_message_bytes="5000")
    text_of_20_000 = random.Random(1).randbytes(10_000).hex().encode()  # compression makes no tenth of it
    produce(kafka_server, f"{unique}-in", [b'{"t":1,"k":"a","v":1,"x":"%s"}' % text_of_20_000], key=b"a")
    refused = job.run()
    assert refused.code == EXIT_FAILED, refused.err
    assert f"topic {unique}-out refuses a record of 20," in refused.err
    assert "max.message.bytes" in refused.err
    job.admin.delete_topics([f"{unique}-out"])[f"{unique}-out"].result(TIMEOUT_S)
    assert job.run().code == 0
    assert job.rows().total() == 1


@pytest.mark.parametrize("session", ["1ms", "45m"])
def test_a_session_outside_the_broker_s_bounds_is_refused_with_its_key_and_them(job: Job, session: str) -> None:
    refused = job.run("--set", f"kafka.session_timeout={session}")
    assert refused.code == EXIT_CONFIG, refused.err
    assert f"kafka.session_timeout: the broker refuses {session}: it is outside its bounds, 1s to 30m" in refused.err


def test_a_commit_interval_longer_than_any_transaction_is_none_of_the_broker_s_business(job: Job) -> None:
    job.send(range(25))
    assert job.run("--set", "commit_interval=20m").code == 0
    assert job.rows().total() == 18


def test_state_is_looked_at_beside_a_busy_worker(job: Job) -> None:
    command = [sys.executable, "-m", "streamcore", "run", str(job.file), "--set", "commit_interval=20ms"]
    process = ServerProcess(command, job.folder / "log", env=dict(os.environ))
    try:
        job.send(range(10))

        def has_committed() -> bool:
            return max(committed_offsets(job.server, job.name, f"{job.name}-in", job.partitions).values()) > 0

        process.wait_until(has_committed, "an epoch", TIMEOUT_S)
        for number in range(30):
            job.send(range(10 + 50 * number, 60 + 50 * number))
            verified = job.state("verify")
            assert verified.code == 0, verified.err
    finally:
        process.stop()


def test_a_savepoint_that_is_put_back_after_a_reset_goes_on_with_the_files_there_are(
    kafka_server: KafkaServer, unique: str, tmp_path: Path
) -> None:
    files = f'\n[[sinks]]\ntype = "parquet"\npath = "{tmp_path}/rows"\n'
    job = Job(kafka_server, unique, tmp_path, text=PIPELINE + files)
    for end in (25, 45, 65):
        job.send(range(end - 25 if end == 25 else end - 20, end))
        assert job.run().code == 0
    saved, rows = tmp_path / "saved", pl.read_parquet(tmp_path / "rows").height
    assert job.state("savepoint", str(saved)).code == 0
    reset = job.state("reset", "--yes")
    assert reset.code == 0, reset.err
    assert reset.out.endswith(
        f"move the files of {unique} in {tmp_path}/rows away first: they are of the state that is discarded, and a run that finds them ends "
        "with code 6\n"
    )
    refused = job.run()
    assert (refused.code, f"{tmp_path}/rows holds" in refused.err) == (EXIT_STATE, True), refused.err
    put_back = job.state("restore", str(saved))
    assert put_back.code == 0, put_back.err
    job.send(range(65, 85))
    went_on = job.run()
    assert went_on.code == 0, went_on.err
    assert pl.read_parquet(tmp_path / "rows").height > rows


def test_state_commands_keep_to_what_the_broker_allows_transactions(unique: str, tmp_path: Path) -> None:
    with KafkaServer(properties={"transaction.max.timeout.ms": "30000"}) as server:
        job = Job(server, unique, tmp_path)
        job.send(range(25))
        assert job.run().code == 0
        saved = job.state("savepoint", str(tmp_path / "saved"))
        assert saved.code == 0, saved.err
        for command in (("restore", str(tmp_path / "saved")), ("reset", "--yes")):
            done = job.state(*command)
            assert done.code == 0, done.err


def test_a_group_that_somebody_joined_before_its_offsets_were_deleted_is_told(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.send(range(25))
    assert job.run().code == 0
    delete_group = Cluster.delete_group

    def beside_a_worker(cluster: Cluster, group: str) -> None:
        consumer = Consumer({"bootstrap.servers": job.server.bootstrap_servers, "group.id": group})
        consumer.subscribe([f"{job.name}-in"])
        try:
            deadline = time.monotonic() + TIMEOUT_S
            while not consumer.assignment():
                assert time.monotonic() < deadline
                consumer.poll(0.1)
            delete_group(cluster, group)
        finally:
            consumer.close()

    with monkeypatch.context() as patched:
        patched.setattr(Cluster, "delete_group", beside_a_worker)
        refused = job.state("reset", "--yes")
    assert refused.code == EXIT_FENCED, refused.err
    told = f"the state of {job.name} was discarded, and the offsets of group {job.name} are still there, as it has got members meanwhile"
    assert told in refused.err
    assert job.run().code == EXIT_STATE
    assert job.state("reset", "--yes").code == 0
    assert job.run().code == 0


def test_a_savepoint_that_failed_can_be_made_under_its_name(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job.send(range(25))
    assert job.run().code == 0
    saved = job.folder / "saved"

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("streamcore.savepoints.write_manifest", no_room)
        refused = job.state("savepoint", str(saved))
    assert refused.code == EXIT_STATE
    assert f"{saved}: the savepoint cannot be written: No space left on device" in refused.err
    assert job.state("savepoint", str(saved)).code == 0
    assert job.state("restore", str(saved)).code == 0
