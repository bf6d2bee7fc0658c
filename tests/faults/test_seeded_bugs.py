"""The checker is checked: each mistake that the commit machine makes when told to is caught on the real broker.

`STREAMCORE_COMMIT_BUGS` needs an engine that was built for it (`make build`). A bug is caught when the run fails by what it does: the oracle finds
rows lost or doubled, a worker refuses what it finds, or, of two, nothing is committed any more. A run that fails otherwise counts as a try that has not. Each scenario is also run without its bug, and passes: what
fails is the bug. Tries are counted; within 20 it must be caught.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from tests.faults import traffic
from tests.faults.network import Network
from tests.faults.proxy import ADD_OFFSETS_TO_TXN, END_TXN
from tests.faults.test_delayed_commit import strike_the_next_epoch
from tests.faults.workers import RUN_S, SESSION_S, Job

TRIES_MAX = int(os.environ.get("STREAMCORE_BUG_TRIES", "20"))
INVALID_COMMIT_OFFSET_SIZE = 28
"""A refusal that ends the transaction, and not the producer or the run."""
SOON_S = 40.0
ACKNOWLEDGED_S = 0.5
"""What was sent is with the broker by then, and acknowledged: a record that comes behind a stray abort is refused."""

pytestmark = [pytest.mark.column("nightly"), pytest.mark.timeout(900)]


@dataclass
class Run:
    """One try of a scenario."""

    network: Network
    job: Job
    seed: int

    def stream(self) -> traffic.Stream:
        return self.job.stream(self.seed)

    def end(self, stream: traffic.Stream, running: dict[str, subprocess.Popen[bytes]]) -> None:
        """Everything is read and checked."""
        stream.close()
        self.job.revive(running)
        self.job.await_end(running, within_s=SOON_S)
        for worker, process in running.items():
            process.send_signal(signal.SIGTERM)
            assert process.wait(RUN_S) == 0, self.job.log(worker)
        self.job.finish()
        self.job.check()


def killed(point: str) -> Callable[[Run], None]:
    """A worker is killed at a point of its third epoch, and started again."""

    def scenario(run: Run) -> None:
        stream = run.stream()
        process = run.job.start(faults=f"{point}:{3 + run.seed}:kill")
        assert process.wait(RUN_S) == -signal.SIGKILL, run.job.log()
        run.end(stream, {"w0": run.job.start()})

    return scenario


def refused(run: Run) -> None:
    """The broker refuses an epoch's offsets, three times: the epoch is aborted and read again."""
    stream, process = run.stream(), run.job.start()
    for _ in range(3):
        offsets = run.job.await_progress({})
        rule = run.network.workers.add(ADD_OFFSETS_TO_TXN, "answer", error=INVALID_COMMIT_OFFSET_SIZE, skip=2)
        rule.await_caught()
        run.job.await_progress(offsets, within_s=SOON_S)
    run.end(stream, {"w0": process})


def aborted_twice(run: Run) -> None:
    """An abort is sent twice, and its first request arrives when rows of the next epoch are with the broker."""
    stream, process = run.stream(), run.job.start()
    offsets = run.job.await_progress({})
    run.network.workers.add(ADD_OFFSETS_TO_TXN, "answer", error=INVALID_COMMIT_OFFSET_SIZE)
    # The abort is the last byte of the request.
    rule = run.network.workers.add(END_TXN, "hold", ends=b"\0")
    first = rule.await_caught()
    run.network.workers.break_off(first)
    late = run.network.workers.add(ADD_OFFSETS_TO_TXN, "hold")
    late_one = late.await_caught()
    time.sleep(ACKNOWLEDGED_S)
    run.network.workers.release(first, anew=True)
    run.network.workers.release(late_one)
    running = {"w0": process}
    time.sleep(1)
    run.job.revive(running)
    run.job.await_progress(offsets, within_s=SOON_S)
    running["w0"].kill()
    running["w0"].wait()
    run.end(stream, {"w0": run.job.start()})


def committed_twice(run: Run) -> None:
    """A commit is sent twice, its first request arrives in the next epoch, and the worker dies in that."""
    stream, process = run.stream(), run.job.start()
    run.job.await_progress({})
    strike_the_next_epoch(run.network, run.job, process, skip=run.seed % 4, dies=True, codes=())
    run.end(stream, {"w0": run.job.start()})


def never_arrives(run: Run) -> None:
    """The request to commit is lost, three times."""
    stream, process = run.stream(), run.job.start()
    for _ in range(3):
        offsets = run.job.await_progress({})
        run.network.workers.add(END_TXN, "drop", skip=2).await_caught()
        run.job.await_progress(offsets, within_s=SOON_S)
    run.end(stream, {"w0": process})


