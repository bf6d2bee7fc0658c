"""`streamcore why`, from a live run and from a checkpoint."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import streamcore as sc
from streamcore.cli import main
from streamcore.memory_log import default_log
from streamcore.status import StatusServer
from tests.pipeline_texts import VIEWS_A_MINUTE

PIPELINE = (
    """
name = "job"

[source]
type = "files"
path = "in.jsonl"
event_time = "at"
event_time_unit = "s"
out_of_orderness = "5s"
schema = { page = "string" }
"""
    + VIEWS_A_MINUTE
    + """
[[steps]]
window = "tumbling"
size = "5m"
aggregate = { pages = "count()" }

[[sinks]]
type = "parquet"
path = "out"
"""
)


def from_memory(topic: str) -> str:
    return PIPELINE.replace('type = "files"\npath = "in.jsonl"', f'type = "memory"\ntopic = "{topic}"')


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STREAMCORE_STATE_DIR", raising=False)
    (tmp_path / "p.toml").write_text(PIPELINE)
    write(tmp_path, 1, 2, 130)
    return tmp_path


def write(folder: Path, *seconds: int) -> None:
    with (folder / "in.jsonl").open("a") as file:
        file.writelines(json.dumps({"at": at, "page": f"page {at}"}) + "\n" for at in seconds)


def why(capsys: pytest.CaptureFixture[str], end: str, *more: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["why", "p.toml", "--window", f"1970-01-01T{end}Z", *more])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_checkpoint_and_the_sizes_of_files_say_why(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "p.toml"]) == 0
    write(folder, 131)
    code, out, _ = why(capsys, "00:03:00")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == ("steps[0] (window): window 1970-01-01T00:02:00.000Z to 1970-01-01T00:03:00.000Z, 1 key, open")
    assert lines[1] == "  watermark    1970-01-01T00:02:04.999Z, 55s before 1970-01-01T00:02:59.999Z, where it closes"
    assert lines[2] == "  held by      in.jsonl, last event 1970-01-01T00:02:10.000Z, 32 bytes behind"
    assert lines[3] == (
        "  closes       once the run goes on: when in.jsonl has been read on to an event of 1970-01-01T00:03:05.000Z "
        "or later (32 bytes to go)"
    )
    assert lines[4].startswith("from .streamcore/job/checkpoint, epoch 1, ")
    assert lines[4].endswith(" s old; ends asked for now")


@pytest.mark.usefixtures("folder")
def test_a_window_behind_a_window_is_told_with_its_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "p.toml"]) == 0
    code, out, _ = why(capsys, "00:05:00", "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer["from"]["epoch"] == 1
    (window,) = answer["windows"]
    assert (window["step"], window["keys"], window["lane"]) == ("steps[1] (window)", 1, None)
    assert window["closes_at"] == "1970-01-01T00:04:59.999Z"
    assert window["held_by"][0]["state"] == "caught up"


def test_what_cannot_be_answered_says_what_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = why(capsys, "00:03:00")
    assert code == 1
    assert "there is no checkpoint yet, and no run of job is listening" in err
    assert "hint: wait for its first commit" in err
    assert main(["run", "p.toml"]) == 0
    code, _, err = why(capsys, "00:01:00")
    assert code == 1
    assert "no open window ends at 1970-01-01T00:01:00.000Z: the clock has passed it" in err
    assert "hint: open windows end at 1970-01-01T00:03:00.000Z, 1970-01-01T00:05:00.000Z" in err
    code, _, err = why(capsys, "00:03:00", "--listen", "127.0.0.1:1")
    assert code == 1
    assert "no run listens on 127.0.0.1:1" in err
    assert main(["why", "p.toml", "--window", "soon"]) == 3
    assert "--window" in capsys.readouterr().err
    code, _, err = why(capsys, "00:03:00", "--set", 'steps[0].size="2m"')
    assert code == 6
    (folder / "p.toml").write_text(PIPELINE.replace('name = "job"', ""))
    code, _, err = why(capsys, "00:03:00")
    assert code == 1
    assert "has no name" in err


def test_a_live_run_says_why(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    topic = "why-live"
    (folder / "p.toml").write_text(from_memory(topic))
    default_log.create(topic, partitions=2)
    for partition, second in ((0, 1), (0, 130), (1, 2), (1, 30)):
        value = json.dumps({"at": second, "page": "a"}).encode()
        default_log.append(topic, value, timestamp_ms=second * 1_000, partition=partition)
    with sc.load("p.toml").start(listen="127.0.0.1:0") as run:
        address = (folder / ".streamcore" / "job" / "LISTEN").read_text()
        assert f"status: http://{address}/v1/status" in run.notes
        deadline = time.monotonic() + 20
        out = ""
        while "caught up" not in out and time.monotonic() < deadline:
            code, out, err = why(capsys, "00:01:00")
        assert code == 0, err
        code, _, err = why(capsys, "00:01:00", "--set", 'steps[0].size="2m"')
        assert code == 1
        assert f"the run of job on {address} is of another version of the pipeline" in err
        assert "hint: ask with the file, and the --set, that it was started with" in err
        code, _, err = why(capsys, "00:01:00", "--listen", address, "--set", 'name="other"')
        assert code == 1
        assert f"the run that answers on {address} is one of job, not of other (fingerprint there " in err
        assert "hint: name the address of the run that is meant, or the file that this one was started with" in err
    lines = out.splitlines()
    assert lines[0] == "steps[0] (window): window 1970-01-01T00:00:00.000Z to 1970-01-01T00:01:00.000Z, 1 key, open"
    assert lines[1].startswith("  watermark    1970-01-01T00:00:24.999Z, 35s before")
    assert lines[2].startswith(
        f"  held by      {topic} [1], last event 1970-01-01T00:00:30.000Z, caught up, quiet for "
    )
    assert lines[3].startswith(f"  closes       with an event of 1970-01-01T00:01:05.000Z or later in {topic} [1], or ")
    assert lines[3].endswith(" more without any there (idle_timeout)")
    assert lines[-1] == f"from the run that listens on {address}"


def test_a_run_of_another_pipeline_at_the_noted_address_is_passed_over(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "p.toml"]) == 0
    note = folder / ".streamcore" / "job" / "LISTEN"
    # Of an input that does not end, so that it still runs when it is asked.
    default_log.create("why-other", partitions=1)
    (folder / "other.toml").write_text(from_memory("why-other").replace('"job"', '"other"'))
    with sc.load("other.toml").start(listen="127.0.0.1:0") as run:
        address = (folder / ".streamcore" / "other" / "LISTEN").read_text()
        # As a run leaves it that was killed, whose port another one took.
        note.write_text(address)
        code, out, err = why(capsys, "00:03:00")
        run.stop()
    assert code == 0, err
    last = out.splitlines()[-1]
    assert last.startswith("from .streamcore/job/checkpoint, epoch 1, ")
    assert f"; the run that answers on {address} is one of other, not of job (fingerprint there " in last


@pytest.mark.usefixtures("folder")
def test_an_answer_that_is_no_status_is_of_no_run_of_this_pipeline(capsys: pytest.CaptureFixture[str]) -> None:
    with StatusServer("127.0.0.1:0", lambda _: {"status": "up"}) as server:
        code, _, err = why(capsys, "00:03:00", "--listen", server.address)
    assert code == 1
    assert (
        f"the run that answers on {server.address} is one without a name, not of job (fingerprint there None, " in err
    )


def test_behind_a_join_the_files_of_both_inputs_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "p.toml").write_text(
        PIPELINE.replace(
            "[[steps]]",
            """
