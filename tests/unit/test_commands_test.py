from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from streamcore.cli import main
from streamcore.commands.test import ROWS_SHOWN_MAX, compare

PIPELINE = """
[source]
type = "memory"
topic = "t"
event_time = "at"
out_of_orderness = "0s"

[source.schema]
page = "string"

[[steps]]
window = "tumbling"
size = "1m"
by = "page"
[steps.aggregate]
views = "count()"

[[tests]]
name = "counts"
input = [
  { page = "home", at = "2026-01-01T00:00:10Z" },
  { page = "home", at = 2026-01-01T00:00:20Z },
  { page = "home", at = "2026-01-01T00:02:00Z" },
  { page = "late", at = "2026-01-01T00:00:30Z" },
  { page = 5, at = "2026-01-01T00:00:30Z" },
]
expect = [
  { page = "home", window_start = "2026-01-01T00:00:00Z", views = 2 },
  { window_start = "2026-01-01T00:02:00+00:00", views = 1 },
]
expect_late = [{ _offset = 3 }]
expect_rejected = [{ reason = "TYPE_MISMATCH" }]
ledger = { read = 5, applied = 3, late = 1, rejected = 1 }
"""

WRONG = """
[[tests]]
name = "wrong"
input = [{ page = "home", at = "2026-01-01T00:00:10Z" }]
expect = [{ page = "home", views = 2 }]
ledger = { read = 7, eaten = 1 }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "job.toml"
    path.write_text(PIPELINE)
    return path


def test_tests_that_pass(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", str(file)]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (f"ok   {file}: counts\n", "1 passed, 0 failed\n")


def test_a_test_that_fails_says_what_differs(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(PIPELINE + WRONG)
    assert main(["test", str(file)]) == 1
    shown = capsys.readouterr()
    assert shown.err == "1 passed, 1 failed\n"
    assert shown.out.splitlines()[1:] == [
        f"FAIL {file}: wrong",
        "     output result: 1 rows missing, 1 rows too many",
        '     - { page = "home", views = 2 }',
        '     + { page = "home", views = 1 }',
        "     ledger.read: expected 7, got 1",
        "     ledger.eaten: expected 1, got no such count",
    ]


def test_one_test_alone(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(PIPELINE + WRONG)
    assert main(["test", str(file), "--only", "counts"]) == 0
    assert "1 passed, 0 failed" in capsys.readouterr().err


def test_no_test_at_all_is_a_mistake(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", str(file), "--only", "nothing"]) == 3
    error = capsys.readouterr().err
    assert "there is no test called 'nothing'" in error
    assert "'counts'" in error


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, {"a": 1}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": None}, {"a": None}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": "x"}, {"a": b"x"}),
        ({"a": "2026-01-01T01:00:00+01:00"}, {"a": datetime(2026, 1, 1, tzinfo=UTC)}),
        ({"a": "1.50"}, {"a": Decimal("1.50")}),
    ],
)
def test_rows_that_are_as_expected(wanted: dict[str, Any], found: dict[str, Any]) -> None:
    assert compare("result", [wanted], [found]) == []


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"a": 1}, {"b": 1}),
        ({"a": None}, {"a": 0}),
        ({"a": 1}, {"a": True}),
        ({"a": "1"}, {"a": 1}),
        ({"a": "soon"}, {"a": datetime(2026, 1, 1, tzinfo=UTC)}),
    ],
)
def test_rows_that_differ(wanted: dict[str, Any], found: dict[str, Any]) -> None:
    assert compare("result", [wanted], [found])[0] == "output result: 1 rows missing, 1 rows too many"


def test_the_number_of_rows_counts_and_their_order_does_not() -> None:
    rows = [{"a": 1}, {"a": 2}, {"a": 2}]
    assert compare("result", [{"a": 2}, {"a": 1}, {"a": 2}], rows) == []
    assert compare("result", [{"a": 2}, {"a": 1}], rows)[0] == "output result: 0 rows missing, 1 rows too many"


def test_a_long_difference_is_cut() -> None:
    lines = compare("result", [], [{"a": number} for number in range(ROWS_SHOWN_MAX + 3)])
    assert len(lines) == ROWS_SHOWN_MAX + 2
    assert lines[-1] == "... 3 more"
