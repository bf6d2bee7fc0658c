"""Owns the door from plain values to models: validated, or a `ConfigError` that lists every mistake.

Before it: keyword arguments of the builder, or values from elsewhere. After it: `PipelineConfig`.
Invariant: pydantic's own exception never leaves the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from streamcore.config.checks import check_meaning, problems_error
from streamcore.config.durations import format_duration
from streamcore.config.models import PipelineConfig
from streamcore.config.problems import problems_of


def validated(config: PipelineConfig | None, changes: Mapping[str, Any]) -> PipelineConfig:
    """`config` (or nothing) with `changes`. Raises `ConfigError` or `ExpressionError` with every mistake."""
    known = {} if config is None else {name: getattr(config, name) for name in config.model_fields_set}
    if "commit_interval" in known:
        # The one duration that is no part of another model, which would be taken as it is.
        known["commit_interval"] = format_duration(known["commit_interval"])
    document = {**known, **changes}
    try:
        changed = PipelineConfig.model_validate(document)
    except ValidationError as error:
        raise problems_error(problems_of(error, document)) from None
    problems = check_meaning(changed)
    if problems:
        raise problems_error(problems)
    return changed


def refused_keys(error: ValueError) -> list[str]:
    """Names of client settings that a model of somebody else's has refused, and no values."""
    found = error.errors(include_input=False, include_url=False) if isinstance(error, ValidationError) else []
    return sorted({".".join(map(str, detail["loc"])).replace("_", ".") for detail in found})
