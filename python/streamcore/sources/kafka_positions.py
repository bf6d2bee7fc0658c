"""Owns where each lane of a topic begins and, in a bounded read, where it ends.

Before it: the checkpoint, the group's committed offsets, and what the user asked for. After it: `kafka.py`.
Invariant: every lane starts at an explicit offset that the broker still has; a lost range is an error, not a jump.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from streamcore.config import resolve_position
from streamcore.errors import ConfigError, StateError
from streamcore.kafka_client import REQUEST_TIMEOUT_S, Cluster, Topic, log

LEAST_S = 0.5
"""A last question may take so long though the time for all is over."""

AFRESH = (
    "to begin anew, move the pipeline's state (exactly_once from Kafka: streamcore state reset FILE) and the files of its Parquet "
    "sinks, if it has any, away"
)
"""The advice where the state cannot be gone on from: files of a run whose state is gone are refused at a start."""


def check_same_topic(topic: Topic, previous: Mapping[str, object]) -> None:
    """Compares the topic with the one a checkpoint was written for. Raises `StateError`."""
    if not previous:
        return
    if previous.get("topic") != topic.name:
        raise StateError(
            f"the checkpoint was written for topic {previous.get('topic')}, not {topic.name}; "
            "give the pipeline another name, or put the topic back"
        )
    if previous.get("topic_id") != topic.topic_id:
        raise StateError(
            f"topic {topic.name} was deleted and made again since the checkpoint, so its positions mean nothing; {AFRESH}"
        )
    if previous.get("partitions") != len(topic.partitions):
        raise StateError(
            f"topic {topic.name} has {len(topic.partitions)} partitions and had {previous.get('partitions')} at the "
            "checkpoint, so keys have moved and the state kept per partition no longer fits; "
            f"{AFRESH}, or make a topic of the old size"
        )


def start_positions(
    cluster: Cluster,
    topic: Topic,
    known: Mapping[int, int],
    default: str,
    now_ms: int,
    *,
    lanes: Sequence[int] | None = None,
    accept_gap: bool = False,
    timeout_s: float = REQUEST_TIMEOUT_S,
) -> dict[int, int]:
    """The first offset of every lane: `known` where there is one, else by `default`.

    Raises `StateError` for records that are gone; with `accept_gap` those deleted by retention are left out, and told of.
    """
    until_s = time.monotonic() + timeout_s
    lanes = topic.partitions if lanes is None else lanes
    earliest, latest = cluster.offsets_at(topic.name, lanes, ["earliest", "latest"], within_s=timeout_s)
    known = {
        lane: _still_there(topic.name, lane, position, earliest[lane], latest[lane], accept_gap=accept_gap)
        for lane, position in known.items()
    }
    missing = [lane for lane in lanes if lane not in known]
    if not missing or default == "earliest":
        first = earliest
    elif default in ("latest", "end"):
        first = latest
    else:
        at_ms, left_s = _instant(default, now_ms), max(LEAST_S, until_s - time.monotonic())
        first = _offsets_at(cluster, topic.name, missing, at_ms, latest, within_s=left_s)
    return {lane: known[lane] if lane in known else first[lane] for lane in lanes}


def stop_positions(cluster: Cluster, topic: Topic, stop: str | None, now_ms: int) -> dict[int, int]:
    """The offset each lane of a bounded read ends before; empty when it is not bounded."""
    if stop is None:
        return {}
    latest = cluster.offsets(topic.name, topic.partitions, "latest")
    if stop in ("end", "latest"):
        return latest
    at_ms = _instant(stop, now_ms)
    if at_ms > now_ms:
        raise ConfigError(f"stop = {stop!r} lies in the future; use --for to run for a length of time")
    return _offsets_at(cluster, topic.name, topic.partitions, at_ms, latest)


def _instant(position: str, now_ms: int) -> int:
    try:
        return resolve_position(position, now_ms=now_ms)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _offsets_at(
    cluster: Cluster,
    topic: str,
    lanes: Iterable[int],
    at_ms: int,
    latest: Mapping[int, int],
    *,
    within_s: float = REQUEST_TIMEOUT_S,
) -> dict[int, int]:
    """Where records of `at_ms` or later begin; the end where there are none."""
    (found,) = cluster.offsets_at(topic, lanes, [at_ms], within_s=within_s)
    return {lane: offset if offset >= 0 else latest[lane] for lane, offset in found.items()}


def check_still_there(cluster: Cluster, topic: str, lane: int, position: int) -> None:
    """Raises `StateError` where the record at `position` is not there any more."""
    earliest, latest = (told[lane] for told in cluster.offsets_at(topic, [lane], ["earliest", "latest"]))
    _still_there(topic, lane, position, earliest, latest, accept_gap=False)


def _still_there(topic: str, lane: int, position: int, earliest: int, latest: int, *, accept_gap: bool) -> int:
    """The position, or behind the gap where there is one."""
    if position < earliest:
        lost = f"records {position} to {earliest - 1} of partition {lane} of {topic} were deleted before they were read"
        if not accept_gap:
            raise StateError(
                f"{lost} (retention is shorter than the time this pipeline was away or behind); to go on without them: streamcore run "
                f"FILE --accept-gap; {AFRESH}"
            )
        log.warning("%s; going on without them, as --accept-gap says", lost)
        return earliest
    if position > latest:
        raise StateError(
            f"partition {lane} of {topic} ends at {latest}, before the position {position} this pipeline had reached: "
            f"the topic was cut or made again; {AFRESH}"
        )
    return position
