from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

from streamcore.errors import SourceError
from streamcore.sources import iterable
from streamcore.sources.base import Start
from streamcore.sources.iterable import Record, RecordsSource, encode_value


class Pair(NamedTuple):
    left: int
    right: int


@dataclass
class Reading:
    level: Any
    _old: float = math.nan


@dataclass(slots=True)
class SlottedReading:
    level: float
    _old: float = math.nan


class Level(Enum):
    UNKNOWN = math.nan
    FULL = 1.0


def opened(records: Any) -> RecordsSource:
    source = RecordsSource(records)
    source.open(Start())
    return source


def test_a_sequence_tells_its_lanes_beforehand() -> None:
    source = RecordsSource([Record(b"1", partition=2), b"2", Record(b"3", partition=2)])
    assert source.open(Start()) == [0, 2]
    polled = source.poll(0)
    assert polled.raw is not None
    assert (len(polled.raw), polled.lanes_added, source.positions()) == (3, (), {0: 1, 2: 2})
    assert source.poll(0).ended


def test_lanes_of_an_iterator_join_when_they_come() -> None:
    source = RecordsSource(iter([b"1", Record(b"2", partition=1)]))
    assert source.open(Start()) == [0]
    assert source.poll(0).lanes_added == (1,)
    assert source.positions() == {0: 1, 1: 1}


def test_an_empty_iterable_ends_at_once() -> None:
    source = opened([])
    polled = source.poll(0)
    assert (polled.raw, polled.caught_up, polled.ended) == (None, (0,), True)


def test_offsets_may_be_given() -> None:
    source = opened([Record(b"1", offset=10), b"2"])
    source.poll(0)
    assert source.positions() == {0: 12}


def test_an_iterator_is_read_no_faster_than_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterable, "POLL_RECORDS_MAX", 2)
    taken: list[int] = []

    def numbers() -> Iterator[bytes]:
        for number in range(5):
            taken.append(number)
            yield b"{}"

    source = opened(numbers())
    source.poll(0)
    assert taken == [0, 1]


def test_it_goes_back_to_the_last_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterable, "POLL_RECORDS_MAX", 2)
    source = opened(iter([b"1", b"2", b"3", b"4", b"5"]))
    source.poll(0)
    source.committed(source.positions())
    before = source.positions()
    source.poll(0)
    source.seek(before)
    counts = []
    while not (polled := source.poll(0)).ended:
        counts.append(0 if polled.raw is None else len(polled.raw))
    assert (counts, source.positions()) == ([2, 1], {0: 5})


def test_a_lane_that_came_since_the_last_commit_joins_again() -> None:
    source = opened(iter([Record(b"1", partition=4)]))
    before = source.positions()
    assert source.poll(0).lanes_added == (4,)
    source.seek(before)
    assert source.poll(0).lanes_added == (4,)


def test_what_was_committed_is_forgotten() -> None:
    source = opened([b"1", b"2"])
    source.poll(0)
    assert len(source._kept) == 2
    source.committed(source.positions())
    assert source._kept == []


@pytest.mark.parametrize("bound", [("KEPT_RECORDS_MAX", 4), ("KEPT_BYTES_MAX", 7)])
def test_it_says_when_it_must_not_keep_more(bound: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterable, "POLL_RECORDS_MAX", 2)
    monkeypatch.setattr(iterable, *bound)
    source = opened(iter([b"10", b"20", b"30", b"40", b"50", b"60"]))
    assert [source.poll(0).source_is_full for _ in range(3)] == [False, True, True]
    source.seek({0: 0})
    assert source.poll(0).source_is_full
    source.committed(source.positions())
    assert source._kept_bytes == 8
    source.poll(0)
    source.committed(source.positions())
    assert [source.poll(0).source_is_full for _ in range(2)] == [False, False]


