"""Worker: a keyed count under `exactly_once`, each of its commits beside a bare producer's of the same records.

Argument: `{"bootstrap", "topic", "keys", "commits"}`. The topic holds a record of each of `keys` keys; this worker sends more. It
prints `{"commits", "restore", "restore_copied", "rows", "version"}`:

- `commits`: by how many keys an epoch changed, of each epoch the seconds of streamcore's commit, from the sealing of the state
  on, those of the bare producer, and the bytes.
- `restore_copied`: the seconds of reading and rebuilding the keys in a second run, from its local copies.
- `restore`: the same in a third run, from the topic.
- `rows`: how many keys there are in the end, and their counts added up: the answer.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamcore as sc
import streamcore.run
from streamcore import _core
from streamcore.epochs import Epochs
from streamcore.kafka_producer import OWNED_SETTINGS, PRODUCER_SETTINGS
from streamcore.layouts import STATE_SETTINGS
from streamcore.transactions import Transactions

with warnings.catch_warnings(record=True):
    import quixstreams  # noqa: F401
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.python.committed_topic import last_values  # noqa: E402

PARTITIONS = 4
CHANGED = (1_000, 10_000, 100_000)
"""Keys that the epochs change whose commits are measured."""
SEED = 6
"""Of which keys these are: neighbours with equal counts would be told in next to no bytes."""

WAIT_S = 300.0
HOUR_MS = 3_600_000


@dataclass
class Bare:
    """What anyone would write: begin, produce, flush, offsets, commit."""

    bootstrap: str
    name: str
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        settings = {**PRODUCER_SETTINGS, **OWNED_SETTINGS, "transactional.id": f"{self.name}-bare"}
        self.producer = Producer({"bootstrap.servers": self.bootstrap, **settings})
        self.producer.init_transactions(30)
        self.group = Consumer({"bootstrap.servers": self.bootstrap, "group.id": f"{self.name}-bare"})
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap})

    def twin(self, topic: str) -> str:
        """The topic in the place of ours, made as ours is."""
        twin = f"{topic}.bare"
        if topic not in self.seen:
            self.seen.add(topic)
            partitions = len(self.admin.list_topics(topic, 10).topics[topic].partitions)
            new = NewTopic(twin, num_partitions=partitions, replication_factor=1, config=STATE_SETTINGS)
            self.admin.create_topics([new])[twin].result(30)
            self.producer.list_topics(twin, 10)
        return twin

    def commit(self, records: Sequence[dict[str, Any]], offsets: list[TopicPartition]) -> float:
        """Sends the records in a transaction; gives how long it took, s."""
        records = [{**record, "topic": self.twin(record["topic"])} for record in records]
        metadata = self.group.consumer_group_metadata()
        began = time.perf_counter()
        self.producer.begin_transaction()
        for record in records:
            self.producer.produce(**record)
        self.producer.flush(30)
        self.producer.send_offsets_to_transaction(offsets, metadata, 30)
        self.producer.commit_transaction(30)
        return time.perf_counter() - began


class Turns:
    """Takes the times of commits and restores, as the worker commits and restores."""

    def __init__(self, bare: Bare, topic: str) -> None:
        self.bare, self.topic = bare, topic
        self.commits: list[tuple[float, float, int]] = []
        self.restore_s = 0.0
        self.lanes_restored = 0
        self.position = 0
        self.beside = True
        """Whether the bare producer sends the same."""
        self._sent: list[dict[str, Any]] = []
        self._commit = self._around(Epochs, "commit", self._timed_commit)
        self._send = self._around(Transactions, "send", self._noted_send)
        self._read = self._around(Epochs, "_do_read_state", self._timed_read)
        self._restore = self._around(Epochs, "_do_restore", self._timed_restore)

    @staticmethod
    def _around(owner: type, name: str, replacement: Callable[..., Any]) -> Callable[..., Any]:
        original: Callable[..., Any] = getattr(owner, name)

        def call(*arguments: Any, **more: Any) -> Any:  # a function, so that the owner's instance comes first
            return replacement(*arguments, **more)

        setattr(owner, name, call)
        return original

    def _timed_commit(self, epochs: Epochs, *, ended: bool) -> bool:
        self._sent = []
        epochs.stages()  # waits for the records that were handed over: they are no part of the commit
        began = time.perf_counter()
        done: bool = self._commit(epochs, ended=ended)
        seconds = time.perf_counter() - began
        if self._sent and done and self.beside:
            offsets = [TopicPartition(self.topic, lane, at) for lane, at in epochs.positions.items() if lane >= 0]
            size = sum(len(record["value"] or b"") for record in self._sent)
            self.commits.append((seconds, self.bare.commit(self._sent, offsets), size))
        self.position = sum(epochs.positions.values())
        return done

    def _noted_send(self, transactions: Transactions, topic: str, **record: Any) -> None:
        place = {} if record.get("partition") is None else {"partition": record["partition"]}
        self._sent.append({"topic": topic, "key": record["key"], "value": record["value"], **place})
        self._send(transactions, topic, **record)

    def _timed_read(self, epochs: Epochs, action: Any) -> Any:
        return self._timed(self._read, epochs, action)

    def _timed_restore(self, epochs: Epochs, action: Any) -> Any:
        answer = self._timed(self._restore, epochs, action)
        self.lanes_restored += len(action["lanes"])
        return answer

    def _timed(self, do: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return do(*arguments)
        finally:
            self.restore_s += time.perf_counter() - began

    def await_position(self, position: int) -> None:
        deadline = time.monotonic() + WAIT_S
        while self.position < position:
            if time.monotonic() > deadline:
                raise RuntimeError(f"only {self.position} of {position} records were committed within {WAIT_S:.0f} s")
            time.sleep(0.02)


def main() -> None:
    arguments = json.loads(sys.argv[1])
    bootstrap, topic, keys = (arguments[name] for name in ("bootstrap", "topic", "keys"))
    name = f"state-{uuid.uuid4().hex[:8]}"
    pipeline = (
        sc.kafka(
            topic,
            connection={"bootstrap_servers": bootstrap},
            event_time="t",
            event_time_unit="ms",
            keyed_by="k",
            schema={"k": "string"},
        )
        .window(sc.tumbling("1h"), by="k")
        .agg(n=sc.count())
        .sink_kafka(f"{name}.out")
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STREAMCORE_STATE_DIR"] = folder
        turns = Turns(Bare(bootstrap, name), topic)
        run = pipeline.start(name=name, delivery="exactly_once", commit_interval="1s")
        turns.await_position(keys)
        sender = Sender(bootstrap, topic)
        draw = random.Random(SEED)
        commits = {
            changed: changes(turns, sender, (draw.sample(range(keys), changed) for _ in range(arguments["commits"])))
            for changed in CHANGED
        }
        run.stop()
        run.wait()
        copied_s = restored_s(turns, pipeline, name)
        turns.restore_s, turns.beside = 0.0, False
        pipeline.configure(state_cache=False).run(name=name, delivery="exactly_once", commit_interval="1s", stop="end")
    rows = counts(bootstrap, f"{name}.out")
    found = {
        "commits": commits,
        "restore": turns.restore_s,
        "restore_copied": copied_s,
        "rows": [len(rows), sum(rows)],
        "version": _core.__version__,
    }
    print(json.dumps(found))


def restored_s(turns: Turns, pipeline: sc.Pipeline, name: str) -> float:
    """A run that brings every lane back from its copy, and leaves; gives the seconds of that."""
    turns.restore_s, turns.lanes_restored, turns.beside = 0.0, 0, False
    run = pipeline.start(name=name, delivery="exactly_once", commit_interval="1s")
    deadline = time.monotonic() + WAIT_S
    while turns.lanes_restored < PARTITIONS:
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {turns.lanes_restored} lanes were restored within {WAIT_S:.0f} s")
        time.sleep(0.02)
    seconds = turns.restore_s
    run.stop()
    run.wait()
    if run.report.cache["lanes_from_copy"] != PARTITIONS:
        raise RuntimeError(f"the lanes were not all read from their copies: {run.report.cache}")
    return seconds


class Sender:
    """Sends events of users."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic = topic
        self.producer = Producer(
            {"bootstrap.servers": bootstrap, "linger.ms": 5, "queue.buffering.max.messages": 200_000}
        )

    def send(self, users: Iterable[int]) -> None:
        """One of each, which the broker has when this returns."""
        for number in users:
            partition, key, value = record(number)
            while True:
                try:
                    self.producer.produce(self.topic, value, key, partition)
                    break
                except BufferError:
                    self.producer.poll(0.1)
        if self.producer.flush(60):
            raise RuntimeError(f"the broker did not take every record of {self.topic}")


def changes(turns: Turns, sender: Sender, epochs: Iterable[Sequence[int]]) -> list[tuple[float, float, int]]:
    """Commits of epochs that changed these keys: one of each, or more where keys came too late for it and were the next one's."""
    before = len(turns.commits)
    for users in epochs:
        end = turns.position + len(users)
        sender.send(users)
        turns.await_position(end)
    return turns.commits[before:]


def record(number: int) -> tuple[int, bytes, bytes]:
    """Partition, key and value of an event of user `number`."""
    user = f"u{number:07d}"
    return number % PARTITIONS, user.encode(), f'{{"t":{HOUR_MS + number % HOUR_MS},"k":"{user}"}}'.encode()


def counts(bootstrap: str, topic: str) -> list[int]:
    """The count of each key, as a reader of committed records sees it."""
    return [json.loads(value)["n"] for value in last_values(bootstrap, topic).values()]


if __name__ == "__main__":
    main()
