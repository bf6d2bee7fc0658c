"""`streamcore verify` on topics: which windows are over where a range ends at a time, what a range is, and the pipeline of the README."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.docs.examples import read
from tests.integration.kafka_tools import TIMEOUT_S, create_topic, produce
from tests.integration.state_job import Answer, Job
from tests.servers.kafka import KafkaServer

ROOT = Path(__file__).parents[2]

BY_PAGE = """
name = "NAME"
state_dir = "FOLDER"

[kafka]
bootstrap_servers = "SERVERS"

[source]
type = "kafka"
topic = "NAME-in"
event_time = "t"
event_time_unit = "s"
out_of_orderness = "5s"
schema = { page = "string", user = "string", kind = "string" }

[[steps]]
window = "tumbling"
size = "1m"
by = ["page"]
aggregate = { n = "count()" }
"""

BEGAN = datetime.now(UTC) - timedelta(hours=1)
"""Kafka's time of the first record; event times begin in 1970."""

PAGES = 2
MINUTES = 6


@pytest.fixture
def job(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Job:
    return Job(kafka_server, unique, tmp_path, partitions=4, text=BY_PAGE)


def at(second: int) -> str:
    """A time of Kafka: that of the view of this second."""
    return (BEGAN + timedelta(seconds=second)).isoformat()


def timestamp_ms(second: int) -> int:
    return int((BEGAN + timedelta(seconds=second)).timestamp() * 1000)


def view(job: Job, second: int, partition: int, **more: str) -> None:
    page, user = f"page-{second % PAGES}", f"user-{partition}"
    value = json.dumps({"t": second, "page": page, "user": user} | more)
    produce(
        job.server,
        f"{job.name}-in",
        [value.encode()],
        partition=partition,
        key=user.encode(),
        timestamp=timestamp_ms(601),
    )


def fill(job: Job, partitions: range, *, minutes: int = MINUTES) -> str:
    """A view every second, in one of the partitions after the other; a time of Kafka behind them all."""
    producer = Producer({"bootstrap.servers": job.server.bootstrap_servers, "enable.idempotence": True})
    for second in range(minutes * 60):
        partition = partitions[second % len(partitions)]
        user = f"user-{partition}"
        value = json.dumps({"t": second, "page": f"page-{second // 2 % PAGES}", "user": user})
        producer.produce(f"{job.name}-in", key=user, value=value, partition=partition, timestamp=timestamp_ms(second))
    assert producer.flush(TIMEOUT_S) == 0
    return at(600)


def verified(job: Job, *arguments: str) -> Answer:
    return job("verify", str(job.file), "--against", "polars", *arguments)


def edit(job: Job, before: str, after: str) -> None:
    text = job.file.read_text()
    assert before in text
    job.file.write_text(text.replace(before, after))


def test_windows_wait_for_a_partition_without_records(job: Job) -> None:
    stop = fill(job, range(3))
    # Where no partition has been silent for so long that it is not waited for, none of them is over.
    found = verified(job, "--stop", stop)
    assert found.code == 1
    assert found.out == "360 records, 0 of them left out, 0 windows, 12 still open: nothing was compared\n"
    assert "error: nothing was compared: none of 12 windows is over at the end of the range" in found.err
    assert "partitions without a record that moves the clock hold them all: 3)\nhint: leave --stop out" in found.err
    everything = verified(job)
    assert (everything.code, everything.out) == (
        0,
        "360 records, 0 of them left out, 12 windows: all windows agree\n",
    ), everything.err
    # One record there is enough, for the windows before its own time.
    view(job, 190, partition=3)
    found = verified(job, "--stop", at(700))
    assert (found.code, found.out) == (
        0,
        "361 records, 0 of them left out, 6 windows, 6 still open: all windows agree\n",
    ), found.err


def test_partitions_that_are_cut_by_retention_are_such(job: Job) -> None:
    edit(job, "[kafka]", 'combine = "local"\n\n[kafka]')
    fill(job, range(4))
    job.delete_records(0, 90)
    found = verified(job, "--stop", at(700), "--json")
    assert (found.code, found.json["differences"], found.json["windows"], found.json["open"]) == (1, [], 0, 12)
    assert "hold them all: 0)" in found.json["nothing"]


def test_a_lane_that_shares_no_key_closes_its_windows_alone(job: Job) -> None:
    edit(job, 'by = ["page"]', 'by = ["user"]')
    edit(job, 'event_time = "t"', 'event_time = "t"\nkeyed_by = "user"')
    stop = fill(job, range(3))
    found = verified(job, "--stop", stop, "--json")
    assert (found.code, found.json["differences"]) == (0, []), found.err
    assert (found.json["windows"], found.json["open"]) == (3 * (MINUTES - 1), 3)
    # A record that `where` removes is not seen by the clock.
    edit(job, 'event_time = "t"', 'event_time = "t"\nwhere = "kind != \'x\'"')
    for partition in range(3):
        view(job, 1_000, partition, kind="x")
        view(job, 355, partition, kind="y")
    found = verified(job, "--stop", at(700), "--json")
    assert (found.code, found.json["differences"], found.json["open"]) == (1, [], 3)
    assert "behind the newest event times" in found.json["nothing"]


def test_a_range_without_records_is_no_agreement(job: Job) -> None:
    fill(job, range(4), minutes=1)
    found = verified(job, "--start", "1970-01-01T00:00:10Z", "--stop", "1970-01-01T00:00:40Z")
    assert found.code == 1
    assert found.out == "0 records, 0 of them left out, 0 windows: nothing was compared\n"
    first, last = BEGAN, BEGAN + timedelta(seconds=59)
    assert re.search(
        r"error: nothing was compared: no record lies in the range, which goes by the records' Kafka timestamps, not by their event "
        rf"times\nhint: those of {job.name}-in are from {first:%Y-%m-%dT%H:%M:%S}\S+Z to {last:%Y-%m-%dT%H:%M:%S}\S+Z\n",
        found.err,
    ), found.err
    create_topic(job.server, f"{job.name}-2")
    edit(job, f"{job.name}-in", f"{job.name}-2")
    assert f"{job.name}-2 has no records" in verified(job, "--json").json["nothing"]


def test_a_time_before_now_stands_by_itself(job: Job) -> None:
    fill(job, range(4), minutes=1)
    for times in (("--start", "-2h"), ("--start=-2h",), ("--start", "-2h", "--stop", "-100ms")):
        found = verified(job, *times, "--json")
        assert found.json["records"] == 60, found.err
    ran = job("run", str(job.file), "--start", "-2h", "--stop", "end", "--output", "jsonl")
    assert (ran.code, len(ran.out.splitlines())) == (0, 2), ran.err
    ran = job(
        "run", str(job.file), "--set", f'name="{job.name}-b"', "--start", "-1ms", "--stop", "end", "--output", "jsonl"
    )
    assert (ran.code, ran.out) == (0, ""), ran.err


def test_the_pipeline_of_the_readme_is_verified(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> None:
    files = {example.file: example.body for example in read(ROOT / "README.md") if example.file}
    text = files["page_counts.toml"].replace('topic = "clickstream"', f'topic = "{unique}-in"')
    servers = f'[kafka]\nbootstrap_servers = "{kafka_server.bootstrap_servers}"\n\n[source]'
    job = Job(kafka_server, unique, tmp_path, partitions=4, text=text.replace("[source]", servers, 1))
    for line in files["clickstream.jsonl"].splitlines():
        user = json.loads(line)["payload"]["user_id"]
        produce(
            kafka_server, f"{unique}-in", [line.encode()], partition=len(user) % 4 - (user == "bob"), key=user.encode()
        )
    found = verified(job)
    assert found.code == 0, found.err
    assert found.out.splitlines() == [
        "not compared: steps[2].aggregate.users: approx_distinct(payload.user_id) is none of count, sum, min, max or mean of a field",
        "6 records, 0 of them left out, 3 windows: all windows agree",
    ]
    # As the help has it, only that all of them came since.
    assert "nothing was compared: no record lies in the range" in verified(job, "--start", "-2h", "--stop", "-1h").err
