from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from streamcore import _core, versions
from streamcore.cli import main

NOBODY = "127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)


def test_a_sound_installation_is_ok(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok   ") for line in lines)
    assert "ok   engine: counts" in lines
    assert lines[-1].startswith("ok   broker: not tried")


def test_it_names_the_instruction_set_of_the_decoder(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    assert f"ok   SIMD: {_core.simd()}" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("command", ["doctor", "--version"])
def test_a_narrower_instruction_set_is_used_and_named(command: str) -> None:
    done = streamcore_with("portable", command)
    assert done.returncode == 0
    assert re.search(r"\bSIMD:? portable\b", done.stdout)


def test_an_instruction_set_that_is_not_there_is_a_mistake() -> None:
    done = streamcore_with("vax", "doctor")
    assert (done.returncode, done.stdout) == (3, "")
    wanted = r'error: STREAMCORE_SIMD is "vax", but this CPU has (?:\w+, )*portable\nhint: unset it for the widest\n'
    assert re.fullmatch(wanted, done.stderr)


def streamcore_with(simd: str, command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "STREAMCORE_SIMD": simd}
    line = [sys.executable, "-m", "streamcore", command]
    return subprocess.run(line, capture_output=True, text=True, env=environment, check=False)


def test_a_foreign_package_in_the_same_folder_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(versions, "package_version", lambda name="": "2.0" if name == "streamcore" else "1.0")
    assert main(["doctor"]) == 1
    assert "run pip uninstall streamcore, then install streamcore-engine again" in capsys.readouterr().out


def test_a_missing_client_library_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    assert main(["doctor"]) == 1
    assert "FAIL librdkafka: not installed; run pip install quixstreams" in capsys.readouterr().out


def test_an_engine_that_does_not_count_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("streamcore.testing.start", broken)
    assert main(["doctor"]) == 1
    assert "FAIL engine: broken; install the package again" in capsys.readouterr().out


def test_a_file_without_kafka_has_no_broker_to_try(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "job.toml").write_text('[source]\ntype = "generate"\n')
    assert main(["doctor", str(tmp_path / "job.toml")]) == 0
    assert "broker: not tried" in capsys.readouterr().out


def test_a_broker_that_does_not_answer_is_four(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "job.toml").write_text(
        f'[kafka]\nbootstrap_servers = "{NOBODY}"\nconnect_timeout = "500ms"\n[source]\ntype = "kafka"\ntopic = "t"\n'
    )
    assert main(["doctor", str(tmp_path / "job.toml")]) == 4
    assert f"FAIL broker: Kafka at {NOBODY} gave no answer within 500ms" in capsys.readouterr().out


def test_a_login_among_the_servers_of_the_environment_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "ann:CANARY@host:1")
    assert main(["doctor"]) == 3
    told = capsys.readouterr()
    assert "has an @ as of a login" in told.err
    assert "CANARY" not in told.out + told.err


@pytest.mark.parametrize("is_there", [True, False])
def test_the_client_of_a_redis_sink_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_there: bool
) -> None:
    text = '[source]\ntype = "generate"\n[[sinks]]\ntype = "redis"\nkey_template = "{_key}"\n'
    (tmp_path / "job.toml").write_text(text)
    if not is_there:
        monkeypatch.setitem(sys.modules, "redis", None)
    assert main(["doctor", str(tmp_path / "job.toml")]) == (0 if is_there else 1)
    told = "ok   Redis client: installed" if is_there else "FAIL Redis client: a Redis sink needs the Redis client; pip"
    assert told in capsys.readouterr().out
