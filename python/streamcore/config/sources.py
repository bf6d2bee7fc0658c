"""Owns `[source]`: where records come from, how they are read, and the clock they drive.

Before it: connections. After it: steps, and the sources that read what is described here.
Invariant: one word means one thing in every source.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from streamcore.config.base import Model, setting
from streamcore.config.connections import Options
from streamcore.config.durations import Duration, LogPosition, PositiveDuration, format_duration, parse_duration

OUT_OF_ORDERNESS_DEFAULT_MS = 5_000
"""For sources without an end."""

Transport = Literal["auto", "native", "librdkafka"]

Unbounded = Literal["unbounded"]


def _out_of_orderness(value: Any) -> int | str | None:
    return value if value is None or value == "unbounded" else parse_duration(value)


OutOfOrderness = Annotated[
    int | Unbounded | None,
    BeforeValidator(_out_of_orderness),
    PlainSerializer(lambda value: format_duration(value) if isinstance(value, int) else value),
    WithJsonSchema({"type": "string", "examples": ["5s", "unbounded"]}),
]


class SourceBase(Model):
    """Keys that every source has."""

    closes_at_end: ClassVar[bool] = False
    """Whether `out_of_orderness` is `"unbounded"` where nothing is said: the whole input is at hand, so none is lost."""

    format: Literal["json", "raw"] = setting(
        "json", "`json`: one JSON object a record. `raw`: opaque bytes, only record parts can be used."
    )
    types: dict[str, str] = setting(
        {}, 'Types of fields by their path, as `"payload.page_id" = "string"`.', alias="schema"
    )
    event_time: str | None = setting(None, "Field that holds the event time; unset: the record's own timestamp.")
    event_time_unit: Literal["iso", "s", "ms", "us", "ns"] = setting(
        "iso", "`iso`: text with a zone; otherwise the unit a number counts since 1970."
    )
    where: str | None = setting(None, "Condition a record must meet to be seen at all, also by the clock.")
    out_of_orderness: OutOfOrderness = setting(
        None,
        'How far behind the newest event a record may arrive; `"unbounded"`: windows close at the end of the input. '
        'Unset: `"5s"`, and `"unbounded"` for files and records.',
    )
    idle_timeout: PositiveDuration = setting(
        30_000, "A lane that has read everything and got nothing for this long does not hold the others back."
    )
    on_idle: Literal["advance", "hold"] = setting(
        "advance", "While nothing comes at all: the clock runs on as time passes, or stands still."
    )
    max_future_skew: Duration = setting(
        3_600_000, "An event further ahead of its record's timestamp than this goes to the output `future`."
    )
    max_lead: PositiveDuration = setting(
        600_000, "How far, in event time, one lane may run ahead of the slowest before it is paused."
    )

    @property
    def out_of_orderness_ms(self) -> int | None:
        """What holds when defaults are filled in; None: unbounded."""
        if self.out_of_orderness is None:
            return None if self.closes_at_end else OUT_OF_ORDERNESS_DEFAULT_MS
        return None if self.out_of_orderness == "unbounded" else self.out_of_orderness


class KeyedSource(SourceBase):
    """Keys of sources whose records have a key. The lines of a file have none, so there `keyed_by` is no key."""

    keyed_by: str | None = setting(
        None,
        "Field that equals the record key, byte for byte: grouping by it needs no combine stage. Compared in every "
        "record; one that differs is a dead letter `KEY_MISMATCH`.",
    )


class KafkaSourceConfig(KeyedSource):
    """A Kafka topic; one lane a partition."""

    type: Literal["kafka"] = setting("kafka", "Kind of source.")
    topic: str = setting(..., "Topic to read.", min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")
    connection: str | None = setting(None, "Name of a `[connections.NAME]`; unset: `[kafka]`.")
    group_id: str | None = setting(None, "Consumer group; unset: the pipeline's name.", min_length=1)
    start: LogPosition = setting(
        "earliest",
        "Where a new pipeline begins: `earliest`, `latest`, an ISO time, or `-2h` (before now); "
        "times are those of the records in Kafka.",
    )
    poll_records_max: int = setting(50_000, "Most records taken by one poll.", unit="records", ge=1, le=1_000_000)
    poll_timeout: PositiveDuration = setting(50, "How long one poll waits for records.")
    transport: Transport = setting(
        "auto",
        "How records come. `native`: fetched by streamcore, in whole batches. `librdkafka`: by that client's consumer. `auto`: "
        "native, unless the connection has a setting that it does not have.",
    )
    stall_timeout: PositiveDuration = setting(
        120_000, "A partition that no broker answers for, for this long, ends the run with exit code 1."
    )
    options: Options = setting({}, "Raw consumer settings (librdkafka names).")


class FilesSourceConfig(SourceBase):
    """Files of records, each a line or behind its length; one lane a file, in the order of their names."""

    closes_at_end: ClassVar[bool] = True

    type: Literal["files"] = setting("files", "Kind of source.")
    path: str = setting(..., "File or glob, as `clicks/*.jsonl`.", min_length=1)
    framing: Literal["lines", "varint", "u32be"] = setting(
        "lines",
        "How records are told apart. `lines`: one a line. Otherwise each is behind its length in bytes: `varint`, as "
        "Protobuf's `writeDelimitedTo` puts it, or `u32be`, four bytes, the highest first.",
    )
    piece_bytes: int = setting(1 << 20, "How much of a file is read at once.", unit="bytes", ge=4096, le=256 << 20)


class GenerateSourceConfig(KeyedSource):
    """Events made up from a seed: for demos, tests and benchmarks."""

    type: Literal["generate"] = setting("generate", "Kind of source.")
    generator: Literal["clickstream"] = setting("clickstream", "What is made.")
    rate: float = setting(0.0, "Events per second of wall time; 0: as fast as possible.", unit="events/s", ge=0)
    count: int | None = setting(None, "Events in all; unset: no end.", unit="events", ge=0)
    seed: int = setting(1, "Same seed, same events.", ge=0, le=2**63 - 1)
    speed: float = setting(1.0, "Event time that passes per wall time.", gt=0)
    lanes: int = setting(1, "Lanes the events are spread over, by user.", unit="lanes", ge=1, le=1024)
    out_of_order: Duration = setting(0, "How far back an event's time may be moved.")
    duplicate_rate: float = setting(0.0, "Share of events that repeat an earlier one.", ge=0, le=1)


class RecordsSourceConfig(KeyedSource):
    """An iterable handed over in Python (`sc.records`); it rides in the pipeline object."""

    closes_at_end: ClassVar[bool] = True

    type: Literal["records"] = setting("records", "Kind of source.")


class MemorySourceConfig(KeyedSource):
    """A topic of the in-process log."""

    type: Literal["memory"] = setting("memory", "Kind of source.")
    topic: str = setting(..., "Topic of the in-process log.", min_length=1)


SourceConfig = Annotated[
    KafkaSourceConfig | FilesSourceConfig | GenerateSourceConfig | RecordsSourceConfig | MemorySourceConfig,
    Field(discriminator="type"),
]