def test_it_cannot_start_in_the_middle() -> None:
    with pytest.raises(SourceError, match="cannot be read from a position"):
        RecordsSource([]).open(Start(positions={0: 5}))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ('{"u":"\ud800"}', r"text cannot be written as UTF-8: surrogates not allowed \(character 6\)"),
        ({"u": "\ud800"}, r"field u cannot be written as JSON: .*; give text that UTF-8 can hold"),
        ({"u": math.nan}, r"field u is nan, which JSON has no way to write; give None"),
        ({"u": {"v": [1.0, None, -math.inf]}}, r"field u\.v\[2\] is -inf"),
        ({"u": ({"v": math.inf},)}, r"field u\[0\]\.v is inf"),
        ({"u": [Reading(math.nan)]}, r"field u\[0\]\.level is nan, which JSON has no way to write; give None"),
        ({"u": SlottedReading(math.nan)}, r"field u\.level is nan"),
        ({"u": Level.UNKNOWN}, r"field u is nan"),
        ({"u": Reading(Decimal(1))}, r"field u\.level cannot be written as JSON: .*Decimal; give it as text"),
        (
            {"n": [{"u": Pair(1, 2)}]},
            r"field n\[0\]\.u cannot be written as JSON: .*Pair; give it as a list, or as a dict",
        ),
        (
            {"n": {"u": MappingProxyType({})}},
            r"field n\.u cannot be written as JSON: .*mappingproxy; give it as a dict",
        ),
        (
            {"n": None, "u": 2**70},
            r"field u cannot be written as JSON: 1180591620717411303424 does not fit 64 bits; give",
        ),
        ({"u": 1 << 100_000}, r"field u cannot be written as JSON: it does not fit 64 bits"),
        ({"u": [Decimal("1.5")]}, r"field u\[0\] cannot be written as JSON: .*Decimal; give it as text"),
        ({"u": b"x"}, r"field u cannot be written as JSON: .*bytes; decode it"),
        ({"u": np.float64(1)}, r"field u cannot be written as JSON: .*; give what value\.item\(\) returns"),
        ({"u": {5: 1}}, r"field u cannot be written as JSON: Dict key must be str"),
        (Record(b"1", key="\ud800"), "text cannot be written as UTF-8"),
        (Record(b"1", headers=[("\ud800", b"")]), "text cannot be written as UTF-8"),
        (Record(b"1", partition=2**31), "partition is 2147483648, and has to be a whole number from 0 to 2147483647"),
        (Record(b"1", partition=-1), "partition is -1"),
        (Record(b"1", partition="a"), "partition is 'a'"),  # type: ignore[arg-type]
        (Record(b"1", partition=None), "partition is None"),  # type: ignore[arg-type]
        (Record(b"1", offset=2**63 - 1), "offset is 9223372036854775807"),
        (Record(b"1", timestamp_ms=2**63), "timestamp_ms is 9223372036854775808"),
    ],
)
def test_what_no_record_can_hold_is_named_by_its_place(item: Any, message: str) -> None:
    for records in ([b"{}", item], iter([b"{}", item])):
        with pytest.raises(SourceError, match=rf"^records\[1\]: .*{message}"):
            opened(records).poll(0)


def test_a_null_that_is_one_is_written_whatever_stands_beside_it() -> None:
    values: list[Any] = [
        1.5,
        None,
        True,
        "null",
        {"a": (None, [])},
        Reading(None),
        SlottedReading(1.0),
        Level.FULL,
        OrderedDict(b=None),
    ]
    assert encode_value(MappingProxyType({"u": values})) == (
        b'{"u":[1.5,null,true,"null",{"a":[null,[]]},{"level":null},{"level":1.0},1.0,{"b":null}]}'
    )


def test_the_largest_numbers_are_taken() -> None:
    record = Record(b"1", partition=2**31 - 1, offset=2**63 - 2, timestamp_ms=2**63 - 1)
    source = opened([record])
    source.poll(0)
    assert source.positions() == {2**31 - 1: 2**63 - 1}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b"x", b"x"),
        ("é", "é".encode()),
        (None, None),
        ({"a": math.pi, "b": [None]}, b'{"a":3.141592653589793,"b":[null]}'),
        ({"a": {"b": [1, None]}}, b'{"a":{"b":[1,null]}}'),
        (memoryview(b"xy"), b"xy"),
    ],
)
def test_values_as_they_are_written(value: Any, written: bytes | None) -> None:
    assert encode_value(value) == written


@pytest.mark.parametrize(("value", "message"), [(5, "not int"), ({"a": object()}, "cannot be written as JSON")])
def test_what_is_no_record(value: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        encode_value(value)


def test_a_poll_ends_where_its_values_have_enough_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterable, "POLL_BYTES_MAX", 10)
    given: list[int] = []

    def values() -> Iterator[bytes]:
        for size in (4, 4, 4, 30, 0, 0):
            given.append(size)
            yield b"x" * size

    source = opened(values())
    counts = []
    while not (polled := source.poll(0)).ended:
        assert polled.raw is not None
        counts.append((len(polled.raw), polled.raw.byte_len, len(given)))
    assert counts == [(3, 12, 3), (1, 30, 4), (2, 0, 6)]


@pytest.mark.parametrize("value", [b"12345" * 1_000_000, "12345" * 1_000_000, bytearray(5_000_000), {"a": "b" * 99}])
def test_of_a_value_over_the_limit_only_the_beginning_is_taken(value: Any) -> None:
    source = RecordsSource([b"1234", value], record_bytes_max=4)
    source.open(Start())
    raw = source.poll(0).raw
    assert raw is not None
    assert (len(raw), raw.byte_len) == (2, 8)
