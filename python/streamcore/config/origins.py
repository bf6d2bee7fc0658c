"""Owns the answer to "where does this value come from": `--set`, the file, the environment, or the default.

Before it: a loaded pipeline file. After it: `streamcore config`.
Invariant: every key of the effective configuration is listed once, and no secret is shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from streamcore.config.loading import Document, positions_of
from streamcore.config.models import PipelineConfig
from streamcore.config.paths import Path, format_path
from streamcore.config.redact import redacted
from streamcore.config.toml_text import LEADING


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the effective configuration."""

    path: str
    value: str
    """As TOML, secrets blotted out; `unset` where there is none."""
    origin: str


def settings(document: Document, config: PipelineConfig) -> Iterator[Setting]:
    """Every key with its value and what decided it, in the order of the model."""
    positions = positions_of(document.text)
    for path, value in _leaves(redacted(config.model_dump())):
        yield Setting(format_path(path), _text(value), _origin(path, document, positions))


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and (value or not path) and path[:1] != ("tests",):
        for key in sorted(value, key=lambda key: key not in LEADING):
            yield from _leaves(value[key], (*path, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict) and path[:1] != ("tests",):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    elif path[:1] == ("tests",):
        yield path, [test["name"] for test in value]
    else:
        yield path, value


def _text(value: Any) -> str:
    return "unset" if value is None else json.dumps(value, ensure_ascii=False)


def _origin(path: Path, document: Document, positions: Mapping[str, tuple[int, int]]) -> str:
    """The nearest place that was set: a key inside a table given as a whole comes from where the table does."""
    for depth in range(len(path), 0, -1):
        part = path[:depth]
        if part in document.overridden:
            return f"--set {format_path(part)}"
        if part in document.environment:
            return f"environment {document.environment[part]}"
        place = positions.get(format_path(part).replace('"', ""))
        if place is not None and (depth == len(path) or not _is_table(part, document.values)):
            names = document.variables.get(part, [])
            through = f" through {', '.join(f'${{{name}}}' for name in names)}" if names else ""
            return f"{document.file}:{place[0]}{through}"
    return "default"


def _is_table(path: Path, values: Any) -> bool:
    for part in path:
        values = values[part]
    return isinstance(values, dict) or (isinstance(values, list) and bool(values) and isinstance(values[0], dict))
