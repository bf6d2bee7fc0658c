"""Owns the translation of pydantic's findings into `Problem`s a person can act on.

Before it: validation failed. After it: `loading.py` adds line and column.
Invariant: no message repeats a value that was refused, except names chosen from a closed list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from streamcore.config.base import Model
from streamcore.config.connections import KafkaConnection, RedisConnection
from streamcore.config.inputs import InputConfig
from streamcore.config.models import LimitsConfig, PipelineConfig, TestConfig
from streamcore.config.paths import Path, format_path
from streamcore.config.sinks import DeadLettersConfig, SinkConfig
from streamcore.config.sources import SourceConfig
from streamcore.config.steps import STEP_MODELS, VERBS, WINDOWS
from streamcore.config.suggest import did_you_mean, listed
from streamcore.errors import Problem

_TYPES = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "dict_type": "must be a table",
    "tuple_type": "must be a list",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "missing": "is missing",
}
_BOUNDS = {
    "greater_than": ("gt", "must be greater than"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be less than"),
    "less_than_equal": ("le", "must be at most"),
    "too_short": ("min_length", "needs entries, at least"),
    "string_too_short": ("min_length", "needs characters, at least"),
    "string_too_long": ("max_length", "has too many characters; at most"),
}


def _by_type(union: Any) -> dict[str, type[Model]]:
    models = get_args(get_args(union)[0])
    return {model.model_fields["type"].default: model for model in models}


SOURCES = _by_type(SourceConfig)
INPUTS = _by_type(InputConfig)
SINKS = _by_type(SinkConfig)
CONNECTIONS: Mapping[str, type[Model]] = {"kafka": KafkaConnection, "redis": RedisConnection}


def keys_of(model: type[Model]) -> list[str]:
    """The keys of a table as they are written in a file."""
    return [field.alias or name for name, field in model.model_fields.items()]


def problems_of(error: ValidationError, document: Any) -> list[Problem]:
    """What a person should read for each finding, in the order of the model. `document` is what was validated."""
    return [problem_of(detail, document) for detail in error.errors(include_url=False, include_input=False)]


def problem_of(detail: ErrorDetails, document: Any) -> Problem:
    """What a person should read for one finding."""
    path = document_path(detail["loc"])
    message, hint = _explain(detail, path, document)
    return Problem(format_path(path) or "pipeline", message, hint=hint)


def document_path(location: Sequence[str | int]) -> Path:
    """The place in the file: without the names of union members that pydantic puts in between."""
    parts = list(location)
    if parts[:1] == ["source"]:
        del parts[1:2]
    elif parts[:1] == ["sources"]:
        del parts[2:3]
        if parts[2:3] == ["steps"]:
            del parts[4:5]
    elif parts[:1] == ["connections"] or parts[:1] in (["steps"], ["sinks"]):
        del parts[2:3]
    # A key of a table that is refused by itself ends in a marker; so do the members of small unions.
    return tuple(part for part in parts if part != "[key]" and not _is_member(part))


def _is_member(part: str | int) -> bool:
    return isinstance(part, str) and (part.startswith(("function-", "literal[", "constrained-", "tuple[", "dict[")))


def _explain(detail: ErrorDetails, path: Path, document: Any) -> tuple[str, str | None]:  # noqa: PLR0911 - one case a kind of finding
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(path, document)
    if kind in ("value_error", "step_verb", "step_type", "window_kind"):
        message = str(context["error"]) if "error" in context else detail["msg"]
        message, _, hint = message.partition("; ")
        return message, hint or _close_choice(path, document)
    if kind == "literal_error":
        expected = str(context["expected"]).replace("'", '"').replace(" or ", ", ")
        return f"must be one of {expected}", _close(_value_at(document, path), _quoted(expected))
    if kind == "union_tag_invalid":
        return _unknown_type(path, document)
    if kind == "union_tag_not_found":
        return "has no type", f"add type = one of {listed(_types_at(path))}"
    if kind == "string_pattern_mismatch":
        return _pattern(path), None
    if kind in _BOUNDS:
        name, sentence = _BOUNDS[kind]
        bound = context[name]
        return f"{sentence} {int(bound) if bound == int(bound) else bound}", None
    return _TYPES.get(kind, detail["msg"][:1].lower() + detail["msg"][1:]), None


def _pattern(path: Path) -> str:
    if path == ("name",):
        return "must begin with a letter or digit and consist of letters, digits, dots, dashes and underscores"
    return "may consist of letters, digits, dots, dashes and underscores"


def _quoted(expected: str) -> list[str]:
    return [part.strip().strip('"') for part in expected.split(",")]


def _close(value: Any, known: Sequence[str]) -> str | None:
    return did_you_mean(value, known) if isinstance(value, str) else None


def _close_choice(path: Path, document: Any) -> str | None:
    table = _value_at(document, path)
    if len(path) != 2 or path[0] != "steps" or not isinstance(table, Mapping):
        return None
    if "window" in table:
        return _close(table["window"], WINDOWS)
    return next((hint for hint in (did_you_mean(name, VERBS) for name in table) if hint), None)


def _types_at(path: Path) -> list[str]:
    families = {"source": SOURCES, "sources": INPUTS, "sinks": SINKS}
    return [kind for kind in families.get(str(path[0]), CONNECTIONS) if kind != "records"]


def _unknown_type(path: Path, document: Any) -> tuple[str, str | None]:
    known = _types_at(path)
    table = _value_at(document, path)
    value = table.get("type") if isinstance(table, Mapping) else None
    return f"type must be one of {listed(known)}", _close(value, known)


def _unknown_key(path: Path, document: Any) -> tuple[str, str | None]:
    model = model_at(path[:-1], document)
    if model is None:
        return "is not a key of this table", None
    if path[-1] == "keyed_by" and path[0] in ("source", "sources"):
        return "is not a key of this table", "what is read here has no record keys: leave keyed_by out"
    hint = did_you_mean(path[-1], keys_of(model))
    elsewhere = _owner(str(path[-1]), path[:-1])
    if hint is None or elsewhere is not None:
        hint = elsewhere or f"keys here are {', '.join(sorted(keys_of(model)))}"
    return "is not a key of this table", hint


def _owner(name: str, table: Path) -> str | None:
    """Where the key would be right: the kind of window, source or sink that has it."""
    families: dict[str, Mapping[str, type[Model]]] = {
        "source": SOURCES,
        "sources": INPUTS,
        "sinks": SINKS,
        "steps": STEP_MODELS,
    }
    family = families.get(str(table[0])) if table else None
    owners = [tag for tag, model in (family or {}).items() if name in keys_of(model)]
    if owners and table[0] == "steps":
        return f"{name} belongs to a step with {' or '.join(_verb(tag) for tag in owners)}"
    if owners:
        return f"{name} belongs to type = {' or '.join(listed([tag]) for tag in owners)}"
    if table and name in keys_of(PipelineConfig):
        return f"{name} belongs to the top of the file, above every [table]"
    homes = ["source"] if not table and any(name in keys_of(model) for model in SOURCES.values()) else []
    homes += [home for home, model in _TABLES.items() if not table and name in keys_of(model)]
    return f"{name} belongs to [{homes[0]}]" if homes else None


def _verb(tag: str) -> str:
    return tag if tag in VERBS else f'window = "{tag}"'


_TABLES: Mapping[str, type[Model]] = {
    "kafka": KafkaConnection,
    "dead_letters": DeadLettersConfig,
    "limits": LimitsConfig,
}


def model_at(path: Path, document: Any) -> type[Model] | None:  # noqa: PLR0911 - one case a kind of table
    """The model of the table at `path`, as far as what is written there tells."""
    if not path:
        return PipelineConfig
    table = _value_at(document, path)
    tag = table.get("type") if isinstance(table, Mapping) else None
    match path:
        case ("source",):
            return SOURCES.get(str(tag))
        case ("sinks", int()):
            return SINKS.get(str(tag))
        case ("sources", str()):
            return INPUTS.get(str(tag))
        case ("connections", str()):
            return CONNECTIONS.get(str(tag))
        case ("tests", int()):
            return TestConfig
        case ("steps", int()) | ("sources", str(), "steps", int()) if isinstance(table, Mapping):
            verb = next((verb for verb in VERBS if verb in table), "")
            return STEP_MODELS.get(str(table[verb]) if verb == "window" else verb)
        case (str(name),):
            return _TABLES.get(name)
        case _:
            return None


def _value_at(document: Any, path: Path) -> Any:
    for part in path:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return None
    return document
