"""A changed `group_id`: members of two groups do not fence each other, so state of one is not touched under the other."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from streamcore import manifests
from tests.integration.kafka_tools import TIMEOUT_S, committed_offsets
from tests.integration.state_job import Answer, Job
from tests.servers.kafka import KafkaServer
from tests.servers.process import ServerProcess

EXIT_STATE = 6


@pytest.fixture
def job(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Job:
    return Job(kafka_server, unique, tmp_path)


def _under_other(job: Job) -> None:
    """The pipeline file has another group from here on."""
    job.file.write_text(job.file.read_text().replace("[source]\n", f'[source]\ngroup_id = "{job.name}-other"\n'))


def _check_refused(job: Job, answer: Answer) -> None:
    assert answer.code == EXIT_STATE, (answer.out, answer.err)
    text = " ".join(answer.err.split())
    assert f'of group_id = "{job.name}", and this is group_id = "{job.name}-other"' in text
    assert f'set group_id = "{job.name}"' in text


def test_nothing_is_read_or_changed_under_another_group_while_a_worker_lives(job: Job, tmp_path: Path) -> None:
    job.send(range(25))
    assert job.run().code == 0
    assert job.state("savepoint", str(tmp_path / "saved")).code == 0
    own, before = job.file.read_text(), job.rows()
    (tmp_path / "own.toml").write_text(own)
    command = [sys.executable, "-m", "streamcore", "run", str(tmp_path / "own.toml")]
    process = ServerProcess(command, tmp_path / "log", env=dict(os.environ))
    try:
        _under_other(job)
        for action in (["restore", str(tmp_path / "saved")], ["repair"], ["reset", "--yes"], ["verify"]):
            _check_refused(job, job.state(*action))
        _check_refused(job, job.state("savepoint", str(tmp_path / "again")))
        _check_refused(job, job.run("--set", "instance_id=second", "--set", f"state_dir={tmp_path}/second"))
        _check_refused(job, job("audit", str(job.file)))
        job.send(range(25, 50))

        def is_read() -> bool:
            return set(committed_offsets(job.server, job.name, f"{job.name}-in", job.partitions).values()) == {150}

        process.wait_until(is_read, "the records", TIMEOUT_S)
    finally:
        process.stop()
    job.file.write_text(own)
    assert job.state("verify").code == 0
    assert job.run().code == 0
    assert job.rows() > before
    assert set(job.rows().values()) == {1}


def test_both_stages_are_of_one_group(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> None:
    job = Job(kafka_server, unique, tmp_path, keyed=False, combine="auto")
    job.send(range(25))
    assert job.run().code == 0
    _under_other(job)
    for answer in (job.run(), job.state("verify"), job.state("reset", "--yes")):
        _check_refused(job, answer)


def test_a_group_is_changed_by_a_reset_under_the_old_one(job: Job, tmp_path: Path) -> None:
    job.send(range(25))
    assert job.run().code == 0
    assert job.state("savepoint", str(tmp_path / "saved")).code == 0
    assert job.state("reset", "--yes").code == 0
    _under_other(job)
    # A savepoint may be put back under any group.
    restored = job.state("restore", str(tmp_path / "saved"))
    assert restored.code == 0, restored.err
    job.send(range(25, 50))
    assert job.run().code == 0
    assert job.state("verify").code == 0
    assert set(job.rows().values()) == {1}


def test_state_that_does_not_tell_its_group_is_taken(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        facts_of = manifests.facts_of
        before.setattr(
            "streamcore.epochs.facts_of", lambda identity, *rest, **more: facts_of(_silent(identity), *rest, **more)
        )
        job.send(range(25))
        assert job.run().code == 0
    _under_other(job)
    assert job.state("verify").code == 0
    job.send(range(25, 50))
    assert job.run().code == 0
    assert job.state("verify").code == 0


def _silent(identity: manifests.Identity) -> manifests.Identity:
    return manifests.Identity(identity.pipeline, identity.fingerprint, identity.generation)


def test_state_that_two_groups_have_written_is_told_and_can_be_reset(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where both began at the same time, before there was any: as long as one of the last epochs is of each."""
    job.send(range(25))
    assert job.run().code == 0
    own = job.file.read_text()
    _under_other(job)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(manifests, "check_group", lambda *_: None)
        job.send(range(25, 50))
        assert job.run("--set", "commit_interval=1h").code == 0
    for text in (own, job.file.read_text()):
        job.file.write_text(text)
        for answer in (job.run(), job.state("verify"), job.state("repair")):
            assert (answer.code, "was written under two groups" in answer.err) == (EXIT_STATE, True), answer.err
    job.file.write_text(own)
    assert job.state("reset", "--yes").code == 0
    assert job.run().code == 0
    assert job.state("verify").code == 0
