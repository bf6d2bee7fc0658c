"""Owns what a code of the cluster's means: whether it passes by itself, or is a right that is missing.

Before it: an error as the client gives it, on a message or raised. After it: whoever asked, who goes on or ends.
Invariant: a code is told by its name. The client's own `retriable()` is set on what transactional calls raise, and on nothing else:
of a message's error it is always False.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamcore.errors import ConfigError, Error, Problem, SourceError

SETTLING = frozenset(
    {"COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR", "NOT_LEADER_FOR_PARTITION"}
    | {"LEADER_NOT_AVAILABLE", "UNKNOWN_TOPIC_OR_PART", "UNSTABLE_OFFSET_COMMIT"}
    | {"FENCED_LEADER_EPOCH", "UNKNOWN_LEADER_EPOCH", "OFFSET_NOT_AVAILABLE"}
    | {
        "NETWORK_EXCEPTION",
        "BROKER_NOT_AVAILABLE",
        "REPLICA_NOT_AVAILABLE",
        "LISTENER_NOT_FOUND",
        "KAFKA_STORAGE_ERROR",
    }
)
"""Answers of a cluster that has just made a topic or its first group, has begun anew, hands over, or ends a transaction; they pass within
seconds."""

UNANSWERED = frozenset({"_TRANSPORT", "_TIMED_OUT", "_TIMED_OUT_QUEUE", "_ALL_BROKERS_DOWN", "REQUEST_TIMED_OUT"})
"""Nobody answered in time."""

PASSING = (
    SETTLING
    | UNANSWERED
    | {"_RESOLVE", "_DESTROY_BROKER", "_WAIT_COORD", "_WAIT_CACHE", "_RETRY", "_MSG_TIMED_OUT"}
    | {"NOT_ENOUGH_REPLICAS", "NOT_ENOUGH_REPLICAS_AFTER_APPEND", "NOT_CONTROLLER"}
    | {"PREFERRED_LEADER_NOT_AVAILABLE", "ELIGIBLE_LEADERS_NOT_AVAILABLE", "UNKNOWN_TOPIC_ID", "_UNKNOWN_PARTITION"}
    | {"FETCH_SESSION_ID_NOT_FOUND", "INVALID_FETCH_SESSION_EPOCH", "THROTTLING_QUOTA_EXCEEDED"}
    | {"CONCURRENT_TRANSACTIONS", "REBALANCE_IN_PROGRESS", "STALE_BROKER_EPOCH"}
)
"""What ends by itself while the client goes on: brokers that are away, begin anew or hand over."""

RIGHTS = {
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": "WRITE and DESCRIBE on transactional id {transactional_id}",
    "GROUP_AUTHORIZATION_FAILED": "READ on group {group}",
    "TOPIC_AUTHORIZATION_FAILED": (
        "READ and DESCRIBE on {topics}, WRITE and DESCRIBE on the topics of sinks and dead letters, and all three on the pipeline's own, "
        "which streamcore topics plan FILE lists"
    ),
    "CLUSTER_AUTHORIZATION_FAILED": "IDEMPOTENT_WRITE on the cluster",
}
"""What to grant, by the refusal."""

UNSUPPORTED = frozenset({"UNSUPPORTED_VERSION", "UNSUPPORTED_FOR_MESSAGE_FORMAT", "_UNSUPPORTED_FEATURE"})


def is_denied(error: Any) -> bool:
    """Whether this `KafkaError` says that the user may not, or that the brokers cannot: no repetition mends it."""
    return error.name() in RIGHTS or error.name() in UNSUPPORTED


def denied(
    error: Any,
    doing: str,
    *,
    transactional_id: str = "of the worker",
    group: str = "of the pipeline",
    topics: Sequence[str] = (),
    refused: Sequence[str] = (),
) -> ConfigError | None:
    """The error to end with where `is_denied`, which says what to grant on what; None elsewhere.

    `doing` is what was refused, `topics` are read, and `refused` those that are known not to be written to.
    """
    if not is_denied(error):
        return None
    right = RIGHTS.get(error.name())
    if refused and error.name() == "TOPIC_AUTHORIZATION_FAILED":
        right = f"WRITE and DESCRIBE on {' and '.join(refused)}"
    names = {
        "transactional_id": transactional_id,
        "group": group,
        "topics": " and ".join(topics) or "topics that are read",
    }
    hint = "the brokers are too old for it: bring them to a newer version"
    if right is not None:
        hint = f"grant the user {right.format(**names)}"
    problem = Problem("kafka", f"{doing}: {error.str()} ({error.name()})", hint=hint)
    return ConfigError("Kafka does not allow what this pipeline needs", [problem])


def failed_reading(error: Any, what: str, topic: str) -> Error | None:
    """What a reader without a group raises for an error in place of a record; None where it passes.

    The client looks for the coordinator of its group all the same, and says so where the user may not: nothing is asked of that.
    """
    if error.name() in PASSING or error.name() == "GROUP_AUTHORIZATION_FAILED":
        return None
    doing = f"{what} cannot be read"
    return denied(error, doing, topics=[topic]) or SourceError(f"{doing}: {error.str()}")
