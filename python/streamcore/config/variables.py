"""Owns `${VAR}`, `${VAR:-default}`, `${file:/path}` and `$$` in the strings of a pipeline file.

Before it: the parsed document. After it: validation.
Invariant: only string values are touched, after parsing, and never expressions; what is inserted is never read again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from streamcore.config.paths import Path, format_path, is_expression
from streamcore.errors import Problem

FILE_BYTES_MAX = 64 << 10
"""A mounted secret is small; anything larger is a mistake in the path."""

_VARIABLE = re.compile(r"\$\$|\$\{([^}]*)\}|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(slots=True)
class Expansion:
    """What replacing variables found."""

    problems: list[Problem] = field(default_factory=list)
    used: dict[Path, list[str]] = field(default_factory=dict)
    """Variables and files by the path they were used at."""


def expand(document: Any, environ: Mapping[str, str], expansion: Expansion, path: Path = ()) -> Any:
    """A copy of `document` with variables replaced; a string that cannot be completed stays as it was."""
    if isinstance(document, dict):
        return {key: expand(value, environ, expansion, (*path, key)) for key, value in document.items()}
    if isinstance(document, list):
        return [expand(value, environ, expansion, (*path, index)) for index, value in enumerate(document)]
    if not isinstance(document, str) or "$" not in document or is_expression(path):
        return document
    return _expand_text(document, environ, expansion, path)


def _expand_text(text: str, environ: Mapping[str, str], expansion: Expansion, path: Path) -> str:
    failed = False

    def replace(match: re.Match[str]) -> str:
        nonlocal failed
        if match[0] == "$$":
            return "$"
        try:
            value = _look_up(match[1], environ)
        except ValueError as error:
            failed = True
            message, _, hint = str(error).partition("; ")
            expansion.problems.append(Problem(format_path(path), message, hint=hint or None))
            return match[0]
        expansion.used.setdefault(path, []).append(match[1].partition(":-")[0])
        return value

    replaced = _VARIABLE.sub(replace, text)
    return text if failed else replaced


def _look_up(reference: str | None, environ: Mapping[str, str]) -> str:
    if reference is None:
        raise ValueError("${ is not closed; write $$ for a dollar sign")
    if reference.startswith("file:"):
        return read_secret_file(reference.removeprefix("file:"))
    name, separator, default = reference.partition(":-")
    if not _NAME.fullmatch(name):
        raise ValueError(f"${{{reference}}} names no variable; write ${{NAME}}, ${{NAME:-default}} or ${{file:/path}}")
    value = environ.get(name)
    if value:  # like a shell, `:-` takes an empty variable for an unset one
        return value
    if separator:
        return default
    if value is None:
        raise ValueError(f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
    return value


def read_secret_file(name: str) -> str:
    """The text of a mounted secret without the newline at its end. Raises `ValueError`, never with the content."""
    try:
        with FilePath(name).open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"cannot read {name}: {error.strerror}; check the path and its rights") from None
    if len(content) > FILE_BYTES_MAX:
        raise ValueError(f"{name} is larger than {FILE_BYTES_MAX} bytes; this is meant for mounted secrets")
    try:
        return content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not UTF-8 text") from None
