"""Savepoints of a pipeline whose windows meet through a topic: both stages of its state, put back together.

And partials that are lost between the stages.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from confluent_kafka import Consumer, TopicPartition

from streamcore import _core
from tests.integration.kafka_tools import create_topic, read_topic
from tests.integration.state_job import Job
from tests.servers.kafka import KafkaServer

EXIT_UNREACHABLE, EXIT_STATE, EXIT_FENCED = 4, 6, 7
TIMEOUT_S = 60

needs_faults = pytest.mark.skipif(not _core.FAULTS, reason="the engine was built without fault points")


@pytest.fixture
def job(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Job:
    return Job(kafka_server, unique, tmp_path, keyed=False, combine="auto")


def _expected(times_s: range) -> dict[tuple[str, str], tuple[int, int]]:
    """What `Job.send` of these seconds, with three keys and two partitions, comes to."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for at in (at for at in times_s if at % 7):
        begin = f"1970-01-01T00:{at // 60:02}:{at % 60 // 10 * 10:02}.000Z"
        for key in (f"{lane}-{number}" for lane in range(2) for number in range(3)):
            count, total = found.get((key, begin), (0, 0))
            found[key, begin] = (count + 1, total + at)
    return found


def _killed(*arguments: str, at: str) -> None:
    """Runs a command in a process of its own, which is killed at a fault point."""
    command, environment = [sys.executable, "-m", "streamcore", *arguments], {**os.environ, "STREAMCORE_FAULTS": at}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_what_was_saved_goes_on_and_what_came_since_comes_again(job: Job, tmp_path: Path) -> None:
    job.send(range(25))
    assert job.run().code == 0
    folder = tmp_path / "noon"
    saved = job.state("savepoint", str(folder), "--json")
    assert saved.code == 0, saved.err
    assert [sorted(stage["lanes"]) for stage in saved.json["stages"]] == [["0", "1"], ["0", "1"]]
    assert sorted(path.name for path in (folder / "final").iterdir()) == [
        "lane-0.state",
        "lane-1.state",
        "manifest.json",
    ]
    windows = pl.read_parquet(folder / "windows-*.parquet")
    assert saved.json["rows"] == len(windows)
    open_now = {(row["k"], row["n"], row["s"]) for row in windows.iter_rows(named=True)}
    assert {(f"{lane}-{key}", 4, 20 + 22 + 23 + 24) for lane in range(2) for key in range(3)} <= open_now

    job.send(range(25, 50))
    assert job.run().code == 0
    final = job.final()
    assert final == _expected(range(50))
    restored = job.state("restore", str(folder), "--json")
    assert restored.code == 0, restored.err
    assert [stage["stage"] for stage in restored.json["stages"]] == [0, 1]
    assert job.state("verify").code == 0
    audited = job("audit", str(job.file), "--json").json
    assert (audited["adds_up"], audited["total"]["read"]) == (True, 150)
    # The partials of the later run are still in the topic, and are passed over.
    assert job.run().code == 0
    assert job.final() == final
    assert job("audit", str(job.file), "--json").json["total"]["read"] == 300
    job.send(range(50, 75))
    assert job.run().code == 0
    assert job.final() == _expected(range(75))
    audited = job("audit", str(job.file), "--json").json
    assert (audited["adds_up"], audited["total"]["read"]) == (True, 450)


def _saved_at_noon(job: Job, folder: Path) -> str:
    """A savepoint, behind which the run has gone on; gives where it is."""
    job.send(range(25))
    assert job.run().code == 0
    noon = str(folder / "noon")
    assert job.state("savepoint", noon).code == 0
    job.send(range(25, 50))
    assert job.run().code == 0
    return noon


@pytest.mark.parametrize("lost", [("0.partials.g1",), ("0.partials.g1", "0.state.g1", "1.state.g1")])
@pytest.mark.parametrize("is_made_again", [False, True])
def test_a_savepoint_is_put_back_though_its_partials_are_lost(
    job: Job, tmp_path: Path, lost: tuple[str, ...], is_made_again: bool
) -> None:
    folder = _saved_at_noon(job, tmp_path)
    _delete(job, lost)
    if is_made_again:
        create_topic(job.server, f"{job.name}.0.partials.g1", 2)
    restored = job.state("restore", folder)
    assert restored.code == 0, restored.err
    assert job.state("verify").code == 0
    job.send(range(50, 75))
    went_on = job.run()
    assert went_on.code == 0, went_on.err
    assert job.final() == _expected(range(75))
    audited = job("audit", str(job.file), "--json").json
    assert (audited["adds_up"], audited["total"]["read"]) == (True, 450)


