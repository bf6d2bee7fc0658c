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


def var(expression: str, *, where: str | None = None) -> str:
    """The sample variance, over n - 1, from exact sums (float64); null for fewer than two values."""
    return _call("var", expression, where)


def stddev(expression: str, *, where: str | None = None) -> str:
    """The square root of the sample variance (float64); null for fewer than two values."""
    return _call("stddev", expression, where)


def any(expression: str, *, where: str | None = None) -> str:  # noqa: A001 - read as sc.any
    """Whether the condition holds for one row; nulls do not count.

    >>> any("status >= 500")
    'any(status >= 500)'
    """
    return _call("any", expression, where)


def all(expression: str, *, where: str | None = None) -> str:  # noqa: A001 - read as sc.all
    """Whether the condition holds for every row; nulls do not count."""
    return _call("all", expression, where)


def first(expression: str, *, where: str | None = None) -> str:
    """The value of the earliest row by (event time, partition, offset)."""
    return _call("first", expression, where)


def last(expression: str, *, where: str | None = None) -> str:
    """The value of the latest row by (event time, partition, offset)."""
    return _call("last", expression, where)


def arg_min(expression: str, by: str, *, where: str | None = None) -> str:
    """The value of `expression` in the row where `by` is least; of several such rows, the earliest.

    >>> arg_min("city", "temperature")
    'arg_min(city, temperature)'
    """
    return _call("arg_min", f"{expression}, {by}", where)


def arg_max(expression: str, by: str, *, where: str | None = None) -> str:
    """The value of `expression` in the row where `by` is greatest; of several such rows, the earliest."""
    return _call("arg_max", f"{expression}, {by}", where)


def collect_list(expression: str, limit: int | None = None, *, where: str | None = None) -> str:
    """The values as a list by (event time, partition, offset): the first `limit` of them, 1,000 by default.

    >>> collect_list("city", 10)
    'collect_list(city, 10)'
    """
    return _call("collect_list", expression if limit is None else f"{expression}, {limit}", where)


def top_k(expression: str, k: int, *, where: str | None = None) -> str:
    """The `k` most frequent values as a list of (`value`, `count`), counted exactly; null beyond 65,536 different ones.

    >>> top_k("city", 3)
    'top_k(city, 3)'
    """
    return _call("top_k", f"{expression}, {k}", where)


def quantile(expression: str, q: float, *, where: str | None = None) -> str:
    """The value that a share `q` of the values does not exceed, within 1/128 of it (float64).

    >>> quantile("latency_ms", 0.95)
    'quantile(latency_ms, 0.95)'
    """
    return _call("quantile", f"{expression}, {q}", where)


def count_distinct(expression: str, *, where: str | None = None) -> str:
    """How many different values, exactly (int64)."""
    return _call("count_distinct", expression, where)


def approx_distinct(expression: str, *, where: str | None = None) -> str:
    """How many different values, estimated in bounded memory (int64)."""
    return _call("approx_distinct", expression, where)


def _call(function: str, expression: str, where: str | None) -> str:
    return f"{function}({expression})" + (f" where {where}" if where is not None else "")
