"""Records that retention deleted before they were read, and that were gone on without: they are counted, and told ever after."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamcore import _core
from streamcore.checkpoint import Checkpoint
from tests.integration.kafka_tools import TIMEOUT_S
from tests.integration.state_job import PIPELINE, Job
from tests.integration.test_rescale import OWN, Growing, keys_of
from tests.servers.kafka import KafkaServer

LOCAL = PIPELINE.replace('delivery = "exactly_once"', 'delivery = "at_least_once"').replace("combine =", "# combine =")


@pytest.fixture
def job(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Job:
    job = Job(kafka_server, unique, tmp_path)
    job.send(range(25))
    assert job.run().code == 0
    return job


def audit_of(job: Job) -> Any:
    found = job("audit", str(job.file), "--json")
    assert found.code == 0, found.err
    assert found.json["adds_up"]
    return found.json


def report_of(job: Job, *arguments: str) -> Any:
    path = job.folder / "report.json"
    answer = job("run", str(job.file), *arguments, "--report", str(path))
    assert answer.code == 0, answer.err
    return json.loads(path.read_text())["report"]


def test_what_was_skipped_is_told_by_lane_ever_after(job: Job) -> None:
    topic = f"{job.name}-in"
    assert audit_of(job)["skipped"] == {}
    job.send(range(25, 45))
    job.delete_records(1, 105)
    report = report_of(job, "--stop", "end", "--accept-gap")
    assert (report["skipped"], report["lanes"]["1"]["read"]) == ({"1": 30}, 30)
    first = {"offsets": 30, "spans": [[75, 104]]}
    found = audit_of(job)
    assert (found["skipped"], found["lanes"]["1"]["read"]) == ({"1": {topic: first}}, 105)

    # Another run has none of its own, and what was is kept; so it is with a second gap, and without the worker's own copy.
    job.send(range(45, 50))
    assert report_of(job, "--stop", "end")["skipped"] == {}
    assert audit_of(job)["skipped"] == {"1": {topic: first}}
    job.send(range(50, 60))
    job.delete_records(1, 160)
    shutil.rmtree(job.folder / "state")
    job.delete_records(0, 151)
    assert report_of(job, "--stop", "end", "--accept-gap")["skipped"] == {"0": 1, "1": 10}
    both = {"offsets": 40, "spans": [[75, 104], [150, 159]]}
    assert audit_of(job)["skipped"] == {"0": {topic: {"offsets": 1, "spans": [[150, 150]]}}, "1": {topic: both}}
    told = job("audit", str(job.file)).out
    assert f"  of {topic} 1 offset, so at most one record, skipped as accepted gaps: 150" in told
    assert (
        f"  of {topic} 40 offsets, so at most as many records, skipped as accepted gaps: 75 to 104, 150 to 159" in told
    )
    assert "without 41 offsets of accepted gaps" in told


def test_a_gap_is_committed_though_nothing_comes_behind_it(job: Job) -> None:
    job.send(range(25, 30))
    job.delete_records(0, 90)
    report = report_of(job, "--for", "5s", "--accept-gap")
    assert (report["skipped"], report["lanes"]["0"]["read"]) == ({"0": 15}, 0)
    # It is not judged again, and nothing is counted twice.
    assert report_of(job, "--stop", "end", "--accept-gap")["skipped"] == {}
    assert job.run().code == 0
    assert audit_of(job)["skipped"] == {"0": {f"{job.name}-in": {"offsets": 15, "spans": [[75, 89]]}}}


@pytest.mark.skipif(not _core.FAULTS, reason="the engine was built without fault points")
@pytest.mark.parametrize("point", ["before-send_offsets", "before-commit", "after-commit"])
def test_a_worker_that_dies_has_counted_the_gap_with_the_position_behind_it_or_not_at_all(job: Job, point: str) -> None:
    job.send(range(25, 45))
    job.delete_records(1, 105)
    command = [sys.executable, "-m", "streamcore", "run", str(job.file), "--stop", "end", "--accept-gap"]
    environment = {**os.environ, "STREAMCORE_FAULTS": f"{point}:1:kill"}
    died = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    is_committed = point == "after-commit"
    skipped = report_of(job, "--stop", "end", "--accept-gap")["skipped"]
    assert skipped == ({} if is_committed else {"1": 30})
    found = audit_of(job)
    assert found["skipped"] == {"1": {f"{job.name}-in": {"offsets": 30, "spans": [[75, 104]]}}}
    assert found["lanes"]["1"]["read"] == 105


def test_a_savepoint_has_what_was_skipped_before_it(job: Job, tmp_path: Path) -> None:
    job.send(range(25, 30))
    job.delete_records(0, 80)
    assert job.run("--accept-gap").code == 0
    before = audit_of(job)["skipped"]
    assert job.state("savepoint", str(tmp_path / "noon")).code == 0
    job.send(range(30, 40))
    job.delete_records(0, 100)
    assert job.run("--accept-gap").code == 0
    assert audit_of(job)["skipped"] != before
    restored = job.state("restore", str(tmp_path / "noon"))
    assert restored.code == 0, restored.err
    refused = job.run()
    assert (refused.code, "records 90 to 99 of partition 0" in refused.err) == (6, True), refused.err
    assert job.run("--accept-gap").code == 0
    spans = [[75, 79], [90, 99]]
    assert audit_of(job)["skipped"] == {"0": {f"{job.name}-in": {"offsets": 15, "spans": spans}}}


def test_a_rescale_keeps_what_was_skipped_and_counts_what_it_goes_on_without(
    kafka_server: KafkaServer, unique: str, tmp_path: Path
) -> None:
    job = Growing(kafka_server, unique, tmp_path, text=PIPELINE.replace('filter = "v >= 0"', 'filter = "v > -9"'))
    job.put(range(25))
    job.read()
    first = job.ends()[1]
    job.put(range(25, 27), keys=keys_of((1, 2)), counts=False)
    job.delete_records(1, first + 4)
    assert job("run", str(job.file), "--for", "5s", "--accept-gap").code == 0
    job.read()
    old, gap = job.input, dict[str, Any](offsets=4, spans=[[first, first + 3]])
    assert audit_of(job)["skipped"] == {"1": {old: gap}}
    job.grow(4)
    job.rescale(4, *OWN)
    assert audit_of(job)["skipped"] == {"1": {old: gap}}
    job.put(range(27, 40))
    job.read()
    assert audit_of(job)["skipped"] == {"1": {old: gap}}

    # Of a topic that is left nobody judges a gap later.
    ends = job.ends()
    job.put(range(40, 41), keys=keys_of((0, 4)), counts=False)
    job.delete_records(0, job.ends()[0])
    lost = job.ends()[0] - ends[0]
    job.replace(1)
    assert "say --drained" in job.refused("--to", "1", *OWN)
    job.rescale(1, *OWN, "--drained")
    found = audit_of(job)["skipped"]["0"][old]
    assert found["offsets"] == 4 + lost
    assert sorted(found["spans"]) == sorted([gap["spans"][0], [ends[0], ends[0] + lost - 1]])


def test_at_least_once_keeps_it_beside_the_positions(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> None:
    job = Job(kafka_server, unique, tmp_path, text=LOCAL)
    job.send(range(25))
    assert report_of(job, "--stop", "end")["skipped"] == {}
    job.send(range(25, 45))
    job.delete_records(1, 105)
    assert job.run().code == 6
    assert report_of(job, "--stop", "end", "--accept-gap")["skipped"] == {"1": 30}
    assert report_of(job, "--stop", "end")["skipped"] == {}
    job.send(range(45, 50))
    job.delete_records(1, 136)
    assert report_of(job, "--stop", "end", "--accept-gap")["skipped"] == {"1": 1}
    saved = Checkpoint(tmp_path / "state" / unique).read(pipeline=unique)
    assert saved is not None
    assert saved.header.skipped == {1: {"offsets": 31, "spans": [[75, 104], [135, 135]]}}
    assert saved.header.ledger[1]["read"] + 31 == saved.header.positions[1]