def test_a_savepoint_of_another_number_of_partials_makes_no_topic(job: Job, tmp_path: Path) -> None:
    job.send(range(25))
    assert job.run().code == 0
    assert job.state("savepoint", str(tmp_path / "noon")).code == 0
    partials = f"{job.name}.0.partials.g1"
    _delete(job, ("0.partials.g1",))
    refused = job.state("restore", str(tmp_path / "noon"), "--set", "combine_partitions=3")
    assert (refused.code, "hint: set combine_partitions to 2" in refused.err) == (EXIT_STATE, True), refused.err
    assert partials not in job.admin.list_topics(timeout=TIMEOUT_S).topics


def test_a_reset_discards_the_final_stage_though_its_partials_are_lost(job: Job, tmp_path: Path) -> None:
    job.send(range(25))
    assert job.run().code == 0
    _delete(job, ("0.partials.g1",))
    for arguments in (("verify",), ("savepoint", str(tmp_path / "late"))):
        refused = job.state(*arguments)
        assert refused.code == EXIT_STATE, refused.err
        assert f"{job.name}.0.partials.g1 does not exist" in refused.err
        assert "restore a savepoint, or begin anew: streamcore state reset FILE" in refused.err
    refused = job.run()
    assert (refused.code, "restore a savepoint" in refused.err) == (EXIT_STATE, True), refused.err
    done = job.state("reset", "--yes")
    assert done.code == 0, done.err
    assert job.run().code == 0
    assert job.final() == _expected(range(25))


def _delete(job: Job, names: tuple[str, ...]) -> None:
    topics = [f"{job.name}.{name}" for name in names]
    for deleted in job.admin.delete_topics(topics).values():
        deleted.result(TIMEOUT_S)
    deadline = time.monotonic() + TIMEOUT_S
    while not set(topics).isdisjoint(job.admin.list_topics(timeout=TIMEOUT_S).topics):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@needs_faults
def test_a_savepoint_needs_all_workers_gone_and_nothing_on_its_way(job: Job, tmp_path: Path) -> None:
    job.send(range(25))
    assert job.run().code == 0
    # A worker that dies when the first phase has committed and the second has not.
    job.send(range(25, 50))
    _killed("run", str(job.file), "--stop", "end", at="before-combine-commit:1:kill")
    refused = job.state("savepoint", str(tmp_path / "early"))
    assert refused.code == EXIT_FENCED, refused.err
    deadline = time.monotonic() + TIMEOUT_S
    while (refused := job.state("savepoint", str(tmp_path / "early"))).code != EXIT_STATE:
        assert time.monotonic() < deadline, refused.err
        time.sleep(0.5)
    assert "partials on their way" in refused.err, refused.err
    assert "of partials has merged" in refused.err, refused.err
    assert not (tmp_path / "early").exists()
    assert job.run().code == 0
    assert job.state("savepoint", str(tmp_path / "later")).code == 0
    assert job.final() == _expected(range(50))


def test_an_older_savepoint_is_put_back_over_a_later_one(job: Job, tmp_path: Path) -> None:
    for number, times_s in enumerate((range(12), range(12, 31))):
        job.send(times_s)
        assert job.run().code == 0
        assert job.state("savepoint", str(tmp_path / f"s{number}")).code == 0
    for folder in ("s1", "s0", "s1", "s0"):
        restored = job.state("restore", str(tmp_path / folder))
        assert restored.code == 0, restored.err
        assert job.state("verify").code == 0
    assert job.run().code == 0
    assert job.final() == _expected(range(31))
    # Stages of two savepoints do not go together.
    shutil.rmtree(tmp_path / "s0" / "final")
    shutil.copytree(tmp_path / "s1" / "final", tmp_path / "s0" / "final")
    refused = job.state("restore", str(tmp_path / "s0"))
    assert (refused.code, "is not that of this savepoint" in refused.err) == (EXIT_STATE, True), refused.err


@needs_faults
@pytest.mark.parametrize("at", ["claim-half:1", "claim-offsets:1", "claim-offsets:2", "claim-committed:1"])
def test_a_restore_that_dies_has_put_both_stages_back_or_none(job: Job, tmp_path: Path, at: str) -> None:
    """It was two transactions: a death between them left the final stage alone put back, which `verify` called complete."""
    folder = _saved_at_noon(job, tmp_path)
    _killed("state", "restore", str(job.file), folder, at=f"{at}:kill")
    _await_no_member(job)
    is_put_back = at.startswith("claim-committed")
    deadline = time.monotonic() + 2 * TIMEOUT_S
    # Until the broker has ended the transaction of the one that died, it tells no offsets of the groups.
    while (verified := job.state("verify", "--json")).code == EXIT_UNREACHABLE:
        assert time.monotonic() < deadline, verified.err
    assert verified.code == 0, verified.err
    assert {lane["owner"] for lane in verified.json["lanes"]} == {int(is_put_back)}
    audited = job("audit", str(job.file), "--json")
    assert (audited.code, audited.json["differences"]) == (0, []), audited.err
    job.send(range(50, 75))
    went_on = job.run()
    assert went_on.code == 0, went_on.err
    assert job.final() == _expected(range(75))
    assert job("audit", str(job.file), "--json").json["adds_up"] is True


