"""Owns the aggregate functions of the builder; each gives the text a pipeline file would hold.

Before it: the caller. After it: `.agg(...)`.
Invariant: `sc.sum("amount", where="country == 'GB'") == "sum(amount) where country == 'GB'"`; the engine judges the rest.
"""

from __future__ import annotations


def count(expression: str | None = None, *, where: str | None = None) -> str:
    """How many rows, or how many values of `expression` that are not null (int64).

    >>> count(where="status >= 500")
    'count() where status >= 500'
    """
    return _call("count", expression or "", where)


def sum(expression: str, *, where: str | None = None) -> str:  # noqa: A001 - read as sc.sum
    """Exact sum: integers never wrap, floats do not depend on order."""
    return _call("sum", expression, where)


def min(expression: str, *, where: str | None = None) -> str:  # noqa: A001 - read as sc.min
    """The smallest value."""
    return _call("min", expression, where)


def max(expression: str, *, where: str | None = None) -> str:  # noqa: A001 - read as sc.max
    """The largest value."""
    return _call("max", expression, where)


def mean(expression: str, *, where: str | None = None) -> str:
    """The exact sum divided by the number of values (float64)."""
    return _call("mean", expression, where)


def first(expression: str, *, where: str | None = None) -> str:
    """The value of the earliest row by (event time, partition, offset)."""
    return _call("first", expression, where)


def last(expression: str, *, where: str | None = None) -> str:
    """The value of the latest row by (event time, partition, offset)."""
    return _call("last", expression, where)


def count_distinct(expression: str, *, where: str | None = None) -> str:
    """How many different values, exactly (int64)."""
    return _call("count_distinct", expression, where)


def approx_distinct(expression: str, *, where: str | None = None) -> str:
    """How many different values, estimated in bounded memory (int64)."""
    return _call("approx_distinct", expression, where)


def _call(function: str, expression: str, where: str | None) -> str:
    return f"{function}({expression})" + (f" where {where}" if where is not None else "")
