"""State that was moved to a topic which is lost then: every command says so, and a savepoint of the new size is put back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.kafka_tools import TIMEOUT_S, create_topic
from tests.integration.state_job import PIPELINE
from tests.integration.test_rescale import OWN, Growing, _second
from tests.servers.kafka import KafkaServer

EXIT_STATE = 6


@pytest.mark.parametrize("is_made_again", [False, True])
def test_state_whose_new_topic_is_lost_is_put_back_from_a_savepoint(
    kafka_server: KafkaServer, unique: str, tmp_path: Path, is_made_again: bool
) -> None:
    job = Growing(kafka_server, unique, tmp_path, text=PIPELINE.replace('filter = "v >= 0"', 'filter = "v > -9"'))
    job.put(range(25))
    job.read()
    old, new = str(tmp_path / "old"), str(tmp_path / "new")
    assert job.state("savepoint", old).code == 0
    job.grow(3)
    too_old = job.state("restore", old).err
    assert "error: STATE_PARTITION_MISMATCH: the savepoint is of 2 partitions, and the input" in too_old, too_old
    assert job.rescale(3, *OWN)["layout"] == 2
    job.put(range(25, 35))
    job.read()
    assert job.state("savepoint", new).code == 0
    topic = f"{job.name}.0.state.g2"
    job.admin.delete_topics([topic])[topic].result(TIMEOUT_S)
    if is_made_again:
        create_topic(kafka_server, topic, 1, cleanup_policy="compact")
    what = f"{topic}, where the state went, is gone"
    rescale, savepoint = ("rescale", "--to", "3", *OWN), ("savepoint", str(tmp_path / "x"))
    for arguments in (("inspect",), ("verify",), ("repair",), savepoint, rescale):
        refused = job.state(*arguments)
        assert (refused.code, refused.err.count(what)) == (EXIT_STATE, 1), refused.err
        assert "restore a savepoint, or begin anew: streamcore state reset FILE" in refused.err
        assert "start again" not in refused.out + refused.err
        assert "rescale FILE" not in refused.out + refused.err
    assert what in job.run().err
    assert what in job("audit", str(job.file)).err
    refused = job.state("restore", old)
    assert (refused.code, "the savepoint is of 2 partitions" in refused.err) == (EXIT_STATE, True), refused.err

    restored = job.state("restore", new)
    assert restored.code == 0, restored.err
    verified = job.state("verify", "--json")
    assert (verified.code, len(verified.json["lanes"])) == (0, 3), verified.err
    assert job("audit", str(job.file), "--json").json["adds_up"] is True
    job.put(range(35, 55))
    assert job.run().code == 0
    job.check()
    assert job("audit", str(job.file), "--json").json["adds_up"] is True


def test_a_reset_begins_anew_where_the_new_topic_is_lost(
    kafka_server: KafkaServer, unique: str, tmp_path: Path
) -> None:
    job = Growing(kafka_server, unique, tmp_path, text=PIPELINE.replace('filter = "v >= 0"', 'filter = "v > -9"'))
    job.put(range(25))
    job.read()
    job.grow(3)
    assert job.rescale(3, *OWN)["layout"] == 2
    topic = f"{job.name}.0.state.g2"
    job.admin.delete_topics([topic])[topic].result(TIMEOUT_S)
    reset = job.state("reset", "--yes")
    assert reset.code == 0, reset.err
    assert job.run().code == 0
    assert {(key, _second(start)): row for (key, start), row in job.final().items()} == job.sent
