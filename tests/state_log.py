"""A topic of the state in this process, and a worker on it: the real engine, readings and copies, without a broker.

The topic has offsets as a broker gives them: a marker behind each epoch, and holes where records were compacted away.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import orjson
from confluent_kafka import KafkaError

from streamcore import _core
from streamcore.config import KafkaConnection
from streamcore.copy_files import NO_COUNTS, CopyFiles
from streamcore.errors import SourceError
from streamcore.kafka_questions import Question
from streamcore.lane_states import LaneStates
from streamcore.manifests import Identity, facts_of

PIPELINE = "job"
INPUT = "job-in"
TOPIC = "job.0.state.g1"
PARTITIONS = 2
ANSWER_S = 5.0
CONSUME_AT_ONCE = 7
"""Fewer than a reader asks for, so that it has to ask again."""

SPEC = json.dumps(
    {
        "source": {
            "event_time": "t",
            "event_time_unit": "ms",
            "out_of_orderness_ms": 0,
            "keyed_by": "k",
            "schema": {"k": "string", "v": "int64"},
        },
        "steps": [
            {"verb": "dedupe", "field": "v", "within_ms": 3_600_000},
            {
                "verb": "window",
                "kind": {"type": "tumbling", "size_ms": 3_600_000},
                "by": [{"name": "k", "text": "k"}],
                "aggregates": [{"name": "n", "text": "count()"}, {"name": "s", "text": "sum(v)"}],
            },
        ],
    }
).encode()


def answered(answer: SimpleNamespace) -> Future[SimpleNamespace]:
    """What the client gives for a request that the broker has answered."""
    future: Future[SimpleNamespace] = Future()
    future.set_result(answer)
    return future


@dataclass(frozen=True)
class Input:
    """See `manifests.Input`."""

    topics: tuple[str, ...] = (INPUT,)

    def numbers(self, lane: int) -> list[int]:
        return [lane]

    def describe(self) -> dict[str, object]:
        return {"topic": INPUT}


@dataclass
class StateLog:
    """The topic, partition by partition."""

    topic_id: str = "first"
    begin: int = 0
    records: dict[int, dict[int, tuple[bytes, bytes | None]]] = field(default_factory=lambda: {0: {}, 1: {}})
    """By partition and offset."""
    ends: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})

    def write(self, partition: int, records: Sequence[tuple[bytes, bytes | None]]) -> list[int]:
        """A transaction; gives the offsets of its records."""
        start = self.ends[partition]
        offsets = list(range(start, start + len(records)))
        self.records[partition].update(zip(offsets, records, strict=True))
        self.ends[partition] = start + len(records) + 1
        return offsets

    def compact(self, partition: int, *, deletions: bool = False) -> None:
        """Leaves the newest of each key; with `deletions` not those that were deleted."""
        newest = {key: offset for offset, (key, _) in self.records[partition].items()}
        kept = {offset: self.records[partition][offset] for offset in sorted(newest.values())}
        self.records[partition] = {at: each for at, each in kept.items() if not (deletions and each[1] is None)}

    def lose(self, partition: int, count: int) -> None:
        """The broker forgets its last records."""
        for offset in sorted(self.records[partition])[-count:]:
            del self.records[partition][offset]
        self.ends[partition] = max(self.records[partition], default=-1) + 1

    # As `kafka_client.Cluster`.

    def ask(self, ask: Callable[[], Sequence[Future[Any]]], doing: str) -> Question:
        del doing
        return Question(ask, within_s=ANSWER_S, refresh=lambda _: None, failed=lambda error: error)

    def places_later(
        self, places: Sequence[tuple[str, int]], at: str, *, committed: bool = True
    ) -> list[Future[SimpleNamespace]]:
        del committed
        told = [self.begin if at == "earliest" else self.ends[partition] for _, partition in places]
        return [answered(SimpleNamespace(offset=offset)) for offset in told]

    def topics_later(self, names: Sequence[str]) -> list[Future[SimpleNamespace]]:
        partitions = [SimpleNamespace(id=partition) for partition in range(PARTITIONS)]
        return [answered(SimpleNamespace(name=name, topic_id=self.topic_id, partitions=partitions)) for name in names]

    def offsets_at(self, topic: str, lanes: Sequence[int], at: Sequence[str]) -> list[dict[int, int]]:
        places = [(topic, lane) for lane in lanes]
        return [
            {lane: told.result().offset for lane, told in zip(lanes, self.places_later(places, each), strict=True)}
            for each in at
        ]

    def topic_names(self) -> list[str]:
        return [TOPIC]


@dataclass
class _Message:
    place: tuple[int, int]
    record: tuple[bytes, bytes | None] = (b"", None)
    failure: KafkaError | None = None

    def error(self) -> KafkaError | None:
        return self.failure

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return self.place[0]

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_767_225_600_000

    def offset(self) -> int:
        return self.place[1]

    def key(self) -> bytes:
        return self.record[0]

    def value(self) -> bytes | None:
        return self.record[1]


class Reader:
    """As the client's consumer, which is told to begin nowhere else where an offset is not there (`auto.offset.reset=error`)."""

    def __init__(self, log: StateLog) -> None:
        self._log = log
        self._at: dict[int, int] = {}
        self.failures: list[KafkaError] = []
        """What comes next in place of records."""

    def assign(self, parts: Sequence[Any]) -> None:
        self._at = {part.partition: part.offset for part in parts}

    def unassign(self) -> None:
        self._at = {}

    def consume(self, count: int, timeout_s: float) -> list[_Message]:
        del count, timeout_s
        messages = [_Message((0, -1001), failure=failure) for failure in self.failures]
        self.failures = []
        for partition, at in self._at.items():
            if not self._log.begin <= at <= self._log.ends[partition]:
                failure = KafkaError(KafkaError._AUTO_OFFSET_RESET, "Offset out of range")
                messages.append(_Message((partition, at), failure=failure))
                continue
            there = sorted(offset for offset in self._log.records[partition] if offset >= at)[:CONSUME_AT_ONCE]
            messages += [_Message((partition, offset), self._log.records[partition][offset]) for offset in there]
            self._at[partition] = there[-1] + 1 if there else max(at, self._log.ends[partition])
        return messages

    def position(self, parts: Sequence[Any]) -> list[Any]:
        for part in parts:
            part.offset = self._at[part.partition]
        return list(parts)

    def close(self) -> None:
        self._at = {}