def slept(point: str, *, comes_back: bool) -> Callable[[Run], None]:
    """A worker stands still while another takes its lanes, and wakes; where it is to have them back, the other leaves."""

    def scenario(run: Run) -> None:
        stream = run.stream()
        zombie = run.job.start(worker="zombie", faults=f"{point}:{4 + run.seed}:stop")
        run.job.await_stopped(zombie)
        offsets = run.job.offsets() if point != "after-send_offsets" else {}
        running = {"heir": run.job.start(worker="heir")}
        run.job.await_progress(offsets, within_s=4 * SESSION_S + 20)
        zombie.send_signal(signal.SIGCONT)
        try:
            assert zombie.wait(5) == 7, run.job.log("zombie")
        except subprocess.TimeoutExpired:
            running["zombie"] = zombie
            if comes_back:
                heir = running.pop("heir")
                heir.send_signal(signal.SIGTERM)
                assert heir.wait(RUN_S) == 0, run.job.log("heir")
        run.end(stream, running)

    return scenario


def joined(run: Run) -> None:
    """Another worker joins, so that the group has another generation."""
    stream, process = run.stream(), run.job.start()
    run.job.await_progress({})
    running = {"w0": process, "w1": run.job.start(worker="w1")}
    time.sleep(3)
    run.job.revive(running)
    run.job.await_progress(run.job.offsets(), within_s=SOON_S)
    run.end(stream, running)


def moved(run: Run) -> None:
    """The group's offsets are set back by hand while no worker is there."""
    stream, process = run.stream(), run.job.start()
    run.job.await_progress({}, within_s=SOON_S)
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(RUN_S) == 0, run.job.log()
    parts = [TopicPartition(run.job.input, lane, max(0, at - 1000)) for lane, at in run.job.offsets().items()]
    consumer = Consumer({"bootstrap.servers": run.job.server.bootstrap_servers, "group.id": run.job.name})
    consumer.commit(offsets=parts, asynchronous=False)
    consumer.close()
    run.end(stream, {"w0": run.job.start()})


WRONG = (
    "lost or wrong|doubled or wrong|past every committed manifest|holds no manifest now|names blocks that are not there|"
    "offsets and epochs only rise|was committed and is not whole"
)
"""What the oracle finds in rows, and what a worker says that refuses the state it finds."""
STUCK = "nothing was committed for|epochs in a row failed|no request [0-9]+ to [a-z]+ came|[0-9]+} of {"
"""What a test finds where nothing is committed any more."""

LONG = "4s"
"""A commit interval whose transactions outlive the session by far, so that not their timeout is what fences."""

SCENARIOS: dict[str, tuple[Callable[[Run], None], str]] = {
    "offsets_before_outputs": (killed("after-flush"), "200ms"),
    "manifest_not_last": (killed("after-produce-outputs"), "200ms"),
    "no_rollback_on_abort": (refused, "200ms"),
    "no_seek_after_abort": (refused, "200ms"),
    "reuse_producer_after_timeout": (aborted_twice, "200ms"),
    "reuse_producer_after_slow_commit": (committed_twice, "200ms"),
    "success_on_timeout": (never_arrives, "200ms"),
    "group_metadata_stale": (joined, "200ms"),
    "group_metadata_missing": (slept("after-seal", comes_back=False), LONG),
    "keep_state_on_lost": (slept("before-push", comes_back=True), "200ms"),
    "resume_at_group_offset": (moved, "200ms"),
}


EVIDENCE = dict.fromkeys(["group_metadata_stale", "keep_state_on_lost", "no_rollback_on_abort"], f"{WRONG}|{STUCK}")
"""What shows that it was the mistake, of those that not `WRONG` alone shows."""


def _try(network: Network, name: str, folder: Path, *, bug: str, seed: int) -> str | None:
    """What a try fails with, and what the workers said; or None."""
    scenario, commit_interval = SCENARIOS[name]
    unique = f"t-{time.monotonic_ns():x}"
    job = Job(network.server, unique, folder, network.bootstrap, commit_interval, bugs=bug)
    try:
        scenario(Run(network, job, seed))
    except Exception as error:  # noqa: BLE001 - whatever it fails with, the bug was not missed
        return f"{type(error).__name__}: {error}\n{job.log()}"
    finally:
        job.kill_all()
        network.clear()
    return None


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_bug_of_the_commit_machine_is_caught(network: Network, tmp_path: Path, name: str) -> None:
    for seed in range(TRIES_MAX):
        wrong = _try(network, name, tmp_path / f"bug-{seed}", bug=name, seed=seed)
        if wrong is not None and re.search(EVIDENCE.get(name, WRONG), wrong):
            first, *others = wrong.splitlines() or [""]
            last = others[-1] if others else ""
            print(f"{name}: try {seed + 1}: {first[:200]} .. {last[-300:]}")
            return
        print(f"{name}: try {seed + 1} shows nothing of it: {wrong}")
    pytest.fail(f"{name} was not caught in {TRIES_MAX} tries")


@pytest.mark.parametrize("name", SCENARIOS)
def test_without_its_bug_a_scenario_passes(network: Network, tmp_path: Path, name: str) -> None:
    assert _try(network, name, tmp_path / "sound", bug="", seed=0) is None
