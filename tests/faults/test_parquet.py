"""F1 with a Parquet sink: SIGKILL around the publication of an epoch's files, and wherever else they could be lost or doubled.

Files are written before the transaction, listed in it and named after it. Invariant: at the end every row is in one file,
and no file without a name is left.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.faults import oracle
from tests.faults.workers import RUN_S, SOURCE_AND_STEPS, Job
from tests.servers.kafka import KafkaServer

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))

POINTS = {
    "CP3 rows sent, no file written": "before-produce-state:3:kill",
    "CP4 files written, no manifest": "before-produce-manifests:3:kill",
    "CP5 offsets sent, not committed": "after-flush:3:kill",
    "CP9 committed, undo log not dropped": "after-commit:3:kill",
    "CP11 before files are published": "before-publish:3:kill",
    "CP11 renamed, folder not synced": "publish-renamed:3:kill",
    "CP11 published, nothing after": "after-publish:3:kill",
    "CP11 before files of a recovery are published": "after-restore:1:kill",
}


@pytest.fixture
def job(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Iterator[Job]:
    sinks = f'[[sinks]]\ntype = "parquet"\npath = "{tmp_path / "rows"}"\n'
    job = Job(kafka_server, unique, tmp_path, text=SOURCE_AND_STEPS + sinks)
    yield job
    job.kill_all()


def _check(job: Job) -> None:
    """A1, A2 and A7 for files."""
    servers, folder = job.server.bootstrap_servers, job.folder / "rows"
    wanted = oracle.expected(servers, job.input)
    right = Counter({(key, start, count, total): 1 for (key, start), (count, total) in wanted.rows.items()})
    columns = ["k", pl.col("window_start").dt.epoch("ms"), "n", "s"]
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    found = Counter(row for path in files for row in pl.read_parquet(path).select(columns).rows())
    assert (right - found, found - right) == (Counter(), Counter()), job.log()
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []
    job.check_ended([f"{job.name}.dead-letters", f"{job.name}.0.state.g1"])
    assert job.offsets() == wanted.ends


@pytest.mark.timeout(240)
@pytest.mark.parametrize("heir", ["w0", pytest.param("heir", marks=pytest.mark.column("pull"))])
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_around_publication_loses_and_repeats_no_row(job: Job, point: str, run: int, heir: str) -> None:
    """The same worker comes back, or another one that has only the folder and the broker in common with it."""
    stream = job.stream(run)
    if "recovery" in point:
        first = job.start(faults="before-publish:3:kill")
        assert first.wait(RUN_S) == -signal.SIGKILL, job.log()
    process = job.start(faults=POINTS[point])
    assert process.wait(RUN_S) == -signal.SIGKILL, f"the point was not reached:\n{job.log()}"
    stream.close()
    job.finish(heir)
    _check(job)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", range(RUNS))
def test_two_workers_write_one_folder_and_one_is_killed(job: Job, run: int) -> None:
    stream = job.stream(run)
    stays = job.start(worker="stays")
    goes = job.start(worker="goes", faults="before-publish:4:kill")
    assert goes.wait(RUN_S) == -signal.SIGKILL, job.log()
    stream.close()
    job.await_end({"stays": stays})
    job.leave({"stays": stays})
    job.finish("stays")
    _check(job)
