"""Owns what can be found wrong with a pipeline beyond the shape of its description.

Before it: validated models. After it: `loading.py` and the builder raise what is found here.
Invariant: the engine is asked through `describe` and nowhere else, so both doors give the same answers.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from streamcore.config.combine import combine_problems
from streamcore.config.delivery import choose_delivery, sink_mode
from streamcore.config.engine import engine_json
from streamcore.config.inputs import InputConfig, KafkaInputConfig
from streamcore.config.models import PipelineConfig
from streamcore.config.redis_key import TIMES_LISTED, KeyTemplate
from streamcore.config.servers import connection_problems
from streamcore.config.sinks import KafkaSinkConfig, ParquetSinkConfig, RedisSinkConfig, SinkConfig
from streamcore.config.steps import JoinStep, MapBatchesStep, SelectStep, SessionStep, WindowStep
from streamcore.config.suggest import did_you_mean, listed
from streamcore.errors import ConfigError, ExpressionError, Problem


def describe(config: PipelineConfig) -> dict[str, Any]:
    """What the engine says about the pipeline (see `_core.describe`)."""
    from streamcore import _core

    return _core.describe(engine_json(config))


def check(config: PipelineConfig, *, types_required: bool | None = None) -> list[Problem]:
    """Every mistake that can be found without connecting anywhere, in the order of the file.

    `types_required`: also report result types that nobody declared; unset: when the pipeline has a name.
    """
    if types_required is None:
        types_required = config.name is not None
    return check_meaning(config, types_required=types_required) + delivery_problems(config) + combine_problems(config)


def check_meaning(config: PipelineConfig, *, types_required: bool = False) -> list[Problem]:
    """Every mistake that does not depend on how the pipeline will be run."""
    description = describe(config)
    found = join_problems(config) + engine_problems(description) + column_problems(config, description)
    if types_required:
        named = {problem.path for problem in found}
        found += [problem for problem in undeclared_problems(description) if problem.path not in named]
    found += template_problems(config) + same_places(config) + retraction_problems(config)
    return found + connection_problems(config) + shared_test_names(config)


def problems_error(problems: list[Problem], *, file: str | None = None) -> ConfigError:
    """The exception for what was found: `ExpressionError` where a caret points at something."""
    count = "a mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    kind = ExpressionError if any(problem.start is not None for problem in problems) else ConfigError
    return kind(f"the pipeline has {count}", problems, file=file)


def engine_problems(description: Mapping[str, Any]) -> list[Problem]:
    """The engine's findings as `Problem`s."""
    return [
        Problem(
            path=found["path"],
            message=found["message"],
            hint=found.get("hint"),
            text=found.get("text"),
            start=found.get("start"),
            end=found.get("end"),
        )
        for found in description["problems"]
    ]


def undeclared_problems(description: Mapping[str, Any]) -> list[Problem]:
    """Fields whose type a named run must state, each with the line that would."""
    return [
        Problem(
            field["used_at"],
            f"the type of {field['path']} is not declared, and the result depends on it",
            hint=_declaring(field),
        )
        for field in description["undeclared"]
    ]


def _declaring(field: Mapping[str, Any]) -> str:
    line = f'add "{field["path"]}" = {_types_hint(field)} under'
    if field["input"] is not None:
        return f"{line} [sources.{field['input']}.schema]"
    return f"{line} [source.schema], or run `streamcore check --write-schema`"


def join_problems(config: PipelineConfig) -> list[Problem]:
    """What does not go together in a join and the input it names."""
    problems: list[Problem] = []
    apart = {source.type for source in config.all_sources.values()} - {"kafka", "memory"}
    if config.combine == "none" and config.sources and apart:
        message = f"each partition of topics is joined by itself, and a source of type {min(apart)} is none"
        problems.append(Problem("combine", message, hint="leave combine out"))
    for index, step in enumerate(config.steps):
        other = config.sources.get(step.join) if isinstance(step, JoinStep) else None
        if not isinstance(step, JoinStep) or other is None:
            continue
        path = f"steps[{index}].join"
        given = [name for name in ("within", "size") if getattr(step, name) is not None] + ["as_of"] * step.as_of
        if other.table and given:
            hint = f"leave {given[0]} out, or leave table = true out of [sources.{step.join}]"
            problems.append(Problem(path, f"{step.join} is a table, and {given[0]} is for a stream", hint=hint))
        if not other.table and not given:
            message = f"it is not said which rows of {step.join} belong to one"
            hint = f'add within = ["-5m", "5m"], size = "1m" or as_of = true; or table = true to [sources.{step.join}]'
            problems.append(Problem(path, message, hint=hint))
        problems += _key_of_table(path, step, other) if other.table else []
    return problems


def _key_of_table(path: str, step: JoinStep, other: InputConfig) -> list[Problem]:
    """A topic that is a table has one row a record key: by another key, rows that it deleted would stay."""
    right_on = step.keys[1]
    if not isinstance(other, KafkaInputConfig) or other.steps or right_on in (("_key",), (other.keyed_by,)):
        return []
    message = f"a topic that is a table is joined by its record key, and {', '.join(right_on)} is not known to be it"
    hint = f'write right_on = "_key", or keyed_by = "{right_on[0]}" in [sources.{step.join}]'
    return [Problem(path, message, hint=hint)]


def _types_hint(field: Mapping[str, Any]) -> str:
    if field["takes_number"]:
        return '"int64" (or float64, decimal(18,2))'
    return '"string" (or bool, int64, float64, decimal(18,2), timestamp)'


