"""The checkpoint file: what is written reads back, and no damage passes unnoticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore import _core
from streamcore.errors import StateError

HEADER = b'{"name":"page-counts","positions":{"0":42}}'
LANES = [(0, b"state of lane 0"), (3, b""), (-1, bytes(40))]


def _encode(header: bytes, lanes: list[tuple[int, bytes]]) -> bytes:
    return b"".join(_core.checkpoint_parts(header, lanes))


@given(st.binary(), st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), st.binary()), max_size=6))
def test_what_is_written_reads_back(header: bytes, lanes: list[tuple[int, bytes]]) -> None:
    assert _core.decode_checkpoint(_encode(header, lanes)) == (header, lanes)


def test_a_state_is_not_copied() -> None:
    states = [state for _, state in LANES]
    assert [id(part) for part in _core.checkpoint_parts(HEADER, LANES)[1::2]] == [id(state) for state in states]


def test_every_flipped_bit_is_a_state_error() -> None:
    file = _encode(HEADER, LANES)
    for place in range(len(file)):
        for bit in range(8):
            damaged = bytearray(file)
            damaged[place] ^= 1 << bit
            with pytest.raises(StateError, match="damaged"):
                _core.decode_checkpoint(bytes(damaged))


def test_every_cut_and_addition_is_a_state_error() -> None:
    file = _encode(HEADER, LANES)
    for length in range(len(file)):
        with pytest.raises(StateError):
            _core.decode_checkpoint(file[:length])
    with pytest.raises(StateError, match="damaged"):
        _core.decode_checkpoint(file + b"\0")


def test_the_message_names_the_part_and_the_way_out() -> None:
    file = bytearray(_encode(HEADER, LANES))
    file[file.index(b"state of lane 0")] ^= 1
    with pytest.raises(StateError, match=r"section 1 of 4; restore the file from a copy"):
        _core.decode_checkpoint(bytes(file))


def test_a_file_of_something_else_is_told_apart() -> None:
    with pytest.raises(StateError, match="not a streamcore checkpoint"):
        _core.decode_checkpoint(b"PAR1" * 20)
