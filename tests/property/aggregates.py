"""Naive aggregates and conditions: what each is in the engine's language, and the same over a plain list of events.

`model.py` hands over the events of one group in one window, ordered by (event time, lane, offset). Sums are
fractions, lists are sorted whole. Invariant: nothing here is incremental, and nothing is shared with the engine.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, get_args

TYPES = {
    "key": "string",
    "ident": "string",
    "value": "int64",
    "weight": "float64",
    "team": "int64",
    "flag": "bool",
    "price": "decimal(10,2)",
}
NUMBERS = ("value", "weight", "team", "price")

SMALLEST = 2.3e-308
"""Numbers nearer to 0 count as 0 in a quantile."""
QUANTILE_ERROR = Fraction(1, 128)
DISTINCT_ERROR = 0.016
"""One standard deviation of `approx_distinct`."""

Truth = bool | None
Columns = dict[str, Any]
"""An event's columns; a missing value is `None`."""


@dataclass(frozen=True)
class Condition:
    """A condition with SQL's three truths; it holds where it is true."""

    text: str
    judge: Callable[[Columns], Truth]

    def holds(self, columns: Columns) -> bool:
        return self.judge(columns) is True

    def __repr__(self) -> str:
        return f"conditions[{self.text!r}]"


def _of(name: str, judge: Callable[[Any], bool]) -> Callable[[Columns], Truth]:
    return lambda columns: None if columns[name] is None else judge(columns[name])


def _or(left: Callable[[Columns], Truth], right: Callable[[Columns], Truth]) -> Callable[[Columns], Truth]:
    def judge(columns: Columns) -> Truth:
        truths = (left(columns), right(columns))
        return True if True in truths else None if None in truths else False

    return judge


CONDITIONS = (
    Condition("value > 0", _of("value", lambda value: value > 0)),
    Condition("value is not null", lambda columns: columns["value"] is not None),
    Condition("weight < 0.25", _of("weight", lambda weight: weight < 0.25)),
    Condition("key in ['a', 'b', '']", _of("key", lambda key: key in {"a", "b", ""})),
    Condition("team == 1 or flag", _or(_of("team", lambda team: team == 1), _of("flag", bool))),
    Condition("not flag", _of("flag", lambda flag: not flag)),
    Condition("value % 2 == 0", _of("value", lambda value: value % 2 == 0)),
    Condition("price >= 1.50", _of("price", lambda price: price >= Decimal("1.50"))),
)


@dataclass(frozen=True)
class Near:
    """A number within a stated bound of the exact one, on the side of 0 where `toward_zero`."""

    exact: float
    error: float
    toward_zero: bool = False

    def holds(self, got: Any) -> bool:
        if got is None or (self.toward_zero and abs(got) > abs(self.exact)):
            return False
        return abs(Fraction(float(got)) - Fraction(self.exact)) <= Fraction(self.error)


Function = Literal[
    "count", "sum", "min", "max", "mean", "var", "stddev", "first", "last", "arg_min", "arg_max", "count_distinct",
    "collect_list", "top_k", "any", "all", "approx_distinct", "quantile",
]  # fmt: skip
FUNCTIONS: tuple[Function, ...] = get_args(Function)


@dataclass(frozen=True)
class Aggregate:
    """A call of an aggregate: `function(argument, second or setting) where condition`."""

    name: str
    function: Function
    argument: str | None = None
    second: str | None = None
    setting: float | None = None
    condition: Condition | None = None

    @property
    def text(self) -> str:
        arguments = [self.argument, self.second, None if self.setting is None else str(self.setting)]
        call = f"{self.function}({', '.join(argument for argument in arguments if argument is not None)})"
        return call if self.condition is None else f"{call} where {self.condition.text}"

    def over(self, events: Sequence[Columns]) -> Any:
        """The value over the events of a group in a window, in order; a `Near` where only a bound is promised."""
        condition = self.condition
        rows = [event for event in events if condition is None or condition.holds(event)]
        if self.argument is None:
            return len(rows)
        if self.second is not None:
            return self._chosen([(row[self.argument], row[self.second]) for row in rows])
        values = [value for row in rows if (value := row[self.argument]) is not None]
        if self.function == "count":
            return len(values)
        if self.function == "count_distinct":
            return len(set(values))
        if self.function == "approx_distinct":
            return Near(len(set(values)), math.floor(5 * DISTINCT_ERROR * len(set(values))))
        return self._of_values(values) if values else None

    def _chosen(self, pairs: list[tuple[Any, Any]]) -> Any:
        present = [pair for pair in pairs if None not in pair]
        best = min if self.function == "arg_min" else max
        return best(present, key=lambda pair: pair[1])[0] if present else None

    def _of_values(self, values: list[Any]) -> Any:
        """Over at least one value."""
        simple: dict[str, Callable[[list[Any]], Any]] = {
            "min": min,
            "max": max,
            "first": lambda values: values[0],
            "last": lambda values: values[-1],
            "any": any,
            "all": all,
            "sum": _sum,
            "mean": lambda values: float(sum(map(Fraction, values)) / len(values)),
            "var": lambda values: None if len(values) < 2 else float(_variance(values)),
            "stddev": lambda values: None if len(values) < 2 else _root(_variance(values)),
            "collect_list": lambda values: values[: int(self.setting or 1000)],
            "top_k": lambda values: _most_frequent(values, int(self.setting or 0)),
            "quantile": lambda values: _quantile(values, self.setting or 0.0),
        }
        return simple[self.function](values)


def _sum(values: list[Any]) -> Any:
    total = sum(map(Fraction, values))
    if isinstance(values[0], float):
        return float(total)
    return int(total) if isinstance(values[0], int) else sum(values)


def _variance(values: list[Any]) -> Fraction:
    """The sample variance."""
    count, exact = len(values), [Fraction(value) for value in values]
    total, squares = sum(exact), sum(value * value for value in exact)
    return Fraction(count * squares - total * total) / (count * (count - 1))


def _root(square: Fraction) -> float:
    """The root of a square that is rounded to 53 bits, however small it is."""
    if square == 0:
        return 0.0
    half = (square.denominator.bit_length() - square.numerator.bit_length()) // 2
    return math.ldexp(math.sqrt(square * Fraction(4) ** half), -half)


def _most_frequent(values: list[Any], most: int) -> list[Columns]:
    counted = Counter(values)
    ranked = sorted(counted, key=lambda value: (-counted[value], value))
    return [{"value": value, "count": counted[value]} for value in ranked[:most]]


def _quantile(values: list[Any], share: float) -> Near:
    rank = max(math.ceil(Fraction(share) * len(values)), 1)
    exact = float(sorted(values)[rank - 1])
    if abs(exact) < SMALLEST:
        return Near(0.0, SMALLEST)
    is_exact = share in {0, 1} or (exact == int(exact) and abs(exact) <= 256)
    return Near(exact, 0.0 if is_exact else float(Fraction(abs(exact)) * QUANTILE_ERROR), toward_zero=True)


def same(got: Any, expected: Any) -> bool:  # noqa: PLR0911 - one way for each type
    """Whether a cell of a result row, as JSON tells it, is the expected one."""
    if got is None or expected is None:
        return got is expected
    match expected:
        case Near():
            return expected.holds(got)
        case list():
            return len(got) == len(expected) and all(map(same, got, expected))
        case dict():
            return got.keys() == expected.keys() and all(same(got[name], expected[name]) for name in expected)
        case Decimal():
            return Decimal(str(got)) == expected
        case float():
            return not isinstance(got, bool) and float(got) == expected
        case _:
            return type(got) is type(expected) and bool(got == expected)
