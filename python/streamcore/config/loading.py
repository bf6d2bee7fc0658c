"""Owns the way from a pipeline file to a validated configuration, and where each mistake stands in the file.

Before it: the command line or `sc.load`. After it: `pipeline.py` and the runner.
Invariant: either a configuration without a known mistake comes out, or a `ConfigError` with all of them.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from streamcore.config.checks import check, problems_error
from streamcore.config.environment import apply_environment
from streamcore.config.models import PipelineConfig
from streamcore.config.overrides import apply_overrides
from streamcore.config.paths import Path, format_path
from streamcore.config.problems import problems_of
from streamcore.config.repair import problems_of_the_rest
from streamcore.config.variables import Expansion, expand
from streamcore.errors import ConfigError, Problem

FILE_BYTES_MAX = 4 << 20
"""A pipeline file with its tests is far smaller."""

_TOML_POSITION = re.compile(r" \(at line (\d+), column (\d+)\)$| \(at end of document\)$")


@dataclass(frozen=True, slots=True)
class Document:
    """A pipeline file with everything that may stand in for its keys applied, not yet validated."""

    file: str
    text: str
    values: dict[str, Any]
    """What is validated."""
    problems: tuple[Problem, ...]
    """Mistakes in overrides and variables."""
    overridden: frozenset[Path]
    """Set by `--set`."""
    environment: Mapping[Path, str]
    """Filled by a customary environment variable: its name."""
    variables: Mapping[Path, list[str]]
    """Names used as `${NAME}`."""


def load(
    path: str | os.PathLike[str],
    overrides: Iterable[str] = (),
    *,
    environ: Mapping[str, str] | None = None,
    types_required: bool | None = None,
) -> PipelineConfig:
    """The pipeline in the TOML file at `path`.

    `overrides` are `a.b=value` as given to `--set`; `environ` stands in for the environment. `types_required`
    asks for declared types, which a pipeline with a name needs anyway.
    Raises `ConfigError` with every mistake, each with its line and column.
    """
    return parse(read_document(path, overrides, environ=environ), types_required=types_required)


def read_document(
    path: str | os.PathLike[str], overrides: Iterable[str] = (), *, environ: Mapping[str, str] | None = None
) -> Document:
    """Reads the file and applies overrides, variables and the environment. Raises `ConfigError` if it is no TOML."""
    environ = os.environ if environ is None else environ
    file = os.fspath(path)
    text = _read_text(file)
    values = _parse_toml(text, file)
    overridden, problems = apply_overrides(values, overrides)
    expansion = Expansion()
    values = expand(values, environ, expansion)
    values, filled, unreadable = apply_environment(values, environ)
    return Document(
        file=file,
        text=text,
        values=values,
        problems=(*problems, *expansion.problems, *unreadable),
        overridden=frozenset(overridden),
        environment=filled,
        variables=expansion.used,
    )


def parse(document: Document, *, types_required: bool | None = None) -> PipelineConfig:
    """The validated configuration. Raises `ConfigError` with every mistake."""
    problems = list(document.problems)
    incomplete = {problem.path for problem in problems}
    config: PipelineConfig | None = None
    try:
        config = PipelineConfig.model_validate(document.values)
    except ValidationError as error:
        problems += [found for found in problems_of(error, document.values) if found.path not in incomplete]
        required = document.values.get("name") is not None if types_required is None else types_required
        problems += problems_of_the_rest(document.values, error, types_required=required)
    else:
        problems += check(config, types_required=types_required)
        for name, source in config.all_sources.items():
            if source.type == "records":
                path, hint = f"sources.{name}.type" if name else "source.type", 'use type = "files" with path'
                problems.append(Problem(path, "records live in Python; a file cannot hold them", hint=hint))
    if config is None or problems:
        raise problems_error(locate(problems, document), file=document.file)
    return config


def locate(problems: Collection[Problem], document: Document) -> list[Problem]:
    """The problems with line and column, in the order of the file. Those from elsewhere come first."""
    positions = positions_of(document.text)
    overridden = {_plain(format_path(path)) for path in document.overridden}
    filled = {_plain(format_path(path)): name for path, name in document.environment.items()}
    located = []
    for problem in problems:
        path = _plain(problem.path)
        if path in overridden:
            located.append(replace(problem, path=f"--set {problem.path}"))
        elif path in filled:
            located.append(replace(problem, path=f"{problem.path} (from {filled[path]})"))
        else:
            line, column = _position(path, positions)
            located.append(replace(problem, line=line, column=column))
    return sorted(located, key=lambda problem: (problem.line or 0, problem.column or 0))


def positions_of(text: str) -> dict[str, tuple[int, int]]:
    """Line and column of every key of a TOML document, by its path without quotes."""
    from streamcore import _core

    return {_plain(path): place for path, place in _core.locate_toml(text).items()}


def _plain(path: str) -> str:
    return path.replace('"', "")


def _position(path: str, positions: Mapping[str, tuple[int, int]]) -> tuple[int | None, int | None]:
    """Where the key stands, or the closest table around it that is written down."""
    while path:
        if path in positions:
            return positions[path]
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return None, None


def _read_text(file: str) -> str:
    try:
        with FilePath(file).open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        problem = Problem(
            file, error.strerror or str(error), hint="`streamcore init` writes a pipeline file to start from"
        )
        raise ConfigError("cannot read the pipeline file", [problem]) from None
    if len(content) > FILE_BYTES_MAX:
        raise ConfigError(f"larger than {FILE_BYTES_MAX} bytes: this is no pipeline file", file=file)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"not UTF-8 text at byte {error.start}", file=file) from None


def _parse_toml(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        found = _TOML_POSITION.search(message)
        line, column = (int(found[1]), int(found[2])) if found is not None and found[1] else _end(text)
        problem = Problem("toml", _TOML_POSITION.sub("", message), line=line, column=column)
        raise ConfigError("this is not TOML", [problem], file=file) from None


def _end(text: str) -> tuple[int, int]:
    lines = text.split("\n")
    return len(lines), len(lines[-1]) + 1
