"""Owns `[[sinks]]` and `[dead_letters]`: where rows and refused records go.

Before it: steps. After it: the sinks that write what is described here.
Invariant: every row of every output either reaches each sink named for it or fails the epoch.
"""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from streamcore.config.base import Model, setting
from streamcore.config.connections import Options, check_redis_url
from streamcore.config.durations import PositiveDuration

Output = Literal["result", "late", "future", "rejected"]
Columns = Annotated[tuple[str, ...], Field(min_length=1)]


class SinkBase(Model):
    """Keys that every sink has."""

    name: str | None = setting(None, "Name shown in errors and progress.", min_length=1)
    output: Output = setting(
        "result", "Which rows: results, or records that came late, from the future, or were refused."
    )
    columns: Columns | None = setting(None, "Columns written, in this order; unset: all.")
    timestamp_format: Literal["iso", "epoch_ms"] = setting(
        "iso", "How times are written: ISO-8601 in UTC with milliseconds, or milliseconds since 1970."
    )


class KafkaSinkConfig(SinkBase):
    """A Kafka topic; one JSON object a row."""

    type: Literal["kafka"] = setting("kafka", "Kind of sink.")
    topic: str = setting(..., "Topic to write.", min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")
    key: Columns | None = setting(None, "Columns of the record key; unset: the group keys and `window_start`.")
    mode: Literal["upsert", "append"] | None = setting(
        None,
        "`upsert`: a later row replaces the one with the same key (compacted topic). `append`: every row counts. "
        "Unset: `upsert` for the results of windows, else `append`.",
    )
    key_format: Literal["json", "string"] = setting(
        "json", "`json`: a compact object of the key columns. `string`: the text of the one key column."
    )
    connection: str | None = setting(None, "Name of a `[connections.NAME]`; unset: `[kafka]`.")
    partitions: int = setting(
        4, "Partitions of the topic where it has to be created.", unit="partitions", ge=1, le=10_000
    )
    options: Options = setting({}, "Raw producer settings (librdkafka names).")

    @model_validator(mode="after")
    def _one_column_as_string(self) -> KafkaSinkConfig:
        if self.key_format == "string" and self.key is not None and len(self.key) != 1:
            raise ValueError('key_format = "string" takes one key column; use "json" for several')
        if self.mode == "upsert" and self.output != "result":
            raise ValueError(f'mode = "upsert" is for results; rows of the output {self.output} have no key to replace')
        return self


class RedisSinkConfig(SinkBase):
    """One Redis key a row, replaced only by newer rows."""

    type: Literal["redis"] = setting("redis", "Kind of sink.")
    url: SecretStr | None = setting(
        None, "`redis://host:port/db`; unset: `connection`. Environment, where neither is set: `REDIS_URL`."
    )
    connection: str | None = setting(None, "Name of a `[connections.NAME]`.")
    key_template: str = setting(
        ...,
        "Key of a row, as `page:{page_id}:{window_end:epoch_s}`; formats: `iso`, `epoch_s`, `epoch_ms`.",
        min_length=1,
    )
    value: str | None = setting(None, "Column that is the value; unset: the whole row as a hash.", min_length=1)
    ttl: PositiveDuration | None = setting(
        None, "How long a key lives after the end of its window, or without one after its last write; unset: for ever."
    )
    batch_rows: int = setting(1_000, "Most rows sent in one round trip.", unit="rows", ge=1, le=100_000)

    @field_validator("url")
    @classmethod
    def _scheme(cls, url: SecretStr | None) -> SecretStr | None:
        return None if url is None else check_redis_url(url)

    @model_validator(mode="after")
    def _one_way_in(self) -> RedisSinkConfig:
        if self.url is not None and self.connection is not None:
            raise ValueError("url and connection are two ways to say the same; keep one")
        return self


class ParquetSinkConfig(SinkBase):
    """Parquet files in a folder, published when their epoch is durable. Rows are appended, never replaced.

    A pipeline with a name that finds files of its own there and no state to go on from is refused (exit 6). With
    `exactly_once` from Kafka all workers have to reach the same folder.
    """

    type: Literal["parquet"] = setting("parquet", "Kind of sink.")
    path: str = setting(..., "Folder; created when missing.", min_length=1)


class WebhookSinkConfig(SinkBase):
    """An HTTP server; one request a row, a JSON object, one after the other.

    A request has the header `Idempotency-Key`. 408, 425, 429, 5xx and silence are tried again, after `Retry-After` if that is
    said; a row that is refused with another 4xx becomes a dead letter.
    """

    type: Literal["webhook"] = setting("webhook", "Kind of sink.")
    url: SecretStr = setting(..., "`http://` or `https://`; may hold a secret.")
    method: Literal["POST", "PUT", "PATCH"] = setting("POST", "Of the request.")
    headers: dict[str, SecretStr] = setting({}, 'More headers, as `{ Authorization = "Bearer ${TOKEN}" }`.')
    timeout: PositiveDuration = setting(10_000, "How long an answer may take in all.")

    @field_validator("url")
    @classmethod
    def _scheme(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value()
        try:
            parts = urlsplit(text)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            usable = False
        if not usable or any(character.isspace() for character in text):
            # Without any of it: it may hold a secret.
            raise ValueError("the url of a webhook cannot be used; write it as http://host:port/path, or https://")
        return url


class ConsoleSinkConfig(SinkBase):
    """The terminal: a live table, or one JSON object a line."""

    type: Literal["console"] = setting("console", "Kind of sink.")
    format: Literal["table", "jsonl"] | None = setting(None, "Unset: `table` on a terminal, else `jsonl`.")


class MemorySinkConfig(SinkBase):
    """A topic of the in-process log."""

    type: Literal["memory"] = setting("memory", "Kind of sink.")
    topic: str = setting(..., "Topic of the in-process log.", min_length=1)


SinkConfig = Annotated[
    KafkaSinkConfig | RedisSinkConfig | ParquetSinkConfig | WebhookSinkConfig | ConsoleSinkConfig | MemorySinkConfig,
    Field(discriminator="type"),
]


class DeadLettersConfig(Model):
    """Where records go that cannot be read or used, with the reason and everything they carried."""

    type: Literal["kafka", "file"] | None = setting(None, "Unset: `file` where `path` is given, else `kafka`.")
    topic: str | None = setting(
        None, "Topic; unset: `<name>.dead-letters`.", min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$"
    )
    connection: str | None = setting(None, "Name of a `[connections.NAME]`; unset: `[kafka]`.")
    path: str | None = setting(None, 'File, one JSON object a line; only for `type = "file"`.', min_length=1)
    error_rate_max: float = setting(
        0.5, "Share of refused records above which the run stops with exit code 5.", gt=0, le=1
    )
    error_rate_window: int = setting(
        10_000, "Records over which that share is taken.", unit="records", ge=1, le=100_000_000
    )

    @property
    def kind(self) -> Literal["kafka", "file"]:
        """The type that holds when the default is filled in."""
        return self.type or ("file" if self.path is not None else "kafka")

    @model_validator(mode="after")
    def _fits_its_type(self) -> DeadLettersConfig:
        if self.kind == "file" and self.path is None:
            raise ValueError('type = "file" needs path')
        if self.kind == "file" and (self.topic or self.connection):
            raise ValueError('topic and connection are for type = "kafka"')
        if self.kind == "kafka" and self.path is not None:
            raise ValueError('path is for type = "file"')
        return self
