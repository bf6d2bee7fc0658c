"""Every example of README and docs runs, and prints what the page says it prints.

A page's examples share a folder and a namespace and run from top to bottom, as a reader would. What a page needs
running (`<!-- needs: kafka -->`) is real.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamcore.errors import RefusedRecordsWarning
from tests.docs import examples
from tests.servers.kafka import KafkaServer

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")] if "```" in path.read_text(encoding="utf-8")
)
DATA = {"json", "jsonl", "toml"}
COMMAND_TIMEOUT_S = 120
FILE_NAME = re.compile(r"[\w.-]+")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STREAMCORE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path


@pytest.fixture
def kafka(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A real broker is the default one meanwhile; the topics a page makes go with it."""
    from confluent_kafka.admin import AdminClient

    server: KafkaServer = request.getfixturevalue("kafka_server")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", server.bootstrap_servers)
    admin = AdminClient({"bootstrap.servers": server.bootstrap_servers})
    before = set(admin.list_topics(timeout=30).topics)
    yield
    made = [name for name in admin.list_topics(timeout=30).topics if name not in before and not name.startswith("__")]
    for removal in (admin.delete_topics(made) if made else {}).values():
        removal.result(30)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_examples_of_a_page_run(page: Path, folder: Path, request: pytest.FixtureRequest) -> None:
    if "kafka" in examples.needs(page):
        request.getfixturevalue("kafka")
    names: dict[str, object] = {"__name__": "__main__"}
    for example in examples.read(page):
        place = f"{page.relative_to(ROOT)}:{example.line}"
        if example.file is not None:
            assert FILE_NAME.fullmatch(example.file), place
            (folder / example.file).write_text(example.body, encoding="utf-8")
        if example.language == "python":
            _run_python(example, names, place)
        elif example.language == "console":
            _run_console(example, place)
        elif example.language == "toml" and example.file is None:
            (folder / "snippet.toml").write_text(example.body, encoding="utf-8")
            _streamcore(["check", "snippet.toml"], place)
        else:
            assert example.language in DATA | {"text"}, f"{place}: how is a `{example.language}` example held to?"


def _run_python(example: examples.Example, names: dict[str, object], place: str) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore", RefusedRecordsWarning)  # the guide has a line that is no event, and says so
        exec(compile(example.body, place, "exec"), names)
    if example.output is not None:
        assert examples.matches(example.output, printed.getvalue()), f"{place} printed:\n{printed.getvalue()}"


def _run_console(example: examples.Example, place: str) -> None:
    for command in examples.commands(example.body):
        program, *arguments = shlex.split(command.line)
        if program == "make":
            _check_make(arguments, place)
            continue
        assert program == "streamcore", f"{place}: `{program}` is not run by this test"
        printed = _streamcore(arguments, place, exit_code=command.exit_code)
        if command.output.strip():
            assert examples.matches(command.output, printed), f"{place}: `{command.line}` printed:\n{printed}"


def _check_make(arguments: list[str], place: str) -> None:
    """The verb exists; what it does is what runs these tests."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{re.escape(arguments[0])}:", makefile, re.MULTILINE), f"{place}: make has no {arguments[0]}"


def _streamcore(arguments: list[str], place: str, exit_code: int = 0) -> str:
    """What it writes: to standard output, or where it is meant to fail to standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "streamcore", *arguments],
        capture_output=True,
        check=False,
        env=os.environ,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
    )
    assert done.returncode == exit_code, f"{place}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stderr if exit_code else done.stdout


@pytest.mark.parametrize(
    ("expected", "got", "is_match"),
    [
        ("a\n...\nd\n", "a\nb\nc\nd\n", True),
        ("a\n...\nd\n", "a\nb\nc\n", False),
        ("took ...\n", "took 5 s\n", True),
        ("a.c\n", "abc\n", False),
    ],
)
def test_outputs_are_compared_line_by_line(expected: str, got: str, is_match: bool) -> None:
    assert examples.matches(expected, got) is is_match


def test_links_between_pages_lead_somewhere() -> None:
    lost = []
    for page in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "bench/README.md",
        *(ROOT / "docs").rglob("*.md"),
    ]:
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text(encoding="utf-8")):
            if not (page.parent / target).exists():
                lost.append(f"{page.relative_to(ROOT)}: {target}")  # noqa: PERF401 - the nested form reads worse
    assert lost == []
