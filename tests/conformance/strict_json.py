"""What a record is by Python's own `json`, made strict, and by what docs/decisions/0009-json.md has chosen beyond it.

`json` says what JSON is; it is told to refuse `NaN`, to keep numbers as they are written and repeated names as
they come. Used by `test_json_mutations.py`. Invariant: nothing here knows how the engine does it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

DEPTH_MAX = 64
NUMBER_CHARACTERS_MAX = 1024
EVERY_SYNTAX_REASON = {"DECODE_SYNTAX", "DECODE_UTF8", "DEPTH_LIMIT", "NUMBER_RANGE", "DUP_FIELD", "TYPE_MISMATCH"}
"""Of several faults the first one in the record is named, which need not be the one `json` stops at."""

COMMON_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


class Unknown:
    """Equal to any value: which other texts are times is no question of JSON."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Number:
    text: str


@dataclass(frozen=True)
class Members:
    pairs: list[tuple[str, Any]]


@dataclass
class Verdict:
    """What may become of a record: refused for one of the `reasons`, or the `row`, if there is one."""

    reasons: set[str] = field(default_factory=set)
    row: dict[str, Any] | None = None

    def allows(self, reason: str | None, row: Mapping[str, Any] | None) -> bool:
        return row == self.row if reason is None else reason in self.reasons


def judge(record: bytes, schema: Mapping[str, str], event_time: str | None = None) -> Verdict:
    try:
        value = parse(record)
    except UnicodeDecodeError:
        return Verdict({"DECODE_UTF8"})
    except (ValueError, RecursionError):
        return Verdict(EVERY_SYNTAX_REASON)
    wanted = {*schema, *([event_time] if event_time else [])}
    faults = {*faults_of(value), *shape_faults(value, wanted)}
    if not isinstance(value, Members):
        faults.add("TYPE_MISMATCH")
    if faults:
        return Verdict(faults)
    verdict = Verdict(row={})
    for path, kind in schema.items():
        convert(verdict, path, find(value, path), kind)
    if event_time:
        check_event_time(verdict, find(value, event_time))
    return verdict


def parse(record: bytes) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(
        record.decode("utf-8", "strict"),
        parse_int=Number,
        parse_float=Number,
        parse_constant=refuse,
        object_pairs_hook=Members,
    )


def faults_of(value: Any, depth: int = 0) -> Iterator[str]:
    """What is JSON, and refused all the same wherever it stands."""
    if isinstance(value, str) and re.search("[\ud800-\udfff]", value):
        yield "DECODE_UTF8"
    elif isinstance(value, Number) and len(value.text) > NUMBER_CHARACTERS_MAX:
        yield "NUMBER_RANGE"
    elif isinstance(value, (Members, list)):
        if depth == DEPTH_MAX:
            yield "DEPTH_LIMIT"
        items = [item for pair in value.pairs for item in pair] if isinstance(value, Members) else value
        for item in items:
            yield from faults_of(item, depth + 1)


def shape_faults(value: Any, wanted: set[str], above: str = "") -> Iterator[str]:
    """Wanted names that occur twice, and what stands above wanted fields and is no object."""
    if not isinstance(value, Members):
        if value is not None:
            yield "TYPE_MISMATCH"
        return
    seen = set()
    for name, item in value.pairs:
        path = above + name
        if path in wanted or any(other.startswith(f"{path}.") for other in wanted):
            if path in seen:
                yield "DUP_FIELD"
            seen.add(path)
            if path not in wanted:
                yield from shape_faults(item, wanted, f"{path}.")


def find(value: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(value, Members):
            return None
        value = dict(value.pairs).get(name)
    return value


def convert(verdict: Verdict, path: str, value: Any, kind: str) -> None:
    """Puts the value into the row, or adds why it cannot."""
    try:
        converted = None if value is None else CONVERSIONS[kind.partition("(")[0]](value)
    except TypeError:
        verdict.reasons.add("TYPE_MISMATCH")
        verdict.row = None
    except (ArithmeticError, InvalidOperation):
        verdict.reasons.add("NUMBER_RANGE")
        verdict.row = None
    else:
        if isinstance(converted, Unknown):
            verdict.reasons.add("BAD_TIMESTAMP")
        if verdict.row is not None:
            verdict.row[path] = converted


def check_event_time(verdict: Verdict, value: Any) -> None:
    if value is None:
        verdict.reasons.add("MISSING_FIELD")
        verdict.row = None
    elif not isinstance(value, str):
        verdict.reasons.add("BAD_TIMESTAMP")
        verdict.row = None
    elif isinstance(to_timestamp(value), Unknown):
        verdict.reasons.add("BAD_TIMESTAMP")


def number(value: Any) -> str:
    if not isinstance(value, Number):
        raise TypeError
    return value.text


def to_string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def to_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def to_int64(value: Any) -> int:
    text = number(value)
    if re.fullmatch(r"-?\d+", text) is None or not -(1 << 63) <= int(text) < 1 << 63:
        raise OverflowError
    return int(text)


def to_float64(value: Any) -> float:
    text = number(value)
    nearest = float(text)
    if abs(nearest) == float("inf") or (re.fullmatch(r"-?\d+", text) and int(text) != nearest):
        raise OverflowError
    return nearest


def to_decimal(value: Any, digits_max: int = 18, scale: int = 2) -> Decimal:
    text = value if isinstance(value, str) else number(value)
    if re.fullmatch(r"-?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", text, re.ASCII) is None:
        raise InvalidOperation
    mantissa, _, exponent = text.lower().partition("e")
    if not re.search("[1-9]", mantissa):
        return Decimal(0)
    sign, digits, places = Decimal(mantissa).as_tuple()
    kept = "".join(map(str, digits)).rstrip("0")
    places = int(places) + len(digits) - len(kept) + int(exponent or 0)
    if places < -scale or len(kept.lstrip("0")) + places + scale > digits_max:
        raise OverflowError
    return Decimal((sign, tuple(map(int, kept)), places))


def to_timestamp(value: Any) -> datetime | Unknown:
    text = to_string(value)
    try:
        return datetime.fromisoformat(text) if COMMON_TIME.fullmatch(text) else Unknown()
    except ValueError:
        return Unknown()


CONVERSIONS = {
    "string": to_string,
    "bool": to_bool,
    "int64": to_int64,
    "float64": to_float64,
    "decimal": to_decimal,
    "timestamp": to_timestamp,
}