[sources.other]
type = "files"
path = "other.jsonl"
event_time = "at"
event_time_unit = "s"
out_of_orderness = "20s"
schema = { page = "string" }

[[steps]]
join = "other"
on = "page"
how = "left"
within = "30s"

[[steps]]""",
            1,
        )
    )
    (folder / "other.jsonl").write_text(json.dumps({"at": 150, "page": "page 130"}) + "\n")
    assert main(["run", "p.toml"]) == 0
    with (folder / "other.jsonl").open("a") as file:
        file.write(json.dumps({"at": 160, "page": "page 130"}) + "\n")
    code, out, err = why(capsys, "00:05:00")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == "steps[2] (window): window 1970-01-01T00:00:00.000Z to 1970-01-01T00:05:00.000Z, 1 key, open"
    # The right side's clock, less the 30 s that its rows may lie behind a left one.
    assert lines[1].startswith("  watermark    1970-01-01T00:01:39.999Z, ")
    assert lines[2] == "  held by      other.jsonl, last event 1970-01-01T00:02:30.000Z, 32 bytes behind"
    assert lines[3] == "  held by      in.jsonl, last event 1970-01-01T00:02:10.000Z, caught up"
    assert lines[4] == (
        "  closes       once the run goes on: when other.jsonl has been read on to an event of 1970-01-01T00:05:50.000Z "
        "or later (32 bytes to go), and 1 more as far as the window needs them"
    )
    code, _, err = why(capsys, "00:01:00")
    assert code == 1
    assert "the clock has passed it (watermark 1970-01-01T00:01:39.999Z)" in err
