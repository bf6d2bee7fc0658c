"""Joins of topics with `delivery = "exactly_once"`: one lane is the same partition of both, in whichever worker it is.

Crashes are in `tests/faults/test_joins.py`. Invariant: a reader of committed records sees each pair of rows once.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition

import streamcore as sc
from streamcore.errors import ConfigError
from streamcore.run import Run
from tests.integration.kafka_tools import TIMEOUT_S, committed_offsets, connection, create_topic, read_topic
from tests.integration.state_job import Job
from tests.servers.kafka import KafkaServer

PARTITIONS = 4
KEYS = 40
PATIENCE_S = 60.0
HAND_OVER_S = 3.0


def _source(server: KafkaServer, topic: str, value: str, **keys: Any) -> sc.Pipeline:
    settings = {"event_time": "t", "event_time_unit": "ms", "out_of_orderness": "0s", "idle_timeout": "1h", **keys}
    schema = {"k": "string", value: "int64"}
    return sc.kafka(topic, connection=connection(server, session_timeout="6s"), schema=schema, keyed_by="k", **settings)


def _streams(server: KafkaServer, name: str) -> sc.Pipeline:
    right = _source(server, f"{name}-right", "m")
    flow = _source(server, f"{name}-left", "n").join(right, on="k", how="left", within="1s", name="right")
    return flow.sink_kafka(f"{name}-out", mode="append")


def _table(server: KafkaServer, name: str) -> sc.Pipeline:
    table = _source(server, f"{name}-right", "m", event_time=None, event_time_unit=None, out_of_orderness=None)
    flow = _source(server, f"{name}-left", "n").join_table(table, on="k", how="left", name="right")
    return flow.sink_kafka(f"{name}-out", mode="append")


def _start(flow: sc.Pipeline, name: str, folder: Path, worker: str = "w", **options: Any) -> Run:
    settings = {
        "state_dir": str(folder / worker),
        "delivery": "exactly_once",
        "combine": "none",
        "commit_interval": "100ms",
        "instance_id": worker,
    }
    return flow.configure(**settings).start(name=name, **options)


def _run(flow: sc.Pipeline, name: str, folder: Path, **options: Any) -> Any:
    return _start(flow, name, folder, stop="end", **options).wait()


def _topics(server: KafkaServer, name: str) -> None:
    for side in ("left", "right"):
        create_topic(server, f"{name}-{side}", PARTITIONS)


def _send(server: KafkaServer, topic: str, column: str, numbers: range, *, shift_ms: int = 0) -> None:
    """A row a number; a key is in the same partition of each topic."""
    producer = Producer({"bootstrap.servers": server.bootstrap_servers, "enable.idempotence": True, "linger.ms": 5})
    for number in numbers:
        key = number % KEYS
        row = {"t": number * 100 + shift_ms, "k": f"k{key}", column: number}
        producer.produce(topic, key=row["k"], value=json.dumps(row), partition=key % PARTITIONS)
        producer.poll(0)
    assert producer.flush(TIMEOUT_S) == 0


def _rows(server: KafkaServer, name: str) -> Counter[tuple[str, int, int | None]]:
    rows = (json.loads(message.value()) for message in read_topic(server, f"{name}-out"))
    return Counter((row["k"], row["n"], row["m"]) for row in rows)


def _pairs(numbers: range, *, without: range = range(0)) -> Counter[tuple[str, int, int | None]]:
    """Rows of one key are 4 s apart, so each has but one partner."""
    return Counter((f"k{number % KEYS}", number, None if number in without else number) for number in numbers)


def _await(what: Any, wanted: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (found := what()) != wanted:
        assert time.monotonic() < deadline, f"{found} is not {wanted}"
        time.sleep(0.1)


def _offsets(server: KafkaServer, name: str) -> int:
    """Records of both topics that the group is past."""
    sides = (committed_offsets(server, name, f"{name}-{side}", PARTITIONS) for side in ("left", "right"))
    return sum(max(0, offset) for side in sides for offset in side.values())


def test_a_run_goes_on_from_the_state_of_both_inputs(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> None:
    _topics(kafka_server, unique)
    _send(kafka_server, f"{unique}-left", "n", range(1000))
    _send(kafka_server, f"{unique}-right", "m", range(600), shift_ms=40)
    flow = _streams(kafka_server, unique)
    run = _start(flow, unique, tmp_path)
    _await(lambda: _offsets(kafka_server, unique), 1600)
    run.stop()
    first = run.wait()
    assert (first.delivery, first.state) == ("exactly_once", "stopped")
    assert {name: counts["read"] for name, counts in first.inputs.items()} == {"": 1000, "right": 600}
    held = sum(_rows(kafka_server, unique).values())
    assert 0 < held < 1000, "the rest waits for the other side"
    _send(kafka_server, f"{unique}-right", "m", range(600, 990), shift_ms=40)
    # On another machine: nothing but the broker's state is asked for.
    second = _run(flow, unique, tmp_path / "there")
    assert second.state == "ended"
    assert {name: counts["read"] for name, counts in second.inputs.items()} == {"": 0, "right": 390}
    assert _rows(kafka_server, unique) == _pairs(range(1000), without=range(990, 1000))
    third = _run(flow, unique, tmp_path)
    assert third.ledger.read == 0
    assert sum(_rows(kafka_server, unique).values()) == 1000, "nothing new: nothing leaves again"


def test_two_workers_give_the_rows_of_one_and_hand_over(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> None:
    _topics(kafka_server, unique)
    flow = _streams(kafka_server, unique)
    left, right = f"{unique}-left", f"{unique}-right"
    first = _start(flow, unique, tmp_path, "first")
    _send(kafka_server, left, "n", range(2000))
    _send(kafka_server, right, "m", range(1000), shift_ms=40)
    _await(lambda: _offsets(kafka_server, unique), 3000)
    second = _start(flow, unique, tmp_path, "second")
    # Each has two partitions of both topics.
    deadline = time.monotonic() + PATIENCE_S
    number = 2000
    while not (second.report.ledger.read and second.report.inputs["right"]["read"]):
        assert time.monotonic() < deadline
        _send(kafka_server, left, "n", range(number, number + 400))
        _send(kafka_server, right, "m", range(number - 1000, number - 600), shift_ms=40)
        number += 400
        time.sleep(0.3)
    assert len({lane % (1 << 24) for lane in second.report.lanes}) == 2
    first.stop()
    began = time.monotonic()
    assert first.wait().state == "stopped"
    _send(kafka_server, left, "n", range(number, number + 400))
    _send(kafka_server, right, "m", range(number - 1000, number + 400), shift_ms=40)
    # Those of the first that are not read yet are read by the second.
    _await(lambda: _offsets(kafka_server, unique), 2 * (number + 400))
    took_s = time.monotonic() - began
    second.stop()
    assert second.wait().state == "stopped"
    _run(flow, unique, tmp_path)
    assert _rows(kafka_server, unique) == _pairs(range(number + 400))
    assert took_s < 10 * HAND_OVER_S, "the lanes were handed over, and not waited for until a session was over"


def test_a_table_is_read_to_its_end_before_rows_are_looked_up_also_after_a_restart(
    kafka_server: KafkaServer, unique: str, tmp_path: Path
) -> None:
    _topics(kafka_server, unique)
    flow = _table(kafka_server, unique)
    left, right = f"{unique}-left", f"{unique}-right"
    _send(kafka_server, right, "m", range(KEYS))
    _send(kafka_server, left, "n", range(KEYS))
    _run(flow, unique, tmp_path)
    assert _rows(kafka_server, unique) == _pairs(range(KEYS))
    # Rows of the table lie behind many of the stream, and are looked up all the same.
    _send(kafka_server, left, "n", range(KEYS, 5_000))
    _send(kafka_server, right, "m", range(5_000, 60_000 + KEYS))
    _run(flow, unique, tmp_path)
    newest = {number % KEYS: number for number in range(60_000, 60_000 + KEYS)}
    later = Counter((f"k{number % KEYS}", number, newest[number % KEYS]) for number in range(KEYS, 5_000))
    assert _rows(kafka_server, unique) == _pairs(range(KEYS)) + later


def test_topics_that_cannot_be_joined_so_are_refused(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> None:
    create_topic(kafka_server, f"{unique}-left", 3)
    create_topic(kafka_server, f"{unique}-right", 2)
    flow = _streams(kafka_server, unique)
    with pytest.raises(ConfigError, match=rf"{unique}-left has 3, {unique}-right has 2 partitions"):
        _run(flow, unique, tmp_path)
    with pytest.raises(ConfigError) as refused:
        flow.configure(state_dir=str(tmp_path), delivery="exactly_once").run(name=unique, stop="end")
    assert 'each partition has to be joined by itself: say so with combine = "none"' in str(refused.value)
    at_least_once = flow.configure(state_dir=str(tmp_path), combine="none")
    with pytest.raises(ConfigError, match="cannot be joined partition by partition"):
        at_least_once.run(name=f"{unique}-b", stop="end")


TEXT = """
name = "NAME"
delivery = "exactly_once"
combine = "none"
commit_interval = "100ms"
state_dir = "FOLDER"

