"""Owns which topics a pipeline's state is in: their names, and which of several layouts counts.

A layout is the state for one number of partitions; `rescaling.py` writes the next one, and `resetting.py` an empty one. Before it:
the pipeline's name. After it: `state_topics.py`, and `streamcore topics`.
Invariant: the layout that counts is the last one whose first record is the mark `BEGIN`; it is committed together with all of the
layout's state and with the mark `NEXT` in every partition of the one before, which nobody can recover from there any more. Its number
is never used again (`next_layout.py`), so a lower one never counts.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from streamcore.errors import SourceError, StateError
from streamcore.kafka_client import Cluster, partition_list
from streamcore.kafka_errors import failed_reading
from streamcore.topics import TopicPlan

if TYPE_CHECKING:
    from quixstreams.kafka import Consumer

MEETING_LANE = -1
"""What lanes share where they meet has a topic of one partition."""

STATE_SETTINGS = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.1",
    "segment.bytes": str(64 << 20),
    "max.message.bytes": str(8 << 20),
    # A deletion is seen by whoever reads within this time; recoveries take minutes.
    "delete.retention.ms": str(86_400_000),
}

BEGIN = b"G/begin"
"""Key of the record that a layout begins with: JSON of what was moved, and from where."""
EMPTY = "empty"
"""In what is said there: nothing was moved, the state before was discarded."""
BEGIN_END = 2
"""Where partition 0 ends that has nothing but `BEGIN` and the marker of its commit."""
NEXT = b"G/next"
"""Key of the record that says that the state has gone to another layout: JSON of which."""

MARKERS_MAX = 200
"""Markers of transactions that may lie behind that record: one, and those of workers that died and were aborted."""

FIRST_S = 30.0
"""How long the first record of a topic may take to be read."""
WAIT_S = 0.05


def state_topic(pipeline: str, stage: int = 0, layout: int = 1) -> str:
    """The topic of the lanes' state of a stage."""
    return f"{pipeline}.{stage}.state.g{layout}"


def meeting_topic(pipeline: str, layout: int = 1) -> str:
    """The topic of what lanes share where they meet."""
    return f"{pipeline}.0.combine.g{layout}"


def partials_topic(pipeline: str) -> str:
    """The topic between two stages of state, in its first generation."""
    return f"{pipeline}.0.partials.g1"


def state_plans(pipeline: str, partitions: int, *, meets: bool, stage: int = 0, layout: int = 1) -> list[TopicPlan]:
    """The state topics of a stage."""
    plans = [TopicPlan(state_topic(pipeline, stage, layout), "state", partitions, STATE_SETTINGS)]
    return plans + [TopicPlan(meeting_topic(pipeline, layout), "state", 1, STATE_SETTINGS)] * meets


def layouts_there(cluster: Cluster, pipeline: str, stage: int = 0) -> list[int]:
    """The layouts that have a topic, the last one first, whether they count or not."""
    form = re.compile(re.escape(f"{pipeline}.{stage}.state.g") + r"([1-9][0-9]{0,8})")
    found = (form.fullmatch(name) for name in cluster.topic_names())
    return sorted((int(match[1]) for match in found if match is not None), reverse=True)


def topics_there(cluster: Cluster, pipeline: str, stage: int = 0) -> list[tuple[int, str]]:
    """Layout and name of every topic that a stage has of any layout, the last one first, whether they count or not."""
    name = re.escape(f"{pipeline}.{stage}.")
    form = re.compile(name + (r"(?:state|combine)" if stage == 0 else "state") + r"\.g([1-9][0-9]{0,8})")
    found = (form.fullmatch(topic) for topic in cluster.topic_names())
    return sorted(((int(match[1]), match[0]) for match in found if match is not None), reverse=True)


def pipelines_there(cluster: Cluster) -> list[str]:
    """The names of all pipelines that have a state topic which we are allowed to see."""
    form = re.compile(r"(.+)\.0\.state\.g[1-9][0-9]{0,8}")
    found = (form.fullmatch(name) for name in cluster.topic_names())
    return sorted({match[1] for match in found if match is not None})


