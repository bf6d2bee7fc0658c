"""`streamcore check`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from streamcore.cli import main
from tests.servers.ports import free_ports

FILE = """\
name = "p"
delivery = "effectively_once"
[source]
type = "files"
path = "{folder}/*.jsonl"
event_time = "at"
# what follows is about pages
[[steps]]
window = "tumbling"
size = "1m"
by = ["payload.page"]
[steps.aggregate]
views = "count()"
slow = "max(payload.ms)"
[[sinks]]
type = "kafka"
topic = "views"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "p.toml"
    path.write_text(FILE.format(folder=tmp_path))
    rows = [{"at": "2026-01-01T00:00:10Z", "payload": {"page": "home", "ms": 5 * index}} for index in range(3)]
    (tmp_path / "clicks.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_shows_all_mistakes_of_all_files(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "q.toml"
    other.write_text('[source]\ntype = "generate"\nsed = 1\n')
    assert main(["check", str(file), str(other)]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"error: {file}: the pipeline has 2 mistakes" in captured.err
    assert "11:1: steps[0].by.page" in captured.err
    assert f"error: {other}: the pipeline has a mistake\n  3:1: source.sed" in captured.err


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("url", ["redis://:CAN/ARY@host:1/0", "redis://:CANARY@host:notaport/0", "redis://[::1"])
def test_a_wrong_redis_url_has_a_place_and_is_not_shown(
    url: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.toml"
    text = '[source]\ntype = "generate"\n[[steps]]\nselect = { page = "page_id" }\n[[sinks]]\ntype = "redis"\n'
    path.write_text(text + f'key_template = "p:{{page}}"\nurl = "{url}"\n')
    assert main([command, str(path)]) == 3
    shown = capsys.readouterr()
    assert f"error: {path}: the pipeline has a mistake\n  8:1: sinks[0].url: the Redis URL has" in shown.err
    assert not any(part in shown.err + shown.out for part in ("CAN", "ARY", "notaport", "::1"))


def test_two_sinks_of_one_folder_have_a_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.toml"
    sink = '[[sinks]]\ntype = "parquet"\npath = "out"\n'
    path.write_text(f'[source]\ntype = "generate"\n{sink}{sink}')
    assert main(["check", str(path)]) == 3
    assert "  8:1: sinks[1].path: sinks[0] writes the same place" in capsys.readouterr().err


def test_writes_the_types_it_finds_and_nothing_else(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tomllib.loads(file.read_text())
    assert main(["check", str(file), "--write-schema"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"ok {file}: 1 step, 1 sink\n"
    assert '"payload.ms" = "int64"' in captured.err
    text = file.read_text()
    after = tomllib.loads(text)
    assert after["source"].pop("schema") == {"payload.page": "string", "payload.ms": "int64"}
    assert after == before
    assert text.index("[source.schema]") < text.index("# what follows is about pages") < text.index("[[steps]]")
    assert main(["check", str(file), "--write-schema"]) == 0
    assert "every type that matters is declared" in capsys.readouterr().err
    assert file.read_text() == text


def test_a_sample_needs_records(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "clicks.jsonl").write_text("")
    text = file.read_text()
    assert main(["check", str(file), "--write-schema"]) == 3
    assert "no record to guess types from" in capsys.readouterr().err
    assert file.read_text() == text


def test_warnings_do_not_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.toml"
    path.write_text('name = "p"\n[source]\ntype = "generate"\n[[sinks]]\ntype = "console"\n')
    assert main(["check", str(path)]) == 0
    captured = capsys.readouterr()
    assert f"warning: {path}: delivery: at_least_once" in captured.err
    assert captured.out == f"ok {path}: 0 steps, 1 sink\n"


def test_an_absent_broker_is_4_within_the_time_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.toml"
    servers = f"127.0.0.1:{free_ports(1)[0]}"
    path.write_text(
        f'[kafka]\nbootstrap_servers = "{servers}"\nconnect_timeout = "500ms"\n[source]\ntype = "kafka"\ntopic = "t"\n'
    )
    assert main(["check", str(path), "--connect"]) == 4
    assert f"Kafka at {servers} gave no answer within 500ms" in capsys.readouterr().err