class Worker:
    """Commits epochs of its lanes to a log, and recovers them, as `epochs.py` does."""

    def __init__(self, log: StateLog, folder: Path, *, lanes: Sequence[int] = (0,), **more: Any) -> None:
        """`folder` is that of its copies; `more` is of `CopyFiles`."""
        self.log, self.lanes = log, list(lanes)
        self.engine = _core.Pipeline(SPEC)
        self.files = CopyFiles(folder, dict(NO_COUNTS), **more)
        self.files.open()
        facts = {"fingerprint": self.engine.fingerprint}
        self.states = LaneStates(
            KafkaConnection(), pipeline=PIPELINE, partitions=PARTITIONS, meets=False, files=self.files, facts=facts
        )
        self.states.attach(cast("Any", log))
        self.states._consumer = cast("Any", Reader(log))
        self.epochs: dict[int, int] = {}
        self.owner = dict.fromkeys(lanes, 0)
        self.position = dict.fromkeys(lanes, 0)

    @property
    def counts(self) -> dict[str, int]:
        return self.states.counts

    def recover(self, *, tries: int = 5) -> dict[int, dict[str, Any] | None]:
        """Brings its lanes to what is committed; gives their manifests. Raises `StateError`."""
        for _ in range(tries):
            reached = self.states.read(
                self.lanes, until="high_watermark", timeout_s=5, records=self.engine.state_records
            )
            if not all(reached.values()):
                continue
            try:
                return {lane: self._recover(lane) for lane in self.lanes}
            except SourceError:
                continue
        raise AssertionError(f"not recovered within {tries} readings")

    def _recover(self, lane: int) -> dict[str, Any] | None:
        if not self.states.manifests(lane):
            self.states.recover(lane, self.engine, is_new=True)
            self.states.restored(lane, None)
            self.epochs[lane] = self.position[lane] = 0
            return None
        found = self.states.recover(lane, self.engine)
        assert found is not None
        self.states.restored(lane, found)
        manifest: dict[str, Any] = orjson.loads(found)
        self.epochs[lane], self.owner[lane] = manifest["epoch"], manifest["facts"]["owner"]
        self.position[lane] = manifest["facts"]["positions"][INPUT]
        return manifest

    def commit(self, *keys: str, times: int = 1, delivers: bool = True) -> None:
        """Epochs that each count `keys` once, in each lane; `delivers`: the offset of the manifest becomes known."""
        for _ in range(times):
            self._seal(keys)
            self.states.begin_epoch()
            for lane, records in self.engine.seal_logs({lane: self._facts(lane) for lane in self.lanes}).items():
                offsets = self.log.write(lane, records)
                for offset, (key, value) in zip(offsets, records, strict=True):
                    noted = self.states.note(lane, key, value)
                    if noted is not None and delivers:
                        noted(offset)
                self.epochs[lane] += 1
            self.engine.committed()
            self.states.committed([{"lane": lane, "epoch": self.epochs[lane]} for lane in self.lanes])
            self.states.write()

    def take_back(self, *keys: str) -> None:
        """An epoch that is made and not committed: its records take places in the log, which nobody sees."""
        positions = dict(self.position)
        self._seal(keys)
        self.states.begin_epoch()
        for lane, records in self.engine.seal_logs({lane: self._facts(lane) for lane in self.lanes}).items():
            for key, value in records:
                noted = self.states.note(lane, key, value)
                if noted is not None:
                    noted(self.log.ends[lane])
            self.log.ends[lane] += len(records) + 1
        self.engine.rollback()
        self.position = positions

    def _seal(self, keys: Sequence[str]) -> None:
        for lane in self.lanes:
            base = self.position[lane]
            records = [
                (orjson.dumps({"t": base, "k": key, "v": base + at}), key.encode(), None, 0, base + at)
                for at, key in enumerate(keys)
            ]
            self.engine.push(_core.Raw.from_records(lane, INPUT, records), 0)
            self.position[lane] += len(keys)
        self.engine.seal()

    def _facts(self, lane: int) -> bytes:
        identity = Identity(PIPELINE, self.engine.fingerprint, 1)
        seal = self.position[lane]
        positions = {INPUT: self.position[lane]}
        return facts_of(
            identity, Input(), positions=positions, owner=self.owner[lane], seal=seal, ended=False, files={}, skipped={}
        )

    def digest(self, lane: int = 0) -> int:
        return self.engine.sealed_lanes()[lane][0]

    def close(self) -> None:
        self.files.close()
