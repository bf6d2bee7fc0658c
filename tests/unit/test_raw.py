"""Undecoded records: from tuples, from messages, from lines."""

from __future__ import annotations

import pytest

from streamcore import _core
from streamcore.errors import Error


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
    types, absent = _core.infer_fields(raw, ["a.b", "c", "d"])
    assert types == {"a.b": "float64", "c": "bool", "d": "string"}
    assert absent == {"d": ("d", {"a": "a", "c": "c"})}
    assert _core.absent_fields(raw, ["a.b", "c", "d"]) == absent
    assert _core.absent_fields(raw, ["d"], 1) is None
