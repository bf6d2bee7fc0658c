"""Owns `docs/pipeline-toml.md`: every key of a pipeline file with its type, default and meaning.

Before it: the models and their schema. After it: `streamcore config reference`, and the committed page, which a test compares.
Invariant: nothing is said here that the models do not say.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from streamcore.config.base import Model, unit_of
from streamcore.config.connections import KafkaConnection, RedisConnection
from streamcore.config.environment import CUSTOMARY
from streamcore.config.inputs import InputBase
from streamcore.config.models import LimitsConfig, PipelineConfig, TestConfig
from streamcore.config.problems import SINKS, SOURCES
from streamcore.config.schema import json_schema
from streamcore.config.sinks import DeadLettersConfig, SinkBase
from streamcore.config.sources import SourceBase
from streamcore.config.steps import STEP_MODELS, VERBS, AggregateFunction, WindowStep
from streamcore.config.toml_text import LEADING

HEAD = """# The pipeline file

Every key, its type, default and meaning. Written by `streamcore config reference`.

- A duration is text: a number and one of `ms s m h d w`, as `"500ms"`, `"5s"`, `"1h30m"`.
- Conditions, columns and aggregates are [expressions](expressions.md); where refused records go is on the page
  [dead letters](dead-letters.md).
- A key that has no default and is not required is unset unless it is written.
- `${NAME}`, `${NAME:-default}` and `${file:/path}` stand for an environment variable or the content of a file, in
  text values only, never in expressions or tests; `$$` is a dollar sign.
- `--set path=value` (as `--set steps[0].within=5m`) wins over the file, the file over the environment, the environment
  over the default; `streamcore config FILE --origin` tells which won.
- `streamcore check FILE` shows every mistake with its line and column, `streamcore config schema` prints the JSON Schema
  for editors.
"""


def reference() -> str:
    """The page."""
    return HEAD + "\n" + "\n".join(_sections()).rstrip() + "\n\n" + _environment()


def _sections() -> Iterator[str]:
    tables = ("kafka", "connections", "source", "sources", "steps", "sinks", "dead_letters", "limits", "tests")
    yield _section("## Top of the file", PipelineConfig, without=tables)
    yield _section('## `[kafka]` and `[connections.NAME]` with `type = "kafka"`', KafkaConnection)
    yield _section('## `[connections.NAME]` with `type = "redis"`', RedisConnection)
    yield _section("## `[source]`", SourceBase)
    for kind, model in SOURCES.items():
        if kind != "records":
            yield _section(f'### `type = "{kind}"`', model, without=_keys(SourceBase))
    yield _section("## `[sources.NAME]`", InputBase, only=_keys(InputBase))
    yield "## `[[steps]]`\n\nA step has exactly one verb; the verb decides its other keys.\n"
    for tag, model in STEP_MODELS.items():
        if tag in VERBS:
            yield _section(f"### `{tag}`", model)
    yield _section("### `window`", WindowStep)
    yield _section("#### `[steps.functions.NAME]`", AggregateFunction)
    for tag, model in STEP_MODELS.items():
        if tag not in VERBS:
            yield _section(f'#### `window = "{tag}"`', model, without=_keys(WindowStep))
    yield _section("## `[[sinks]]`", SinkBase)
    for kind, model in SINKS.items():
        yield _section(f'### `type = "{kind}"`', model, without=_keys(SinkBase))
    yield _section("## `[dead_letters]`", DeadLettersConfig)
    yield _section("## `[limits]`", LimitsConfig)
    yield _section("## `[[tests]]`", TestConfig)


def _keys(model: type[Model]) -> tuple[str, ...]:
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _section(
    heading: str, model: type[Model], *, without: tuple[str, ...] = (), only: tuple[str, ...] | None = None
) -> str:
    lines = [
        heading,
        "",
        inspect.cleandoc(model.__doc__ or ""),
        "",
        "| Key | Type | Default | Meaning |",
        "|---|---|---|---|",
    ]
    schema = _schema_of(model)
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    without += () if only is None else tuple(key for key in fields if key not in only)
    for key in sorted(fields, key=lambda key: key not in LEADING):
        if key in without:
            continue
        value, field = schema["properties"][key], fields[key]
        default = "required" if key in schema.get("required", ()) else _default(value)
        unit = f" ({unit_of(field)})" if unit_of(field) else ""
        lines.append(f"| `{key}` | {_type(value)}{unit} | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


@cache
def _whole() -> Mapping[str, Any]:
    return json_schema()


def _schema_of(model: type[Model]) -> Mapping[str, Any]:
    whole = _whole()
    if model is PipelineConfig:
        return whole
    found = whole["$defs"].get(model.__name__)
    if found is None:  # what several tables share
        found = next(
            whole["$defs"][child.__name__] for child in _descendants(model) if child.__name__ in whole["$defs"]
        )
    return dict(found)


def _descendants(model: type[Model]) -> Iterator[type[Model]]:
    for child in model.__subclasses__():
        yield child
        yield from _descendants(child)


def _default(value: Mapping[str, Any]) -> str:
    default = value.get("default")
    if default is None or default in ({}, []):
        return "" if default is None else "empty"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f'`"{default}"`' if isinstance(default, str) else f"`{default}`"


def _type(value: Mapping[str, Any]) -> str:  # noqa: PLR0911 - one case a shape
    if "enum" in value:
        return " ".join(f'`"{choice}"`' for choice in value["enum"])
    if "const" in value:
        return f'`"{value["const"]}"`'
    if "anyOf" in value:
        return " or ".join(_type(choice) for choice in value["anyOf"])
    if "ms|s|m|h|d|w" in value.get("pattern", ""):
        return "duration"
    if value.get("examples") == ["5s", "unbounded"]:
        return 'duration or `"unbounded"`'
    names = {"integer": "integer", "number": "number", "boolean": "boolean", "object": "table", "string": "text"}
    if value.get("format") == "date-time":
        return "time"
    if value.get("type") == "array":
        items = "table" if "oneOf" in value["items"] else _type(value["items"])
        return "list of " + {"text": "texts", "table": "tables"}[items]
    return names[value["type"]]


def _environment() -> str:
    lines = ["## Environment", "", "| Variable | Key it fills where nobody set it |", "|---|---|"]
    lines += [f"| `{variable}` | `{'.'.join(path)}` |" for variable, path in CUSTOMARY.items()]
    lines.append('| `REDIS_URL` | `url` of every sink with `type = "redis"` that has neither `url` nor `connection` |')
    lines += ["", "Each also as `NAME_FILE`: the path of a file that holds the value, as mounted secrets do.", ""]
    lines.append(
        "`STREAMCORE_SIMD` fills no key: it names a narrower instruction set for reading JSON than the widest of this CPU "
        "(`avx2`, `portable`), to see\nwhether a wrong answer or the speed comes from there. `streamcore doctor` names the one in use."
    )
    return "\n".join(lines) + "\n"
