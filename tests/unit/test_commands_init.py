"""`streamcore init`: what it writes is right as it stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamcore.cli import main
from streamcore.config.schema import json_schema


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_scaffold_passes_check_and_its_tests_and_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["check", "pipeline.toml"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "ok pipeline.toml: 2 steps, 1 sink\n"
    assert captured.err == "", "a scaffold gives no warning"
    assert main(["test", "pipeline.toml"]) == 0
    assert "2 passed, 0 failed" in capsys.readouterr().err
    generated = ["--set", "source.rate=0", "--set", "source.count=50000", "--set", "source.speed=1"]
    assert main(["run", "pipeline.toml", "--output", "jsonl", *generated]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows
    assert sum(row["views"] for row in rows) % 50_000 == 0, "shown by the sink, and by --output"


def test_the_schema_it_points_to_lies_beside_it() -> None:
    assert main(["init", "pipelines/page_counts.toml"]) == 0
    text = Path("pipelines/page_counts.toml").read_text()
    assert text.startswith("#:schema ./streamcore.schema.json\n")
    assert 'name = "page-counts"' in text
    assert json.loads(Path("pipelines/streamcore.schema.json").read_text()) == json_schema()


def test_the_commented_lines_are_right_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    assert main(["init"]) == 0
    text = Path("pipeline.toml").read_text()
    text = text.replace('[source]\ntype = "generate"\nrate = 20000', "# rate").replace("speed = 60 ", "# speed")
    for line in text.splitlines():
        if line.startswith("#   ") and not line.startswith("#   streamcore"):
            text = text.replace(line, line.removeprefix("#   "))
    Path("pipeline.toml").write_text(text)
    assert main(["check", "pipeline.toml"]) == 0
    assert "2 steps, 2 sinks" in capsys.readouterr().out
    assert 'type = "kafka"' in text


def test_nothing_is_overwritten_unless_told(capsys: pytest.CaptureFixture[str]) -> None:
    Path("pipeline.toml").write_text("mine")
    assert main(["init"]) == 3
    assert "overwrite it with --force" in capsys.readouterr().err
    assert Path("pipeline.toml").read_text() == "mine"
    assert main(["init", "--force"]) == 0
    assert Path("pipeline.toml").read_text() != "mine"


def test_a_name_that_cannot_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--name", "a/b"]) == 3
    assert "must begin with a letter or digit" in capsys.readouterr().err
    assert not Path("pipeline.toml").exists()
    Path("file").write_text("")
    assert main(["init", "file/p.toml"]) == 3
    assert "cannot write" in capsys.readouterr().err
