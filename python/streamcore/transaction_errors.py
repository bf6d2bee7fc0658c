"""Owns what errors of the transactional client mean: to the commit machine, and of what they tell.

Before it: `transactions.py`, `state_changes.py`. After it: the machine's classes (`ErrorClass` in `checkpoint/machine/event.rs`).
Invariant: an outcome that is not known is never told as one that is.
"""

from __future__ import annotations

from typing import Any

from streamcore.kafka_errors import is_denied


def classified(error: Any) -> str:
    """What a client's error means to the machine: see `ErrorClass` in `checkpoint/machine/event.rs`."""
    from confluent_kafka import KafkaError

    fenced = (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.FENCED_INSTANCE_ID)  # noqa: SLF001
    unclear = (KafkaError._TIMED_OUT, KafkaError._TIMED_OUT_QUEUE)  # noqa: SLF001
    if error.code() in fenced or error.name() == "PRODUCER_FENCED":
        return "fenced"
    if error.fatal() or error.code() == KafkaError._FATAL or is_denied(error):  # noqa: SLF001
        return "fatal"
    if error.code() in unclear:
        return "indeterminate"
    if error.txn_requires_abort() or _is_of_membership(error):
        return "abortable"
    if error.retriable() or error.code() in (KafkaError.UNSTABLE_OFFSET_COMMIT, KafkaError._TRANSPORT):  # noqa: SLF001
        return "retriable"
    return "abortable"


def may_be_of_a_record(error: Any) -> bool:
    """Whether a call failed for what became of a record before it; not where its own outcome is unknown, or the group refuses the member."""
    from confluent_kafka import KafkaError

    is_abortable = error.txn_requires_abort() or error.code() == KafkaError._STATE  # noqa: SLF001
    return is_abortable and classified(error) == "abortable" and not _is_of_membership(error)


def _is_of_membership(error: Any) -> bool:
    from confluent_kafka import KafkaError

    return error.code() in (
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
    )


def refuses_member(error: Exception) -> bool:
    """Whether this exception of the client says that the group has moved on from what the member knows of it."""
    from confluent_kafka import KafkaException

    return isinstance(error, KafkaException) and _is_of_membership(error.args[0])


def failure(error: Exception) -> dict[str, str]:
    """What the machine is told of a client's exception: `KafkaException`, or `BufferError`."""
    if isinstance(error, BufferError):
        message = f"records were not taken by the producer: {error}"
        return {"event": "failed", "error": "indeterminate", "message": message}
    reason = error.args[0]
    return {"event": "failed", "error": classified(reason), "message": f"{reason.str()} ({reason.name()})"}
