"""The typed, validated description of a pipeline, and its loading.

Before it: a file or the builder. After it: the engine, sources and sinks.
Invariant: whatever passes here is complete and consistent; nothing later fills in a default.
"""

from streamcore.config.checks import check, describe, problems_error
from streamcore.config.combine import unkept
from streamcore.config.connections import Connection, KafkaConnection, RedisConnection
from streamcore.config.delivery import appending_sinks, choose_delivery, in_transactions, sink_mode
from streamcore.config.durations import (
    format_duration,
    parse_duration,
    parse_instant,
    parse_window_size,
    resolve_position,
)
from streamcore.config.engine import engine_json, engine_spec
from streamcore.config.inputs import InputConfig, KafkaInputConfig
from streamcore.config.loading import load
from streamcore.config.models import LimitsConfig, PipelineConfig, TestConfig
from streamcore.config.outbox import is_outbox, outbox_topic
from streamcore.config.servers import kafka_connection, redis_connection
from streamcore.config.sinks import (
    ConsoleSinkConfig,
    DeadLettersConfig,
    KafkaSinkConfig,
    MemorySinkConfig,
    ParquetSinkConfig,
    RedisSinkConfig,
    SinkConfig,
    WebhookSinkConfig,
)
from streamcore.config.sources import (
    FilesSourceConfig,
    GenerateSourceConfig,
    KafkaSourceConfig,
    MemorySourceConfig,
    RecordsSourceConfig,
    SourceConfig,
)
from streamcore.config.steps import (
    AggregateFunction,
    CumulateStep,
    DedupeStep,
    FilterStep,
    HoppingStep,
    JoinStep,
    MapBatchesStep,
    SelectStep,
    SessionStep,
    SlidingStep,
    StepConfig,
    TumblingStep,
    WholeStep,
    WindowStep,
    function_name,
)
from streamcore.config.toml_text import to_toml

__all__ = [
    "AggregateFunction",
    "Connection",
    "ConsoleSinkConfig",
    "CumulateStep",
    "DeadLettersConfig",
    "DedupeStep",
    "FilesSourceConfig",
    "FilterStep",
    "GenerateSourceConfig",
    "HoppingStep",
    "InputConfig",
    "JoinStep",
    "KafkaConnection",
    "KafkaInputConfig",
    "KafkaSinkConfig",
    "KafkaSourceConfig",
    "LimitsConfig",
    "MapBatchesStep",
    "MemorySinkConfig",
    "MemorySourceConfig",
    "ParquetSinkConfig",
    "PipelineConfig",
    "RecordsSourceConfig",
    "RedisConnection",
    "RedisSinkConfig",
    "SelectStep",
    "SessionStep",
    "SinkConfig",
    "SlidingStep",
    "SourceConfig",
    "StepConfig",
    "TestConfig",
    "TumblingStep",
    "WebhookSinkConfig",
    "WholeStep",
    "WindowStep",
    "appending_sinks",
    "check",
    "choose_delivery",
    "describe",
    "engine_json",
    "engine_spec",
    "format_duration",
    "function_name",
    "in_transactions",
    "is_outbox",
    "kafka_connection",
    "load",
    "outbox_topic",
    "parse_duration",
    "parse_instant",
    "parse_window_size",
    "problems_error",
    "redis_connection",
    "resolve_position",
    "sink_mode",
    "to_toml",
    "unkept",
]
