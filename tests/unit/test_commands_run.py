from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from streamcore.commands.run import load_target
from streamcore.errors import ConfigError
from tests.unit.test_cli import streamcore

PIPELINE = """
[source]
type = "files"
path = "in.jsonl"
event_time = "at"

[source.schema]
page = "string"

[[steps]]
window = "tumbling"
size = "1m"
by = "page"
[steps.aggregate]
views = "count()"
"""

MODULE = """
import streamcore as sc
import beside

pages = sc.files(beside.PATH, event_time="at").window(sc.tumbling("1m"), by="page").agg(views="count()")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "job.toml").write_text(PIPELINE)
    (tmp_path / "job.py").write_text(MODULE)
    (tmp_path / "beside.py").write_text('PATH = "in.jsonl"\n')
    rows = [{"page": "home", "at": f"2026-01-01T00:00:{second:02d}Z"} for second in range(3)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def stderr_lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_module_that_fails_shows_its_own_lines(folder: Path) -> None:
    (folder / "bad.py").write_text("def divide():\n    1 / 0\n\n\ndivide()\n")
    done = streamcore("run", "bad.py:pages", folder=folder)
    assert done.returncode == 3
    lines = done.stderr.splitlines()
    assert lines[:2] == ["error: bad.py cannot be loaded", "Traceback (most recent call last):"]
    assert lines[2] == f'  File "{folder / "bad.py"}", line 5, in <module>'
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "streamcore" not in done.stderr


def test_a_module_that_is_no_python_shows_its_line(folder: Path) -> None:
    (folder / "bad.py").write_text("x = 1\ny = (\n")
    done = streamcore("run", "bad.py:pages", folder=folder)
    assert done.returncode == 3
    assert 'bad.py", line 2' in done.stderr
    assert done.stderr.splitlines()[-1].startswith("SyntaxError: ")
    assert "streamcore" not in done.stderr


def test_rows_outside_the_locale_are_written_all_the_same(folder: Path) -> None:
    (folder / "in.jsonl").write_text(json.dumps({"page": "é", "at": "2026-01-01T00:00:00Z"}) + "\n")
    for output in ("jsonl", "table"):
        done = subprocess.run(
            [sys.executable, "-m", "streamcore", "run", "job.toml", "--output", output],
            capture_output=True,
            check=True,
            cwd=folder,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
        )
        assert ("é".encode() if output == "jsonl" else b"\\xe9") in done.stdout


@pytest.mark.parametrize("target", ["job.toml", "job.py:pages"])
def test_rows_go_to_standard_output_and_the_rest_to_standard_error(folder: Path, target: str) -> None:
    done = streamcore("run", target, folder=folder)
    assert done.returncode == 0, done.stderr
    (row,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (row["page"], row["views"], row["window_end"]) == ("home", 3, "2026-01-01T00:01:00.000Z")
    lines = stderr_lines(done)
    assert [next(iter(line)) for line in lines][-1] == "report"
    assert lines[-1]["report"]["state"] == "ended"
    assert lines[-1]["report"]["ledger"]["read"] == 3


def test_arrow_goes_to_standard_output(folder: Path) -> None:
    command = [sys.executable, "-m", "streamcore", "run", "job.toml", "--output", "arrow"]
    done = subprocess.run(command, capture_output=True, check=True, cwd=folder)
    assert pa.ipc.open_stream(done.stdout).read_all().column("views").to_pylist() == [3]


def test_a_report_file_and_overridden_keys(folder: Path) -> None:
    done = streamcore(
        "run", "job.toml", "--set", "steps[0].size=1s", "--report", "report.json", "--output", "jsonl", folder=folder
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert json.loads((folder / "report.json").read_text())["report"]["rows"] == {"result": 3}


def test_a_named_run_goes_on_where_it_stood(folder: Path) -> None:
    (folder / "job.toml").write_text(f'name = "job"\n{PIPELINE}\n[[sinks]]\ntype = "parquet"\npath = "out"\n')
    first = streamcore("run", "job.toml", folder=folder)
    assert first.returncode == 0, first.stderr
    assert first.stdout == ""
    assert stderr_lines(first)[0] == {"note": "delivery: effectively_once"}
    again = streamcore("run", "job.toml", folder=folder)
    assert stderr_lines(again)[-1]["report"]["ledger"]["read"] == 0
    assert pl.read_parquet(folder / "out")["views"].to_list() == [3]


def test_damaged_state_is_six(folder: Path) -> None:
    (folder / "job.toml").write_text(f'name = "job"\n{PIPELINE}')
    (folder / ".streamcore" / "job").mkdir(parents=True)
    (folder / ".streamcore" / "job" / "checkpoint").write_bytes(b"damaged")
    done = streamcore("run", "job.toml", folder=folder)
    assert done.returncode == 6
    assert "cannot be used" in done.stderr


ENDLESS = ("demo", "--output", "jsonl")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_finishes_the_epoch(number: signal.Signals, code: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "streamcore", *ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        _, errors_shown = process.communicate()
    assert process.returncode == code
    report = json.loads(errors_shown.splitlines()[-1])["report"]
    assert report["state"] == "stopped"
    assert report["open_windows"] > 0


@pytest.mark.parametrize(
    ("target", "overrides", "message"),
    [
        ("job.py:nothing", [], "has no pipeline called nothing"),
        ("job.py:beside", [], "has no pipeline called beside"),
        ("missing.py:pages", [], "is not there"),
        ("job.py:pages", ["name=x"], "--set changes keys of a pipeline file"),
    ],
)
def test_targets_that_are_none(
    folder: Path, target: str, overrides: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ConfigError, match=message):
        load_target(target, overrides)
