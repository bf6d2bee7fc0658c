"""`streamcore config`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamcore.cli import main
from streamcore.config.reference import reference

FILE = """\
name = "p"
[kafka]
sasl_password = "${PASSWORD}"
[source]
type = "generate"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PASSWORD", "canary")
    path = tmp_path / "p.toml"
    path.write_text(FILE)
    return path


def test_shows_every_key_without_secrets(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", str(file), "--set", "commit_interval=5s"]) == 0
    out = capsys.readouterr().out
    assert 'commit_interval = "5s"\n' in out
    assert 'kafka.sasl_password = "***"\n' in out
    assert "canary" not in out
    assert "#" not in out


def test_shows_what_decided(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", str(file), "--origin", "--set", "commit_interval=5s"]) == 0
    lines = {line.split(" = ")[0]: line.split("  # ")[-1] for line in capsys.readouterr().out.splitlines()}
    assert lines["commit_interval"] == "--set commit_interval"
    assert lines["name"] == f"{file}:1"
    assert lines["kafka.sasl_password"] == f"{file}:3 through ${{PASSWORD}}"
    assert lines["source.seed"] == "default"


def test_prints_the_schema_and_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "streamcore pipeline"
    assert main(["config", "reference"]) == 0
    assert capsys.readouterr().out == reference()


def test_a_wrong_file_ends_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.toml"
    path.write_text("nmae = 1\n")
    assert main(["config", str(path)]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "1:1: nmae" in captured.err
