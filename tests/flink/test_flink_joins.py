"""Joins against Flink SQL: interval joins, joins in tumbling windows, and tables with versions.

One Flink answers all jobs of `join_jobs.py` (`peer.py`). Invariant: the rows are equal as sets with their numbers; Flink
gives them in order of arrival, the engine in order of time, which `tests/property` holds it to.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from streamcore import _core
from tests.flink import join_jobs
from tests.flink.join_jobs import JoinJob
from tests.flink.test_flink import EPOCH, PYTHON

LANES_PER_INPUT = 1 << 24
Answers = dict[str, list[list[str | None]]]
Joined = tuple[str | None, int | None, int | None, int | None]
"""Key, left and right `ident`, and the start of the window where there is one."""

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Flink's rows of every job, as text."""
    folder = tmp_path_factory.mktemp("flink-joins")
    asked, answered = folder / "jobs.json", folder / "answers.json"
    asked.write_text(json.dumps({"joins": join_jobs.write(join_jobs.join_jobs(), folder)}), encoding="utf-8")
    peer = Path(__file__).with_name("peer.py")
    done = subprocess.run([PYTHON, peer, asked, answered], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    found: dict[str, Answers] = json.loads(answered.read_text(encoding="utf-8"))
    return found["joins"]


def run(job: JoinJob) -> tuple[list[dict[str, Any]], int]:
    """The engine's rows, and how many were late. The inputs are read in turns at random."""
    pipeline = _core.Pipeline(job.describe())
    pipeline.assign([0, LANES_PER_INPUT])
    chance = random.Random(job.seed)
    inputs, at = join_jobs.inputs(job), [0, 0]
    batches: list[_core.Batch] = []
    while any(start < len(made) for start, made in zip(at, inputs, strict=True)):
        side = chance.randrange(2)
        stop = min(at[side] + chance.randint(1, 30), len(inputs[side]))
        if stop > at[side]:
            raw = _core.Raw.from_records(
                0, "t", [record(inputs[side][place], place) for place in range(at[side], stop)]
            )
            raw.of_input(side)
            batches += pipeline.push(raw, 0)
        at[side] = stop
    batches += [*pipeline.end(), *pipeline.settle(), *pipeline.seal().outputs]
    texts = [
        text for batch in batches if batch.output == "result" for text in batch.to_json(timestamp_format="epoch_ms")
    ]
    return [json.loads(text) for text in texts], sum(len(batch) for batch in batches if batch.output == "late")


def record(made: dict[str, Any], offset: int) -> tuple[bytes | None, bytes | None, None, int, int]:
    value = None if made["ident"] is None else json.dumps(made).encode()
    return value, None if made["key"] is None else made["key"].encode(), None, made["at"], offset


def joined(row: dict[str, Any]) -> Joined:
    return (row["key"], row["ident"], row["ident_right"], row.get("window_start"))


def typed(cells: list[str | None]) -> Joined:
    """A row of Flink, whose cells are text."""
    key, left, right, start = cells
    started = None
    if start is not None:
        started = (datetime.fromisoformat(start).replace(tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
    return (key, None if left is None else int(left), None if right is None else int(right), started)


@pytest.mark.parametrize("job", join_jobs.join_jobs(), ids=lambda job: job.name)
def test_joins_are_those_of_flink_sql(job: JoinJob, answers: Answers) -> None:
    rows, late = run(job)
    ours, theirs = (Counter(of) for of in (map(joined, rows), map(typed, answers[job.name])))
    assert late == 0
    assert any(None not in row[:3] for row in theirs)
    assert ours == theirs
