"""Owns how a configuration is written as a pipeline file.

Before it: a validated configuration. After it: a file that loads to an equal configuration.
Invariant: only what differs from its default is written, and never a secret: a secret becomes a `${VARIABLE}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import date, time
from typing import Any

from pydantic import BaseModel, SecretStr

from streamcore.config.connections import KafkaConnection
from streamcore.config.models import PipelineConfig
from streamcore.config.paths import Path, is_expression
from streamcore.config.redact import is_secret_key, redact_url
from streamcore.config.sinks import DeadLettersConfig
from streamcore.config.steps import VERBS, MapBatchesStep, WindowStep, column_name, function_name
from streamcore.errors import ConfigError

_BARE = re.compile(r"[A-Za-z0-9_-]+")
LEADING = ("name", "type", *VERBS)
"""What a table is comes first in it."""
_CONTROL = {index: f"\\u{index:04x}" for index in (*range(32), 127)}


def to_toml(config: PipelineConfig) -> str:
    """The pipeline file; `load` gives an equal configuration back.

    A password is written as a variable named after its key, `${KAFKA_SASL_PASSWORD}`, to be set where it is read.
    """
    lines: list[str] = []
    _write_table(lines, (), _written(config))
    return "\n".join(lines).strip() + "\n"


def _written(model: BaseModel, *, tagged: bool = True) -> dict[str, Any]:
    """What has to be written of a model: its kind, and whatever differs from its default."""
    if isinstance(model, MapBatchesStep):
        _require_importable(model)
    values = model.model_dump()
    written: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        key, value = field.alias or name, getattr(model, name)
        if value != field.get_default(call_default_factory=True) or (tagged and name in ("type", "window")):
            written[key] = _written_value(value, values[key])
    if isinstance(model, WindowStep) and "by" in written:
        written["by"] = _shortest_keys(model.by)
    return {key: written[key] for key in sorted(written, key=lambda key: key not in LEADING)}


def _require_importable(step: MapBatchesStep) -> None:
    """A file can only name what a later run finds again."""
    name = function_name(step.map_batches)
    if "<" in name or name.startswith("__main__:"):
        raise ConfigError(f"the function {name} has no place in a file: put it at the top of a module of its own")


def _written_value(value: Any, dumped: Any) -> Any:
    if isinstance(value, BaseModel):
        return _written(value, tagged=not isinstance(value, (KafkaConnection, DeadLettersConfig)))
    if isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        return [_written(item) for item in value]
    if isinstance(value, dict) and value and all(isinstance(item, BaseModel) for item in value.values()):
        return {name: _written(item) for name, item in value.items()}
    return dumped


def _shortest_keys(by: Mapping[str, str]) -> list[str] | dict[str, str]:
    names_itself = all(name == column_name(expression) for name, expression in by.items())
    return list(by.values()) if names_itself else dict(by)


def _write_table(lines: list[str], path: Path, table: Mapping[str, Any]) -> None:
    """Plain keys first: in TOML, whatever follows a header belongs to it."""
    tables = {key: value for key, value in table.items() if _is_table(value, (*path, key))}
    for key, value in table.items():
        if key not in tables and value is not None:
            lines.append(f"{_key(key)} = {_value(value, (*path, key))}")
    for key, value in tables.items():
        if isinstance(value, dict):
            lines += ["", f"[{_header((*path, key))}]"]
            _write_table(lines, (*path, key), value)
        else:
            for index, item in enumerate(value):
                lines += ["", f"[[{_header((*path, key))}]]"]
                _write_table(lines, (*path, key, index), item)


def _is_table(value: Any, path: Path) -> bool:
    """Rows of tests and small tables of settings read better inline."""
    if path[0] == "tests" and len(path) > 1:
        return False
    if isinstance(value, dict):
        return path[-1] not in ("by", "options", "parameters")
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _header(path: Path) -> str:
    return ".".join(_key(part) for part in path if isinstance(part, str))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else quote(name)


def _value(value: Any, path: Path) -> str:  # noqa: PLR0911 - one case a type
    if isinstance(value, SecretStr):
        return _secret(value.get_secret_value(), path)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if path[-2:-1] == ("options",) and is_secret_key(str(path[-1])):
            return _secret(value, path)
        return quote(value if is_expression(path) else value.replace("$", "$$"))
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, (int, date, time)):
        return str(value)
    if isinstance(value, Mapping):
        return _inline(((key, item, (*path, key)) for key, item in value.items()))
    return "[" + ", ".join(_value(item, (*path, index)) for index, item in enumerate(value)) + "]"


def _float(value: float) -> str:
    text = repr(value)
    return text if any(mark in text for mark in ".en") else f"{text}.0"


def _inline(items: Iterable[tuple[str, Any, Path]]) -> str:
    pairs = [f"{_key(key)} = {_value(value, path)}" for key, value, path in items if value is not None]
    return "{ " + ", ".join(pairs) + " }" if pairs else "{}"


def quote(text: str) -> str:
    """A TOML basic string."""
    return '"' + json.dumps(text, ensure_ascii=False)[1:-1].translate(_CONTROL) + '"'


def _secret(text: str, path: Path) -> str:
    """A URL without a login is no secret; anything else is named, not written."""
    if "://" in text and redact_url(text) == text:
        return quote(text.replace("$", "$$"))
    return quote(f"${{{secret_variable(path)}}}")


def secret_variable(path: Path) -> str:
    """The variable that stands for a secret: `kafka.sasl_password` is `KAFKA_SASL_PASSWORD`."""
    if path[0] == "sinks" and path[-1] == "url":
        return "REDIS_URL"
    return re.sub(r"[^A-Za-z0-9]+", "_", "_".join(str(part) for part in path)).upper()
