"""Owns the transactional producer: one at a time, under one name, with every call bounded.

Before it: `epochs.py`, which carries out what the commit machine says, and the sinks, whose records go out here. After it:
the broker, through quixstreams' producer.
Invariant: a producer whose last call did not end clearly is never used again; its successor has the same
`transactional.id`, so the broker ends what the old one left open.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import unquote

from streamcore.config import KafkaConnection
from streamcore.errors import ConfigError, SinkError
from streamcore.kafka_client import application, creating_client
from streamcore.kafka_errors import denied, is_denied
from streamcore.kafka_producer import (
    FULL_QUEUE_TRIES_MAX,
    FULL_QUEUE_WAIT_S,
    OWNED_SETTINGS,
    PRODUCER_SETTINGS,
    Headers,
)
from streamcore.kafka_tokens import ask_for_token
from streamcore.topic_watch import TopicWatch
from streamcore.transaction_client import let_go, make_client
from streamcore.transaction_errors import classified, may_be_of_a_record

if TYPE_CHECKING:
    from quixstreams.kafka import Producer

ROWS_PER_S = 20_000
"""Rows that are sent in a second, at least; by what is known of the sender, a quarter of what is usual."""

BYTES_OF_A_ROW = 500
"""What a row takes, about: bytes that are no rows are counted as so many."""

OPEN_MAX_MS = 900_000
"""How long brokers let a transaction be open at most, where they are left as they come."""

RENEW_S = 10.0

LINGER_MS = 0
"""Records of an epoch are on their way while the next are made, and while its offsets are sent."""

VERDICT_S, POLL_S = 0.2, 0.02
"""How long is waited to hear which record it was, when a call fails because of one."""

GIVE_UP_S = 2.0
"""How long the abort at the end of a run may take that could not go on."""

LEAST_S = 2.0
"""How long a question may take though the time is over: a broker that has much to do answers within that."""

KEY_SHOWN = 100
"""Bytes of a key that an error shows."""


_Call = TypeVar("_Call", bound=Callable[..., Any])


def _noted(call: _Call) -> _Call:
    """Notes of a call of the client that the producer was fenced."""

    @wraps(call)
    def noted(self: Transactions, *arguments: Any, **options: Any) -> Any:
        from confluent_kafka import KafkaException

        try:
            return call(self, *arguments, **options)
        except KafkaException as error:
            self._is_fenced = self._is_fenced or classified(error.args[0]) == "fenced"
            raise

    return cast("_Call", noted)


class Transactions:
    """The producer of a worker that commits exactly once."""

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        transactional_id: str,
        timeout_ms: int,
        open_max_ms: int = OPEN_MAX_MS,
        shorter: str = ", or lower commit_interval and session_timeout",
    ) -> None:
        """`timeout_ms`: how long the broker lets a transaction stay open before it aborts it; `open_max_ms`: a long one.

        `shorter` is what can be done, beside the broker's settings, where it allows neither.
        """
        self._open_max_ms = open_max_ms
        self._shorter = shorter
        self._connection = connection
        self._id = transactional_id
        self._timeout_ms = timeout_ms
        self._producer: Producer | None = None
        self._open_ms = timeout_ms
        self._is_open = False
        """Whether a transaction is, of which the broker was not told yet how it ends."""
        self._until_s = math.inf
        """When no record is queued any more (monotonic)."""
        self._failure: Any = None
        """The first delivery of the transaction that failed (`KafkaError`), or None."""
        self._too_large: str | None = None
        """A record that the broker refused for its size, in words."""
        self._refused: set[str] = set()
        """Topics that the transaction may not have."""
        self.watch: TopicWatch | None = None
        """Asked whether topics are still there, and the same."""
        self._sent: set[str] = set()
        """Topics that records were ever sent to."""
        self._lost_connection = False
        """Whether the producer has lost a connection: a request may have been sent twice then."""
        self._is_fenced = False
        """Whether a call has said that the producer was."""

    @property
    def transactional_id(self) -> str:
        """Names the worker to the broker."""
        return self._id

    def within(self, left_ms: int | None) -> None:
        """So long records may be queued from now on, a full queue and a producer made anew included; None: no matter how long."""
        self._until_s = math.inf if left_ms is None else time.monotonic() + left_ms / 1_000

    def _left_s(self) -> float:
        """Raises `BufferError` where nothing is left."""
        left_s = math.inf if self._until_s == math.inf else self._until_s - time.monotonic()
        if left_s <= 0:
            raise BufferError("the time for it is over")
        return left_s

    def left_of(self, timeout_s: float) -> float:
        """As much of this time as `within` leaves, and never nothing: what is asked for has to be answered."""
        return min(timeout_s, max(LEAST_S, self._until_s - time.monotonic()))

    def denied(self, error: Any, doing: str, topics: Sequence[str] = ()) -> ConfigError | None:
        """The error to end with for a `KafkaError` that says that a right is missing; None elsewhere. `topics` are those that are read."""
        from confluent_kafka import KafkaError, KafkaException

        if self._producer is not None:
            # What the client has to say about topics; a fatal error it says once more.
            with suppress(KafkaException):
                self._producer.poll(0)
        refused = sorted(self._refused)
        if refused and not is_denied(error):
            # Which call fails first, and with that, or merely as the transaction has failed, is chance.
            error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, error.str())
        return denied(error, doing, transactional_id=self._id, group=group_of(self._id), topics=topics, refused=refused)

    def renew(self, timeout_s: float) -> None:
        """Makes a new producer in place of the one there is. Raises `KafkaException`, or `ConfigError`.

        What became of an epoch is in doubt, if there was one: its topics may be gone. Raises `StateError` or `SinkError` then.
        """
        if self._sent:
            self._check_there()
        self._open_for(self._timeout_ms, timeout_s)

    def _open_for(self, open_ms: int, timeout_s: float) -> None:
        """Makes the producer; its transactions may stay open so long."""
        self.close()
        settings = {
            **OWNED_SETTINGS,
            "transactional.id": self._id,
            "transaction.timeout.ms": open_ms,
            # An answer within the transaction, or never.
            "delivery.timeout.ms": open_ms,
        }
        with creating_client(self._connection):
            # quixstreams puts the prefix of its group before the name; ours is whole.
            defaults = {**PRODUCER_SETTINGS, "linger.ms": LINGER_MS}
            app = application(self._connection, group="", defaults=defaults, settings=settings)
            producer = app.get_producer(transactional=True)
            client = make_client(producer, lost=self._note_loss, refused=self._refused.add)
        from confluent_kafka import KafkaException

        # Outside: an answer that does not come is no fault of the settings.
        try:
            ask_for_token(client, self._connection.options)
            client.init_transactions(timeout_s)
        except BaseException as error:
            del client  # what is raised keeps this frame
            let_go(producer, is_fenced=isinstance(error, KafkaException) and classified(error.args[0]) == "fenced")
            self._check_allowed(error, open_ms)
            raise
        self._producer, self._open_ms = producer, open_ms
        self._failure, self._lost_connection, self._is_fenced = None, False, False

    def _check_allowed(self, error: BaseException, open_ms: int) -> None:
        """Raises `ConfigError` where the broker does not allow this producer, or transactions of this length."""
        from confluent_kafka import KafkaError, KafkaException

        if not isinstance(error, KafkaException):
            return
        refusal = self.denied(error.args[0], "the producer cannot be made")
        if refusal is not None:
            raise refusal from error
        if error.args[0].code() == KafkaError.INVALID_TRANSACTION_TIMEOUT:
            raise ConfigError(
                f"the broker refuses transactions of {open_ms:,} ms (its transaction.max.timeout.ms): raise that{self._shorter}"
            ) from error

    def _note_loss(self) -> None:
        self._lost_connection = True

    @property
    def _open(self) -> Producer:
        if self._producer is None:
            raise SinkError("there is no transactional producer; this is a mistake of streamcore, please report it")
        return self._producer

    @_noted
    def begin(self, rows: int = 0, *, size_bytes: int = 0) -> None:
        """Begins a transaction of about so many rows, or bytes, and others; the end of an input may have millions of rows.

        The broker aborts what stays open for too long, and the time is the producer's: it is made anew where that is
        too short, and when it is not needed any more: readers wait for so long where a worker dies. Raises `KafkaException`.
        """
        wanted_ms = min(self._open_max_ms, max(rows, size_bytes // BYTES_OF_A_ROW) * 1_000 // ROWS_PER_S)
        wanted_ms = max(wanted_ms, self._timeout_ms)
        if wanted_ms > self._open_ms or wanted_ms == self._timeout_ms < self._open_ms:
            self._open_for(wanted_ms, min(RENEW_S, self._left_s()))
        self._failure = self._too_large = None
        self._refused.clear()
        ask_for_token(self._open, self._connection.options)  # there may have been nothing to commit for long
        self._open.begin_transaction()
        self._is_open = True
        if self.watch is not None:
            self.watch.ask()

    @_noted
    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
        partition: int | None = None,
        delivered: Callable[[int], None] | None = None,
    ) -> None:
        """Queues a record in the open transaction; `delivered` is told its offset. Raises `KafkaException` or `BufferError`."""
        from confluent_kafka import KafkaException

        self._sent.add(topic)
        try:
            self._open.produce(
                topic,
                key=key,
                value=value,
                headers=cast("Any", list(headers) or None),  # quixstreams' type forgets null values
                partition=partition,
                timestamp=timestamp_ms,
                poll_timeout=min(FULL_QUEUE_WAIT_S, self._left_s() / FULL_QUEUE_TRIES_MAX),
                buffer_error_max_tries=FULL_QUEUE_TRIES_MAX,
                on_delivery=self._note_delivery if delivered is None else self._telling(delivered),
            )
        except KafkaException as error:
            self._look_for_topic(error.args[0])
            self._blame(error)
            raise

    def _note_delivery(self, error: Any, message: Any) -> None:
        from confluent_kafka import KafkaError

        if error is None or error.code() in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):  # noqa: SLF001
            # Thrown away as the transaction cannot be committed any more: for another reason, which is told elsewhere.
            return
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE and self._too_large is None:
            key = (message.key() or b"")[:KEY_SHOWN]
            self._too_large = f"topic {message.topic()} refuses a record of {len(message.value() or b''):,} bytes with the key {key!r}"
        if self._failure is None:
            # A delivery's error does not name its topic.
            self._failure = KafkaError(error.code(), f"a record for topic {message.topic()}: {error.str()}")

    def _telling(self, delivered: Callable[[int], None]) -> Callable[[Any, Any], None]:
        def note(error: Any, message: Any) -> None:
            self._note_delivery(error, message)
            if error is None and message.offset() is not None:
                delivered(message.offset())

        return note

    @_noted
    def flush(self, timeout_s: float) -> int:
        """Waits for acknowledgements; gives how many records are left.

        Raises `KafkaException` for one that failed, `SinkError` for one that is too large, which it always will be, and where its
        topic is gone; `StateError` for that of the state.
        """
        left = self._open.flush(timeout_s)
        if left or (self._failure is not None and self._too_large is None):
            self._check_there()
        self._check_delivered()
        return left

    def _look_for_topic(self, error: Any) -> None:
        """Where a call of the transaction failed with this `KafkaError` as the broker knows no such topic."""
        from confluent_kafka import KafkaError

        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            self._check_there()

    def _check_there(self) -> None:
        # Not in a revoke or a stop, whose time is for the commit; the next epoch, or the next start, finds out.
        if self.watch is not None and self._until_s == math.inf:
            self.watch.check_there(self._sent)

    def _check_delivered(self) -> None:
        """Raises for records that were not."""
        from confluent_kafka import KafkaException

        if self._too_large is not None:
            raise SinkError(
                f"{self._too_large}; raise the topic's max.message.bytes, and the run goes on from its last epoch",
                retriable=False,
            )
        if self._failure is not None:
            raise KafkaException(self._failure)

    def _blame(self, error: Exception) -> None:
        """Raises what was said of a record, if a call of the transaction failed because of one with this `KafkaException`."""
        if may_be_of_a_record(error.args[0]):
            until_s = time.monotonic() + VERDICT_S
            while self._failure is None and time.monotonic() < until_s:
                self._open.poll(POLL_S)
            self._check_delivered()

    @_noted
    def send_offsets(self, offsets: Sequence[Any], group: Any, timeout_s: float) -> None:
        """Puts the group's offsets into the transaction: the step that fences. Records may be on their way meanwhile; raises as `flush` does.

        Raises `StateError` where a topic of the input or the state was made again.
        """
        from confluent_kafka import KafkaException

        if self.watch is not None:
            self.watch.check()
        try:
            self._open.send_offsets_to_transaction(list(offsets), group, timeout_s)
        except KafkaException as error:
            self._look_for_topic(error.args[0])
            self._blame(error)
            raise

    @_noted
    def commit(self, timeout_s: float) -> bool:
        """Commits; gives whether a connection was lost since the producer was made. Raises as `flush` does where a topic is gone."""
        from confluent_kafka import KafkaException

        self._is_open = False
        try:
            self._open.commit_transaction(timeout_s)
        except KafkaException as error:
            if error.args[0].txn_requires_abort():
                self._is_open = True  # until then it is not decided
                self._look_for_topic(error.args[0])
                self._is_open = False
            raise
        self._open.poll(0)  # what the client has to say about its connections
        return self._lost_connection

    @_noted
    def abort(self, timeout_s: float) -> bool:
        """Aborts; gives whether a connection was lost since the producer was made, or may have been.

        The client throws away what is queued, and waits for what is on its way: that could else arrive in the next transaction. A request
        that is half written as it does so costs its connection, and it does not say so.
        """
        self._is_open = False
        is_busy = len(self._open) > 0
        self._open.abort_transaction(timeout_s)
        self._open.poll(0)
        self._failure = None
        return self._lost_connection or is_busy

    def give_up(self) -> None:
        """Aborts what is open as the run ends: readers would else wait behind it until its time is over."""
        from confluent_kafka import KafkaException

        if self._is_open:
            # One that was fenced has nothing open any more, and says so.
            with suppress(KafkaException):
                self.abort(GIVE_UP_S)

    def close(self) -> None:
        """Lets go of the producer, without waiting for anything."""
        producer, self._producer, self._is_open = self._producer, None, False
        if producer is not None:
            let_go(producer, is_fenced=self._is_fenced)


def transactional_id(group: str, worker: str) -> str:
    """The name of a worker to the broker: no two groups and workers share one."""
    return "/".join(["streamcore", *(part.replace("%", "%25").replace("/", "%2F") for part in (group, worker))])


def group_of(transactional_id: str) -> str:
    """The group in a name that `transactional_id` made."""
    return unquote(transactional_id.rpartition("/")[0].rpartition("/")[2])


def worker_of(transactional_id: str) -> str:
    """The worker in a name that `transactional_id` made."""
    return unquote(transactional_id.rpartition("/")[2])


class InTransaction:
    """What sinks and dead letters send through: see `kafka_producer.Delivery`, whose place it takes.

    Opening, flushing and forgetting are the transaction's.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def open(self) -> None:
        """Nothing: the producer is made when the worker starts."""

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
        on_too_large: Callable[[], None] | None = None,
    ) -> None:
        """Queues a record. Raises `SinkError` where the client refuses it at once; the broker's verdict ends the epoch."""
        from confluent_kafka import KafkaError, KafkaException

        try:
            self._transactions.send(topic, key=key, value=value, headers=headers, timestamp_ms=timestamp_ms)
        except KafkaException as error:
            reason = error.args[0]
            if reason.code() == KafkaError.MSG_SIZE_TOO_LARGE and on_too_large is not None:
                on_too_large()
                return
            raise

    def flush(self) -> None:
        """Nothing: the transaction is flushed before it is committed."""

    def discard(self) -> None:
        """Nothing: the transaction is aborted."""

    def close(self) -> None:
        """Nothing: the producer belongs to the worker."""
