from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path

import pytest

import streamcore as sc
from streamcore.commands.execution import Execution, execute
from streamcore.errors import Error, SinkError
from tests.fakes import FakeSink

PAGES = sc.records([{"page": "home", "at": "2026-01-01T00:00:00Z"}], event_time="at", schema={"page": "string"})
VIEWS = PAGES.window(sc.tumbling("1m"), by="page").agg(views=sc.count())


def test_a_pipeline_without_sinks_prints_its_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(Execution(VIEWS)) == 0
    shown = capsys.readouterr()
    assert [json.loads(line)["views"] for line in shown.out.splitlines()] == [1]
    kinds = [next(iter(json.loads(line))) for line in shown.err.splitlines()]
    assert (kinds[0], kinds[-1]) == ("note", "report")


def test_a_pipeline_with_sinks_prints_nothing_unless_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = VIEWS.sink_parquet(tmp_path / "out")
    assert execute(Execution(stored)) == 0
    assert capsys.readouterr().out == ""
    assert execute(Execution(stored, output="jsonl")) == 0
    assert json.loads(capsys.readouterr().out)["views"] == 1


def test_a_table_that_is_asked_for_is_printed_off_a_terminal_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(Execution(VIEWS, output="table")) == 0
    shown = capsys.readouterr()
    assert "window_start" in shown.out
    assert "home" in shown.out
    assert "report" in json.loads(shown.err.splitlines()[-1])


def test_looking_on_does_not_weaken_the_promise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.jsonl").write_text('{"page": "home", "at": "2026-01-01T00:00:00Z"}\n')
    views = sc.files(tmp_path / "in.jsonl", event_time="at", schema={"page": "string"})
    views = views.window(sc.tumbling("1m"), by="page").agg(views=sc.count()).sink_parquet(tmp_path / "out")
    named = views.configure(name="job", state_dir=str(tmp_path / "state"))
    assert execute(Execution(named, output="jsonl")) == 0
    assert '{"note": "delivery: effectively_once"}' in capsys.readouterr().err


def test_the_report_comes_also_when_the_run_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failing = VIEWS.sink(FakeSink([], failures=[SinkError("full", retriable=False)]))
    with pytest.raises(SinkError, match="full"):
        execute(Execution(failing, report_path=tmp_path / "report.json"))
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["report"]["state"] == "failed"
    assert json.loads((tmp_path / "report.json").read_text())["report"]["state"] == "failed"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_before_there_is_a_run_counts_as_one_that_comes_later(
    number: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamcore.run.start", lambda *_, **__: os.kill(os.getpid(), number))
    try:
        ended = execute(Execution(VIEWS))
    except KeyboardInterrupt:
        ended = 130  # as the command line has it
    assert ended == code


def test_a_report_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Error, match="the report cannot be written: No such file or directory"):
        execute(Execution(VIEWS, output="jsonl", report_path=tmp_path / "missing" / "report.json"))


def test_what_the_package_logs_meanwhile_is_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    class Loud(FakeSink):
        def flush(self) -> None:
            logging.getLogger("streamcore.sinks").warning("created topic %s", "pages")

    assert execute(Execution(VIEWS.sink(Loud([])))) == 0
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {"note": "created topic pages"} in lines
