"""Rows that come back from the JSON of a topic."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from streamcore.committed_rows import CommittedRows
from streamcore.errors import SinkError
from tests.batches import result_batch

TYPES = {
    "page": "string",
    "views": "int64",
    "share": "float64",
    "at": "timestamp",
    "price": "decimal(18,2)",
    "is_new": "bool",
}
ROWS: list[dict[str, Any]] = [
    {"page": "a", "views": 9_007_199_254_740_993, "share": 2, "at": "2026-01-01T00:00:00.25Z", "price": "12345.67"}
    | {"is_new": True},
    {"page": None, "views": None, "share": None, "at": None, "price": None, "is_new": None},
]


def test_a_row_is_the_one_that_was_written() -> None:
    batch = result_batch(ROWS, TYPES)
    rows = CommittedRows(TYPES)
    back = [rows.row(value) for value in batch.to_json()]
    assert back == batch.to_rows()
    assert back[0]["at"] == datetime(2026, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)
    assert (back[0]["price"], type(back[0]["price"]), type(back[0]["share"])) == (Decimal("12345.67"), Decimal, float)


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"1", b"{}", b'{"at": "yesterday"}', b'{"at": {}}'])
def test_what_is_no_row_is_not_tried_again(value: bytes) -> None:
    with pytest.raises(SinkError, match="no row of this pipeline") as caught:
        CommittedRows({"at": "timestamp"}).row(value)
    assert not caught.value.retriable


def test_a_row_goes_on_as_json_with_every_digit() -> None:
    rows = CommittedRows(TYPES)
    (value, nulls) = result_batch(ROWS, TYPES).to_json()
    assert rows.plain(value, None, as_numbers=False) == value
    picked = rows.plain(value, ("price", "at", "views"), as_numbers=True)
    assert picked == b'{"price":12345.67,"at":1767225600250,"views":9007199254740993}'
    assert rows.plain(nulls, ("at",), as_numbers=True) == b'{"at":null}'
