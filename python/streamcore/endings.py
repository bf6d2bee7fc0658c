"""Owns what errors and stops come to in a worker that commits exactly once: for its commit machine, and at its end.

Before it: `epochs.py`. After it: the commit machine, which is told of failures; what the run raises.
Invariant: a stop that a rebalance met is none of the worker's failures; every other end that is not well is raised.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from streamcore.errors import Error, FencedError, SinkError, SourceError, StateError, StateFullError
from streamcore.transaction_errors import failure
from streamcore.transactions import Transactions, worker_of

log = logging.getLogger("streamcore.commit")

TICK_S = 0.02


class Doubting(Protocol):
    """Whoever commits epochs."""

    @property
    def in_doubt(self) -> bool:
        """Whether it is not known yet what became of an epoch."""

    def tick(self) -> None:
        """Goes on to find out."""


def await_known(epochs: Doubting, until_s: float) -> None:
    """Waits until it is known what became of every epoch, or until then (monotonic): told to stop earlier, the machine would give up."""
    while epochs.in_doubt and time.monotonic() < until_s:
        time.sleep(TICK_S)
        epochs.tick()


def await_named(epochs: Doubting, have_names: Callable[[], bool], until_s: float) -> None:
    """Waits until all files of an input that is over have their names. Raises `SinkError` where they do not by then."""
    while not have_names():
        if time.monotonic() >= until_s:
            raise SinkError(
                "everything is committed, but files of it could not be given their names; start again, which does it",
                retriable=False,
            )
        time.sleep(TICK_S)
        epochs.tick()


def seconds_of(action: Mapping[str, Any]) -> float:
    """How long an action may take."""
    return float(action["timeout_ms"]) / 1_000


def own_failure(error: Error) -> dict[str, str]:
    """What the machine is told of an error of ours; "fatal": it is what the run ends with."""
    kind = "fatal"
    if (isinstance(error, SinkError) and error.retriable) or isinstance(error, StateFullError):
        kind = "abortable"
    elif isinstance(error, SourceError) and error.unreachable:
        kind = "retriable"
    return {"event": "failed", "error": kind, "message": str(error)}


def told(error: Any, transactions: Transactions, topics: Sequence[str]) -> tuple[dict[str, str], Error | None]:
    """What the machine is told of what an action raised, and, where the run ends with it, the error of ours that says why.

    `error` is one of ours, `KafkaException` or `BufferError`; `topics` are those that are read.
    """
    own = error if isinstance(error, Error) else None
    if own is None and not isinstance(error, BufferError):
        own = transactions.denied(error.args[0], "this worker", topics)
    if own is None:
        return failure(error), None
    event = own_failure(own)
    return event, own if event["error"] == "fatal" else None


def failure_of(
    exit_action: Mapping[str, Any], refusal: Error | None = None, *, name: str, moved: str | None
) -> Error | None:
    """What the run ends with; None: well. `refusal` is an error of ours that ended it. `name` is the `transactional_id`. `moved`: of a stop, how the group refused to have its last epoch committed."""
    code, message = exit_action["code"], exit_action["message"]
    if code == 0 or refusal is not None:
        return refusal if code else None
    if code == 1 and moved is not None:
        log.warning(
            "stopped while the group was giving out its partitions anew: the last epoch was refused (%s) and is taken back; "
            "whoever has the partitions next reads it again, so nothing is lost or doubled",
            moved,
        )
        return None
    if code == 4:
        return SourceError(message, unreachable=True)
    if code == 7:
        return FencedError(
            f"{message} (another worker has the name of this one, {worker_of(name)}: give each worker an instance_id of its own, in the "
            "pipeline file or by STREAMCORE_INSTANCE_ID; or a transaction took longer than it may)"
        )
    return StateError(message) if code == 6 else Error(message)
