from __future__ import annotations

import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from streamcore import cli, errors
from streamcore.cli import COMMANDS, _joined, build_parser, error_text, main


def streamcore(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command as the shell runs it."""
    return subprocess.run(
        [sys.executable, "-m", "streamcore", *arguments], capture_output=True, text=True, check=False, cwd=folder
    )


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help_ends_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*([command] if command else []), "--help"])
    *_, examples = capsys.readouterr().out.rpartition("examples:\n")
    lines = examples.splitlines()
    assert ended.value.code == 0
    assert 2 <= len(lines) <= 4
    assert all(line.startswith("  ") and "streamcore" in line for line in lines)


def test_the_version_names_what_matters(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    line = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(name in line for name in ("streamcore ", "core ", "librdkafka ", "Python ", "SIMD "))


def test_an_interrupt_at_the_very_start_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "build_parser", interrupted)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert main(["run"]) == 130
    assert capsys.readouterr().err == ""
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # of another one while Python ends


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["run"], ["run", "x", "--for"]])
def test_wrong_usage_is_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.Error("x"), 1),
        (errors.ConfigError("x"), 3),
        (errors.SourceError("x", unreachable=True), 4),
        (errors.ErrorRateError("x"), 5),
        (errors.StateError("x"), 6),
        (errors.FencedError("x"), 7),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_error_has_its_exit_code(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Namespace) -> int:
        raise error

    parser = build_parser()
    monkeypatch.setattr(parser, "parse_args", lambda _: Namespace(run=fail))
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    assert main(["run"]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == ("" if code == 130 else "error: x\n")


def test_a_mistake_of_ours_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Namespace) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "build_parser", lambda: Namespace(parse_args=lambda _: Namespace(run=fail)))
    with pytest.raises(ZeroDivisionError):
        main(["run"])


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("it broke", "error: it broke"),
        ("it broke; mend it; or not", "error: it broke\nhint: mend it; or not"),
        ("two mistakes\n  a: b; c", "error: two mistakes\n  a: b; c"),
        ("", "error: "),
    ],
)
def test_what_to_do_comes_after_what_happened(message: str, text: str) -> None:
    assert error_text(message) == text


def test_a_wrong_file_is_three_and_shows_every_mistake(tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text('[source]\ntype = "generate"\nrate = -1\nspeeed = 2\n')
    done = streamcore("run", "wrong.toml", folder=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: wrong.toml: ")
    assert "3:1: source.rate" in done.stderr
    assert "did you mean" in done.stderr


def test_a_closed_pipe_is_quiet() -> None:
    command = [sys.executable, "-m", "streamcore", "demo", "--output", "jsonl"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors_shown = process.stderr.read()
    assert process.returncode == 1
    assert b"Traceback" not in errors_shown
    assert b"BrokenPipe" not in errors_shown


COMMANDS_THAT_PRINT = [["--version"], ["config", "schema"], ["demo", "--for", "1s", "--output", "arrow"]]


@pytest.mark.parametrize("arguments", COMMANDS_THAT_PRINT)
def test_output_that_cannot_be_written_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "streamcore", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "error: standard output cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", COMMANDS_THAT_PRINT)
def test_a_closed_output_is_no_mistake(arguments: list[str]) -> None:
    shell = ["sh", "-c", 'exec "$0" -m streamcore "$@" >&-', sys.executable, *arguments]
    done = subprocess.run(shell, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_a_time_before_now_may_stand_by_itself() -> None:
    given = ["verify", "f", "--start", "-2h", "--stop", "-1h30m", "--json", "--for", "-0.5s"]
    assert _joined(given) == ["verify", "f", "--start=-2h", "--stop=-1h30m", "--json", "--for=-0.5s"]
    for others in (
        ["--start=-2h", "-2h"],
        ["run", "-2h"],
        ["--start", "-2"],
        ["--start", "-h"],
        ["--start", "-2hours"],
        ["--", "--start", "-2h"],
    ):
        assert _joined(others) == others
