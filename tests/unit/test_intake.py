"""Messages on their way into one batch for each partition."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamcore import _core
from streamcore.errors import Error

Headers = list[tuple[str, bytes | None]]
Bounds = dict[tuple[str, int], tuple[int, int | None]]


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


def take(
    messages: list[Message], bounds: Bounds, *, keys: bool = True
) -> tuple[_core.Raw, dict[tuple[str, int], int], int, list[Any]]:
    intake = _core.Intake(bounds, keys=keys, headers=keys)
    errors = intake.take(messages)
    return *intake.finish(), errors


def test_messages_are_sorted_into_partitions() -> None:
    messages = [Message(5), Message(6, partition=1), Message(6), Message(9, b"{ }", partition=1)]
    raw, positions, refetched, errors = take(messages, {("t", 0): (5, None), ("t", 1): (0, None), ("t", 2): (77, 99)})
    assert (len(raw), raw.byte_len, refetched, errors) == (4, 9, 0, [])
    assert positions == {("t", 0): 7, ("t", 1): 10}


def test_a_message_of_another_partition_in_a_gap_is_told_apart() -> None:
    messages = [Message(0), Message(7, partition=1), Message(2)]
    raw, positions, _, _ = take(messages, {("t", 0): (0, None), ("t", 1): (7, None)})
    assert (len(raw), positions) == (3, {("t", 0): 3, ("t", 1): 8})


def test_a_gap_is_no_record() -> None:
    raw, positions, _, _ = take([Message(0), Message(1), Message(4)], {("t", 0): (0, None)})
    assert (len(raw), positions) == (3, {("t", 0): 5})


def test_a_run_may_begin_before_and_end_behind_what_is_wanted() -> None:
    raw, positions, refetched, _ = take([Message(offset) for offset in range(3, 9)], {("t", 0): (5, 7)})
    assert (len(raw), positions, refetched) == (2, {("t", 0): 7}, 2)


def test_what_is_taken_adds_up() -> None:
    intake = _core.Intake({("t", 0): (0, None), ("t", 1): (0, None)}, keys=True, headers=True)
    intake.take([Message(0), Message(1), Message(0, partition=1)])
    assert len(intake) == 3
    intake.take([Message(1), Message(2)])
    raw, positions, refetched = intake.finish()
    assert (len(raw), positions, refetched) == (4, {("t", 0): 3, ("t", 1): 1}, 1)
    assert len(intake) == 0


def test_a_large_value_finds_room_behind_small_ones() -> None:
    values = [b"x" * size for size in (1, 70_000, 3, 2_000_000, 0, 500_000)]
    intake = _core.Intake({("t", 0): (0, None)}, keys=False, headers=False)
    for offset, value in enumerate(values):
        intake.take([Message(offset, value)])
    raw, *_ = intake.finish()
    assert raw.byte_len == sum(map(len, values))


def test_messages_read_before_are_left_out() -> None:
    messages = [Message(4), Message(5), Message(5), Message(6), Message(0, partition=9)]
    raw, positions, refetched, _ = take(messages, {("t", 0): (5, None)})
    assert (len(raw), refetched) == (2, 3)
    assert positions == {("t", 0): 7}


def test_several_topics_are_told_apart() -> None:
    messages = [Message(4), Message(9, topic="u", partition=1), Message(0, topic="v"), Message(5)]
    raw, positions, refetched, _ = take(messages, {("t", 0): (4, None), ("u", 1): (9, None)})
    assert (len(raw), refetched) == (3, 1)
    assert positions == {("t", 0): 6, ("u", 1): 10}


def test_a_partition_with_nothing_new_keeps_its_position() -> None:
    raw, positions, refetched, _ = take([Message(4)], {("t", 0): (5, None)})
    assert (len(raw), positions, refetched) == (0, {("t", 0): 5}, 1)


def test_messages_behind_the_stop_are_left_to_a_later_run() -> None:
    messages = [Message(5), Message(7), Message(8), Message(6, partition=1), Message(9)]
    raw, positions, refetched, _ = take(messages, {("t", 0): (5, 7), ("t", 1): (0, None)})
    assert (len(raw), refetched) == (2, 0)
    assert positions == {("t", 0): 7, ("t", 1): 7}


def test_messages_with_an_error_are_handed_back() -> None:
    failed = Message(None, b"Broker: ...", topic=None, partition=None, error="broken")
    raw, positions, refetched, errors = take([failed, Message(5), failed], {("t", 0): (5, None)})
    assert (len(raw), refetched) == (1, 0)
    assert positions == {("t", 0): 6}
    assert errors == [failed, failed]
    assert len(take([failed], {("t", 0): (5, None)})[0]) == 0


def test_no_messages_are_no_records() -> None:
    raw, positions, refetched, errors = take([], {("t", 0): (5, None)})
    assert (len(raw), positions, refetched, errors) == (0, {}, 0, [])


def test_one_partition_number_in_two_topics_is_refused() -> None:
    messages = [Message(0), Message(0, topic="u")]
    with pytest.raises(Error, match="partition 0 occurs in two topics"):
        take(messages, {("t", 0): (0, None), ("u", 0): (0, None)})


def test_a_deserialized_value_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        take([Message(0, {"a": 1})], {("t", 0): (0, None)})  # type: ignore[arg-type]


def test_of_a_value_over_the_limit_only_the_beginning_is_copied() -> None:
    intake = _core.Intake({("t", 0): (0, None)}, keys=True, headers=True, record_bytes_max=100)
    intake.take([Message(0, b"x" * 100), Message(1, b"y" * 101), Message(2, b"z" * 5_000_000), Message(3, b"{}")])
    raw, positions, _ = intake.finish()
    assert (len(raw), raw.byte_len, positions) == (4, 302, {("t", 0): 4})
    (batch,) = refused(raw)
    assert [(row["_offset"], row["reason"], row["truncated_len"]) for row in batch.to_rows()] == [
        (0, "DECODE_SYNTAX", None),
        (1, "SIZE_LIMIT", 101),
        (2, "SIZE_LIMIT", 5_000_000),
        (3, "MISSING_FIELD", None),
    ]
    assert (batch.to_rows()[2]["_key"], batch.headers(2)) == (b"k", [("h", b"1"), ("none", None)])


def refused(raw: _core.Raw) -> list[_core.Batch]:
    spec = {"source": {"event_time": "at"}, "steps": [], "limits": {"record_bytes_max": 100}}
    engine = _core.Pipeline(json.dumps(spec).encode())
    engine.assign([0])
    return engine.push(raw, 0)
