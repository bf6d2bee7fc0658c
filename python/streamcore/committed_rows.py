"""Owns how the JSON of a committed topic becomes a row again.

Before it: `committed_reader.py`. After it: outboxes, which treat the row as if the engine had just made it.
Invariant: values have the types that `Batch.to_rows` gives, so a row looks the same whichever way it came.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from streamcore.config.redis_key import epoch_ms
from streamcore.errors import SinkError

OF_TEXT: Mapping[str, Callable[[str], Any]] = {
    "timestamp": datetime.fromisoformat,
    "binary": base64.b64decode,
    "decimal": Decimal,
}
"""By type: what makes a value of the text that JSON has for it."""


def _exactly(value: bytes) -> Any:
    return json.loads(value, parse_float=Decimal)


class CommittedRows:
    """Rows of one pipeline."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        """`columns` and their types, as the engine describes them."""
        kinds = {name: kind.partition("(")[0] for name, kind in columns.items()}
        self._makers = {name: OF_TEXT[kind] for name, kind in kinds.items() if kind in OF_TEXT}
        # A number of JSON with more digits than a float has is read as it stands, where there may be one.
        self._loads = _exactly if "decimal" in kinds.values() else orjson.loads
        self._floats = {name for name, kind in kinds.items() if kind == "float64"}

    def plain(self, value: bytes, columns: Sequence[str] | None, *, as_numbers: bool) -> bytes:
        """The row as JSON again, with these columns, and times as milliseconds since 1970 if `as_numbers`.

        Raises `SinkError` for what streamcore has not written.
        """
        row = self.row(value)
        texts: dict[str, Any] = json.loads(value, parse_float=lambda text: orjson.Fragment(text.encode()))
        for name, moment in row.items():
            if as_numbers and isinstance(moment, datetime):
                texts[name] = epoch_ms(moment)
        return orjson.dumps(texts if columns is None else {name: texts[name] for name in columns})

    def row(self, value: bytes) -> dict[str, Any]:
        """The row in a record's value. Raises `SinkError` for what streamcore has not written."""
        try:
            row: dict[str, Any] = self._loads(value)
            for name, make in self._makers.items():
                if row[name] is not None:
                    row[name] = make(row[name])
            for name in self._floats:
                if row[name] is not None:
                    row[name] = float(row[name])
        except (ValueError, KeyError, TypeError, ArithmeticError) as error:
            raise SinkError(
                f"a record of the topic that feeds outboxes is no row of this pipeline ({error}): {value[:100]!r}; give the "
                "pipeline a topic that nobody else writes",
                retriable=False,
            ) from None
        return row