@needs_faults
def test_a_worker_that_joins_either_stage_keeps_a_restore_from_being_committed(job: Job, tmp_path: Path) -> None:
    job.send(range(25))
    assert job.run().code == 0
    folder = str(tmp_path / "noon")
    assert job.state("savepoint", folder).code == 0
    command = [sys.executable, "-m", "streamcore", "state", "restore", str(job.file), folder]
    environment = {**os.environ, "STREAMCORE_FAULTS": "claim-sent:1:stop"}
    restore = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert os.waitid(os.P_PID, restore.pid, os.WSTOPPED) is not None
        _await_no_member(job)  # it stood still until its session was over
        job.send(range(25, 50))
        _join(job, f"{job.name}.combine", f"{job.name}.0.partials.g1")
    finally:
        restore.send_signal(signal.SIGCONT)
    _, told = restore.communicate(timeout=TIMEOUT_S)
    assert restore.returncode == EXIT_FENCED, told
    _await_no_member(job)
    assert {lane["owner"] for lane in job.state("verify", "--json").json["lanes"]} == {0}
    assert job.run().code == 0
    assert job.final() == _expected(range(50))


def _join(job: Job, group: str, topic: str) -> None:
    """Another member joins a group, and leaves it."""
    settings = {"bootstrap.servers": job.server.bootstrap_servers, "group.id": group, "enable.auto.commit": False}
    consumer = Consumer(settings)
    consumer.subscribe([topic])
    deadline = time.monotonic() + TIMEOUT_S
    while not consumer.assignment():
        assert time.monotonic() < deadline
        consumer.poll(0.2)
    consumer.close()


def _await_no_member(job: Job) -> None:
    """A claim that died counts until its session is over."""
    from streamcore.kafka_client import Cluster
    from tests.integration.kafka_tools import connection

    cluster, deadline = Cluster(connection(job.server)), time.monotonic() + TIMEOUT_S
    while any(cluster.members(group) for group in (job.name, f"{job.name}.combine")):
        assert time.monotonic() < deadline
        time.sleep(0.5)


@needs_faults
def test_partials_deleted_in_the_middle_of_an_epoch_can_be_gone_on_without(job: Job) -> None:
    job.send(range(25))
    assert job.run().code == 0
    topic = f"{job.name}.0.partials.g1"
    merged = {(each.partition(), each.offset()) for each in read_topic(job.server, topic)}
    job.send(range(25, 50))
    kinds: list[tuple[int, int, str]] = []
    # The first epochs may tell of nothing but the lanes.
    while not any(kind == "partial" for _, _, kind in kinds):
        _killed("run", str(job.file), "--stop", "end", at="before-combine-commit:1:kill")
        new = [each for each in read_topic(job.server, topic) if (each.partition(), each.offset()) not in merged]
        kinds = [(each.partition(), each.offset(), _core.inspect_partial(each.value())["kind"]) for each in new]
    partition, offset = next((partition, offset) for partition, offset, kind in kinds if kind == "partial")
    assert (partition, offset + 1, "marker") in kinds, kinds
    part = TopicPartition(topic, partition, offset + 1)
    job.admin.delete_records([part])[part].result(TIMEOUT_S)
    refused = job.run()
    assert (refused.code, "deleted before they were read" in refused.err) == (EXIT_STATE, True), refused.err
    gone_on = job.run("--accept-gap")
    assert gone_on.code == 0, gone_on.err
    audited = job("audit", str(job.file), "--json").json
    assert (audited["adds_up"], audited["differences"]) == (True, [])
    assert sum(counts["missing"] for counts in audited["combined"].values()) >= 1
    assert audited["unmerged"] > 0
    shown = job("audit", str(job.file)).out
    assert f"in no window: {audited['unmerged']} of {audited['total']['applied']} applied records" in shown, shown
    gap = audited["skipped"][f"combine {partition}"][topic]
    assert gap["offsets"] == sum(last - first + 1 for first, last in gap["spans"]) > 0
    assert gap["spans"][-1][1] == offset
    whole = _expected(range(50))
    assert {window: row for window, row in job.final().items() if row[0] > whole[window][0]} == {}
    # What comes then is merged.
    job.send(range(50, 75))
    assert job.run().code == 0
    new_rows = {window: row for window, row in _expected(range(75)).items() if window[1] >= "1970-01-01T00:01"}
    assert new_rows.items() <= job.final().items()
