"""F20: retention overtakes the reader, offsets expire, an operator moves the group. What is lost is told; the manifest wins."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import NewPartitions

from tests.integration.kafka_tools import TIMEOUT_S
from tests.integration.state_job import Job
from tests.servers.kafka import KafkaServer
from tests.servers.process import ServerProcess

EXIT_STATE = 6


@pytest.fixture
def job(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Job:
    job = Job(kafka_server, unique, tmp_path)
    job.send(range(25))
    assert job.run().code == 0
    return job


def test_a_lost_range_is_refused_by_name_and_left_out_only_on_demand(job: Job, tmp_path: Path) -> None:
    job.send(range(25, 45))
    rows = job.rows()
    job.delete_records(1, 105)
    lost = f"records 75 to 104 of partition 1 of {job.name}-in were deleted before they were read"
    refused = job.run()
    assert (refused.code, lost in refused.err, "--accept-gap" in refused.err) == (EXIT_STATE, True, True), refused.err
    assert job.rows() == rows
    verified = job.state("verify")
    assert (verified.code, f"lane 1: {lost}" in verified.err) == (EXIT_STATE, True)
    assert job.state("repair").out.startswith("nothing to repair")

    went_on = job.run("--accept-gap", "--report", str(tmp_path / "report.json"))
    assert (went_on.code, lost in went_on.err) == (0, True), went_on.err
    report = json.loads((tmp_path / "report.json").read_text())["report"]
    assert report["lanes"]["0"]["read"] == 60
    assert report["lanes"]["1"]["read"] == 30
    assert report["skipped"] == {"1": 30}
    final = job.final()
    # Lane 1 has 35 s to 45 s of its own, and of the windows before what was there.
    assert final["0-0", "1970-01-01T00:00:30.000Z"][0] == 9
    assert final["1-0", "1970-01-01T00:00:30.000Z"][0] == 4
    assert job.run().code == 0
    audited = job("audit", str(job.file), "--json")
    assert (audited.code, audited.json["skipped"]["1"][f"{job.name}-in"]["offsets"]) == (0, 30)


def test_a_group_that_is_gone_costs_nothing(job: Job) -> None:
    rows = job.rows()
    job.admin.delete_consumer_groups([job.name])[job.name].result(TIMEOUT_S)
    assert job.run().code == 0
    assert job.rows() == rows
    job.send(range(25, 30))
    assert job.run().code == 0
    assert job.group_offsets() == {0: 90, 1: 90}
    assert job("audit", str(job.file), "--json").json["total"]["read"] == 180


@pytest.mark.parametrize("offset", [0, 30])
def test_a_group_that_was_put_back_does_not_move_the_state(job: Job, offset: int) -> None:
    rows = job.rows()
    _move(job, offset)
    assert job.state("verify").code == 0
    assert job.run().code == 0
    assert job.rows() == rows
    job.send(range(25, 30))
    assert job.run().code == 0
    assert job("audit", str(job.file), "--json").json["total"]["read"] == 180


def test_a_group_that_was_put_ahead_is_refused(job: Job) -> None:
    job.send(range(25, 45))
    rows = job.rows()
    _move(job, 100)
    refused = job.run()
    assert (refused.code, "past every committed manifest" in refused.err) == (EXIT_STATE, True), refused.err
    verified = job.state("verify")
    assert (verified.code, "the group is at 100, past the newest manifest, which is at 75" in verified.err) == (6, True)
    assert job.rows() == rows
    repaired = job.state("repair", "--json")
    assert repaired.code == 0, repaired.err
    assert job.run().code == 0
    assert job("audit", str(job.file), "--json").json["total"]["read"] == 270


def test_a_topic_that_grew_stops_the_worker_with_its_reason(job: Job) -> None:
    job.admin.create_partitions([NewPartitions(f"{job.name}-in", 3)])[f"{job.name}-in"].result(TIMEOUT_S)
    refused = job.run()
    assert (refused.code, "STATE_PARTITION_MISMATCH" in refused.err) == (EXIT_STATE, True), refused.err
    assert "STATE_PARTITION_MISMATCH" in job.state("verify").err
    assert "STATE_PARTITION_MISMATCH" in job.state("repair").err


def test_a_topic_that_grows_stops_a_worker_that_runs(job: Job, tmp_path: Path) -> None:
    text = job.file.read_text()
    job.file.write_text(
        text.replace('keyed_by = "k"', 'keyed_by = "k"\noptions = { "topic.metadata.refresh.interval.ms" = 500 }')
    )
    command = [sys.executable, "-m", "streamcore", "run", str(job.file)]
    worker = ServerProcess(command, tmp_path / "log", env=dict(os.environ))
    try:
        job.send(range(25, 30))
        worker.wait_until(lambda: job.group_offsets() == {0: 90, 1: 90}, "the worker", TIMEOUT_S)
        job.admin.create_partitions([NewPartitions(f"{job.name}-in", 3)])[f"{job.name}-in"].result(TIMEOUT_S)
        assert worker.process.wait(TIMEOUT_S) == EXIT_STATE
        assert "STATE_PARTITION_MISMATCH" in worker.log_tail(40)
    finally:
        worker.stop()


def _move(job: Job, offset: int) -> None:
    parts = [TopicPartition(f"{job.name}-in", lane, offset) for lane in range(job.partitions)]
    wanted = ConsumerGroupTopicPartitions(job.name, parts)
    for moved in job.admin.alter_consumer_group_offsets([wanted]).values():
        assert all(part.error is None for part in moved.result(TIMEOUT_S).topic_partitions)