[kafka]
bootstrap_servers = "SERVERS"
session_timeout = "6s"

[source]
type = "kafka"
topic = "NAME-in"
event_time = "t"
event_time_unit = "ms"
out_of_orderness = "0s"
keyed_by = "k"
schema = { k = "string", n = "int64" }

[sources.right]
type = "kafka"
topic = "NAME-right"
event_time = "t"
event_time_unit = "ms"
out_of_orderness = "0s"
keyed_by = "k"
schema = { k = "string", m = "int64" }

[[steps]]
join = "right"
on = ["k"]
within = "1s"

[[sinks]]
type = "kafka"
topic = "NAME-out"
mode = "append"
"""


AT_THE_END = Counter((f"k{number % KEYS}", number, number) for number in range(496, 500))
"""The last row of each partition, which leaves because the input ends; a run that goes on gives it again."""


@pytest.fixture
def job(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Job:
    """A join that has read 500 records of each side."""
    job = Job(kafka_server, unique, tmp_path, partitions=PARTITIONS, text=TEXT)
    create_topic(kafka_server, f"{unique}-right", PARTITIONS)
    _send(kafka_server, f"{unique}-in", "n", range(500))
    _send(kafka_server, f"{unique}-right", "m", range(500), shift_ms=40)
    assert job.run().code == 0
    return job


def test_the_commands_know_both_topics(job: Job, unique: str) -> None:
    left, right = f"{unique}-in", f"{unique}-right"
    lanes = job.state("inspect", "--json").json["lanes"]
    assert [lane["lane"] for lane in lanes] == list(range(PARTITIONS))
    assert {tuple(lane["offsets"].items()) for lane in lanes} == {((left, 125), (right, 125))}
    assert {tuple(lane["group_offset"].items()) for lane in lanes} == {((left, 125), (right, 125))}
    told = job.state("verify")
    assert told.code == 0, told.err
    assert f"{left} at 125 of 125, {right} at 125 of 125" in told.out
    audit = job("audit", str(job.file))
    assert audit.code == 0, audit.err
    assert "adds up: read 1000 = applied 1000" in audit.out
    plan = job("topics", "plan", str(job.file))
    assert f"{unique}.0.state.g1  state  exists: {PARTITIONS} partitions" in plan.out
    explained = job("explain", str(job.file))
    assert "lanes    partition by partition of both topics" in explained.out
    verified = job("verify", str(job.file), "--against", "polars")
    assert verified.code == 3
    assert "join" in verified.err


def test_a_savepoint_puts_both_inputs_back(job: Job, kafka_server: KafkaServer, unique: str, tmp_path: Path) -> None:
    left, right, folder = f"{unique}-in", f"{unique}-right", str(tmp_path / "saved")
    assert job.state("savepoint", folder).code == 0
    _send(kafka_server, left, "n", range(500, 800))
    _send(kafka_server, right, "m", range(500, 800), shift_ms=40)
    assert job.run().code == 0
    assert _rows(kafka_server, unique) == _pairs(range(800)) + AT_THE_END
    restored = job.state("restore", folder)
    assert restored.code == 0, restored.err
    assert committed_offsets(kafka_server, unique, right, PARTITIONS) == dict.fromkeys(range(PARTITIONS), 125)
    assert job.run().code == 0
    # What was committed since comes again, once.
    assert _rows(kafka_server, unique) == _pairs(range(800)) + _pairs(range(500, 800)) + AT_THE_END + AT_THE_END


def test_a_reset_begins_anew_in_both_inputs(job: Job, kafka_server: KafkaServer, unique: str) -> None:
    assert job.state("reset", "--yes").code == 0
    assert job.run().code == 0
    assert _rows(kafka_server, unique) == _pairs(range(500)) + _pairs(range(500))


def test_a_torn_lane_is_repaired_with_both_inputs(job: Job, kafka_server: KafkaServer, unique: str) -> None:
    left, right = f"{unique}-in", f"{unique}-right"
    _send(kafka_server, left, "n", range(500, 520))
    _send(kafka_server, right, "m", range(500, 520), shift_ms=40)
    assert job.run().code == 0
    newest = max((key for key in job.state_keys(0) if key.startswith("D/")), key=lambda key: int(key.split("/")[1]))
    job.put_state(newest, None, 0)
    torn = job.run()
    assert torn.code == 6
    assert "is not whole" in torn.err
    done = job.state("repair", "--json")
    assert done.code == 0, done.err
    (lane,) = done.json["lanes"]
    assert (lane["lane"], set(lane["again"])) == (0, {left, right})
    assert job.run().code == 0
    assert set(_rows(kafka_server, unique)) == set(_pairs(range(520)))


def test_retention_that_overtook_either_input_is_told(job: Job, kafka_server: KafkaServer, unique: str) -> None:
    right = f"{unique}-right"
    _send(kafka_server, f"{unique}-in", "n", range(500, 600))
    _send(kafka_server, right, "m", range(500, 600), shift_ms=40)
    part = TopicPartition(right, 2, 130)
    job.admin.delete_records([part])[part].result(TIMEOUT_S)
    refused = job.run()
    assert refused.code == 6
    assert f"records 125 to 129 of partition 2 of {right} were deleted before they were read" in refused.err
    verified = job.state("verify")
    assert verified.code == 6
    assert f"records 125 to 129 of partition 2 of {right}" in verified.err
    assert job.run("--accept-gap").code == 0
    audited = job("audit", str(job.file), "--json").json
    assert (audited["adds_up"], audited["skipped"]) == (True, {"2": {right: {"offsets": 5, "spans": [[125, 129]]}}})
    gone = {500 + number for number in range(100) if number % KEYS % PARTITIONS == 2}
    lost = set(_pairs(range(500, 600))) - set(_rows(kafka_server, unique))
    assert len(lost) == 5
    assert {row[1] for row in lost} <= gone


@pytest.mark.parametrize(("side", "moved"), [("in", 1), ("right", 1), ("in", -1), ("right", -1)])
def test_offsets_of_the_group_are_held_against_each_position(
    job: Job, kafka_server: KafkaServer, unique: str, side: str, moved: int
) -> None:
    """Ahead of the state in one input: refused. Behind, in either: the state wins."""
    from confluent_kafka import Consumer

    consumer = Consumer({"bootstrap.servers": kafka_server.bootstrap_servers, "group.id": unique})
    consumer.commit(offsets=[TopicPartition(f"{unique}-{side}", 1, 125 + moved)], asynchronous=False)
    consumer.close()
    _send(kafka_server, f"{unique}-in", "n", range(500, 600))
    _send(kafka_server, f"{unique}-right", "m", range(500, 600), shift_ms=40)
    answer = job.run()
    if moved < 0:
        assert answer.code == 0, answer.err
        assert _rows(kafka_server, unique) == _pairs(range(600)) + AT_THE_END
        return
    assert answer.code == 6
    assert "past every committed manifest" in answer.err
    verified = job.state("verify")
    assert f"the group is at 126 of {unique}-{side}, past the newest manifest, which is at 125" in verified.err


def test_a_topic_that_was_made_again_is_refused(job: Job, unique: str) -> None:
    job.make_again(f"{unique}-right", PARTITIONS)
    answer = job.run()
    assert answer.code == 6
    assert "made from another input" in answer.err
    assert "made from another input" in job.state("verify").err
