"""The commands against a real broker, as a shell sees them: output, errors of one line, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.kafka_tools import committed_offsets, create_topic, produce, read_topic
from tests.pipeline_texts import VIEWS_A_MINUTE
from tests.servers.kafka import USER, KafkaServer
from tests.servers.ports import free_ports
from tests.servers.process import ServerProcess

PIPELINE = (
    """
name = "NAME"

[kafka]
bootstrap_servers = "SERVERS"
connect_timeout = "1s"
session_timeout = "2s"

[source]
type = "kafka"
topic = "NAME"
event_time = "time"
event_time_unit = "ms"
schema = { page = "string" }
"""
    + VIEWS_A_MINUTE
    + """
[[sinks]]
type = "kafka"
topic = "NAME-out"
partitions = 2
"""
)


class Shell:
    """Commands on one pipeline file."""

    def __init__(self, server: KafkaServer, name: str, folder: Path) -> None:
        self.server = server
        self.name = name
        self.folder = folder
        self.file = folder / "pipeline.toml"
        self.write(PIPELINE)

    def write(self, text: str) -> None:
        self.file.write_text(text.replace("NAME", self.name).replace("SERVERS", self.server.bootstrap_servers))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "streamcore", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return {"STREAMCORE_STATE_DIR": str(self.folder / "state"), "NO_COLOR": "1"}

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self("run", str(self.file), *arguments)

    def fill(self, *events: tuple[int, str]) -> None:
        produce(self.server, self.name, [json.dumps({"time": time, "page": page}).encode() for time, page in events])

    def views(self) -> dict[tuple[str, str], int]:
        rows = [json.loads(message.value()) for message in read_topic(self.server, f"{self.name}-out")]
        return {(row["page"], row["window_end"]): row["views"] for row in rows}


@pytest.fixture
def shell(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Shell:
    return Shell(kafka_server, unique, tmp_path)


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


def test_topics_are_planned_then_created_then_there(shell: Shell) -> None:
    plan = shell("topics", "plan", str(shell.file))
    assert plan.returncode == 0
    assert lines(plan.stdout) == [
        f"{shell.name}  input  missing; would be created: partitions as the broker's default",
        f"{shell.name}-out  output  missing; would be created: 2 partitions, cleanup.policy=compact",
        (
            f"{shell.name}.dead-letters  dead letters  missing; would be created: 1 partitions, retention.ms=604800000, "
            "max.message.bytes=20971520"
        ),
    ]
    created = shell("topics", "create", str(shell.file), "--set", "sinks[0].partitions=3")
    assert created.returncode == 0, created.stderr
    assert lines(created.stdout)[1] == f"{shell.name}-out  output  created: 3 partitions, cleanup.policy=compact"
    again = shell("topics", "create", str(shell.file))
    assert [line.split("  ")[2] for line in lines(again.stdout)] == [
        "exists: 4 partitions",
        "exists: 3 partitions (a new one would have 2)",
        "exists: 1 partitions",
    ]


def test_a_bounded_run_counts_commits_and_goes_on_where_it_was(shell: Shell) -> None:
    create_topic(shell.server, shell.name)
    shell.fill((1_000, "a"), (2_000, "a"), (61_000, "b"))
    first = shell.run("--stop", "end")
    assert first.returncode == 0, first.stderr
    assert shell.views() == {("a", "1970-01-01T00:01:00.000Z"): 2, ("b", "1970-01-01T00:02:00.000Z"): 1}
    assert committed_offsets(shell.server, shell.name, shell.name, 1) == {0: 3}
    shell.fill((121_000, "a"))
    second = shell.run("--stop", "end")
    assert second.returncode == 0, second.stderr
    assert json.loads(lines(second.stderr)[-1])["report"]["ledger"]["read"] == 1
    assert shell.views()["a", "1970-01-01T00:03:00.000Z"] == 1


def test_sigterm_ends_the_epoch_and_leaves_windows_open(shell: Shell) -> None:
    create_topic(shell.server, shell.name)
    shell.fill((1_000, "a"), (2_000, "a"))
    worker = ServerProcess(
        shell.command("run", str(shell.file)), shell.folder / "worker.log", env=shell.environment, cwd=shell.folder
    )
    worker.wait_until(lambda: '"records":2' in worker.log.read_text(), "the worker", timeout_s=60.0)
    assert worker.stop(60.0) == 0
    assert shell.views() == {}
    assert committed_offsets(shell.server, shell.name, shell.name, 1) == {0: 2}
    shell.fill((3_000, "a"))
    assert shell.run("--stop", "end").returncode == 0
    assert shell.views() == {("a", "1970-01-01T00:01:00.000Z"): 3}


def test_no_broker_is_exit_code_4_with_one_error_and_what_to_try(shell: Shell) -> None:
    (port,) = free_ports(1)
    done = shell.run("--set", f"kafka.bootstrap_servers=127.0.0.1:{port}")
    assert done.returncode == 4
    assert done.stdout == ""
    errors = [line for line in lines(done.stderr) if not line.startswith("{")]
    assert errors == [
        (
            f"error: Kafka at 127.0.0.1:{port} gave no answer within 1s "
            f"(Connect to ipv4#127.0.0.1:{port} failed: Connection refused)"
        ),
        "hint: start the broker, or set bootstrap_servers in [kafka] or KAFKA_BOOTSTRAP_SERVERS",
    ]


def test_a_refused_login_is_exit_code_4_and_no_output_shows_the_password(shell: Shell) -> None:
    login = f"""
security_protocol = "sasl_plaintext"
sasl_mechanism = "SCRAM-SHA-512"
sasl_username = "{USER[0]}"
sasl_password = "canary-password"
"""
    shell.write(
        PIPELINE.replace("SERVERS", shell.server.sasl_bootstrap_servers).replace('session_timeout = "2s"\n', login)
    )
    for arguments in (["run", str(shell.file)], ["topics", "create", str(shell.file)], ["check", str(shell.file)]):
        done = shell(*arguments)
        assert done.returncode == (0 if arguments[0] == "check" else 4), done.stderr
        assert "canary" not in done.stdout + done.stderr
    assert "refused the login of 'alice'" in shell.run().stderr


def test_a_missing_topic_that_is_not_made_is_exit_code_3_with_the_line_to_type(shell: Shell) -> None:
    done = shell.run()
    assert done.returncode == 3
    assert f"topic {shell.name} (input) cannot be used" in done.stderr
    assert "streamcore topics create FILE" in done.stderr
    create_topic(shell.server, shell.name)
    done = shell.run("--stop", "end", "--set", "auto_create_topics=false")
    assert done.returncode == 3
    assert f"topic {shell.name}.dead-letters (dead letters) cannot be used" in done.stderr


def test_a_second_worker_elsewhere_is_exit_code_7(shell: Shell) -> None:
    create_topic(shell.server, shell.name)
    shell.fill((1_000, "a"))
    first = ServerProcess(
        shell.command("run", str(shell.file)), shell.folder / "worker.log", env=shell.environment, cwd=shell.folder
    )
    first.wait_until(lambda: '"records":1' in first.log.read_text(), "the first worker", timeout_s=60.0)
    second = shell.run("--set", f"state_dir={shell.folder / 'elsewhere'}")
    assert second.returncode == 7
    assert f"error: group {shell.name} has another live member" in second.stderr
    assert first.stop(60.0) == 0, first.log_tail()
