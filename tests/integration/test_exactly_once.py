"""`delivery = "exactly_once"` on a real broker: what a run leaves, what the next one goes on from, who may not go on.

Crashes and rebalances are in `tests/faults`. Invariant: a reader of committed records sees every row once.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import streamcore as sc
from streamcore.errors import ConfigError, FencedError, StateError
from streamcore.kafka_client import Cluster
from streamcore.lane_states import LaneStates
from streamcore.runner import EPOCH_ROWS_MAX
from tests.integration.kafka_tools import TIMEOUT_S, committed_offsets, connection, create_topic, produce, read_topic
from tests.servers.kafka import KafkaServer

PIECE_ROWS = 64 << 10
"""Rows that leave the engine together."""


def _flow(
    server: KafkaServer, name: str, *, keyed: bool = True, aggregate: str = "count()", session_timeout: str = "6s"
) -> sc.Pipeline:
    source = sc.kafka(
        f"{name}-in",
        connection=connection(server, session_timeout=session_timeout),
        event_time="t",
        event_time_unit="ms",
        out_of_orderness="0s",
        idle_timeout="1h",
        schema={"k": "string", "v": "int64"},
        keyed_by="k" if keyed else None,
    )
    return _windowed(source, aggregate).sink_kafka(f"{name}-out")


def _windowed(source: sc.Pipeline, aggregate: str = "count()") -> sc.Pipeline:
    return source.window(sc.tumbling("10s"), by="k").agg(n=aggregate)


def _run(flow: sc.Pipeline, name: str, folder: Path, **options: Any) -> Any:
    settings = {"state_dir": str(folder), "delivery": "exactly_once", "commit_interval": "100ms"}
    return flow.configure(**settings).run(name=name, stop="end", **options)


def _send(server: KafkaServer, name: str, times_s: range, *, partition: int = 0, key: bytes = b"a") -> None:
    values = [json.dumps({"t": at * 1000, "k": key.decode(), "v": at}).encode() for at in times_s]
    produce(server, f"{name}-in", values, partition=partition, key=key)


def _rows(server: KafkaServer, name: str) -> Counter[tuple[str, str, int]]:
    found: Counter[tuple[str, str, int]] = Counter()
    for message in read_topic(server, f"{name}-out"):
        row = json.loads(message.value())
        found[row["k"], row["window_start"][11:19], row["n"]] += 1
    return found


def test_a_run_goes_on_from_the_state_in_its_topic(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> None:
    create_topic(kafka_server, f"{unique}-in", 2)
    _send(kafka_server, unique, range(25))
    first = _run(_flow(kafka_server, unique), unique, tmp_path / "here")
    assert (first.delivery, first.state, first.ledger.read) == ("exactly_once", "ended", 25)
    whole = {("a", "00:00:00", 10): 1, ("a", "00:00:10", 10): 1, ("a", "00:00:20", 5): 1}
    assert _rows(kafka_server, unique) == whole
    assert committed_offsets(kafka_server, unique, f"{unique}-in", 2) == {0: 25, 1: 0}
    # Nothing new: no window closes again. On another machine, as nothing but the broker's state is asked for.
    again = _run(_flow(kafka_server, unique), unique, tmp_path / "there")
    assert (again.ledger.read, _rows(kafka_server, unique)) == (0, whole)
    _send(kafka_server, unique, range(25, 40))
    third = _run(_flow(kafka_server, unique), unique, tmp_path / "there")
    assert third.ledger.read == 15
    revised = _rows(kafka_server, unique) - Counter(whole)
    assert revised == {("a", "00:00:20", 10): 1, ("a", "00:00:30", 10): 1}


def test_lanes_that_meet_go_on_together(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> None:
    create_topic(kafka_server, f"{unique}-in", 2)
    for partition in range(2):
        _send(kafka_server, unique, range(15), partition=partition)
    _run(_flow(kafka_server, unique, keyed=False), unique, tmp_path, combine="local")
    assert _rows(kafka_server, unique) == {("a", "00:00:00", 20): 1, ("a", "00:00:10", 10): 1}
    for partition in range(2):
        _send(kafka_server, unique, range(15, 25), partition=partition)
    _run(_flow(kafka_server, unique, keyed=False), unique, tmp_path, combine="local")
    rows = _rows(kafka_server, unique)
    assert rows["a", "00:00:10", 20] == 1
    assert rows["a", "00:00:20", 10] == 1
    assert set(rows.values()) == {1}


@pytest.mark.parametrize("slow", [-1, 0, 1])
def test_lanes_that_meet_wait_for_the_state_of_each_and_for_what_they_share(
    kafka_server: KafkaServer, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: int
) -> None:
    """One lane is far ahead of the other, so windows would leave without that."""
    create_topic(kafka_server, f"{unique}-in", 2)
    reached = {0: 25, 1: 12}
    for partition, end in reached.items():
        _send(kafka_server, unique, range(end), partition=partition)
    flow = _flow(kafka_server, unique, keyed=False).configure(state_dir=str(tmp_path), delivery="exactly_once")
    worker = flow.configure(commit_interval="100ms", combine="local").start(name=unique)
    deadline = time.monotonic() + TIMEOUT_S
    while committed_offsets(kafka_server, unique, f"{unique}-in", 2) != reached:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    worker.stop()
    worker.wait()
    for partition, end in reached.items():
        _send(kafka_server, unique, range(end, 40), partition=partition)
    read, reads, began = LaneStates.read, Counter[int](), time.monotonic()

    def read_later(states: LaneStates, lanes: Sequence[int], **more: Any) -> dict[int, bool]:
        """Of one lane there is more to read for so long that all records of the others could be read meanwhile."""
        reads.update(lanes)
        is_read = time.monotonic() - began > 4
        return {lane: done and (lane != slow or is_read) for lane, done in read(states, lanes, **more).items()}

    monkeypatch.setattr(LaneStates, "read", read_later)
    _run(_flow(kafka_server, unique, keyed=False), unique, tmp_path, combine="local")
    assert reads[slow] > 1
    assert max(reads[lane] for lane in (-1, 0, 1) if lane != slow) == 1
    assert _rows(kafka_server, unique) == {
        ("a", start, 20): 1 for start in ("00:00:00", "00:00:10", "00:00:20", "00:00:30")
    }


def test_a_second_worker_is_refused_where_lanes_meet_and_the_first_goes_on(
    kafka_server: KafkaServer, unique: str, tmp_path: Path
) -> None:
    create_topic(kafka_server, f"{unique}-in", 2)
    flow = _flow(kafka_server, unique, keyed=False, session_timeout="2s")
    settings = {"delivery": "exactly_once", "commit_interval": "100ms", "combine": "local"}
    first = flow.configure(**settings, state_dir=str(tmp_path / "first"), instance_id="first").start(name=unique)
    _await_member(kafka_server, unique)
    second = flow.configure(**settings, state_dir=str(tmp_path / "second"), instance_id="second")
    with pytest.raises(FencedError, match=r"another live member .streamcore-first.*stop the other worker") as refused:
        second.run(name=unique)
    assert refused.value.exit_code == 7
    _send(kafka_server, unique, range(25))
    deadline = time.monotonic() + TIMEOUT_S
    while committed_offsets(kafka_server, unique, f"{unique}-in", 2)[0] != 25:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    first.stop()
    assert first.wait().state == "stopped"
    # Its seat is free at once.
    assert second.run(name=unique, stop="end").state == "ended"
    assert _rows(kafka_server, unique) == {("a", "00:00:00", 10): 1, ("a", "00:00:10", 10): 1, ("a", "00:00:20", 5): 1}


def _await_member(server: KafkaServer, group: str) -> None:
    cluster, deadline = Cluster(connection(server)), time.monotonic() + TIMEOUT_S
    while not cluster.members(group):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_state_of_another_pipeline_or_input_is_refused(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> None:
    create_topic(kafka_server, f"{unique}-in", 1)
    _send(kafka_server, unique, range(5))
    _run(_flow(kafka_server, unique), unique, tmp_path)
    with pytest.raises(StateError, match="source, schema or steps have changed"):
        _run(_flow(kafka_server, unique, aggregate="sum(v)"), unique, tmp_path)
    produce(kafka_server, f"{unique}.0.state.g1", [b"greetings"], key=b"from elsewhere")
    with pytest.raises(StateError, match=r"a record .from elsewhere. that streamcore did not write"):
        _run(_flow(kafka_server, unique), unique, tmp_path)


def test_what_is_no_part_of_a_transaction_is_refused(tmp_path: Path) -> None:
    flow = _windowed(sc.kafka("in", event_time="t", schema={"k": "string"}))
    with pytest.raises(ConfigError) as refused:
        _run(flow.sink_kafka("out").sink_console(), "p", tmp_path)
    assert "exactly_once cannot be kept: sinks[1] is of type console" in str(refused.value)
    records = _windowed(sc.records([{"k": "a"}]))
    with pytest.raises(
        ConfigError, match="its source is Kafka, or files where no other is, and this one is of type records"
    ):
        _run(records, "p", tmp_path)


def test_many_rows_leave_in_several_transactions_but_for_those_of_the_end(
    kafka_server: KafkaServer, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window of more keys than a transaction has time for closes; the next one, of as many, is closed by the end."""
    monkeypatch.setenv("STREAMCORE_COMMIT_TRACE", str(tmp_path))
    create_topic(kafka_server, f"{unique}-in", 1)
    keys = 250_000
    records = [f'{{"t":{at_ms},"k":"k{key}"}}'.encode() for at_ms in (0, 10_000) for key in range(keys)]
    produce(kafka_server, f"{unique}-in", records, partition=0, key=b"")
    # A transaction may stay open for a second, which is not enough for either.
    flow = _flow(kafka_server, unique, keyed=False, session_timeout="1s")
    report = _run(flow, unique, tmp_path / "here", combine="local")
    assert (report.state, report.ledger.read) == ("ended", 2 * keys)
    rows = _rows(kafka_server, unique)
    assert (len(rows), set(rows.values())) == (2 * keys, {1})
    (trace,) = tmp_path.glob("*.jsonl")
    told = [json.loads(line) for line in trace.read_text().splitlines()[1:]]
    sealed = [
        sum(lane["outputs"] for lane in one["event"]["lanes"]) for one in told if one["event"]["event"] == "sealed"
    ]
    *before, last = sealed
    assert sum(before) == keys + 2  # of each lane the first is committed whatever is in it
    assert max(before) <= EPOCH_ROWS_MAX + 2 * PIECE_ROWS
    assert last == keys + 2  # that the input has ended is said of both lanes
