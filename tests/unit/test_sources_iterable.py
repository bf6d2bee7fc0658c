from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from streamcore.errors import SourceError
from streamcore.sources import iterable
from streamcore.sources.base import Start
from streamcore.sources.iterable import Record, RecordsSource, encode_value


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


def test_it_cannot_start_in_the_middle() -> None:
    with pytest.raises(SourceError, match="cannot be read from a position"):
        RecordsSource([]).open(Start(positions={0: 5}))


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b"x", b"x"),
        ("é", "é".encode()),
        (None, None),
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
