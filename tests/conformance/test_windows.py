"""Window cases of other systems, answered through `adapter.py` and judged by the collection's own checker.

The collection is third-party data and not part of this repository: `STREAMCORE_CASES` names its folder, which
otherwise is looked for at `../shared/cases`. Without it these tests are skipped.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import adapter

ROOT = Path(__file__).resolve().parents[2]
CASES = Path(os.environ.get("STREAMCORE_CASES") or ROOT.parent / "shared" / "cases")
ANSWERED_MIN = 95
SEMANTICS = ROOT / "docs" / "semantics.md"

pytestmark = pytest.mark.skipif(
    not (CASES / "FORMAT.md").is_file(), reason=f"no window cases at {CASES}: set STREAMCORE_CASES to their folder"
)


def case_folders() -> list[Path]:
    return [path.parent for path in sorted(CASES.glob("windows-*/*/spec.json"))]


def name_of(folder: Path) -> str:
    return f"{folder.parent.name}/{folder.name}"


@cache
def reason_to_decline(folder: Path) -> str | None:
    try:
        adapter.describe(adapter.load(folder))
    except adapter.DeclinedError as reason:
        return str(reason)
    return None


def answered() -> list[Any]:
    names = [folder for folder in case_folders() if reason_to_decline(folder) is None]
    return [pytest.param(folder, id=name_of(folder)) for folder in names]


@cache
def checker() -> Callable[[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]], list[str]]:
    """`compare(spec, got, expected)` of the collection: the differences, one a line."""
    spec = importlib.util.spec_from_file_location("check_windows", CASES / "check_windows.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    compare: Callable[[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]], list[str]] = module.compare
    return compare


def expected(folder: Path) -> list[dict[str, Any]]:
    textbook = folder / "expected_textbook.jsonl"
    path = textbook if textbook.exists() else folder / "expected.jsonl"
    return [
        json.loads(line, parse_float=Decimal) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()
    ]


def differences(folder: Path, *, batch: int, restart: bool = False) -> list[str]:
    case = adapter.load(folder)
    restarts = adapter.thirds(len(case.lines)) if restart else []
    if "restart_after_line" in case.spec:
        restarts.append(case.spec["restart_after_line"])
    rows = adapter.answer(case, batch=batch, restarts=restarts)
    got = [json.loads(json.dumps(row), parse_float=Decimal) for row in rows]
    return checker()(case.spec, got, expected(folder))


@pytest.mark.parametrize("batch", [1, 7, 1000])
@pytest.mark.parametrize("folder", answered())
def test_a_case_is_answered_in_batches_of_any_size(folder: Path, batch: int) -> None:
    assert differences(folder, batch=batch) == []


@pytest.mark.parametrize("folder", answered())
def test_a_case_is_answered_across_restarts(folder: Path) -> None:
    assert differences(folder, batch=7, restart=True) == []


def declined() -> dict[str, str]:
    """The reason for each case that is not answered."""
    reasons = {name_of(folder): reason_to_decline(folder) for folder in case_folders()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def declined_in_the_docs() -> list[tuple[str, str]]:
    """Pattern and reason of each row of the table in docs/semantics.md."""
    rows = SEMANTICS.read_text(encoding="utf-8").split("| declined | why |\n|---|---|\n")[1].split("\n\n")[0]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.strip().split("\n")]
    return [(pattern, reason) for pattern, reason in cells]


def test_enough_cases_are_answered() -> None:
    assert len(case_folders()) - len(declined()) >= ANSWERED_MIN, declined()


def test_the_docs_list_what_is_declined_and_why() -> None:
    rows = declined_in_the_docs()
    names = [name_of(folder) for folder in case_folders()]
    assert f"Of {len(names)} window cases" in SEMANTICS.read_text(encoding="utf-8")
    told = {name: reason for name in names for pattern, reason in rows if fnmatch(name, pattern)}
    assert told == declined()
    assert [pattern for pattern, _ in rows if not any(fnmatch(name, pattern) for name in names)] == []


def test_the_adapter_keeps_its_contract_as_a_command() -> None:
    engine = f"{sys.executable} {ROOT / 'tests/conformance/adapter.py'}"
    done = subprocess.run(
        [sys.executable, str(CASES / "check_windows.py"), "--engine", engine, str(CASES / "windows-flink")],
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert ", 0 differ," in done.stdout
