"""The local copy of the state on a real broker: what a restart reads of the topic, by counts, and when the copy does not count.

How every damage of its file is found is in `tests/faults/test_local_copy.py`.
"""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from streamcore import _core
from streamcore.commands.run import load_target
from streamcore.config import engine_json
from streamcore.copy_files import copies_folder, lane_file
from streamcore.functions import functions_of
from tests.integration.kafka_tools import read_topic
from tests.integration.state_job import Job
from tests.servers.kafka import KafkaServer

LANES = 2


class Runs:
    """Runs of one job, with what each counted."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job, self._report = job, folder / "report.json"
        self.state_folder = folder / "state" / job.name
        self.copies = copies_folder(self.state_folder, f"{socket.gethostname()}-0")

    def run(self, *arguments: str) -> dict[str, int]:
        ended = self.job.run("--report", str(self._report), *arguments)
        assert ended.code == 0, ended.err
        counts: dict[str, int] = json.loads(self._report.read_text())["report"]["cache"]
        return counts

    def written(self) -> int:
        """Records in the state's topic, as they were written."""
        return len(read_topic(self.job.server, self.job.state_topic))


@pytest.fixture
def runs(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Runs:
    runs = Runs(Job(kafka_server, unique, tmp_path), tmp_path)
    for number in range(4):
        runs.job.send(range(10 * number, 10 * number + 10))
        runs.run()
    return runs


def test_a_restart_reads_the_last_manifest_of_each_lane_and_the_rest_from_the_copy(runs: Runs) -> None:
    counts = runs.run()
    assert (counts["records_from_topic"], counts["lanes_from_copy"], counts["rejected"]) == (LANES, LANES, 0)
    assert counts["records_from_copy"] > 0
    assert counts["bytes_from_copy"] == sum(lane_file(runs.copies, lane).stat().st_size for lane in range(LANES))
    final = runs.job.final()
    runs.job.send(range(40, 50))
    counts = runs.run()
    assert counts["records_from_topic"] == LANES
    assert runs.job.final().keys() >= final.keys()
    assert runs.job.state("verify").code == 0
    assert runs.job("audit", str(runs.job.file), "--json").json["total"]["read"] == 2 * 3 * 50


def test_a_copy_that_was_deleted_is_made_again(runs: Runs) -> None:
    shutil.rmtree(runs.copies)
    counts = runs.run()
    assert (counts["lanes_from_copy"], counts["rejected"]) == (0, 0)
    assert counts["records_from_topic"] == runs.written()
    assert runs.run()["records_from_topic"] == LANES


def test_without_copies_the_topic_is_read_and_nothing_is_left_on_the_disk(runs: Runs) -> None:
    shutil.rmtree(runs.state_folder)
    counts = runs.run("--set", "state_cache=false")
    assert counts["records_from_topic"] == runs.written()
    assert not (runs.state_folder / "cache").exists()


def test_what_another_worker_committed_meanwhile_is_read_behind_an_old_copy(runs: Runs) -> None:
    before = runs.written()
    there = runs.state_folder.with_name("there")
    runs.job.send(range(40, 60))
    other = runs.run("--set", f"state_dir={there}")
    assert (other["lanes_from_copy"], other["records_from_topic"]) == (0, before)
    counts = runs.run()
    assert counts["rejected"] == 0
    assert counts["records_from_topic"] == runs.written() - before + LANES
    assert runs.job.state("verify").code == 0


def test_the_file_of_another_lane_is_not_taken(runs: Runs) -> None:
    shutil.copy(lane_file(runs.copies, 1), lane_file(runs.copies, 0))
    ended = runs.job.run()
    assert ended.code == 0
    assert "the local copy of lane 0" in ended.err
    assert "is not used: it is of another state: its lane is 1, and should be 0" in ended.err
    assert runs.run()["lanes_from_copy"] == LANES


def test_a_copy_that_points_past_the_end_of_its_topic_is_not_taken(runs: Runs) -> None:
    """As after a broker has lost the last records, which it cannot be asked for."""
    path = lane_file(runs.copies, 0)
    content = path.read_bytes()
    facts = content[content.index(b"{") : content.index(b"}") + 1]
    records = committed_engine(runs.job).state_records(0)
    copy, _, _, offset, length = _core.StateCopy.read(facts, content, records)
    assert (length, copy.epoch is None) == (len(content), False)
    path.write_bytes(_core.StateCopy.of(facts, records, copy.epoch or 0, offset + 1_000)[1])
    runs.job.send(range(40, 50))
    counts = runs.run()
    assert (counts["rejected"], counts["lanes_from_copy"]) == (1, 1)
    assert runs.job.state("verify").code == 0
    assert runs.run()["lanes_from_copy"] == LANES


def committed_engine(job: Job) -> _core.Pipeline:
    config = load_target(str(job.file), []).config
    return _core.Pipeline(engine_json(config, phase=None), functions_of(config))


def test_a_copy_from_before_a_restore_is_not_taken(runs: Runs, tmp_path: Path) -> None:
    assert runs.job.state("savepoint", str(tmp_path / "saved")).code == 0
    runs.job.send(range(40, 60))
    runs.run()
    final = runs.job.final()
    assert runs.job.state("restore", str(tmp_path / "saved")).code == 0
    counts = runs.run()
    assert (counts["rejected"], counts["lanes_from_copy"]) == (LANES, 0)
    assert runs.job.final() == final
    assert runs.job.state("verify").code == 0
    assert runs.run()["lanes_from_copy"] == LANES


def test_a_copy_from_before_a_repair_is_not_taken_nor_does_it_hide_the_damage(runs: Runs) -> None:
    newest = runs.job.state("inspect", "--json").json["lanes"][0]["epoch"]
    runs.job.put_state(f"M/{newest % 4}", b"from elsewhere")
    refused = runs.job.run()
    assert (refused.code, "it is none of streamcore" in refused.err) == (6, True), refused.err
    assert runs.job.state("repair").code == 0
    counts = runs.run()
    # The copy of the lane that was damaged went with the refusal; the other lane was whole, and so is its copy.
    assert (counts["rejected"], counts["lanes_from_copy"]) == (0, 1)
    assert runs.job.state("verify").code == 0


def test_a_reset_takes_the_copies_along(runs: Runs) -> None:
    inspected = runs.job.state("inspect")
    assert f"local copy of {LANES} lanes in {runs.copies}" in inspected.out
    assert runs.job.state("inspect", "--json").json["copies"][0]["lanes"] == LANES
    done = runs.job.state("reset", "--yes", "--json")
    assert (done.code, done.json["copies_removed"]) == (0, LANES)
    assert runs.job.state("inspect", "--json").json["copies"] == []
    counts = runs.run()
    assert counts["lanes_from_copy"] == 0
    assert runs.job.state("verify").code == 0


def test_lanes_that_meet_have_copies_too(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> None:
    runs = Runs(Job(kafka_server, unique, tmp_path, keyed=False), tmp_path)
    runs.job.send(range(25))
    runs.run()
    assert (runs.copies / "meeting").exists()
    runs.job.send(range(25, 45))
    counts = runs.run()
    assert (counts["lanes_from_copy"], counts["records_from_topic"]) == (LANES + 1, LANES + 1)
    runs.job.make_again(f"{unique}.0.combine.g1", 1)
    refused = runs.job.run()
    assert (refused.code, "what they share has none" in refused.err) == (6, True), refused.err
