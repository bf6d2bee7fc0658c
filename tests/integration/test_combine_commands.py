"""What commands say of a pipeline whose windows meet through a topic, and what they do to its two stages."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.kafka_tools import create_topic, read_topic
from tests.integration.state_job import Job
from tests.servers.kafka import KafkaServer

EXIT_CONFIG, EXIT_STATE = 3, 6


@pytest.fixture
def job(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Job:
    return Job(kafka_server, unique, tmp_path, keyed=False, combine="auto")


def test_topics_and_the_plan_name_what_lies_between_the_phases(job: Job) -> None:
    plan = job("topics", "plan", str(job.file), "--set", "combine_partitions=3").out
    assert f"{job.name}.0.partials.g1  partials  missing; would be created: 3 partitions, cleanup.policy=delete" in plan
    assert f"{job.name}.1.state.g1  state  missing; would be created: 3 partitions, cleanup.policy=compact" in plan
    assert f"{job.name}.0.state.g1  state  missing; would be created: 2 partitions" in plan
    assert f"{job.name}.0.combine.g1" not in plan
    assert job("topics", "create", str(job.file)).code == 0
    there = job("topics", "plan", str(job.file)).out
    assert f"{job.name}.0.partials.g1  partials  exists: 2 partitions\n" in there
    explained = job("explain", str(job.file)).out
    assert f"combine through topic {job.name}.0.partials.g1 (as many partitions as the input): " in explained
    refused = job("explain", str(job.file), "--set", "delivery=effectively_once", "--set", "combine=topic")
    assert refused.code == EXIT_CONFIG


def test_both_stages_are_shown_and_add_up(job: Job) -> None:
    assert job("topics", "create", str(job.file)).code == 0
    assert job.state("inspect").code == 0
    assert job("audit", str(job.file)).out == "nothing is committed yet\n"
    job.send(range(25))
    assert job.run().code == 0
    lanes = job.state("verify", "--json")
    assert lanes.code == 0, lanes.err
    assert [(lane["stage"], lane["lane"]) for lane in lanes.json["lanes"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(lane["complete"] for lane in lanes.json["lanes"])
    keys, rows = ([lane[what] for lane in lanes.json["lanes"][2:]] for what in ("keys", "rows"))
    assert keys == rows
    assert sum(rows) > 0
    shown = job.state("inspect").out.splitlines()
    copies = [line for line in shown if line.startswith("local copy of 2 lanes in ")]
    assert [Path(line.split()[6].rstrip(",")).name for line in copies] == ["0", "1"], "a folder a stage"
    lanes_shown = [line.partition(":")[0] for line in shown if line not in copies]
    assert lanes_shown == ["lane 0", "lane 1", "combine lane 0", "combine lane 1"]
    audited = job("audit", str(job.file), "--json")
    assert (audited.code, audited.json["adds_up"], audited.json["differences"]) == (0, True, [])
    assert sum(lane["merged"] for lane in audited.json["combined"].values()) == audited.json["total"]["applied"] == 126
    assert "combine lane 1: " in job("audit", str(job.file)).out
    found = job("verify", str(job.file), "--against", "polars", "--json")
    assert (found.code, found.json["differences"], found.json["windows"]) == (0, [], 2 * 3 * 3), found.err


def test_a_reset_discards_both_stages_and_the_partials_between_them(job: Job) -> None:
    job.send(range(25))
    assert job.run().code == 0
    final = job.final()
    done = job.state("reset", "--yes")
    assert done.code == 0, done.err
    assert "4 lanes" in done.out
    assert read_topic(job.server, f"{job.name}.0.partials.g1") == []
    topics = job("topics", "plan", str(job.file)).out
    assert all(f"{job.name}.{stage}.state.g2  state  exists: 2 partitions" in topics for stage in (0, 1)), topics
    assert "state.g1" not in topics
    # All is read again, and merged once.
    assert job.run().code == 0
    assert job.final() == final
    assert job("audit", str(job.file), "--json").json["total"]["read"] == 150


def test_other_partitions_are_refused_by_name(job: Job) -> None:
    job.send(range(5))
    assert job.run().code == 0
    refused = job.state("rescale", "--to", "3")
    assert (refused.code, "its state in two stages" in refused.err) == (EXIT_CONFIG, True), refused.err
    assert "hint: begin anew, under another name or after streamcore state reset FILE; with" in refused.err
    other = job.run("--set", "combine=local")
    assert (other.code, "its source, schema or steps have changed, or combine" in other.err) == (EXIT_STATE, True), (
        other.err
    )


def test_a_topic_of_partials_that_is_compacted_is_refused(job: Job) -> None:
    create_topic(job.server, f"{job.name}.0.partials.g1", 2, cleanup_policy="compact")
    job.send(range(5))
    refused = job.run()
    assert (refused.code, "has cleanup.policy=compact" in refused.err) == (EXIT_STATE, True), refused.err


def test_a_lane_of_partials_is_repaired_and_one_that_has_handed_over_is_not(job: Job) -> None:
    for begin in (0, 25, 50):
        job.send(range(begin, begin + 25))
        assert job.run().code == 0
    final = job.final()
    _damage_newest_manifest(job, stage=1)
    assert job.state("verify").code == EXIT_STATE
    assert job.run().code == EXIT_STATE
    repaired = job.state("repair")
    assert repaired.code == 0, repaired.err
    assert "combine lane 0: epoch" in repaired.out
    assert job.state("verify").code == 0
    assert job.run().code == 0
    assert job.final() == final
    assert job("audit", str(job.file), "--json").json["adds_up"] is True
    _damage_newest_manifest(job, stage=0)
    refused = job.state("repair")
    assert (refused.code, "have handed over partials" in refused.err) == (EXIT_STATE, True), refused.err


def _damage_newest_manifest(job: Job, *, stage: int) -> None:
    """Of lane 0."""
    lanes = job.state("inspect", "--json").json["lanes"]
    (newest,) = [lane["epoch"] for lane in lanes if (lane["stage"], lane["lane"]) == (stage, 0)]
    topic, key = f"{job.name}.{stage}.state.g1", f"M/{newest % 4}"
    found = [each for each in read_topic(job.server, topic) if (each.partition(), each.key()) == (0, key.encode())]
    value = bytearray(found[-1].value())
    value[-1] ^= 1
    job.put_state_of(topic, key, bytes(value))


def test_why_tells_lanes_of_the_input(job: Job) -> None:
    job.send(range(25))
    command = [sys.executable, "-m", "streamcore", "run", str(job.file), "--listen", "127.0.0.1:0"]
    with (job.folder / "run.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            found = job("why", str(job.file), "--window", "1970-01-01T00:00:30Z", "--json")
            if found.code == 0 and found.json["windows"][0]["keys"] == 6:
                break
            assert time.monotonic() < deadline, found.err + (job.folder / "run.log").read_text()
            time.sleep(0.2)
        (window,) = found.json["windows"]
        assert window["lane"] is None
        assert {lane["name"] for lane in window["held_by"]} == {f"{job.name}-in [0]", f"{job.name}-in [1]"}
        assert all(lane["state"] == "caught up" for lane in window["held_by"])
    finally:
        process.terminate()
        assert process.wait(30) == 0
