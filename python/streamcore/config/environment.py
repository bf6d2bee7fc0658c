"""Owns the customary environment variables that fill keys which nobody set.

Before it: the document with its variables replaced. After it: validation.
Invariant: a key that is present, in the file or by `--set`, always wins over the environment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from pydantic import ValidationError

from streamcore.config.models import PipelineConfig
from streamcore.config.paths import Path
from streamcore.config.problems import problems_of
from streamcore.config.suggest import listed
from streamcore.config.variables import read_secret_file
from streamcore.errors import ConfigError, Problem

CUSTOMARY: Mapping[str, tuple[str, ...]] = {
    "KAFKA_BOOTSTRAP_SERVERS": ("kafka", "bootstrap_servers"),
    "KAFKA_SECURITY_PROTOCOL": ("kafka", "security_protocol"),
    "KAFKA_SASL_MECHANISM": ("kafka", "sasl_mechanism"),
    "KAFKA_SASL_USERNAME": ("kafka", "sasl_username"),
    "KAFKA_SASL_PASSWORD": ("kafka", "sasl_password"),
    "STREAMCORE_STATE_DIR": ("state_dir",),
    "STREAMCORE_INSTANCE_ID": ("instance_id",),
}
"""Each also as `NAME_FILE`, the path of a file that holds the value. `REDIS_URL` fills Redis sinks."""


def apply_environment(
    document: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[dict[str, Any], dict[Path, str], list[Problem]]:
    """A copy of `document` with absent keys filled, which variable filled which path, and what went wrong."""
    filled: dict[str, Any] = dict(document)
    origins: dict[Path, str] = {}
    problems: list[Problem] = []
    for variable, path in _places(document):
        name, value, problem = _read(variable, environ)
        if problem is not None:
            problems.append(problem)
        elif value is not None and _put_absent(filled, path, value):
            origins[path] = name
    return filled, origins, problems


def fill_from_environment(config: PipelineConfig, environ: Mapping[str, str]) -> PipelineConfig:
    """The configuration with keys that nobody set taken from the environment. Raises `ConfigError`."""
    given = config.model_dump(include={"kafka", "state_dir", "instance_id", "commit_interval"}, exclude_unset=True)
    sinks = [sink.model_dump(exclude_unset=True) | {"type": sink.type} for sink in config.sinks]
    filled, origins, problems = apply_environment({**given, "sinks": sinks}, environ)
    if problems:
        raise ConfigError("the environment is wrong", problems)
    if not origins:
        return config
    changed = {str(path[0]) for path in origins}
    # Models stand as they are; a plain duration goes back in as the text it is validated from.
    rest = {name: given.get(name, getattr(config, name)) for name in config.model_fields_set - changed}
    try:
        return PipelineConfig.model_validate({**rest, **{name: filled[name] for name in changed}})
    except ValidationError as error:
        raise ConfigError(
            f"the environment is wrong ({listed(origins.values())})", problems_of(error, filled)
        ) from None


def _places(document: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    yield from CUSTOMARY.items()
    sinks = document.get("sinks")
    for index, sink in enumerate(sinks if isinstance(sinks, (list, tuple)) else ()):
        if isinstance(sink, Mapping) and sink.get("type") == "redis" and not sink.get("connection"):
            yield "REDIS_URL", ("sinks", index, "url")


def _read(variable: str, environ: Mapping[str, str]) -> tuple[str, str | None, Problem | None]:
    if environ.get(variable):
        return variable, environ[variable], None
    file_variable = f"{variable}_FILE"
    if not environ.get(file_variable):
        return variable, None, None
    try:
        return file_variable, read_secret_file(environ[file_variable]), None
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        return file_variable, None, Problem(f"environment {file_variable}", message, hint=hint or None)


def _put_absent(document: dict[str, Any], path: Path, value: str) -> bool:
    """Sets `path` unless it is there or something on the way is no table. Copies the tables it changes."""
    table: Any = document
    for part, following in pairwise(path):
        inner = table[part] if isinstance(part, int) else table.get(part, {} if isinstance(following, str) else [])
        if not isinstance(inner, (Mapping, list, tuple)):
            return False
        inner = dict(inner) if isinstance(inner, Mapping) else list(inner)
        table[part] = inner
        table = inner
    if path[-1] in table:
        return False
    table[path[-1]] = value
    return True
