"""Undecoded records: from tuples, from messages, from lines."""

from __future__ import annotations

from typing import Any

import pytest

from streamcore import _core
from streamcore.errors import Error

Headers = list[tuple[str, bytes | None]]


class Message:
    """Answers like `confluent_kafka.Message`, which cannot be made from Python."""

    def __init__(
        self,
        offset: int | None,
        value: bytes | None = b"{}",
        *,
        topic: str | None = "t",
        partition: int | None = 0,
        error: object = None,
    ) -> None:
        self._parts = (offset, value, topic, partition, error)

    def offset(self) -> int | None:
        return self._parts[0]

    def value(self) -> bytes | None:
        return self._parts[1]

    def topic(self) -> str | None:
        return self._parts[2]

    def partition(self) -> int | None:
        return self._parts[3]

    def error(self) -> object:
        return self._parts[4]

    def key(self) -> bytes | None:
        return b"k"

    def headers(self) -> Headers | None:
        return [("h", b"1"), ("none", None)]

    def timestamp(self) -> tuple[int, int]:
        return (1, 1_790_000_000_000) if self.error() is None else (0, -1)


def from_messages(
    messages: list[Message], next_offsets: dict[tuple[str, int], int], *, keys: bool = True
) -> tuple[_core.Raw, dict[tuple[str, int], int], int, list[Any]]:
    return _core.Raw.from_messages(messages, next_offsets, keys=keys, headers=keys)


def test_records_are_counted_with_their_bytes() -> None:
    raw = _core.Raw.from_records(
        0,
        "t",
        [(b"{}", b"key", [("h", b"1"), ("h", None)], 5, 7), (None, None, None, None, 8), (b"", b"", [], 6, 10)],
    )
    assert (len(raw), raw.byte_len) == (3, 2)


@pytest.mark.parametrize("offsets", [(1, 1), (2, 1)])
def test_offsets_must_rise(offsets: tuple[int, int]) -> None:
    with pytest.raises(Error, match=r"offset 1 of lane 4 does not rise"):
        _core.Raw.from_records(4, "t", [(b"{}", None, None, None, offset) for offset in offsets])


def test_a_text_value_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        _core.Raw.from_records(0, "t", [("{}", None, None, None, 0)])  # type: ignore[list-item]


def test_messages_are_sorted_into_partitions() -> None:
    messages = [Message(5), Message(6, partition=1), Message(6), Message(9, b"{ }", partition=1)]
    raw, positions, refetched, errors = from_messages(messages, {("t", 0): 5, ("t", 1): 0, ("t", 2): 77})
    assert (len(raw), raw.byte_len, refetched, errors) == (4, 9, 0, [])
    assert positions == {("t", 0): 7, ("t", 1): 10}


def test_messages_read_before_are_left_out() -> None:
    messages = [Message(4), Message(5), Message(5), Message(6), Message(0, partition=9), Message(1, topic="other")]
    raw, positions, refetched, _ = from_messages(messages, {("t", 0): 5})
    assert (len(raw), refetched) == (2, 4)
    assert positions == {("t", 0): 7}


def test_a_partition_with_nothing_new_keeps_its_position() -> None:
    raw, positions, refetched, _ = from_messages([Message(4)], {("t", 0): 5})
    assert (len(raw), positions, refetched) == (0, {("t", 0): 5}, 1)


def test_messages_with_an_error_are_handed_back() -> None:
    failed = Message(None, b"Broker: ...", topic=None, partition=None, error="broken")
    raw, positions, refetched, errors = from_messages([failed, Message(5), failed], {("t", 0): 5})
    assert (len(raw), refetched) == (1, 0)
    assert positions == {("t", 0): 6}
    assert errors == [failed, failed]
    assert len(from_messages([failed], {("t", 0): 5})[0]) == 0


def test_no_messages_are_no_records() -> None:
    raw, positions, refetched, errors = from_messages([], {("t", 0): 5})
    assert (len(raw), positions, refetched, errors) == (0, {}, 0, [])


def test_one_partition_number_in_two_topics_is_refused() -> None:
    messages = [Message(0), Message(0, topic="u")]
    with pytest.raises(Error, match="partition 0 occurs in two topics"):
        from_messages(messages, {("t", 0): 0, ("u", 0): 0})


def test_a_deserialized_value_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        from_messages([Message(0, {"a": 1})], {("t", 0): 0})  # type: ignore[arg-type]


def test_lines_are_records() -> None:
    raw = _core.Raw.from_lines(0, "f", b'{"a":1}\n\n{"a":2}', 100)
    assert (len(raw), raw.byte_len) == (2, 14)


def test_batches_of_other_lanes_can_be_added() -> None:
    raw = _core.Raw.from_lines(0, "f", b"{}\n{}", 0)
    other = _core.Raw.from_lines(1, "g", b"{}", 0)
    raw.add(other)
    assert (len(raw), len(other)) == (3, 0)
    with pytest.raises(Error, match="lane 1 is in the raw batch already"):
        raw.add(_core.Raw.from_lines(1, "g", b"{}", 0))
    with pytest.raises(Error, match="same one"):
        raw.add(raw)


def test_types_are_inferred_from_a_sample() -> None:
    lines = b'{"a":{"b":1},"c":true}\n{"a":{"b":1.5},"c":null}\nnot json\n'
    raw = _core.Raw.from_lines(0, "f", lines, 0)
    assert _core.infer_types(raw, ["a.b", "c", "d"]) == {"a.b": "float64", "c": "bool", "d": "string"}