def column_problems(config: PipelineConfig, description: Mapping[str, Any]) -> list[Problem]:
    """Columns that sinks name and the result does not have, and formats of time on what is no time."""
    # While the engine complains it names no columns; their names are known even so.
    columns = dict(description["columns"]) or dict.fromkeys(_result_names(config), "scalar")
    if description["undeclared"]:
        # A type that is guessed from a sample later stands as text until then.
        columns = {name: "scalar" if kind == "string" else kind for name, kind in columns.items()}
    problems: list[Problem] = []
    for index, sink in enumerate(config.sinks):
        if sink.output == "result" and columns:
            problems += _sink_columns(f"sinks[{index}]", sink, columns)
    return problems


def _result_names(config: PipelineConfig) -> list[str]:
    for step in reversed(config.steps):
        if isinstance(step, WindowStep):
            retracted = ["retracted"] if _retracts(step) else []
            return [*step.by, "window_start", "window_end", *step.aggregate, "revision", "is_final", *retracted]
        if isinstance(step, JoinStep):
            return []
        if isinstance(step, SelectStep):
            return list(step.select)
        if isinstance(step, MapBatchesStep):
            return list(step.types)
    return []


def _sink_columns(path: str, sink: SinkConfig, columns: Mapping[str, str]) -> list[Problem]:
    named: list[tuple[str, str]] = [(f"{path}.columns", name) for name in sink.columns or ()]
    misused: list[Problem] = []
    if isinstance(sink, KafkaSinkConfig):
        named += [(f"{path}.key", name) for name in sink.key or ()]
    if isinstance(sink, RedisSinkConfig):
        template = _template(sink)
        if template is not None:
            named += [(f"{path}.key_template", name) for name in template.columns]
            misused = _not_times(f"{path}.key_template", template, columns)
        named += [(f"{path}.value", sink.value)] if sink.value is not None else []
    known = list(columns)
    missing = [
        Problem(
            where, f'the result has no column "{name}"', hint=did_you_mean(name, known) or f"it has {listed(known)}"
        )
        for where, name in named
        if name not in columns
    ]
    return missing + misused


def _template(sink: RedisSinkConfig) -> KeyTemplate | None:
    """The parsed template; `template_problems` says what is wrong with one that cannot be read."""
    try:
        return KeyTemplate(sink.key_template)
    except ConfigError:
        return None


def _not_times(where: str, template: KeyTemplate, columns: Mapping[str, str]) -> list[Problem]:
    return [
        Problem(
            where,
            f"the column {name} is {columns[name]} and no time, so {TIMES_LISTED} cannot be its format",
            hint=f"write {{{name}}}",
        )
        for name in template.time_columns
        if columns.get(name, "timestamp") not in ("timestamp", "scalar")
    ]


def template_problems(config: PipelineConfig) -> list[Problem]:
    """Key templates that cannot be read."""
    problems: list[Problem] = []
    for index, sink in enumerate(config.sinks):
        if isinstance(sink, RedisSinkConfig):
            try:
                KeyTemplate(sink.key_template, path=f"sinks[{index}].key_template")
            except ConfigError as error:
                problems += error.problems
    return problems


def same_places(config: PipelineConfig) -> list[Problem]:
    """Sinks that write where an earlier one does."""
    problems: list[Problem] = []
    places: dict[tuple[object, ...], int] = {}
    for index, sink in enumerate(config.sinks):
        key, *place = _place(config, sink) or ("",)
        first = places.setdefault((key, *place), index) if place else index
        if first != index:
            message = f"sinks[{first}] writes the same place, so their rows would replace each other"
            hint = f"give each a {key} of its own, or keep one"
            problems.append(Problem(f"sinks[{index}].{key}", message, hint=hint))
    return problems


def _place(config: PipelineConfig, sink: SinkConfig) -> tuple[object, ...] | None:
    """The key that names where a sink writes, and what must differ; None where two sinks do no harm."""
    if isinstance(sink, ParquetSinkConfig):
        return ("path", sink.output, os.path.realpath(sink.path))
    if isinstance(sink, RedisSinkConfig):
        return ("key_template", sink.url, sink.connection, sink.key_template)
    if isinstance(sink, KafkaSinkConfig) and sink_mode(config, sink) == "upsert":
        return ("topic", sink.connection, sink.topic, sink.key, sink.key_format)
    return None


def retraction_problems(config: PipelineConfig) -> list[Problem]:
    """Sinks that cannot take a row back, where rows of sessions are: the bounds of a session change."""
    if config.window is None or not _retracts(config.window):
        return []
    message = "rows of growing sessions are taken back, and what was appended stays"
    hint = 'use a sink that replaces rows (Kafka with mode = "upsert", Redis), or emit = "final" in the window'
    return [
        Problem(f"sinks[{index}].{key}", message, hint=hint)
        for index, sink in enumerate(config.sinks)
        if (key := _appends_with(config, sink)) is not None and sink.output == "result"
    ]


def _retracts(step: WindowStep) -> bool:
    return isinstance(step, SessionStep) and step.emit == "updates"


def _appends_with(config: PipelineConfig, sink: SinkConfig) -> str | None:
    """The key that makes a sink keep every row; a console shows what is written, whatever becomes of it."""
    if isinstance(sink, KafkaSinkConfig):
        return "mode" if sink_mode(config, sink) == "append" else None
    return "type" if sink.type in ("parquet", "memory") else None


def delivery_problems(config: PipelineConfig) -> list[Problem]:
    """Why the delivery asked for cannot be kept."""
    try:
        choose_delivery(config)
    except ConfigError as error:
        return error.problems
    return []


def shared_test_names(config: PipelineConfig) -> list[Problem]:
    """Tests that a report could not tell apart."""
    counts = Counter(test.name for test in config.tests)
    return [
        Problem(f"tests[{index}].name", f'another test is called "{test.name}"')
        for index, test in enumerate(config.tests)
        if counts[test.name] > 1
    ]
