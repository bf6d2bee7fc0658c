"""Owns `--set a.b=value`.

Before it: the parsed file. After it: variables are replaced and the document is validated.
Invariant: a secret never comes in this way, because command lines are visible to everybody on the machine.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from typing import Any

from streamcore.config.paths import Path, format_path, parse_path
from streamcore.config.redact import is_secret_key, redact_url
from streamcore.errors import Problem


def apply_overrides(document: dict[str, Any], overrides: Iterable[str]) -> tuple[set[Path], list[Problem]]:
    """Puts each `path=value` into `document`; which paths were set, and what went wrong."""
    paths: set[Path] = set()
    problems: list[Problem] = []
    for override in overrides:
        place, _, text = override.partition("=")
        try:
            path = _path(override)
            _refuse_secret(path, text)
            _put(document, path, _value(text.strip()))
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            problems.append(Problem(f"--set {place.strip()}", message, hint=hint or None))
        else:
            paths.add(path)
    return paths, problems


def _path(override: str) -> Path:
    place, separator, _ = override.partition("=")
    if not separator:
        raise ValueError("--set takes path=value, as --set source.topic=clicks")
    return parse_path(place.strip())


def _value(text: str) -> Any:
    """A TOML value where it is one (`5`, `true`, `["a"]`), else the text as it stands."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _refuse_secret(path: Path, text: str) -> None:
    names = [part for part in path if isinstance(part, str)]
    if is_secret_key(".".join(names)) or redact_url(text) != text:
        raise ValueError(
            "a secret on the command line is visible in the process list; "
            'write "${NAME}" or "${file:/path}" in the file instead'
        )


def _put(document: dict[str, Any], path: Path, value: Any) -> None:
    table: Any = document
    for depth, part in enumerate(path):
        if isinstance(part, int) != isinstance(table, list):
            place = format_path(path[:depth])
            is_list = isinstance(table, list)
            raise ValueError(f"{place} is a list; its first entry is {place}[0]" if is_list else f"{place} is a table")
        if isinstance(part, int) and part >= len(table):
            raise ValueError(f"{format_path(path[:depth])} has {len(table)} entries; the first is [0]")
        if depth == len(path) - 1:
            table[part] = value
            return
        table = table[part] if isinstance(part, int) else table.setdefault(part, {})
        if not isinstance(table, (dict, list)):
            raise ValueError(f"{format_path(path[: depth + 1])} is a value, not a table")  # noqa: TRY004 - pydantic collects ValueErrors
