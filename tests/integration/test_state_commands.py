"""`streamcore state` and `streamcore audit` beside a real broker."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka.admin import NewPartitions

from tests.integration.kafka_tools import TIMEOUT_S, create_topic
from tests.integration.state_job import Job
from tests.servers.kafka import KafkaServer


@pytest.fixture
def job(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Job:
    return Job(kafka_server, unique, tmp_path)


def test_inspect_and_verify_tell_of_each_lane(job: Job) -> None:
    job.send(range(25), partition=1)
    assert job.run().code == 0
    empty, lane = job.state("inspect", "--json").json["lanes"]
    assert (empty["lane"], empty["complete"], empty["problems"]) == (0, True, [])
    assert (lane["complete"], lane["offsets"], lane["group_offset"]) == (True, {f"{job.name}-in": 75}, 75)
    # The clock stands at 24 s and closes nothing behind: windows 10 s to 30 s stay open, of three keys.
    assert (lane["keys"], lane["watermark"], lane["ended"]) == (3, "1970-01-01T00:00:23.999Z", True)
    assert (lane["owner"], lane["epochs"][0]) == (0, lane["epoch"])
    assert lane["bytes"] > 0
    shown = job.state("inspect")
    assert f"lane 1: epoch {lane['epoch']}, owner 0, {job.name}-in at 75 of 75" in shown.out
    verified = job.state("verify")
    assert (verified.code, verified.err) == (0, "")
    assert shown.out.startswith(f"{verified.out}local copy of 2 lanes in ")


def test_a_name_without_state_is_refused_with_the_names_that_have_some(job: Job, tmp_path: Path) -> None:
    job.send(range(5))
    assert job.run().code == 0
    wrong = ("--set", f'name="{job.name}x"')
    folder = str(tmp_path / "saved")
    asked = [
        *(("state", action, str(job.file)) for action in ("inspect", "verify", "repair")),
        ("state", "savepoint", str(job.file), folder),
        ("state", "rescale", str(job.file), "--to", "2"),
        ("state", "reset", str(job.file), "--yes"),
        ("audit", str(job.file)),
        ("why", str(job.file), "--window", "1970-01-01T00:00:10Z"),
    ]
    for arguments in asked:
        refused = job(*arguments, *wrong)
        assert (refused.code, refused.out) == (6, ""), arguments
        what, hint = refused.err.splitlines()
        assert what == f"error: there is no state of {job.name}x: topic {job.name}x.0.state.g1 does not exist"
        assert f"this broker has state of {job.name}" in hint
    # Nothing was touched.
    assert job.state("verify").code == 0


def test_state_that_was_deleted_is_no_wrong_name(job: Job) -> None:
    job.send(range(5))
    assert job.run().code == 0
    job.admin.delete_topics([job.state_topic])[job.state_topic].result(TIMEOUT_S)
    refused = job.state("verify")
    assert refused.code == 6
    assert f"though group {job.name} has offsets: topic {job.state_topic} was deleted" in refused.err
    assert "hint: restore a savepoint, or begin anew: streamcore state reset FILE" in refused.err
    reset = job.state("reset", "--yes")
    assert reset.code == 0, reset.err
    assert job.run().code == 0
    again = job.state("reset", "--yes")
    assert again.code == 0, again.err


def test_verify_says_what_is_wrong_and_inspect_goes_on(job: Job) -> None:
    job.send(range(25))
    assert job.run().code == 0
    (block,) = [key for key in job.state_keys(1) if key.startswith("D/1/")]
    value = bytearray(job.state_value(block, 1))
    value[-1] ^= 1
    job.put_state(block, bytes(value), 1)
    job.put_state("greetings", b"from elsewhere")
    refused = job.state("verify", "--json")
    assert refused.code == 6
    first, second = refused.json["lanes"]
    assert [first["complete"], second["complete"]] == [False, False]
    assert 'lane 0: the state of lane 0 cannot be used: it has a record "greetings"' in refused.err
    assert f"record {block} of the state of lane 1: it is damaged: its checksum is of other bytes" in refused.err
    assert job.state("inspect").code == 0
    assert job("audit", str(job.file)).code == 6


def test_state_of_another_size_or_pipeline_is_refused_by_name(job: Job, kafka_server: KafkaServer) -> None:
    create_topic(kafka_server, job.state_topic, 5)
    assert "STATE_PARTITION_MISMATCH: the state has 5 partitions" in job.state("verify").err
    job.file.write_text(job.file.read_text().replace('delivery = "exactly_once"', ""))
    other = job.state("inspect")
    assert (other.code, "its delivery is effectively_once" in other.err) == (3, True)


def test_a_pipeline_of_files_has_its_state_elsewhere(job: Job) -> None:
    text = job.file.read_text()
    head, _, steps = text.partition("[kafka]")
    files = f'[source]\ntype = "files"\npath = "{job.folder}/in"\nevent_time = "t"\nschema = {{ k = "string", v = "int64" }}\n'
    sink = f'[[sinks]]\ntype = "parquet"\npath = "{job.folder}/out"\n'
    job.file.write_text(head + files + steps[steps.index("[[steps]]") : steps.index("[[sinks]]")] + sink)
    for arguments in (("state", "inspect", str(job.file)), ("audit", str(job.file))):
        refused = job(*arguments)
        assert (refused.code, "it is a checkpoint on this machine" in refused.err) == (3, True), refused.err


def test_a_changed_pipeline_is_told_of(job: Job) -> None:
    job.send(range(5))
    assert job.run().code == 0
    job.file.write_text(job.file.read_text().replace("sum(v)", "max(v)"))
    refused = job.state("verify")
    assert refused.code == 6
    what, once = refused.err.splitlines()
    assert what == "error: the state cannot be gone on from"
    assert once.startswith(
        f"  all 2 lanes: the state was made by another version of {job.name}: its source, schema or steps have"
    )
    assert "made by another version" not in refused.out
    assert [len(lane["problems"]) for lane in job.state("inspect", "--json").json["lanes"]] == [1, 1]
    assert job.state("inspect").out.count("made by another version") == 1


def test_an_input_that_grew_is_told_of_once_with_the_right_advice(job: Job) -> None:
    job.send(range(5))
    assert job.run().code == 0
    job.admin.create_partitions([NewPartitions(f"{job.name}-in", 3)])[f"{job.name}-in"].result(TIMEOUT_S)
    refused = job.state("verify")
    what = f"STATE_PARTITION_MISMATCH: the state has 2 partitions, and the input {job.name}-in has 3: keys have moved between them"
    advice = "streamcore state rescale FILE --to 3 moves it, or says why it cannot"
    assert refused.err == f"error: the state cannot be gone on from\n  {what}; {advice}\n"
    assert [line.partition(":")[0] for line in refused.out.splitlines()] == ["lane 0", "lane 1"]
    assert job.state("inspect").out.count(what) == 1


def test_the_audit_adds_up_lane_by_lane(job: Job) -> None:
    assert job("topics", "create", str(job.file)).code == 0
    assert job("audit", str(job.file)).out == "nothing is committed yet\n"
    job.send(range(25))
    assert job.run().code == 0
    found = job("audit", str(job.file), "--json")
    assert (found.code, found.json["adds_up"], found.json["differences"]) == (0, True, [])
    # Four of 25 seconds have no place, for three keys.
    expected = {"read": 75, "applied": 63, "filtered": 12}
    for lane in ("0", "1"):
        assert {name: count for name, count in found.json["lanes"][lane].items() if count} == expected
    assert job("audit", str(job.file)).out.splitlines()[-1] == "adds up: read 150 = applied 126 + filtered 24"


def test_lanes_that_meet_have_their_own_line(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> None:
    job = Job(kafka_server, unique, tmp_path, keyed=False)
    job.send(range(25))
    assert job.run().code == 0
    lanes = job.state("verify", "--json")
    assert (lanes.code, [lane["lane"] for lane in lanes.json["lanes"]]) == (0, [0, 1, -1])
    assert lanes.json["lanes"][2]["keys"] == 6
    audited = job("audit", str(job.file))
    assert (audited.code, "where lanes meet, epoch" in audited.out) == (0, True)


def test_topics_lists_and_makes_those_of_the_state(job: Job) -> None:
    plan = job("topics", "plan", str(job.file)).out
    assert f"{job.state_topic}  state  missing; would be created: 2 partitions, cleanup.policy=compact" in plan
    assert "combine" not in plan
    made = job("topics", "create", str(job.file))
    assert (made.code, f"{job.state_topic}  state  created: 2 partitions" in made.out) == (0, True)
    assert f"{job.state_topic}  state  exists: 2 partitions" in job("topics", "plan", str(job.file)).out
    job.send(range(5))
    assert job.run().code == 0
    job.file.write_text(
        job.file.read_text()
        .replace('keyed_by = "k"', "")
        .replace('combine = "auto"', 'combine = "local"')
        .replace(f'"{job.name}-in"', f'"{job.name}-2"')
    )
    other = job("topics", "plan", str(job.file)).out
    assert f"{job.name}.0.combine.g1  state  missing; would be created: 1 partitions" in other
    assert f"{job.state_topic}  state  exists: 2 partitions\n" in other


def test_a_range_of_a_topic_is_verified_against_polars(job: Job) -> None:
    job.send(range(200))
    found = job("verify", str(job.file), "--against", "polars", "--json")
    assert (found.code, found.json["differences"], found.json["records"]) == (0, [], 1_200), found.err
    assert found.json["windows"] == 2 * 3 * 20
    assert (
        job("verify", str(job.file), "--against", "polars", "--stop", "2020-01-01T00:00:00Z", "--json").json["records"]
        == 0
    )
    # To a time: those that are not over are not compared.
    time.sleep(1.1)
    now = datetime.now(UTC).isoformat()
    job.send(range(200, 220))
    until = job("verify", str(job.file), "--against", "polars", "--stop", now, "--json").json
    assert (until["records"], until["differences"], until["windows"], until["open"]) == (1_200, [], 2 * 3 * 19, 2 * 3)
    # Nothing was committed or made.
    assert f"there is no state of {job.name}" in job.state("inspect").err
