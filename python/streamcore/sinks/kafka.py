"""Owns writing rows to a Kafka topic: their keys, values and headers.

Before it: batches of one output. After it: `kafka_producer.py`.
Invariant: in `upsert` mode the record key is made of the columns that tell rows apart, so the newest record of a key
is the row that holds, and a row that was taken back is a tombstone.

Rows of pipelines without window or select, and those of the outputs `late`, `future` and `rejected`, are the records
that came in: key, value, headers and timestamp are forwarded byte for byte. Every other row is a JSON object with the
headers `sc.version` (grows with every write of the pipeline) and, where windows are revised, `sc.revision`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import orjson

from streamcore import _core
from streamcore.config import KafkaConnection, KafkaSinkConfig, PipelineConfig
from streamcore.errors import SinkError
from streamcore.kafka_client import Cluster
from streamcore.kafka_producer import Delivery
from streamcore.sinks.base import Version
from streamcore.topics import output_topic
from streamcore.transactions import InTransaction

VERSION_HEADER = "sc.version"
REVISION_HEADER = "sc.revision"


class KafkaSink:
    """One topic; see `sinks/base.py` for the contract."""

    def __init__(
        self,
        connection: KafkaConnection,
        config: KafkaSinkConfig,
        *,
        pipeline: PipelineConfig,
        mode: Literal["upsert", "append"],
        delivery: Delivery | InTransaction | None = None,
        keeps_retracted: bool = False,
    ) -> None:
        """`delivery`: where records go out, if not through a producer of the sink's own.

        `keeps_retracted`: rows that take others back are written whole, for outboxes, and not as nulls.
        """
        self.output: str = config.output
        self._connection = connection
        self._config = config
        self._plan = output_topic(config, mode)
        self._create_topic = pipeline.auto_create_topics
        self._key = key_columns(config, pipeline)
        self._delivery = delivery or Delivery(connection, config.options)
        self._keeps_retracted = keeps_retracted

    def open(self) -> None:
        """Makes sure of the topic."""
        cluster = Cluster(self._connection, error=SinkError)
        cluster.connect()
        cluster.ensure_topic(self._plan, create=self._create_topic)
        self._delivery.open()

    def write(self, batch: _core.Batch, version: Version) -> None:
        """Queues the rows."""
        if self._config.columns is None and "_value" in batch.column_names:
            self._forward(batch)
        else:
            self._write_rows(batch, version)

    def _forward(self, batch: _core.Batch) -> None:
        for number, row in enumerate(batch.select(["_key", "_value", "_timestamp"]).to_rows()):
            moment = row["_timestamp"]
            self._delivery.send(
                self._config.topic,
                key=row["_key"],
                value=row["_value"],
                headers=batch.headers(number),
                timestamp_ms=None if moment is None else round(moment.timestamp() * 1000),
            )

    def _write_rows(self, batch: _core.Batch, version: Version) -> None:
        columns, time_format = self._config.columns, self._config.timestamp_format
        values = batch.to_json(columns=columns, timestamp_format=time_format)
        headers = [(VERSION_HEADER, str(version).encode())]
        for key, value, (revision, retracted) in zip(self._keys(batch), values, _revisions(batch), strict=True):
            self._delivery.send(
                self._config.topic,
                key=key,
                value=None if retracted and not self._keeps_retracted else value,
                headers=headers if revision is None else [*headers, (REVISION_HEADER, b"%d" % revision)],
            )

    def _keys(self, batch: _core.Batch) -> list[bytes | None]:
        if not self._key:
            return [None] * len(batch)
        keys = batch.to_json(columns=self._key, timestamp_format=self._config.timestamp_format)
        if self._config.key_format == "json":
            return list(keys)
        return [self._text(orjson.loads(key)[self._key[0]]) for key in keys]

    def _text(self, value: object) -> bytes:
        if value is None:
            raise SinkError(
                f"a row for topic {self._config.topic} has a null in its key column {self._key[0]}, which has no text; "
                'use key_format = "json", or null_keys = "drop" or "reject" in the window',
                retriable=False,
            )
        return value.encode() if isinstance(value, str) else orjson.dumps(value)

    def flush(self) -> None:
        """Waits for every acknowledgement."""
        self._delivery.flush()

    def committed(self, epoch: int) -> None:
        """Nothing waits for the checkpoint: rows are visible once flushed."""

    def discard(self) -> None:
        """Drops what is queued."""
        self._delivery.discard()

    def close(self) -> None:
        """Lets go of the connection."""
        self._delivery.close()


def key_columns(config: KafkaSinkConfig, pipeline: PipelineConfig) -> tuple[str, ...]:
    """Columns of the record key: those stated, or for results of windows the group keys and `window_start`."""
    if config.key is not None:
        return config.key
    window = pipeline.window
    return (*window.by, "window_start") if window is not None and config.output == "result" else ()


def _revisions(batch: _core.Batch) -> Iterator[tuple[int | None, bool]]:
    """Per row its revision, if rows have one, and whether it takes an earlier row back."""
    wanted = [name for name in ("revision", "retracted") if name in batch.column_names]
    if not wanted:
        return iter([(None, False)] * len(batch))
    return ((row.get("revision"), bool(row.get("retracted"))) for row in batch.select(wanted).to_rows())