def refuse_state(cluster: Cluster, pipeline: str, delivery: str, counts: tuple[int, Mapping[str, Any]]) -> None:
    """Raises `StateError` where a pipeline that is to keep its state on this machine has committed state in Kafka.

    It would go on from the group's offsets, without what windows hold. `counts` is as `find_layout` says. Raises `SourceError`.
    """
    layout, begun = counts
    for number, name in topics_there(cluster, pipeline):
        topic = cluster.topic(name) if number == layout else None
        if topic is None:
            continue
        empty = BEGIN_END if begun.get(EMPTY) and name == state_topic(pipeline, layout=layout) else 0
        ends = cluster.offsets(name, topic.partitions, "latest")
        if any(end > (empty if partition == 0 else 0) for partition, end in ends.items()):
            raise StateError(
                f'{pipeline} has state in the topic {name}, as delivery = "exactly_once" keeps it, and this run is {delivery}: it would go '
                "on from the group's offsets without what windows hold, and count anew what they have counted; run it as "
                "exactly_once, give it another name, or give the state up: streamcore state reset FILE"
            )


def find_layout(
    cluster: Cluster, pipeline: str, stage: int, first: Callable[[str], tuple[bytes, bytes] | None]
) -> tuple[int, Mapping[str, Any]]:
    """The layout that counts, and what was said when it was written. `first` gives the first record of a topic's partition 0.

    Where its commit is just being decided the one before is given, which nobody can recover from then.
    """
    for layout in layouts_there(cluster, pipeline, stage):
        if layout == 1:
            break
        topic = state_topic(pipeline, stage, layout)
        record = first(topic)
        if record is not None and record[0] == BEGIN:
            try:
                said: Mapping[str, Any] = orjson.loads(record[1])
            except orjson.JSONDecodeError as error:
                raise StateError(f"the first record of topic {topic} is damaged: {error}") from error
            return layout, said
    return 1, {}


def lost_next(cluster: Cluster, topic: str, consumer: Consumer) -> tuple[int, str] | None:
    """The layout, and its topic, that the state in `topic` has gone to, where nothing is left of it; None where it has gone nowhere.

    To be asked of the layout that counts. Raises `SourceError`.
    """
    mark = _next_mark(cluster, topic, consumer)
    if mark is None:
        return None
    said = orjson.loads(mark)
    name = str(said["topic"])
    if cluster.topic(name) is not None:
        begin, end = (cluster.offsets(name, [0], at, committed=False)[0] for at in ("earliest", "latest"))
        if begin < end:  # its commit is just being decided
            return None
    return int(said["layout"]), name


def _next_mark(cluster: Cluster, topic: str, consumer: Consumer) -> bytes | None:
    """The mark `NEXT`, which is the last record that anybody writes to a partition."""
    begin, end = (cluster.offsets(topic, [0], at)[0] for at in ("earliest", "latest"))
    first = max(begin, end - MARKERS_MAX)
    consumer.assign(partition_list(topic, {0: first}))
    deadline = time.monotonic() + FIRST_S
    try:
        while time.monotonic() < deadline:
            for message in consumer.consume(MARKERS_MAX, WAIT_S):
                error = message.error()
                if error is None and _bytes(message.key()) == NEXT:
                    return _bytes(message.value())
                failure = None if error is None else failed_reading(error, f"the state in topic {topic}", topic)
                if failure is not None:
                    raise failure
            if max(first, consumer.position(partition_list(topic, [0]))[0].offset) >= end:
                return None
    finally:
        consumer.unassign()  # type: ignore[no-untyped-call]
    raise SourceError(f"the last records of topic {topic} were not read within {FIRST_S:.0f} s", unreachable=True)


def first_record(cluster: Cluster, topic: str, consumer: Consumer) -> tuple[bytes, bytes] | None:
    """The first committed record of partition 0; None without one. Raises `SourceError`."""
    begin, end = (of_lanes[0] for of_lanes in cluster.offsets_at(topic, [0], ["earliest", "latest"]))
    if begin >= end:
        return None
    deadline = time.monotonic() + FIRST_S
    consumer.assign(partition_list(topic, {0: begin}))
    try:
        while time.monotonic() < deadline:
            for message in consumer.consume(1, WAIT_S):
                error = message.error()
                if error is None:
                    return _bytes(message.key()), _bytes(message.value())
                failure = failed_reading(error, f"the state in topic {topic}", topic)
                if failure is not None:
                    raise failure
            if consumer.position(partition_list(topic, [0]))[0].offset >= end:
                return None
    finally:
        consumer.unassign()  # type: ignore[no-untyped-call]
    raise SourceError(f"the first record of topic {topic} was not read within {FIRST_S:.0f} s", unreachable=True)


def _bytes(part: str | bytes | None) -> bytes:
    return part.encode() if isinstance(part, str) else part or b""
