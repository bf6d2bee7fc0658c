"""What `streamcore state rescale` does where records that are not read yet lie behind the clock that lanes go on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.state_job import PIPELINE
from tests.integration.test_rescale import KEYS, OWN, Growing, keys_of
from tests.servers.kafka import KafkaServer

STAYING = keys_of((1, 2), (1, 4))
"""Keys of partition 1 of two, and of four."""


@pytest.fixture
def job(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Growing:
    return Growing(kafka_server, unique, tmp_path, text=PIPELINE.replace('filter = "v >= 0"', 'filter = "v > -9"'))


def behind(job: Growing) -> int:
    """Lane 0 is read up to 44 s, and partition 1 has records of 15 s to 24 s that nobody has read; gives how many."""
    job.put(range(15))
    job.read()
    job.put(range(15, 45), keys=keys_of((0, 2)))
    job.read()
    job.put(range(15, 25), keys=STAYING)
    job.grow(4)
    return 10 * len(STAYING)


def late(job: Growing) -> int:
    audit = job("audit", str(job.file), "--json").json
    assert audit["adds_up"], audit
    return int(audit["total"]["late"])


def test_records_of_a_lane_that_was_behind_become_late_only_where_that_is_accepted(job: Growing) -> None:
    unread, first = behind(job), 15 * len(keys_of((1, 2)))
    refused = job.refused("--to", "4", *OWN)
    assert f"{unread} of {unread} records that are not read yet would be late after the move" in refused
    assert "was furthest (lane 0 of the old ones, at 1970-01-01T00:00:43.999Z), and nothing was changed\n" in refused
    assert f"  partition 1: {unread} of {unread} from offset {first} on\n" in refused
    assert "hint: --drain reads them first, with the state as it was; --accept-late moves the state" in refused
    assert job.state("inspect", "--json").json["lanes"][1]["epoch"] > 0, "the old layout is the truth"

    done = job.rescale(4, *OWN, "--accept-late")
    assert done["late"] == {"1": {"first": first, "records": unread, "late": unread, "windows": 0}}
    assert late(job) == 0
    job.read()
    assert late(job) == unread, "as it was told"


def test_records_of_a_lane_that_was_behind_are_drained_to_their_end(job: Growing) -> None:
    unread = behind(job)
    done = job.rescale(4, *OWN, "--drain")
    assert (done["drained"], done["late"]) == (unread, {})
    job.put(range(45, 60))
    assert job.run().code == 0
    assert late(job) == 0
    job.check()


def test_what_new_partitions_got_behind_the_furthest_clock_is_told_and_cannot_be_drained(job: Growing) -> None:
    job.put(range(25))
    job.read()
    job.put(range(25, 50), keys=keys_of((1, 2)))
    job.read()
    job.grow(4)
    new = keys_of((2, 4))
    job.put(range(25, 50), keys=new, counts=False)
    # The windows from 20 s to 40 s are over by the clock of lane 1, and that from 40 s on is not.
    told = f"partition 2: {15 * len(new)} of {25 * len(new)} from offset 0 on"
    for arguments in ((), ("--drain",)):
        refused = job.refused("--to", "4", *OWN, *arguments)
        assert told in refused
        assert "hint: no lane is left that could read them by its own clock; --accept-late moves the state" in refused
    moved = job.state("rescale", "--to", "4", *OWN, "--accept-late")
    assert (
        f"lane 2 goes on at 0, {15 * len(new)} of {25 * len(new)} records that are not read yet will be late"
        in moved.out
    )
    job.read()
    assert late(job) == 15 * len(new)


def test_another_topic_that_begins_behind_the_furthest_clock_is_told_whatever_its_partitions_are_called(
    job: Growing,
) -> None:
    job.put(range(25))
    job.read()
    job.put(range(25, 50), keys=keys_of((0, 2)))
    job.read()
    job.replace(3)
    # Partition 0 of this topic has nothing to do with that of the old one, which was furthest.
    again = keys_of((1, 2))
    assert any(key in again for key in keys_of((0, 3)))
    job.put(range(25, 50), keys=again, counts=False)
    assert f"{15 * len(again)} of {25 * len(again)} records that are not read yet would be late" in job.refused(
        "--to", "3", *OWN
    )
    done = job.rescale(3, *OWN, "--accept-late")["late"]
    assert isinstance(done, dict)
    assert sum(lane["late"] for lane in done.values()) == 15 * len(again)
    job.read()
    assert late(job) == 15 * len(again)


def test_windows_that_records_miss_are_told_where_these_are_in_time_for_others(
    kafka_server: KafkaServer, unique: str, tmp_path: Path
) -> None:
    text = PIPELINE.replace('window = "tumbling"\nsize = "10s"', 'window = "hopping"\nsize = "20s"\nslide = "10s"')
    job = Growing(kafka_server, unique, tmp_path, text=text.replace('filter = "v >= 0"', 'filter = "v > -9"'))
    job.put(range(15))
    job.read()
    job.put(range(15, 45), keys=keys_of((0, 2)))
    job.read()
    # Of the windows from 20 s to 40 s, which is over in lane 0, and from 30 s to 50 s.
    job.put(range(35, 40), keys=STAYING)
    job.grow(4)
    count = 5 * len(STAYING)
    assert (
        f"partition 1: 0 of {count} from offset {15 * len(keys_of((1, 2)))} on, and others would miss {count} of their windows"
        in (job.refused("--to", "4", *OWN))
    )
    moved = job.state("rescale", "--to", "4", *OWN, "--accept-late")
    assert (
        f"0 of {count} records that are not read yet will be late, and others will miss {count} of their windows"
        in moved.out
    )
    job.read()
    audit = job("audit", str(job.file), "--json").json
    assert (audit["total"]["late"], audit["total"]["late_windows"]) == (0, count)


def test_records_that_would_be_late_anyway_hold_nothing_up(job: Growing) -> None:
    job.put(range(25))
    job.read()
    job.put(range(25, 45), keys=keys_of((0, 2)))
    job.read()
    # By the clock of their own lane, too.
    job.put(range(3), keys=STAYING, counts=False)
    job.grow(4)
    assert job.rescale(4, *OWN)["late"] == {}
    job.put(range(45, 60))
    assert job.run().code == 0
    assert late(job) == 3 * len(STAYING)
    job.check()


def test_records_in_time_by_the_furthest_clock_hold_nothing_up(job: Growing) -> None:
    job.put(range(25))
    job.read()
    job.put(range(25, 30), keys=STAYING)
    job.grow(4)
    done = job.rescale(4, *OWN)
    assert (done["late"], done["rows"]) == ({}, KEYS)
    job.put(range(30, 45))
    assert job.run().code == 0
    assert late(job) == 0
