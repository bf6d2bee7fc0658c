from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from streamcore.commands.demo import PIPELINE
from streamcore.config import PipelineConfig, load
from tests.unit.test_cli import streamcore


def test_the_demo_ends_by_itself_with_rows() -> None:
    done = streamcore("demo", "--for", "2s", "--output", "jsonl")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows
    assert set(rows[0]) >= {"page_id", "window_start", "window_end", "views", "users"}
    assert sum(row["views"] for row in rows) > 10_000
    report = json.loads(done.stderr.splitlines()[-1])["report"]
    assert report["ledger"]["duplicate"] > 0
    assert report["state"] == "stopped"


def test_its_pipeline_is_a_file_that_runs(tmp_path: Path) -> None:
    printed = streamcore("demo", "--config")
    assert printed.stdout == PIPELINE
    (tmp_path / "demo.toml").write_text(printed.stdout)
    assert load(tmp_path / "demo.toml") == PipelineConfig.model_validate(tomllib.loads(PIPELINE))


@pytest.mark.parametrize("module", ["quixstreams", "confluent_kafka", "polars", "pyarrow", "rich"])
def test_it_loads_nothing_it_does_not_need(module: str) -> None:
    program = (
        f"import sys; from streamcore.cli import main; code = main(['demo', '--for', '100ms', '--output', 'jsonl'])\n"
        f"sys.exit(code or {module!r} in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
