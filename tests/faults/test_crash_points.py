"""F1: SIGKILL at each crash point of an epoch's commit and of a recovery; then the epoch is there whole, or not at all.

The names are those of `docs/reliability.md`. `STREAMCORE_FAULT_RUNS` says how often each point is tried.
"""

from __future__ import annotations

import os
import signal

import pytest

from tests.faults.traces import epochs_found, epochs_left
from tests.faults.workers import RUN_S, Job

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))

POINTS = {
    "CP1 read, not applied": "before-push:25:kill",  # some epochs on: a few polls may all be of the first
    "CP2 applied, not sealed": "before-seal:3:kill",
    "CP3 rows partly sent": "after-produce-outputs:3:kill",
    "CP4 sent, no offsets": "before-send_offsets:3:kill",
    "CP5 offsets sent, not flushed": "after-send_offsets:3:kill",
    "CP5 flushed, not committed": "after-flush:3:kill",
    "CP9 committed, undo log not dropped": "after-commit:3:kill",
    "CP10 while the cache is written": "before-write_cache:3:kill",
    "CP11 before files are published": "before-publish:3:kill",
    "CP13 while recovering": "after-read_state:1:kill",
    "CP13 recovered, not started": "after-restore:1:kill",
    "CP14 state sent, manifest not": "after-produce-state:4:kill",
    "CP14 manifest sent": "after-produce-manifests:4:kill",
}


COMMITTED = ("CP9", "CP10", "CP11")
"""Where the epoch is there whole; elsewhere it is not there."""


@pytest.mark.timeout(400)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize(
    "point", ["before-revoke-seal", "after-revoke-flush", "before-revoke-commit", "after-revoke-commit"]
)
def test_a_worker_killed_while_it_gives_lanes_away_loses_and_repeats_nothing(job: Job, point: str, run: int) -> None:
    """CP12."""
    stream = job.stream(run)
    process = job.start(faults=f"{point}:1:kill")
    offsets = job.await_progress({})
    heir = job.killed_by_a_join(process)
    job.await_progress(offsets)
    job.end(stream, {"heir": heir})


@pytest.mark.timeout(240)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_at_a_crash_point_loses_and_repeats_nothing(job: Job, point: str, run: int) -> None:
    stream = job.stream(run)
    process = job.start(faults=POINTS[point])
    assert process.wait(RUN_S) == -signal.SIGKILL, f"the point was not reached:\n{job.log()}"
    stream.close()
    (dead,) = job.traces()
    # By turns the same worker is started again, or another one.
    job.finish(worker=("w0", "heir")[run % 2])
    (found,) = (epochs_found(trace) for trace in job.traces() if trace != dead)
    assert found == epochs_left(dead, committed=point.split(maxsplit=1)[0] in COMMITTED)
    job.check(recovered=not point.startswith("CP13"))  # killed before its first commit
