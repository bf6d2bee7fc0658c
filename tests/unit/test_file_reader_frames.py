"""Records of a file, each behind its length: whole or refused, and an error where nothing can be told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamcore import _core
from streamcore.errors import Error, SourceError
from tests.framing import PREFIXES, framed
from tests.unit.test_file_reader import refused

RECORDS = [b"{}", b"", b"0123456789", b"\x00" * 11, b"\xff\xfe", b"y" * 1000, b"{}"]
"""The largest that is taken has ten bytes."""


def fates(records: list[bytes], framing: str) -> list[tuple[int, str, bytes, int | None]]:
    at, found = 0, []
    for record in records:
        long = len(record) > 10
        found.append((at, "SIZE_LIMIT" if long else "BAD_TIMESTAMP", record[:10], len(record) if long else None))
        at += len(framed([record], framing))
    return found


@pytest.mark.parametrize("framing", PREFIXES)
@pytest.mark.parametrize("bytes_max", [1, 3, 7, 64, 1 << 20])
def test_records_are_those_behind_their_lengths(tmp_path: Path, framing: str, bytes_max: int) -> None:
    path = tmp_path / "records"
    path.write_bytes(framed(RECORDS, framing))
    assert refused(path, bytes_max, framing=framing) == fates(RECORDS, framing)


@pytest.mark.parametrize("framing", PREFIXES)
def test_an_empty_file_has_no_records(tmp_path: Path, framing: str) -> None:
    (tmp_path / "empty").touch()
    reader = _core.FileReader(str(tmp_path / "empty"), 0, "x", framing=framing)
    assert (reader.read(64), reader.position, reader.left) == (None, 0, 0)


@pytest.mark.parametrize("framing", PREFIXES)
def test_a_record_that_the_file_ends_within_is_refused_or_left(tmp_path: Path, framing: str) -> None:
    path, whole = tmp_path / "cut", framed([b"{}", b"012345678"], framing)
    begin = len(framed([b"{}"], framing))
    for end in range(begin + 1, len(whole)):
        path.write_bytes(whole[:end])
        good, cut = refused(path, 1, framing=framing)
        assert good == (0, "BAD_TIMESTAMP", b"{}", None)
        assert cut[:2] == (begin, "DECODE_SYNTAX")
        assert whole[begin:end].endswith(cut[2])
        growing = _core.FileReader(str(path), 0, "x", begin, framing=framing, grows=True)
        assert (growing.read(1), growing.position, growing.left) == (None, begin, end - begin)
        path.write_bytes(whole)
        raw = growing.read(1)
        assert raw is not None
        assert (len(raw), growing.position, growing.left) == (1, len(whole), 0)


def error(tmp_path: Path, data: bytes, **keys: Any) -> str:
    path = tmp_path / "damaged"
    path.write_bytes(data)
    reader = _core.FileReader(str(path), 0, "x", **keys)
    assert len(reader.read(1) or "") == 1, "the record before it"
    with pytest.raises(SourceError) as caught:
        reader.read(1)
    return str(caught.value)


@pytest.mark.parametrize("grows", [True, False])
def test_a_length_of_more_than_64_bits_is_an_error_with_its_place(tmp_path: Path, grows: bool) -> None:
    text = error(tmp_path, b"\x01x" + b"\xff" * 10 + b"rest", framing="varint", grows=grows)
    assert f"{tmp_path}/damaged: at byte 2 there is no length of a record (a varint of more than 64 bits)" in text


@pytest.mark.parametrize("grows", [True, False])
@pytest.mark.parametrize("rest", [b"", b"some of it"])
def test_a_length_beyond_the_limit_and_the_file_is_an_error_with_its_place(
    tmp_path: Path, grows: bool, rest: bytes
) -> None:
    data = b"\0\0\0\x01x" + b"\x7f\xff\xff\xff" + rest
    text = error(tmp_path, data, framing="u32be", record_bytes_max=4, grows=grows)
    assert f"{tmp_path}/damaged: the record at byte 5 is said to have" in text
    assert f"limits.max_record_bytes = 4 and more than the {4 + len(rest)} that are left of the file" in text


def test_the_largest_length_there_is_overflows_nothing(tmp_path: Path) -> None:
    data = b"\x01x" + b"\xff" * 9 + b"\x01" + b"some of it"
    assert "at byte 2 is said to have" in error(tmp_path, data, framing="varint", record_bytes_max=4)


def test_lines_taken_for_frames_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'{"a": 1}\n' * 10)
    with pytest.raises(SourceError, match="check `framing`"):
        _core.FileReader(str(path), 0, "x", framing="u32be", record_bytes_max=16 << 20).read(64)


def test_an_unknown_framing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(Error, match="there is no framing csv; it is lines, varint or u32be"):
        _core.FileReader(str(tmp_path / "x"), 0, "x", framing="csv")
