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
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import adapter

ROOT = Path(__file__).resolve().parents[2]
CASES = Path(os.environ.get("STREAMCORE_CASES") or ROOT.parent / "shared" / "cases")
ANSWERED_MIN = 95

pytestmark = pytest.mark.skipif(
    not (CASES / "FORMAT.md").is_file(), reason=f"no window cases at {CASES}: set STREAMCORE_CASES to their folder"
)


def case_folders() -> list[Path]:
    """Every portable case that the collection has a model for, and those of several windows in a row."""
    found = []
    for path in sorted(CASES.glob("windows-*/*/spec.json")):
        spec = json.loads(path.read_text(encoding="utf-8"))
        if adapter.is_portable(spec) and (spec.get("model") != "none" or "stages" in spec):
            found.append(path.parent)
    return found


@cache
def reason_to_decline(folder: Path) -> str | None:
    try:
        adapter.describe(adapter.load(folder))
    except adapter.DeclinedError as reason:
        return str(reason)
    return None


def answered() -> list[Any]:
    names = [folder for folder in case_folders() if reason_to_decline(folder) is None]
    return [pytest.param(folder, id=f"{folder.parent.name}/{folder.name}") for folder in names]


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


def test_enough_cases_are_answered_and_every_other_has_a_reason() -> None:
    folders = case_folders()
    declined = {folder.name: reason_to_decline(folder) for folder in folders if reason_to_decline(folder) is not None}
    assert len(folders) - len(declined) >= ANSWERED_MIN, declined
    assert all(declined.values())


def test_no_portable_case_with_a_model_is_declined() -> None:
    assert {reason_to_decline(folder) for folder in case_folders()} == {None}


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
