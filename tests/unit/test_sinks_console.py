from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import TextIO

import pytest

from streamcore.config import ConsoleSinkConfig
from streamcore.errors import SinkError
from streamcore.sinks.base import Version
from streamcore.sinks.console import TABLE_ROWS_MAX, JsonLinesSink, TableSink, console_sink, newest
from tests.batches import pages

VERSION = Version(1, 1, 0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_json_lines_appear_at_the_flush() -> None:
    file = io.StringIO()
    sink = JsonLinesSink(ConsoleSinkConfig(columns=("views", "page")), file)
    sink.write(pages(3, 4), VERSION)
    assert file.getvalue() == ""
    sink.flush()
    sink.flush()
    assert [json.loads(line) for line in file.getvalue().splitlines()] == [
        {"views": 3, "page": "p0"},
        {"views": 4, "page": "p1"},
    ]


def test_json_lines_are_utf8_whatever_the_locale() -> None:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    file.write("before\n")
    sink = JsonLinesSink(ConsoleSinkConfig(columns=("page",)), file)
    sink._lines = ['{"page":"é"}'.encode()]
    sink.flush()
    assert raw.getvalue() == 'before\n{"page":"é"}\n'.encode()


def test_times_are_written_as_asked_for() -> None:
    file = io.StringIO()
    sink = JsonLinesSink(ConsoleSinkConfig(columns=("at",), timestamp_format="epoch_ms"), file)
    sink.write(pages(3), VERSION)
    sink.flush()
    assert file.getvalue() == '{"at":1767225600000}\n'


def test_rolled_back_rows_are_never_printed() -> None:
    file = io.StringIO()
    sink = JsonLinesSink(ConsoleSinkConfig(), file)
    sink.write(pages(3), VERSION)
    sink.discard()
    sink.flush()
    assert file.getvalue() == ""


@pytest.mark.parametrize(("failure", "seen"), [(BrokenPipeError(), BrokenPipeError), (OSError(28, "full"), SinkError)])
def test_a_closed_pipe_is_told_from_a_failure(failure: OSError, seen: type[Exception]) -> None:
    class Refusing(io.StringIO):
        def write(self, text: str) -> int:
            raise failure

    sink = JsonLinesSink(ConsoleSinkConfig(), Refusing())
    sink.write(pages(3), VERSION)
    with pytest.raises(seen):
        sink.flush()


def test_the_table_shows_the_newest_rows_and_how_the_run_is_doing() -> None:
    terminal = Terminal()
    sink = TableSink(ConsoleSinkConfig(), terminal)
    sink.open()
    sink.write(pages(*range(1_000, 1_000 + TABLE_ROWS_MAX + 5)), VERSION)
    sink.tell("20,000 records")
    sink.flush()
    sink.close()
    sink.close()
    shown = terminal.getvalue()
    assert "1019" in shown
    assert "1005" in shown
    assert "1004" not in shown
    assert "2026-01-01 00:00:00" in shown
    assert "20,000 records" in shown


def row(minute: int, views: int | None) -> dict[str, object]:
    return {"page": "p", "window_end": datetime(2026, 1, 1, 0, minute, tzinfo=UTC), "views": views}


def test_of_windows_the_newest_and_of_those_the_largest_come_first() -> None:
    rows = [row(1, 900), row(2, 5), row(2, None), row(2, 7)]
    shown = newest(rows, list(rows[0]))
    assert [(found["window_end"].minute, found["views"]) for found in shown] == [(2, 7), (2, 5), (2, None), (1, 900)]
    many = newest([row(1, views) for views in range(100)], list(rows[0]))
    assert [found["views"] for found in many] == list(range(99, 99 - TABLE_ROWS_MAX, -1))


def test_other_rows_come_newest_first() -> None:
    rows = [{"n": number} for number in range(TABLE_ROWS_MAX + 2)]
    assert newest(rows, ["n"]) == rows[:1:-1]
    assert newest([], []) == []


def test_rows_of_earlier_flushes_stay_until_newer_ones_push_them_out() -> None:
    terminal = Terminal()
    sink = TableSink(ConsoleSinkConfig(), terminal)
    for views in (range(100, 110), range(200, 210)):
        sink.write(pages(*views[:5]), VERSION)
        sink.write(pages(*views[5:]), VERSION)
        sink.flush()
    assert [shown["views"] for shown in sink._rows] == [*range(209, 199, -1), *range(109, 104, -1)]


def test_a_rolled_back_table_row_is_not_shown() -> None:
    terminal = Terminal()
    sink = TableSink(ConsoleSinkConfig(), terminal)
    sink.open()
    sink.write(pages(7_777), VERSION)
    sink.discard()
    sink.flush()
    sink.close()
    assert "7777" not in terminal.getvalue()


@pytest.mark.parametrize(
    ("style", "file", "kind"),
    [
        (None, Terminal(), TableSink),
        ("table", Terminal(), TableSink),
        ("jsonl", Terminal(), JsonLinesSink),
        (None, io.StringIO(), JsonLinesSink),
        ("table", io.StringIO(), TableSink),
    ],
)
def test_the_form_depends_on_the_terminal(style: str | None, file: TextIO, kind: type) -> None:
    assert type(console_sink(ConsoleSinkConfig.model_validate({"format": style}), file)) is kind


def test_without_a_terminal_the_table_comes_once_at_the_end() -> None:
    file = io.StringIO()
    sink = TableSink(ConsoleSinkConfig(columns=("page", "views")), file)
    sink.write(pages(3, 4), VERSION)
    sink.flush()
    sink.tell("2 records")
    assert file.getvalue() == ""
    sink.close()
    sink.close()
    shown = file.getvalue()
    assert shown.count("p0") == shown.count("views") == 1
    assert "records" not in shown
    assert "\x1b" not in shown


def test_a_cell_is_no_markup() -> None:
    file = io.StringIO()
    sink = TableSink(ConsoleSinkConfig(), file)
    sink._names, sink._rows = ["[b]x"], [{"[b]x": "[/red]"}]
    sink.close()
    assert "[b]x" in file.getvalue()
    assert "[/red]" in file.getvalue()
