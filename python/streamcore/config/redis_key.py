"""Owns how a row becomes a Redis key and its values become text.

Before it: `key_template` and rows as Python values. After it: `checks.py`, and `sinks/redis.py` for each row.
Invariant: different rows get different keys. Text in a key has `%` written as `%25`; where a template has more than
one text column, `:` becomes `%3A` as well, or `{a}:{b}` could not be taken apart again. A null is `%null`.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from string import Formatter
from typing import Any

from streamcore.errors import ConfigError, Problem, SinkError

TIME_FORMATS = ("iso", "epoch_s", "epoch_ms")
TIMES_LISTED = ", ".join(TIME_FORMATS)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def epoch_ms(moment: datetime) -> int:
    """Whole milliseconds since 1970; a float of seconds would round."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def value_text(value: Any, time_format: str) -> str:
    """A value as it stands in Redis, the same text as in JSON where JSON has one."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return time_text(value, time_format)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return format(value, "f")
    return _json_text(value, time_format) if isinstance(value, list | dict) else repr(value)


def _json_text(value: Any, time_format: str) -> str:
    """A list of an aggregate, or a part of it, as the other sinks write it: compact JSON."""
    if isinstance(value, list):
        return "[" + ",".join(_json_text(item, time_format) for item in value) + "]"
    if isinstance(value, dict):
        return (
            "{" + ",".join(f"{json.dumps(name)}:{_json_text(item, time_format)}" for name, item in value.items()) + "}"
        )
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "null"
    text = value_text(value, time_format)
    is_text = isinstance(value, str | bytes) or (isinstance(value, datetime) and time_format == "iso")
    return json.dumps(text, ensure_ascii=False) if is_text else text


def time_text(moment: datetime, time_format: str) -> str:
    """`iso` (milliseconds, `Z`), `epoch_s` or `epoch_ms`."""
    if time_format == "iso":
        return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(epoch_ms(moment) // (1000 if time_format == "epoch_s" else 1))


class KeyTemplate:
    """A parsed `key_template`: literal text and columns with formats."""

    def __init__(self, template: str, *, path: str = "key_template") -> None:
        self.template = template
        try:
            parsed = list(Formatter().parse(template))
        except ValueError as error:
            raise _problem(path, f"{template!r} cannot be read: {error}") from None
        self._parts = [(literal, column, time_format) for literal, column, time_format, _ in parsed]
        self.columns = [column for _, column, _ in self._parts if column is not None]
        if not self.columns:
            raise _problem(path, f"{template!r} names no column, so every row would be the same key")
        for _, column, time_format, conversion in parsed:
            if column == "" or conversion:
                raise _problem(path, f"{template!r} has braces that hold no plain column")
            if time_format and time_format not in TIME_FORMATS:
                raise _problem(path, f"{{{column}:{time_format}}} asks for a format that is none of {TIMES_LISTED}")
        self.time_columns = [column for _, column, time_format in self._parts if column and time_format]
        """Columns with a format, so they must be times."""

    def render(self, row: Mapping[str, Any], time_format: str) -> str:
        """The key of a row; `time_format` holds for times without a format of their own."""
        texts = sum(isinstance(row[column], str | list) for column in self.columns)
        pieces: list[str] = []
        for literal, column, own_format in self._parts:
            pieces.append(literal)
            if column is not None:
                pieces.append(self._piece(column, row[column], own_format, time_format, escape_colons=texts > 1))
        return "".join(pieces)

    def _piece(self, column: str, value: Any, own_format: str | None, time_format: str, *, escape_colons: bool) -> str:
        if value is None:
            return "%null"
        if own_format and not isinstance(value, datetime):
            raise SinkError(
                f"key_template {self.template!r}: column {column} is no time, so {own_format} cannot be",
                retriable=False,
            )
        text = value_text(value, own_format or time_format)
        if not isinstance(value, str | list):
            return text
        text = text.replace("%", "%25")
        return text.replace(":", "%3A") if escape_colons else text


def _problem(path: str, message: str) -> ConfigError:
    hint = 'write it as "page:{page_id}:{window_end:epoch_s}"'
    return ConfigError("a Redis key template is wrong", [Problem(path, message, hint=hint)])
