"""Owns what can be found wrong with a pipeline beyond the shape of its description.

Before it: validated models. After it: `loading.py` and the builder raise what is found here.
Invariant: the engine is asked through `describe` and nowhere else, so both doors give the same answers.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Mapping
from typing import Any

from streamcore.config.delivery import choose_delivery
from streamcore.config.engine import engine_json
from streamcore.config.models import PipelineConfig
from streamcore.config.paths import format_path
from streamcore.config.servers import connection_problems
from streamcore.config.sinks import KafkaSinkConfig, RedisSinkConfig, SinkConfig
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
    return check_meaning(config, types_required=types_required) + _delivery_problems(config)


def check_meaning(config: PipelineConfig, *, types_required: bool = False) -> list[Problem]:
    """Every mistake that does not depend on how the pipeline will be run."""
    description = describe(config)
    found = engine_problems(description)
    if not found:
        found = column_problems(config, description)
        if types_required:
            found += undeclared_problems(description)
    return found + connection_problems(config) + _shared_test_names(config)


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
            format_path(("source", "schema", field["path"])),
            f"the type of {field['path']} is not declared, and {field['used_at']} depends on it",
            hint=f'add "{field["path"]}" = "string" (or bool, int64, float64, decimal(18,2), timestamp) under '
            "[source.schema], or run `streamcore check --write-schema`",
        )
        for field in description["undeclared"]
    ]


def column_problems(config: PipelineConfig, description: Mapping[str, Any]) -> list[Problem]:
    """Columns that sinks name and the result does not have."""
    columns = [name for name, _ in description["columns"]]
    problems: list[Problem] = []
    for index, sink in enumerate(config.sinks):
        if sink.output == "result" and columns:
            problems += _sink_columns(f"sinks[{index}]", sink, columns)
    return problems


def _sink_columns(path: str, sink: SinkConfig, columns: list[str]) -> list[Problem]:
    named: list[tuple[str, str]] = [(f"{path}.columns", name) for name in sink.columns or ()]
    if isinstance(sink, KafkaSinkConfig):
        named += [(f"{path}.key", name) for name in sink.key or ()]
    if isinstance(sink, RedisSinkConfig):
        named += [(f"{path}.key_template", name) for name in _template_columns(sink.key_template)]
        named += [(f"{path}.value", sink.value)] if sink.value is not None else []
    return [
        Problem(
            where, f'the result has no column "{name}"', hint=did_you_mean(name, columns) or f"it has {listed(columns)}"
        )
        for where, name in named
        if name not in columns
    ]


def _template_columns(template: str) -> list[str]:
    try:
        return [name for _, name, _, _ in string.Formatter().parse(template) if name]
    except ValueError:
        return []


def _delivery_problems(config: PipelineConfig) -> list[Problem]:
    try:
        choose_delivery(config)
    except ConfigError as error:
        return error.problems
    return []


def _shared_test_names(config: PipelineConfig) -> list[Problem]:
    counts = Counter(test.name for test in config.tests)
    return [
        Problem(f"tests[{index}].name", f'another test is called "{test.name}"')
        for index, test in enumerate(config.tests)
        if counts[test.name] > 1
    ]
