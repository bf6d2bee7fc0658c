"""Owns writing to Kafka so that every record is accounted for.

Before it: the Kafka sink and the dead letters. After it: the broker, through quixstreams' producer.
Invariant: when `flush` returns, each record sent since the last `flush` is acknowledged by all in-sync replicas;
otherwise it raises, and nothing of the epoch counts as written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from streamcore.config import KafkaConnection
from streamcore.errors import SinkError
from streamcore.kafka_client import application, creating_client
from streamcore.topics import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from quixstreams.kafka import Producer

DELIVERY_TIMEOUT_S = 30.0
"""After this the client gives a record up, so a flush a little longer always learns every verdict."""

FLUSH_MARGIN_S = 5.0
FULL_QUEUE_WAIT_S = 1.0
FULL_QUEUE_TRIES_MAX = 40
"""How often a full queue is waited for before a record is refused: in all a little more than the delivery timeout."""

PRODUCER_SETTINGS = {
    "delivery.timeout.ms": int(DELIVERY_TIMEOUT_S * 1000),
    # Rows come in batches and are flushed at once: waiting for company costs nothing and fills requests.
    "linger.ms": 10,
    "compression.type": "lz4",
    "queue.buffering.max.messages": 500_000,
    "queue.buffering.max.kbytes": 256 << 10,
    # What the topic takes is the topic's business.
    "message.max.bytes": MESSAGE_BYTES_MAX,
}

OWNED_SETTINGS = {"acks": "all", "enable.idempotence": True}
"""What the invariant rests on."""

Headers = Sequence[tuple[str, bytes | None]]


class Delivery:
    """A producer and the verdicts on what was sent through it."""

    def __init__(self, connection: KafkaConnection, options: Mapping[str, Any] | None = None) -> None:
        self._connection = connection
        self._settings = {**(options or {}), **OWNED_SETTINGS}
        self._producer: Producer | None = None
        self._failure: SinkError | None = None

    def open(self) -> None:
        """Makes the client, which connects by itself. Raises `ConfigError` when its settings are refused."""
        self._open_producer()

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
        """Queues a record. `on_too_large` is called, here or in `flush`, if its size is refused.

        Raises `SinkError` for this record or one sent before.
        """
        from confluent_kafka import KafkaError, KafkaException

        self._raise_failure()

        def report(error: Any, _message: Any) -> None:
            if error is None:
                return
            if error.code() == KafkaError.MSG_SIZE_TOO_LARGE and on_too_large is not None:
                on_too_large()
            elif self._failure is None:
                self._failure = self._refused(topic, error)

        try:
            self._open_producer().produce(
                topic,
                key=key,
                value=value,
                headers=cast("Any", list(headers) or None),  # quixstreams' type forgets null values
                timestamp=timestamp_ms,
                poll_timeout=FULL_QUEUE_WAIT_S,
                buffer_error_max_tries=FULL_QUEUE_TRIES_MAX,
                on_delivery=report,
            )
        except KafkaException as error:
            report(error.args[0], None)
            self._raise_failure()
        except BufferError:
            raise SinkError(
                f"topic {topic} takes no records: the queue stayed full; see that the broker is up"
            ) from None

    def flush(self) -> None:
        """Returns when everything sent is acknowledged. Raises `SinkError`, at the latest after the delivery timeout."""
        if self._producer is not None:
            left = self._producer.flush(DELIVERY_TIMEOUT_S + FLUSH_MARGIN_S)
            if left:
                raise SinkError(f"{left} records are neither delivered nor refused after {DELIVERY_TIMEOUT_S:.0f} s")
        self._raise_failure()

    def discard(self) -> None:
        """Forgets what was sent. A new producer follows, so that nothing queued here can overtake what it writes."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()  # type: ignore[no-untyped-call]
            producer.flush(FLUSH_MARGIN_S)
        self._failure = None  # the purge reports each record as failed

    def close(self) -> None:
        """Lets go of the connection; what was not flushed is dropped."""
        self.discard()

    def _open_producer(self) -> Producer:
        if self._producer is None:
            with creating_client(self._connection):
                producer = application(
                    self._connection, group="streamcore", defaults=PRODUCER_SETTINGS, settings=self._settings
                ).get_producer()
                len(producer)  # quixstreams makes the client at its first use
            self._producer = producer
        return self._producer

    def _refused(self, topic: str, error: Any) -> SinkError:
        from confluent_kafka import KafkaError

        lasting = (
            KafkaError.MSG_SIZE_TOO_LARGE,
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError.CLUSTER_AUTHORIZATION_FAILED,
            KafkaError.INVALID_RECORD,
            KafkaError.UNKNOWN_TOPIC_OR_PART,
        )
        retriable = error.code() not in lasting
        return SinkError(f"topic {topic} refused a record: {error.str()} ({error.name()})", retriable=retriable)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
