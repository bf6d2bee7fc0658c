"""Owns the objects rows leave in: `Batch` (one batch of one output) and `Table` (all batches of a bounded run).

Before them: the engine's Arrow batches. After them: polars, pyarrow, pandas, DuckDB, or anything that takes capsules.
Invariant: nothing is copied until a conversion is asked for, and an export may be repeated any number of times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from streamcore import _core

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

PREVIEW_ROWS = 10
"""Rows shown by `repr` in a notebook."""


class Batch:
    """Rows of one output, in Arrow. Hand it to `pl.DataFrame(batch)`, `pa.record_batch(batch)`, or iterate `to_rows()`."""

    __slots__ = ("_batch",)

    def __init__(self, batch: _core.Batch) -> None:
        self._batch = batch

    @property
    def output(self) -> str:
        """`result`, `late`, `future` or `rejected`."""
        return self._batch.output

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return self._batch.num_rows

    @property
    def column_names(self) -> list[str]:
        """Names of the columns, in order."""
        return self._batch.column_names

    def __len__(self) -> int:
        return self._batch.num_rows

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]:
        return self._batch.__arrow_c_array__(requested_schema)

    def __arrow_c_schema__(self) -> object:
        return self._batch.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._batch.__arrow_c_stream__(requested_schema)

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict a row; times are `datetime`s in UTC."""
        return self._batch.to_rows()

    def to_polars(self) -> pl.DataFrame:
        """A polars frame over the same memory."""
        import polars as pl

        return pl.DataFrame(self)

    def to_arrow(self) -> pa.RecordBatch:
        """A pyarrow batch over the same memory."""
        import pyarrow as pa

        return pa.record_batch(self)

    def to_pandas(self) -> Any:
        """A pandas frame; needs pandas to be installed."""
        return self.to_arrow().to_pandas()

    def __repr__(self) -> str:
        return f"<streamcore.Batch of {self.output}: {self.num_rows} rows, columns {', '.join(self.column_names)}>"


class Table:
    """All rows of one output of a bounded run. Hand it to `pl.DataFrame(table)`, `pa.table(table)` or DuckDB."""

    __slots__ = ("_batches", "_schema")

    def __init__(self, batches: Sequence[_core.Batch], schema: pa.Schema) -> None:
        """`schema` is what an empty table has."""
        self._batches = tuple(batches)
        self._schema = schema

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return sum(batch.num_rows for batch in self._batches)

    @property
    def column_names(self) -> list[str]:
        """Names of the columns, in order."""
        return self._batches[0].column_names if self._batches else list(self._schema.names)

    @property
    def batches(self) -> list[Batch]:
        """The batches the table is made of, in order."""
        return [Batch(batch) for batch in self._batches]

    def __len__(self) -> int:
        return self.num_rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Rows as dicts."""
        for batch in self._batches:
            yield from batch.to_rows()

    def __arrow_c_schema__(self) -> object:
        return self._schema_of_batches().__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def to_rows(self) -> list[dict[str, Any]]:
        """One dict a row; times are `datetime`s in UTC."""
        return list(self)

    def to_arrow(self) -> pa.Table:
        """A pyarrow table over the same memory."""
        import pyarrow as pa

        batches = [pa.record_batch(batch) for batch in self._batches]
        return pa.Table.from_batches(batches, schema=self._schema_of_batches())

    def to_polars(self) -> pl.DataFrame:
        """A polars frame over the same memory."""
        import polars as pl

        return pl.DataFrame(self)

    def to_pandas(self) -> Any:
        """A pandas frame; needs pandas to be installed."""
        return self.to_arrow().to_pandas()

    def head(self, rows: int = PREVIEW_ROWS) -> list[dict[str, Any]]:
        """The first rows, as dicts."""
        found: list[dict[str, Any]] = []
        for batch in self._batches:
            found += batch.slice(0, min(rows - len(found), batch.num_rows)).to_rows()
            if len(found) >= rows:
                break
        return found

    def __repr__(self) -> str:
        columns = ", ".join(self.column_names)
        return f"<streamcore.Table: {self.num_rows} rows, columns {columns}; pl.DataFrame(table) or .to_polars()>"

    def _repr_html_(self) -> str:
        return html_table(self.column_names, self.head(), self.num_rows)

    def _schema_of_batches(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema(self._batches[0]) if self._batches else self._schema


def html_table(columns: Sequence[str], rows: Sequence[dict[str, Any]], total: int) -> str:
    """A small HTML table of `rows`, every cell escaped."""
    from html import escape

    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(row.get(name)))}</td>" for name in columns) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><small>{total} rows</small>"


def empty_schema(columns: Sequence[Sequence[str]]) -> pa.Schema:
    """The Arrow schema of `describe()["columns"]`, the way the engine lays them out."""
    import pyarrow as pa

    known = {
        "bool": pa.bool_(),
        "int64": pa.int64(),
        "float64": pa.float64(),
        "string": pa.string(),
        "binary": pa.binary(),
        "timestamp": pa.timestamp("ms", tz="UTC"),
    }

    def arrow_type(name: str) -> pa.DataType:
        if name.startswith("decimal("):
            precision, scale = (int(part) for part in name[len("decimal(") : -1].split(","))
            return pa.decimal128(precision, scale)
        if name.startswith("list("):
            item = name[len("list(") : -1]
            if not item.startswith("value "):
                return pa.list_(pa.field("item", arrow_type(item), nullable=False))
            value = arrow_type(item.removeprefix("value ").removesuffix(", count int64"))
            fields = [pa.field("value", value, nullable=False), pa.field("count", pa.int64(), nullable=False)]
            return pa.list_(pa.field("item", pa.struct(fields), nullable=False))
        return known[name]

    return pa.schema([pa.field(name, arrow_type(kind)) for name, kind in columns])
