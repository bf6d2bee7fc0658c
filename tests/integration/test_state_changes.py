"""`streamcore state savepoint | restore | repair | reset` beside a real broker: what is put back is what was."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from streamcore.kafka_client import Cluster
from tests.integration.kafka_tools import TIMEOUT_S, connection
from tests.integration.state_job import Job
from tests.servers.kafka import KafkaServer
from tests.servers.process import ServerProcess


@pytest.fixture
def job(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Job:
    return Job(kafka_server, unique, tmp_path)


def test_a_savepoint_is_readable_and_put_back_to_the_digest(job: Job, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    assert job.state("savepoint", str(folder)).code == 6  # nothing to save
    job.send(range(25))
    assert job.run().code == 0
    saved = job.state("savepoint", str(folder), "--json")
    assert (saved.code, saved.json["rows"]) == (0, 6)
    frame = pl.read_parquet(folder / "windows-*.parquet").sort("k")
    assert frame.columns[:5] == ["k", "window_start", "window_end", "n", "s"]
    # 20 s to 24 s; 21 s has no place.
    assert frame.select("k", "n", "s").rows() == [(f"{lane}-{key}", 4, 89) for lane in (0, 1) for key in range(3)]
    assert job.state("savepoint", str(folder)).code == 3  # it is there
    before = job.state("inspect", "--json").json["lanes"]

    job.send(range(25, 60))
    assert job.run().code == 0
    final = job.final()
    put_back = job.state("restore", str(folder), "--json")
    assert put_back.code == 0, put_back.err
    after = job.state("inspect", "--json").json["lanes"]
    same = ("digest", "offsets", "watermark", "keys")
    assert [[lane[name] for name in same] for lane in after] == [[lane[name] for name in same] for lane in before]
    assert all(now["epoch"] > was["epoch"] + 1 and now["owner"] == 1 for was, now in zip(before, after, strict=True))
    assert job.group_offsets() == {0: 75, 1: 75}
    assert job.state("verify").code == 0
    # What was read since is read again, to the same end.
    assert job.run().code == 0
    assert job.final() == final
    assert job.state("verify").code == 0
    assert job("audit", str(job.file), "--json").json["total"]["read"] == 2 * 3 * 60


def test_lanes_that_meet_are_put_back_together(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> None:
    job, folder = Job(kafka_server, unique, tmp_path, keyed=False), tmp_path / "saved"
    job.send(range(25))
    assert job.run().code == 0
    assert job.state("savepoint", str(folder)).code == 0
    job.send(range(25, 45))
    assert job.run().code == 0
    final = job.final()
    put_back = job.state("restore", str(folder))
    assert put_back.code == 0, put_back.err
    assert job.run().code == 0
    assert job.final() == final


def test_a_savepoint_without_open_windows_is_read_as_any_other(job: Job, tmp_path: Path) -> None:
    # None has a place.
    job.send(range(7, 8))
    assert job.run().code == 0
    saved = job.state("savepoint", str(tmp_path / "saved"), "--json")
    assert (saved.code, saved.json["rows"]) == (0, 0), saved.err
    frame = pl.read_parquet(tmp_path / "saved" / "windows-*.parquet")
    assert (frame.columns[:5], len(frame)) == (["k", "window_start", "window_end", "n", "s"], 0)
    job.send(range(10, 11))
    assert job.run().code == 0
    assert job.state("savepoint", str(tmp_path / "later")).code == 0
    assert pl.read_parquet(tmp_path / "later" / "windows-*.parquet").schema == frame.schema


def test_a_savepoint_that_was_changed_or_is_of_another_pipeline_is_refused(job: Job, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    job.send(range(25))
    assert job.run().code == 0
    assert job.state("savepoint", str(folder)).code == 0
    epochs = [lane["epoch"] for lane in job.state("inspect", "--json").json["lanes"]]
    path = folder / "lane-1.state"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    assert job.state("restore", str(folder)).code == 6
    path.unlink()
    refused = job.state("restore", str(folder))
    assert (refused.code, "the savepoint is not whole" in refused.err) == (6, True)
    path.write_bytes(whole)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["lanes"]["1"]["digest"] = "0" * 16
    (folder / "manifest.json").write_text(json.dumps(manifest))
    refused = job.state("restore", str(folder))
    assert (refused.code, "manifest.json is not as it was written" in refused.err) == (6, True)
    _as_earlier_versions(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    refused = job.state("restore", str(folder))
    assert (refused.code, "the manifest says 0000000000000000" in refused.err) == (6, True)
    text = job.file.read_text()
    job.file.write_text(text.replace("count()", "sum(v)"))
    refused = job.state("restore", str(folder))
    assert (refused.code, f"the savepoint was made by another version of {job.name}" in refused.err) == (6, True)
    other = job.state("restore", str(folder), "--set", 'name="other"')
    assert f"error: the savepoint is of pipeline {job.name}, and this is other, whose source" in other.err
    assert f"hint: name the file of {job.name}, or a savepoint of other" in other.err
    assert "hint: name a folder that streamcore state savepoint" in job.state("restore", str(folder / "none")).err
    job.file.write_text(text.replace('keyed_by = "k"', ""))
    staged = job.state("restore", str(folder))
    assert f"is of pipeline {job.name} with one stage of state, and this one has two stages" in staged.err
    assert "hint: name the file it was made of, or set combine as it was then" in staged.err
    job.file.write_text(text)
    assert [lane["epoch"] for lane in job.state("inspect", "--json").json["lanes"]] == epochs


def _as_earlier_versions(manifest: dict[str, Any]) -> None:
    """They wrote no checksum, and nothing of partitions without state."""
    del manifest["sha256"], manifest["empty"]


def _behind(manifest: dict[str, Any], job: Job) -> None:
    manifest["lanes"]["1"]["facts"]["positions"][f"{job.name}-in"] -= 10


def _without_a_lane(manifest: dict[str, Any], job: Job) -> None:
    del job, manifest["lanes"]["1"]


def _without_lanes(manifest: dict[str, Any], job: Job) -> None:
    del job
    manifest["lanes"] = {}


def _of_a_wrong_type(manifest: dict[str, Any], job: Job) -> None:
    del job
    manifest["lanes"]["0"]["facts"]["positions"] = "x"


@pytest.mark.parametrize("change", [_behind, _without_a_lane, _without_lanes, _of_a_wrong_type])
def test_a_savepoint_whose_manifest_was_edited_is_refused(
    job: Job, tmp_path: Path, change: Callable[[dict[str, Any], Job], None]
) -> None:
    """Each was put back with exit 0, or ended in a traceback."""
    folder = tmp_path / "saved"
    job.send(range(25))
    assert job.run().code == 0
    assert job.state("savepoint", str(folder)).code == 0
    before = job.state("inspect", "--json").json["lanes"]
    path = folder / "manifest.json"
    text = path.read_text()
    for is_earlier in (False, True):
        manifest = json.loads(text)
        if is_earlier:
            _as_earlier_versions(manifest)
            path.write_text(json.dumps(manifest))
            if change is _behind:
                continue  # what has no checksum cannot tell
        change(manifest, job)
        path.write_text(json.dumps(manifest))
        refused = job.state("restore", str(folder))
        assert refused.code == 6, (refused.out, refused.err)
        assert "take another copy of it, or another savepoint" in refused.err
    assert job.state("inspect", "--json").json["lanes"] == before
    manifest = json.loads(text)
    _as_earlier_versions(manifest)
    path.write_text(json.dumps(manifest))
    assert job.state("restore", str(folder)).code == 0


def test_a_partition_that_had_committed_nothing_is_none_that_is_missing(job: Job, tmp_path: Path) -> None:
    job.send(range(25), partition=0)
    assert job.run("--set", "commit_interval=1h").code == 0
    assert job.state("savepoint", str(tmp_path / "saved")).code == 0
    assert job.state("restore", str(tmp_path / "saved")).code == 0
    job.send(range(25), partition=1)
    assert job.run().code == 0
    assert job("audit", str(job.file), "--json").json["total"]["read"] == 150


def test_nothing_is_changed_while_a_worker_lives(job: Job, tmp_path: Path) -> None:
    job.send(range(25))
    assert job.run().code == 0
    assert job.state("savepoint", str(tmp_path / "saved")).code == 0
    command = [sys.executable, "-m", "streamcore", "run", str(job.file)]
    process = ServerProcess(command, tmp_path / "log", env=dict(os.environ))
    try:
        cluster = Cluster(connection(job.server))
        process.wait_until(lambda: len(cluster.members(job.name)) == 1, "the worker", TIMEOUT_S)
        for arguments in (["restore", str(tmp_path / "saved")], ["repair"], ["reset", "--yes"]):
            refused = job.state(*arguments)
            assert (refused.code, f"group {job.name} has 1 member" in refused.err) == (7, True), refused.err
            assert "or stopped with --keep-seat, counts until its session is over, 6s after its end" in refused.err
    finally:
        process.stop()
    assert job.state("verify").code == 0


def test_repair_takes_the_newest_whole_epoch_and_says_what_comes_again(job: Job) -> None:
    for first in (0, 25, 50):
        job.send(range(first, first + 25))
        assert job.run().code == 0
    final = job.final()
    assert job.state("repair").out == "nothing to repair: the state of every lane can be gone on from\n"
    lane = job.state("inspect", "--json").json["lanes"][0]
    newest = lane["epoch"]
    (block,) = [key for key in job.state_keys() if key.startswith(f"D/{newest}/")]
    job.put_state(block, None)
    job.put_state("greetings", b"from elsewhere")
    refused = job.run()
    assert refused.code == 6
    repaired = job.state("repair", "--json")
    assert repaired.code == 0, repaired.err
    (one,) = repaired.json["lanes"]
    assert (one["lane"], one["newest"], one["taken"], one["written"]) == (0, newest, newest - 1, newest + 1)
    assert [end for _, end in one["again"].values()] in ([], [225])
    assert repaired.json["may_repeat"] == [f"{job.name}-out", f"{job.name}.dead-letters"]
    assert job.state("inspect", "--json").json["lanes"][0]["owner"] == 1
    assert job.state("verify").code == 0
    assert job.run().code == 0
    assert job.final() == final
    assert "greetings" not in job.state_keys()


def test_repair_gives_up_where_nothing_is_whole(job: Job) -> None:
    job.send(range(25))
    assert job.run().code == 0
    for key in job.state_keys(1):
        if key.startswith("D/"):
            job.put_state(key, None, 1)
    refused = job.state("repair")
    assert (refused.code, "nothing whole is left of lane 1, and nothing was changed" in refused.err) == (6, True)


def test_reset_asks_and_begins_anew(job: Job) -> None:
    job.send(range(25))
    assert job.run().code == 0
    final = job.final()
    refused = job.state("reset")
    assert (refused.code, "hint: say --yes if that is meant" in refused.err) == (2, True)
    done = job.state("reset", "--yes")
    assert done.code == 0, done.err
    assert job.state_keys(topic=f"{job.name}.0.state.g2") == ["G/begin"]
    topics = job("topics", "plan", str(job.file)).out
    assert f"{job.name}.0.state.g2  state  exists: 2 partitions" in topics
    assert job.state_topic not in topics
    assert job.state("verify").out == "lane 0: nothing is committed yet\nlane 1: nothing is committed yet\n"
    again = job.run()
    assert again.code == 0
    assert job.final() == final
    assert job("audit", str(job.file), "--json").json["total"]["read"] == 150
    assert max(job.rows().values()) == 2
