"""Owns the text of `streamcore explain`: the engine's plan between the source and the sinks.

Before it: a checked configuration. After it: a person reads it.
Invariant: no secret and nothing that needs a connection is in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from streamcore.config.checks import describe, engine_problems, problems_error
from streamcore.config.combine import why_combined
from streamcore.config.delivery import choose_delivery, in_transactions, sink_mode
from streamcore.config.durations import format_duration
from streamcore.config.engine import combined
from streamcore.config.models import PipelineConfig
from streamcore.config.outbox import is_outbox, outbox_topic
from streamcore.config.redact import redact_url
from streamcore.config.servers import kafka_connection, redis_connection
from streamcore.config.sinks import (
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
    SourceConfig,
)
from streamcore.config.steps import WholeStep, WindowStep


def explain(config: PipelineConfig, *, python_sinks: Sequence[str] = ()) -> str:
    """The plan, one line a stage. Raises `ConfigError` with every mistake of the steps."""
    description = describe(config)
    problems = engine_problems(description)
    if problems:
        raise problems_error(problems)
    delivery = choose_delivery(config, appends=python_sinks)
    state = (
        f"committed every {format_duration(config.commit_interval)}" if config.name else "ephemeral: nothing is kept"
    )
    if delivery == "exactly_once":
        state += " in a transaction" if in_transactions(config) else " to files of this machine"
    lines = [f"pipeline {config.name or '(no name)'}: {delivery}, {state}", f"source {_source(config, config.source)}"]
    for name, source in config.sources.items():
        first = ", a table that is read to its end first" if source.table else ""
        lines.append(f"source {name}: {_source(config, source)}{first}")
    lines += description["plan"].rstrip("\n").splitlines()
    lines += _idle(config, description["combine"])
    lines += _combined(config, description)
    lines += [f"sink {_sink(config, sink)}" for sink in config.sinks]
    if delivery == "exactly_once" and in_transactions(config) and (outbox := outbox_topic(config)) is not None:
        fed = ", ".join(f"sinks[{index}]" for index, sink in enumerate(config.sinks) if is_outbox(sink))
        lines.append(f"outbox: {fed} fed from the committed topic {outbox.topic}")
    lines += [f"sink {name}" for name in python_sinks]
    undeclared = [field["path"] for field in description["undeclared"]]
    if undeclared:
        lines.append(f"types not declared: {', '.join(undeclared)} (a named run needs them; an ephemeral one guesses)")
    return "\n".join(lines) + "\n"


def _idle(config: PipelineConfig, combine: str) -> list[str]:
    """What silence does to windows, and to records that come after it, where the input can be silent and has a clock."""
    source = config.source
    windows = [step for step in config.steps if isinstance(step, WindowStep) and not isinstance(step, WholeStep)]
    can_be = isinstance(source, KafkaSourceConfig | MemorySourceConfig) and source.out_of_orderness_ms is not None
    if not windows or not can_be or config.sources:
        return []
    silent, stands = f"silent for {format_duration(source.idle_timeout)}", source.on_idle == "hold"
    closes = "the clock stands" if stands else "windows close as time passes"
    if combine == "none":
        late = "" if stands else ", and a record for one that has left is late"
        return [f"idle     while all lanes are {silent} {closes}{late}"]
    again = "a record of theirs for a window that has left makes another row of it, revision + 1"
    after = {"topic": ", and it is the same", "local": ", and such a record is late"}[combine]
    return [
        f"idle     lanes {silent} are not waited for, and {again}; while all are silent {closes}{'' if stands else after}"
    ]


def _combined(config: PipelineConfig, description: Mapping[str, Any]) -> list[str]:
    """Where lanes' windows meet under `exactly_once`, and why."""
    why = why_combined(config, combined(config))
    if why is None:
        return []
    if description["combine"] != "topic":
        return [f"combine in one process: {why}"]
    count = f"{config.combine_partitions or 'as many'} partitions{'' if config.combine_partitions else ' as the input'}"
    return [f"combine through topic {config.name}.0.partials.g1 ({count}): {why}"]


def _source(config: PipelineConfig, source: SourceConfig) -> str:
    bound = source.out_of_orderness_ms
    time = f"event time {source.event_time or 'of the record'}, out of order by "
    time += "any amount: windows close at the end" if bound is None else f"up to {format_duration(bound)}"
    if isinstance(source, KafkaSourceConfig):
        servers = kafka_connection(config, source.connection).bootstrap_servers
        return f"kafka topic {source.topic} at {servers}, from {source.start}; {time}"
    if isinstance(source, FilesSourceConfig):
        return f"files {source.path}; {time}"
    if isinstance(source, GenerateSourceConfig):
        pace = f"{source.rate:g} events/s" if source.rate else "as fast as possible"
        return f"generate {source.generator}, {pace}, seed {source.seed}; {time}"
    return f"{source.type}{f' {source.topic}' if isinstance(source, MemorySourceConfig) else ''}; {time}"


def _sink(config: PipelineConfig, sink: SinkConfig) -> str:
    if isinstance(sink, KafkaSinkConfig):
        place = f"kafka topic {sink.topic} at {kafka_connection(config, sink.connection).bootstrap_servers}"
        place += f", {sink_mode(config, sink)}"
    elif isinstance(sink, RedisSinkConfig):
        url = redact_url(redis_connection(config, sink).url.get_secret_value())
        place = f"redis {url}, key {sink.key_template}"
    elif isinstance(sink, WebhookSinkConfig):
        place = f"webhook {sink.method} {urlsplit(sink.url.get_secret_value()).hostname}"
    elif isinstance(sink, ParquetSinkConfig):
        place = f"parquet folder {sink.path}"
    else:
        place = f"memory topic {sink.topic}" if isinstance(sink, MemorySinkConfig) else "console"
    return f"{place}, output {sink.output}"
