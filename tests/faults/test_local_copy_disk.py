"""F8 on the local copy of the state: a disk that is full, read-only, or too small for a file. Commits go on without it.

Invariant: one warning, counted; every row once and right; and the next worker, on a disk that takes it, begins a copy anew.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from streamcore.copy_files import copies_folder
from tests.faults.workers import PARTITIONS, RUN_S, Job

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
FILE_BYTES_MAX = 60_000
"""Less than a lane's copy has after some epochs, more than the worker writes elsewhere."""

TMPFS_BYTES = 16 << 20

Disk = Callable[[Job, Path], AbstractContextManager[tuple[str, int]]]
"""Prepares the folder of the copies; gives what the worker will say of it, and the length that its files may have, or 0."""


@contextmanager
def _small_files(job: Job, folder: Path) -> Iterator[tuple[str, int]]:
    """A write beyond the limit fails with EFBIG."""
    del job, folder
    yield "File too large", FILE_BYTES_MAX


@contextmanager
def _read_only(job: Job, folder: Path) -> Iterator[tuple[str, int]]:
    """A folder that nobody may write to; for root, who may anyway, a file in its place."""
    del job
    folder.parent.mkdir(parents=True)
    if os.geteuid() == 0:
        folder.write_text("")
        yield "File exists", 0
        folder.unlink()
    else:
        folder.parent.chmod(0o500)
        yield "Permission denied", 0
        folder.parent.chmod(0o700)


@contextmanager
def _full(job: Job, folder: Path) -> Iterator[tuple[str, int]]:
    """A tmpfs that another program has filled; where none can be mounted, the limit of a file."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        print("no tmpfs can be mounted: the limit of a file stands in for it")
        yield "File too large", FILE_BYTES_MAX
        return
    try:
        with suppress(OSError), (folder / "of-another-program").open("wb", buffering=0) as file:
            while file.write(bytes(1 << 16)):
                continue
        yield "No space left on device", 0
    finally:
        job.kill_all()
        subprocess.run(["umount", str(folder)], capture_output=True, check=True)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("disk", [_small_files, _read_only, _full], ids=lambda disk: disk.__name__.strip("_"))
def test_commits_go_on_where_the_disk_does_not_take_the_copy(job: Job, run: int, disk: Disk) -> None:
    folder = copies_folder(job.folder / "w0" / job.name, "w0")
    stream = job.stream(run)
    report = job.folder / "report.json"
    reports = ("--report", str(report))
    with disk(job, folder) as (reason, bytes_max):
        # What the commit machine does is not written down here: it would be too long, too.
        process = job.start(more=reports, traces=not bytes_max)
        if bytes_max:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (bytes_max, bytes_max))
        _await_refusal(job)
        offsets = job.offsets()
        for _ in range(3):
            offsets = job.await_progress(offsets)
        job.leave({"w0": process})
    warnings = [line for line in _log(job).splitlines() if any(words in line for words in REFUSALS)]
    assert len(warnings) == 1, job.log()
    assert reason in warnings[0]
    counts = json.loads(report.read_text())["report"]["cache"]
    assert counts["given_up"] == 1, counts
    stream.close()
    for lanes in (0, PARTITIONS):
        process = job.start(stop="end", more=reports)
        assert process.wait(RUN_S) == 0, job.log()
        counts = json.loads(report.read_text())["report"]["cache"]
        assert (counts["given_up"], counts["rejected"], counts["lanes_from_copy"]) == (0, 0, lanes), counts
    job.check()


REFUSALS = ("are given up: ", "no local copy of the state is kept")


def _await_refusal(job: Job) -> None:
    deadline = time.monotonic() + 60
    while not any(words in _log(job) for words in REFUSALS):
        assert time.monotonic() < deadline, f"the disk took it all:\n{job.log()}"
        job.await_progress(job.offsets())


def _log(job: Job) -> str:
    return (job.folder / "w0.log").read_text()
