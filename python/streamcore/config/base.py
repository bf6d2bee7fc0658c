"""Owns the base class of every configuration model and the reading of one.

Before it: `redact.py`. After it: the models of connections, sources, steps and sinks.
Invariant: a model is frozen, refuses unknown keys, and never shows a value it refused, because it may be a secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from streamcore.config.redact import redacted


class Model(BaseModel):
    """A table of the pipeline file."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
    )

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Passwords are hidden by their type; raw client settings by their name."""
        for name, value in super().__repr_args__():
            yield name, redacted(value) if isinstance(value, dict) else value


def setting(default: Any, description: str, *, unit: str | None = None, alias: str | None = None, **rules: Any) -> Any:
    """One key of a table: `...` as default makes it required; `unit` is shown in `docs/pipeline-toml.md`."""
    extra: dict[str, Any] | None = {"unit": unit} if unit is not None else None
    return Field(default, description=description, alias=alias, json_schema_extra=extra, **rules)


def unit_of(field: FieldInfo) -> str | None:
    """The unit `setting` was given."""
    extra = field.json_schema_extra
    return str(extra["unit"]) if isinstance(extra, dict) and "unit" in extra else None
