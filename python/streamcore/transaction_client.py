"""Owns the client inside the transactional producer: how it is made, what it says, and how it is let go of.

Before it: `transactions.py`. After it: librdkafka, of which it knows what its interface does not tell.
Invariant: a client that is let go of asks the broker for nothing any more.
"""

from __future__ import annotations

import ctypes
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from confluent_kafka import Producer as Client
    from quixstreams.kafka import Producer

UP = " in state UP"
"""Of a connection that ends: it was one. An attempt that fails is none, and happens wherever a name has several addresses."""

REFUSED = re.compile(r'Failed to add partition "([^"]+)" .*authorization failed')
"""Of a topic that the client could not make part of the transaction."""


class _Watch:
    """Takes what a client logs, passes it on, and tells of connections that end.

    Nothing else does: the client's `error_cb` is not called for a connection that ends and is made anew, and a request that was on
    it is sent again without a word. A line that is like the one before is left out by the client for 30 s, so of several losses
    only the first is sure to be told; it counts until the producer is replaced.
    """

    def __init__(self, log: logging.Logger, lost: Callable[[], None], refused: Callable[[str], None]) -> None:
        """`refused` is told of a topic that the transaction may not have: the error that the client raises does not name it."""
        self._log = log
        self._lost = lost
        self._refused = refused

    def log(self, level: int, pattern: str, *parts: Any) -> None:
        """As `logging.Logger` has it, which is what the client calls."""
        if "FAIL" in parts and any(UP in str(part) for part in parts):
            self._lost()
        for topic in REFUSED.findall(" ".join(map(str, parts))) if "ADDPARTS" in parts else ():
            self._refused(topic)
        self._log.log(level, pattern, *parts)


def make_client(producer: Producer, *, lost: Callable[[], None], refused: Callable[[str], None]) -> Client:
    """The client inside, whose first call would else wait for the coordinator for ever.

    `lost` is called for a connection that was lost, `refused` with a topic that the transaction may not have.
    """
    from confluent_kafka import Producer as Client

    settings = producer._producer_config  # noqa: SLF001
    client = Client({**settings, "logger": _Watch(settings["logger"], lost, refused)})
    producer._inner_producer = client  # noqa: SLF001
    return client


def let_go(producer: Producer, *, is_fenced: bool = False) -> None:
    """Ends the client inside: what is queued is dropped, which it would else wait for.

    At once, and not when garbage is collected: it would go on meanwhile to ask for its producer id, and fence its successor.
    One that was fenced asks for nothing any more, and is left to the end of the process.
    """
    from confluent_kafka import KafkaException

    client, producer._inner_producer = producer._inner_producer, None  # noqa: SLF001
    if client is None:
        return
    for call in (client.purge, partial(client.poll, 0)):
        with suppress(KafkaException):  # one that was fenced says so once more
            call()
    if is_fenced:
        # librdkafka 2.12 may have freed a text twice, where two threads were told at once, and aborts the process as those threads end.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(client))
