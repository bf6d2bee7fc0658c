from __future__ import annotations

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from streamcore.tables import Batch, Table, empty_schema, html_table
from tests.batches import pages

COLUMNS = [("page", "string"), ("views", "int64"), ("at", "timestamp")]
SCHEMA = empty_schema(COLUMNS)


@pytest.fixture
def table() -> Table:
    return Table([pages(1, 2), pages(3)], SCHEMA)


def test_a_table_becomes_any_frame_any_number_of_times(table: Table) -> None:
    for _ in range(2):
        assert pl.DataFrame(table)["views"].to_list() == [1, 2, 3]
        assert pa.table(table).column("views").to_pylist() == [1, 2, 3]
    assert table.to_polars().equals(pl.DataFrame(table))
    assert table.to_arrow().equals(pa.table(table))
    rows = table  # noqa: F841 - DuckDB finds it by its name
    found = duckdb.sql("select sum(views) from rows")
    assert found is not None
    assert found.fetchall() == [(6,)]


def test_a_table_is_its_rows(table: Table) -> None:
    assert (len(table), table.num_rows, table.column_names) == (3, 3, ["page", "views", "at"])
    assert [row["views"] for row in table] == [1, 2, 3]
    assert table.to_rows() == list(table)
    assert [row["views"] for row in table.head(2)] == [1, 2]
    assert table.head(100) == list(table)
    assert [batch.num_rows for batch in table.batches] == [2, 1]


def test_an_empty_table_has_its_columns() -> None:
    table = Table([], SCHEMA)
    assert (len(table), table.column_names, table.to_rows()) == (0, ["page", "views", "at"], [])
    assert pl.DataFrame(table).schema == pl.DataFrame(Table([pages(1)], SCHEMA)).schema


def test_every_type_has_its_arrow_type() -> None:
    columns = [("a", "bool"), ("b", "float64"), ("c", "binary"), ("d", "decimal(18,2)"), *COLUMNS]
    assert empty_schema(columns).types == [
        pa.bool_(),
        pa.float64(),
        pa.binary(),
        pa.decimal128(18, 2),
        pa.string(),
        pa.int64(),
        pa.timestamp("ms", tz="UTC"),
    ]


def test_a_batch_becomes_any_frame() -> None:
    batch = Batch(pages(1, 2))
    assert (batch.output, len(batch), batch.num_rows, batch.column_names) == ("result", 2, 2, ["page", "views", "at"])
    assert batch.to_polars()["views"].to_list() == [1, 2]
    assert pl.DataFrame(batch).equals(batch.to_polars())
    assert batch.to_arrow().column("views").to_pylist() == [1, 2]
    assert pa.record_batch(batch).schema == batch.to_arrow().schema
    assert batch.to_rows()[1]["page"] == "p1"


def test_they_say_what_they_are(table: Table) -> None:
    assert repr(table) == "<streamcore.Table: 3 rows, columns page, views, at; pl.DataFrame(table) or .to_polars()>"
    assert repr(table.batches[0]) == "<streamcore.Batch of result: 2 rows, columns page, views, at>"
    assert "<small>3 rows</small>" in table._repr_html_()


def test_cells_of_a_notebook_are_escaped() -> None:
    assert "<td>&lt;b&gt;</td>" in html_table(["x"], [{"x": "<b>"}], 1)
