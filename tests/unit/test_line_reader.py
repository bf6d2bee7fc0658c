"""Lines of a file: whole, in order, resumable at every position."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamcore import _core
from streamcore.errors import SourceError


def read_all(reader: _core.LineReader, bytes_max: int) -> tuple[int, int]:
    """Records and value bytes of the rest of the file."""
    records = length = 0
    while (raw := reader.read(bytes_max)) is not None:
        records += len(raw)
        length += raw.byte_len
    return records, length


@pytest.mark.parametrize("bytes_max", [1, 7, 64, 1 << 20])
def test_pieces_hold_whole_lines(tmp_path: Path, bytes_max: int) -> None:
    lines = [b'{"n":%d,"pad":"%s"}' % (n, b"x" * (n % 50)) for n in range(500)]
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(lines))
    reader = _core.LineReader(str(path), 0, "events")
    assert read_all(reader, bytes_max) == (500, sum(map(len, lines)))
    assert reader.position == path.stat().st_size
    assert reader.read(bytes_max) is None


def test_a_position_resumes_after_the_last_line_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"{}\n{}\n{}\n{}")
    reader = _core.LineReader(str(path), 0, "events")
    first = reader.read(1)
    assert first is not None
    assert (len(first), reader.position) == (1, 3)
    assert read_all(_core.LineReader(str(path), 0, "events", reader.position), 64)[0] == 3


def test_blank_lines_and_carriage_returns_are_no_records(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"{}\r\n\r\n\n{}\n\n")
    assert read_all(_core.LineReader(str(path), 0, "events"), 1) == (2, 4)


def test_an_empty_file_ends_at_once(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert _core.LineReader(str(path), 0, "empty").read(1024) is None


def test_a_missing_file_and_a_cut_file_are_source_errors(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot open .*nowhere"):
        _core.LineReader(str(tmp_path / "nowhere"), 0, "x")
    path = tmp_path / "cut"
    path.write_bytes(b"{}\n")
    with pytest.raises(SourceError, match="3 bytes, but reading had reached byte 9"):
        _core.LineReader(str(path), 0, "x", 9)


def test_a_directory_is_a_source_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot"):
        _core.LineReader(str(tmp_path), 0, "x").read(1024)


def test_an_endless_line_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "endless"
    with path.open("wb") as file:
        file.write(b"{}\n")
        file.truncate(70 << 20)
    reader = _core.LineReader(str(path), 0, "x")
    assert reader.read(1) is not None
    with pytest.raises(SourceError, match=r"endless has a line of more than 67108864 bytes at byte 3"):
        reader.read(8 << 20)


def test_reading_ahead_moves_nothing_until_the_lines_are_handed_out(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"".join(b'{"n":%d}\n' % number for number in range(1_000)))
    ahead, plain = (_core.LineReader(str(path), 0, "events") for _ in range(2))
    while (expected := plain.read(100)) is not None:
        before = ahead.position
        ahead.read_ahead(100)
        ahead.read_ahead(100)
        assert ahead.position == before
        found = ahead.read(100)
        assert found is not None
        assert (len(found), ahead.position) == (len(expected), plain.position)
    ahead.read_ahead(100)
    assert ahead.read(100) is None
    assert ahead.position == path.stat().st_size


def test_a_failure_ahead_is_raised_where_the_lines_would_have_come(tmp_path: Path) -> None:
    reader = _core.LineReader(str(tmp_path), 0, "x")
    reader.read_ahead(1024)
    with pytest.raises(SourceError, match="cannot"):
        reader.read(1024)
