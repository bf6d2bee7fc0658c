"""streamcore against Flink: `make test-flink`, not part of the default run.

One Flink answers all jobs of `jobs.py` once (`peer.py`, in `.venv-flink`); each is then asked of the engine and
compared. Invariant: every column is compared; all but variances, which Flink adds up in floats, must be equal.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from streamcore import _core
from tests.flink import jobs
from tests.flink.jobs import Job

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / os.environ.get("STREAMCORE_FLINK_PYTHON", ".venv-flink/bin/python")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ROUNDED = {"spread", "deviation"}
"""Columns that Flink derives from float sums; ours are rounded once from exact ones."""
ROUNDING = 1e-9

Row = dict[str, Any]

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="session")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Flink's answers to every job."""
    folder = tmp_path_factory.mktemp("flink")
    asked, answered = folder / "jobs.json", folder / "answers.json"
    described = {
        "sql": jobs.write(jobs.sql_jobs(), folder),
        "aggregates": {name: text for name, (_, text) in jobs.AGGREGATES.items()},
        "firings": jobs.write(jobs.firing_jobs(), folder),
    }
    asked.write_text(json.dumps(described), encoding="utf-8")
    peer = Path(__file__).with_name("peer.py")
    done = subprocess.run([PYTHON, peer, asked, answered], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(answered.read_text(encoding="utf-8"))
    return found


def run(
    job: Job, aggregates: dict[str, str], emit: str = "final", cut: int | None = None
) -> tuple[list[Row], list[int]]:
    """Rows and late records of the engine. `cut`: records in a push, each followed by a commit; else at random."""
    pipeline = _core.Pipeline(job.describe(aggregates, emit))
    pipeline.assign([0])
    made = jobs.records(job)
    chance = random.Random(job.seed)
    batches: list[_core.Batch] = []
    start = 0
    while start < len(made):
        stop = min(start + (cut or chance.randint(1, 30)), len(made))
        values = [(json.dumps(made[at]).encode(), key_of(made[at]), None, None, at) for at in range(start, stop)]
        batches += pipeline.push(_core.Raw.from_records(0, "input", values), 0)
        if cut is not None:
            batches += pipeline.seal().outputs
            pipeline.committed()
        start = stop
    batches += [*pipeline.end(), *pipeline.settle(), *pipeline.seal().outputs]
    results = [batch for batch in batches if batch.output == "result"]
    texts = [text for batch in results for text in batch.to_json(timestamp_format="epoch_ms")]
    late = [row["_offset"] for batch in batches if batch.output == "late" for row in batch.to_rows()]
    return [json.loads(text, parse_float=Decimal) for text in texts], late


def key_of(record: dict[str, Any]) -> bytes | None:
    """The record key."""
    return None if record["key"] is None else record["key"].encode()


def place(job: Job, row: Row) -> tuple[Any, ...]:
    """Which group and window a row is of."""
    return (*(row[name] for name in job.by), row["window_start"], row["window_end"])


def table(job: Job, rows: list[Row]) -> dict[tuple[Any, ...], Row]:
    found = {place(job, row): row for row in rows}
    assert len(found) == len(rows), "two rows of one group and window"
    return found


def typed(row: Row, kinds: dict[str, str]) -> Row:
    """A row of Flink SQL, whose cells are text."""
    return {name: None if cell is None else value(kinds[name], cell) for name, cell in row.items()}


def value(kind: str, cell: str) -> Any:
    if kind == "time":
        return (datetime.fromisoformat(cell).replace(tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
    convert: dict[str, Any] = {"int64": int, "float64": float, "string": str}
    return convert.get(kind, Decimal)(cell)


def kinds_of(job: Job) -> dict[str, str]:
    """The type of every column of an SQL job, from that of the aggregate's argument."""
    kinds = {name: jobs.TYPES[name] for name in job.by} | {"window_start": "time", "window_end": "time"}
    for name, (text, _) in jobs.AGGREGATES.items():
        function, argument = text.split(")")[0].split("(")
        counts = function in {"count", "count_distinct"}
        kinds[name] = "int64" if counts else jobs.TYPES[argument]
    return kinds


def differences(ours: Row, theirs: Row, kinds: dict[str, str]) -> list[str]:
    """What differs, column by column."""
    found = []
    for name, expected in theirs.items():
        got = ours[name]
        if got is not None and kinds[name] in {"float64", "decimal(10,2)"}:
            got = float(got) if kinds[name] == "float64" else Decimal(str(got))
        if name in ROUNDED and None not in (got, expected):
            equal = math.isclose(got, expected, rel_tol=ROUNDING, abs_tol=ROUNDING)
        else:
            equal = got == expected
        if not equal:
            found.append(f"{name}: {got!r}, Flink {expected!r}")
    return found


@pytest.mark.parametrize("job", jobs.sql_jobs(), ids=lambda job: job.name)
def test_windows_are_those_of_flink_sql(job: Job, answers: dict[str, dict[str, Any]]) -> None:
    kinds = kinds_of(job)
    theirs = table(job, [typed(row, kinds) for row in answers["sql"][job.name]])
    rows, late = run(job, {name: text for name, (text, _) in jobs.AGGREGATES.items()})
    ours = table(job, rows)
    assert late == []
    assert len(theirs) > 1
    assert ours.keys() == theirs.keys()
    assert {at: found for at, row in theirs.items() if (found := differences(ours[at], row, kinds))} == {}


def fired_row(row: Row) -> Row:
    """A row of the engine as a firing tells it: events as a sorted list."""
    named = {name: row[name] for name in ("key", "window_start", "window_end", "n", "total")}
    return named | {"idents": sorted(row["idents"])}


def last_firings(job: Job, fired: list[Row]) -> dict[tuple[Any, ...], Row]:
    """Of each window the last firing. Flink does not retract a session that grew: such are left out."""
    grown = [
        job.kind == "session"
        and any(later["key"] == row["key"] and set(later["idents"]) > set(row["idents"]) for later in fired[at + 1 :])
        for at, row in enumerate(fired)
    ]
    return {place(job, row): row for row, replaced in zip(fired, grown, strict=True) if not replaced}


@pytest.mark.parametrize("job", jobs.firing_jobs(), ids=lambda job: job.name)
def test_allowed_lateness_is_that_of_flinks_data_streams(job: Job, answers: dict[str, dict[str, Any]]) -> None:
    """The rows are the last firings. Flink calls a late record of no window late, we call it filtered."""
    answer = answers["firings"][job.name]
    times = [record["at"] for record in jobs.records(job)]
    rows, late = run(job, jobs.FIRING_AGGREGATES)
    assert table(job, [fired_row(row) for row in rows]) == last_firings(job, answer["fired"])
    assert late == [ident for ident in sorted(answer["late"]) if job.has_window(times[ident])]
    assert late != []


@pytest.mark.parametrize("job", jobs.firing_jobs(), ids=lambda job: job.name)
def test_every_firing_of_flink_is_an_update_row(job: Job, answers: dict[str, dict[str, Any]]) -> None:
    """With a commit behind every record, `updates` writes what Flink fires, late firings included, and more."""
    rows, _ = run(job, jobs.FIRING_AGGREGATES, emit="updates", cut=1)
    updates = [fired_row(row) for row in rows if not row.get("retracted")]
    assert [row for row in answers["firings"][job.name]["fired"] if row not in updates] == []
