"""`streamcore why` beside a real broker: while the run lives, and from its checkpoint after it was killed."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kafka_tools import TIMEOUT_S, create_topic, produce
from tests.integration.state_job import Job
from tests.integration.test_commands_kafka import PIPELINE, Shell
from tests.servers.kafka import KafkaServer
from tests.servers.process import ServerProcess


@pytest.fixture
def shell(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Shell:
    shell = Shell(kafka_server, unique, tmp_path)
    shell.write(
        PIPELINE.replace(
            'event_time_unit = "ms"', 'event_time_unit = "ms"\nout_of_orderness = "1s"\nidle_timeout = "10m"'
        )
    )
    create_topic(kafka_server, unique, partitions=2)
    return shell


def fill(shell: Shell, partition: int, *times_ms: int) -> None:
    values = [json.dumps({"time": time_ms, "page": "a"}).encode() for time_ms in times_ms]
    # As old as they say: nothing is of the future.
    produce(shell.server, shell.name, values, partition=partition)


def held_by(shell: Shell, end: str) -> tuple[dict[str, Any], dict[str, Any]]:
    done = shell("why", str(shell.file), "--window", end, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    (window,) = answer["windows"]
    return answer["from"], window


def test_the_lane_that_holds_the_clock_is_named_live_and_from_the_checkpoint(shell: Shell) -> None:
    fill(shell, 0, 10_000, 130_000)
    fill(shell, 1, 20_000, 30_000)
    process = ServerProcess(
        shell.command("run", str(shell.file), "--listen", "127.0.0.1:0"), shell.folder / "log", env=shell.environment
    )
    try:
        note = shell.folder / "state" / shell.name / "LISTEN"
        process.wait_until(note.exists, "the run", TIMEOUT_S)
        address = note.read_text()
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            done = shell("why", str(shell.file), "--window", "1970-01-01T00:01:00Z")
            if "caught up" in done.stdout or time.monotonic() > deadline:
                break
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[0].startswith("steps[0] (window): window 1970-01-01T00:00:00.000Z to 1970-01-01T00:01:00.000Z")
        assert f"held by      {shell.name} [1], last event 1970-01-01T00:00:30.000Z, caught up" in lines[2]
        assert f"with an event of 1970-01-01T00:01:01.000Z or later in {shell.name} [1], or " in lines[3]
        assert lines[-1] == f"from the run that listens on {address}"
        origin, window = held_by(shell, "1970-01-01T00:01:00Z")
        assert origin == {"run": address}
        assert window["watermark"] == "1970-01-01T00:00:28.999Z"
        wrong = shell("why", str(shell.file), "--window", "1970-01-01T00:02:00Z")
        assert wrong.returncode == 1
        assert "open windows end at 1970-01-01T00:01:00.000Z, 1970-01-01T00:03:00.000Z" in wrong.stderr
        # Long enough for a commit to hold what was read.
        time.sleep(2)
    finally:
        process.kill()
    assert note.exists(), "a killed run leaves its address behind, where nobody answers"
    fill(shell, 1, 40_000, 50_000, 70_000)
    origin, window = held_by(shell, "1970-01-01T00:01:00Z")
    assert str(origin["checkpoint"]).endswith(f"{shell.name}/checkpoint")
    (lane,) = window["held_by"]
    assert (lane["name"], lane["state"], lane["behind"]) == (f"{shell.name} [1]", "behind", 3)
    assert "(3 records to go)" in str(window["closes_when"])


@pytest.mark.parametrize("keyed", [True, False])
def test_committed_state_says_why_beside_a_worker_and_without_one(
    kafka_server: KafkaServer, unique: str, tmp_path: Path, *, keyed: bool
) -> None:
    """In lanes of their own, and where they meet through a topic; no run listens."""
    job = Job(kafka_server, unique, tmp_path, keyed=keyed, combine="auto")
    topics = [job.state_topic] if keyed else [job.state_topic, f"{unique}.1.state.g1"]
    asked = ("why", str(job.file), "--window", "1970-01-01T00:00:30Z")
    assert job("topics", "create", str(job.file)).code == 0
    nothing = job(*asked)
    assert (nothing.code, f"nothing of {unique} is committed yet" in nothing.err) == (1, True), nothing.err
    job.send(range(25))
    process = ServerProcess(
        [sys.executable, "-m", "streamcore", "run", str(job.file)], tmp_path / "log", env=dict(os.environ)
    )
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            found = job(*asked, "--json")
            windows = found.json["windows"] if found.code == 0 else []
            if [window["keys"] for window in windows] == ([3, 3] if keyed else [6]):
                break
            assert time.monotonic() < deadline, found.err
        assert found.json["from"]["state"] == topics
        assert found.json["from"]["workers"] == 1
        assert not windows[0]["closes_when"].startswith("once the run goes on")
    finally:
        process.stop()
    job.send(range(25, 29), partition=1)
    found = job(*asked, "--json")
    assert found.code == 0, found.err
    assert 0 <= found.json["from"]["age_s"] < TIMEOUT_S
    window = found.json["windows"][-1]
    assert window["lane"] == (f"{unique}-in [1]" if keyed else None)
    assert window["closes_at"] == "1970-01-01T00:00:29.999Z"
    held = {lane["name"]: lane for lane in window["held_by"]}
    assert len(held) == (1 if keyed else 2)
    lane = held[f"{unique}-in [1]"]
    assert (lane["last_event"], lane["state"], lane["behind"] >= 12) == ("1970-01-01T00:00:24.000Z", "behind", True)
    assert window["closes_when"].startswith("once the run goes on: ")
    shown = job(*asked)
    assert shown.out.splitlines()[-1].startswith(f"from {' and '.join(topics)}, ")
    other = job("why", str(job.file), "--window", "1970-01-01T00:00:10Z")
    assert (other.code, "hint: open windows end at 1970-01-01T00:00:30.000Z" in other.err) == (1, True), other.err
    changed = job(*asked, "--set", 'steps[1].size="20s"')
    assert (changed.code, "streamcore state verify FILE" in changed.err) == (6, True), changed.err


def test_a_broker_that_is_away_is_said_to_be(shell: Shell) -> None:
    fill(shell, 0, 10_000)
    fill(shell, 1, 10_000)
    done = shell.run("--for", "4s")
    assert done.returncode == 0, done.stderr
    away = shell(
        "why", str(shell.file), "--window", "1970-01-01T00:01:00Z", "--set", "kafka.bootstrap_servers=127.0.0.1:1"
    )
    assert away.returncode == 0, away.stderr
    assert "the broker was not asked where lanes end" in away.stdout
    assert "how much is left to read is not known" in away.stdout
