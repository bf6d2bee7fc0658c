"""F10: the topic of the state is damaged. A worker says what it found and ends with 6; it never begins with empty state.

Each damage is done to a committed state with changes and parts, by a plain producer or the broker's own administration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.state_job import Job
from tests.servers.kafka import KafkaServer

EXIT_STATE = 6


def _alien(job: Job) -> str:
    job.put_state("greetings", b"from elsewhere")
    return 'it has a record "greetings" that streamcore did not write'


def _own_key_of_another(job: Job) -> str:
    job.put_state("D/1/0", b"from elsewhere")
    newest = job.state("inspect", "--json").json["lanes"][0]["epoch"]
    key = f"D/{newest}/0"
    job.put_state(key, b"from elsewhere")
    return f"record {key} of the state of lane 0: it is no block of streamcore"


def _checksum(job: Job) -> str:
    key = next(key for key in job.state_keys() if key.startswith("B/"))
    value = bytearray(job.state_value(key))
    value[-1] ^= 0x10
    job.put_state(key, bytes(value))
    return f"record {key} of the state of lane 0: it is damaged: its checksum is of other bytes"


def _another_lane(job: Job) -> str:
    key = next(key for key in job.state_keys() if key.startswith("B/") and key in job.state_keys(1))
    job.put_state(key, job.state_value(key, 1))
    return f"record {key} of the state of lane 0: it is of another pipeline, lane or epoch than its key says"


def _manifest(job: Job) -> str:
    newest = job.state("inspect", "--json").json["lanes"][0]["epoch"]
    job.put_state(f"M/{newest % 4}", None)
    return f"it has blocks of epoch {newest} and no manifest of an epoch after {newest - 1}"


def _all_manifests(job: Job) -> str:
    for key in job.state_keys():
        if key.startswith("M/"):
            job.put_state(key, None)
    return "the group is at 75, and the state has no manifest"


def _damaged_manifest(job: Job) -> str:
    newest = job.state("inspect", "--json").json["lanes"][0]["epoch"]
    value = bytearray(job.state_value(f"M/{newest % 4}"))
    value[len(value) // 2] ^= 1
    job.put_state(f"M/{newest % 4}", bytes(value))
    return "a manifest of the state cannot be used: it is damaged: its checksum is of other bytes"


def _base(job: Job) -> str:
    key = next(key for key in job.state_keys() if key.startswith("B/"))
    job.put_state(key, None)
    return f"names 1 records that are not there ({key})"


def _made_again(job: Job) -> str:
    job.make_again(job.state_topic, job.partitions)
    return "the group is at 75, and the state has no manifest: its topic was emptied or made again"


def _of_another_size(job: Job) -> str:
    job.make_again(job.state_topic, 3)
    return "STATE_PARTITION_MISMATCH"


def _of_lane_0(rows: Counter[tuple[str, str, int]]) -> Counter[tuple[str, str, int]]:
    """Of the lane that is damaged each time; the other may have gone on before that is found out."""
    return Counter({row: count for row, count in rows.items() if row[0].startswith("0-")})


@pytest.mark.parametrize(
    "damage",
    [
        *(_alien, _own_key_of_another, _checksum, _another_lane, _manifest, _all_manifests, _damaged_manifest, _base),
        *(_made_again, _of_another_size),
    ],
    ids=lambda damage: damage.__name__.strip("_"),
)
def test_a_damaged_state_is_refused_with_its_reason(
    kafka_server: KafkaServer, unique: str, tmp_path: Path, damage: Callable[[Job], str]
) -> None:
    job = _with_parts(Job(kafka_server, unique, tmp_path), tmp_path)
    rows = job.rows()
    reason = damage(job)
    job.send(range(25, 45))
    ended = job.run()
    text = ended.err
    assert ended.code == EXIT_STATE, text
    assert reason in text, text
    verified = job.state("verify")
    assert verified.code == EXIT_STATE, verified.out
    assert _of_lane_0(job.rows()) == _of_lane_0(rows), "a worker whose state was refused wrote rows"


def _with_parts(job: Job, folder: Path) -> Job:
    """Some epochs, and one that has every part: the state as it was put back."""
    job.send(range(25))
    assert job.run().code == 0
    assert job.state("savepoint", str(folder / "saved")).code == 0
    assert job.state("restore", str(folder / "saved")).code == 0
    job.send(range(25, 26), keys=0)
    assert job.run().code == 0
    return job


@pytest.mark.parametrize("keyed", [True, False])
def test_a_lane_that_began_behind_the_start_and_read_nothing_goes_on(
    kafka_server: KafkaServer, unique: str, tmp_path: Path, keyed: bool
) -> None:
    job = Job(kafka_server, unique, tmp_path, keyed=keyed)
    job.file.write_text(job.file.read_text().replace('type = "kafka"', 'type = "kafka"\nstart = "latest"', 1))
    job.send(range(25))
    for _ in range(2):
        ended = job("run", str(job.file), "--for", "3s")
        assert ended.code == 0, ended.err
        assert job.state("verify").code == 0
    job.send(range(25, 45), partition=1)
    ended = job.run()
    assert ended.code == 0, ended.err
    assert job("audit", str(job.file), "--json").json["total"]["read"] == 60


def test_what_lanes_share_is_missed_too(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> None:
    job = Job(kafka_server, unique, tmp_path, keyed=False)
    job.send(range(25))
    assert job.run().code == 0
    rows = job.rows()
    job.make_again(f"{unique}.0.combine.g1", 1)
    job.send(range(25, 45))
    refused = job.run()
    assert (refused.code, "what they share has none" in refused.err) == (EXIT_STATE, True), refused.err
    assert job.state("verify").code == EXIT_STATE
    assert job.rows() == rows
