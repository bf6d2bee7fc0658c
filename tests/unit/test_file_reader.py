"""Records of a file, a line each: whole, in order, resumable at every position."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamcore import _core
from streamcore.errors import SourceError

LIMITS = {"record_bytes_max": 10}


def read_all(reader: _core.FileReader, bytes_max: int) -> tuple[int, int]:
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
    reader = _core.FileReader(str(path), 0, "events")
    assert read_all(reader, bytes_max) == (500, sum(map(len, lines)))
    assert reader.position == path.stat().st_size
    assert reader.read(bytes_max) is None


def test_a_position_resumes_after_the_last_line_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"{}\n{}\n{}\n{}")
    reader = _core.FileReader(str(path), 0, "events")
    first = reader.read(1)
    assert first is not None
    assert (len(first), reader.position) == (1, 3)
    assert read_all(_core.FileReader(str(path), 0, "events", reader.position), 64)[0] == 3


def test_blank_lines_and_carriage_returns_are_no_records(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"{}\r\n\r\n\n  \n{}\n \t\r\n\n   ")
    assert read_all(_core.FileReader(str(path), 0, "events"), 1) == (2, 4)


@pytest.mark.parametrize("piece", [1, 1_000])
def test_a_byte_order_mark_is_no_part_of_the_first_record(tmp_path: Path, piece: int) -> None:
    path = tmp_path / "events.jsonl"
    mark = "\ufeff".encode()
    path.write_bytes(mark + b'{"a": 1}\n' + mark + b'{"a": 2}\n{"a": 3}')
    assert read_all(_core.FileReader(str(path), 0, "events"), piece) == (3, 8 + 11 + 8), "only at the start of a file"


@pytest.mark.parametrize(
    ("last", "is_left"),
    [(b'{"n":', True), (b'{"n":"a', True), (b"{", True), (b'{"n":1}', False), (b"no JSON", False), (b"", False)],
)
def test_a_last_line_whose_json_goes_on_is_left_where_the_file_may_grow(
    tmp_path: Path, last: bytes, is_left: bool
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"{}\n" + last)
    reader = _core.FileReader(str(path), 0, "events", grows=True)
    assert read_all(reader, 64)[0] == 1 + (last != b"" and not is_left)
    assert (reader.position, reader.left) == ((3, len(last)) if is_left else (3 + len(last), 0))
    with path.open("ab") as file:
        file.write(b'2}\n{"n":3}\n')
    assert read_all(reader, 64)[0] == 2
    assert read_all(_core.FileReader(str(path), 0, "events"), 64)[0] == 3


def test_an_empty_file_ends_at_once(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    assert _core.FileReader(str(path), 0, "empty").read(1024) is None


def test_a_missing_file_and_a_cut_file_are_source_errors(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot open .*nowhere"):
        _core.FileReader(str(tmp_path / "nowhere"), 0, "x")
    path = tmp_path / "cut"
    path.write_bytes(b"{}\n")
    with pytest.raises(SourceError, match="3 bytes, but reading had reached byte 9"):
        _core.FileReader(str(path), 0, "x", 9)


def test_a_directory_is_a_source_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot"):
        _core.FileReader(str(tmp_path), 0, "x").read(1024)


def refused(path: Path, bytes_max: int, **keys: Any) -> list[tuple[int, str, bytes, int | None]]:
    """Offset, reason, value and whole length of each record; those of a good size are refused for want of a time."""
    engine = _core.Pipeline(json.dumps({"source": {"format": "raw"}, "steps": [], "limits": LIMITS}).encode())
    engine.assign([0])
    reader = _core.FileReader(str(path), 0, "x", record_bytes_max=LIMITS["record_bytes_max"], **keys)
    found = []
    while (raw := reader.read(bytes_max)) is not None:
        for batch in engine.push(raw, 0):
            rows = batch.select(["_offset", "reason", "_value", "truncated_len"]).to_rows()
            found += [tuple(row.values()) for row in rows]
    assert reader.position + reader.left == path.stat().st_size
    return found


@pytest.mark.parametrize("bytes_max", [1, 3, 7, 64, 1 << 20])
def test_a_line_over_the_limit_is_a_refused_record_of_which_the_beginning_is_kept(
    tmp_path: Path, bytes_max: int
) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"0123456789\r\n0123456789x\r\n{}\n" + b"y" * 1000 + b"\n\n" + b"z" * 11)
    assert refused(path, bytes_max) == [
        (0, "BAD_TIMESTAMP", b"0123456789", None),
        (12, "SIZE_LIMIT", b"0123456789", 11),
        (25, "BAD_TIMESTAMP", b"{}", None),
        (28, "SIZE_LIMIT", b"y" * 10, 1000),
        (1030, "SIZE_LIMIT", b"z" * 10, 11),
    ]


def test_within_a_line_over_the_limit_the_position_stays_before_it(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"{}\n" + b"y" * 1000 + b"\n{}\n")
    reader = _core.FileReader(str(path), 0, "x", record_bytes_max=100)
    positions = []
    while (raw := reader.read(90)) is not None:
        positions.append((len(raw), reader.position))
    assert positions[0] == (1, 3)
    assert positions[1] == (0, 3)
    assert set(positions[1:-2]) == {(0, 3)}
    assert positions[-2:] == [(1, 1004), (1, 1007)]


MEMORY = """
import resource, sys
from streamcore import _core

def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

path, framing, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
before = peak()
resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))
reader = _core.FileReader(path, 0, path, framing=framing, record_bytes_max=limit)
records = 0
while (raw := reader.read(1 << 20)) is not None:
    records += len(raw)
print(records, peak() - before)
"""


@pytest.mark.parametrize(
    ("framing", "length"),
    [("lines", b""), ("varint", b"\x80\x80\x80\x80\x04"), ("u32be", b"\x40\x00\x00\x00")],
)
def test_a_gigabyte_in_one_record_takes_no_memory(tmp_path: Path, framing: str, length: bytes) -> None:
    path = tmp_path / "endless"
    with path.open("wb") as file:
        file.write(length)
        file.truncate(len(length) + (1 << 30))  # sparse: it takes no disk either
    command = [sys.executable, "-c", MEMORY, str(path), framing, str(16 << 20)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    records, grown = map(int, done.stdout.split())
    assert records == 1
    assert grown < 100 << 20


def test_reading_ahead_moves_nothing_until_the_lines_are_handed_out(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"".join(b'{"n":%d}\n' % number for number in range(1_000)))
    ahead, plain = (_core.FileReader(str(path), 0, "events") for _ in range(2))
    while (expected := plain.read(100)) is not None:
        before = ahead.position
        ahead.read_ahead(100)
        ahead.read_ahead(100, 3)
        assert ahead.position == before
        found = ahead.read(1)
        assert found is not None
        assert (len(found), found.byte_len, ahead.position) == (len(expected), expected.byte_len, plain.position)
    ahead.read_ahead(100)
    assert ahead.read(100) is None
    assert ahead.position == path.stat().st_size


def test_a_line_over_the_limit_whose_end_has_not_come_is_left_where_the_file_may_grow(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b"{}\n" + b"x" * 10_000)
    reader = _core.FileReader(str(path), 0, "events", grows=True, record_bytes_max=10)
    assert read_all(reader, 64)[0] == 1
    assert (reader.position, reader.left) == (3, 10_000)
    with path.open("ab") as file:
        file.write(b"x\n{}\n")
    for again in (reader, _core.FileReader(str(path), 0, "events", 3, grows=True, record_bytes_max=10)):
        assert (read_all(again, 64)[0], again.position, again.left) == (2, path.stat().st_size, 0)


def test_a_failure_ahead_is_raised_where_the_lines_would_have_come(tmp_path: Path) -> None:
    reader = _core.FileReader(str(tmp_path), 0, "x")
    reader.read_ahead(1024)
    with pytest.raises(SourceError, match="cannot"):
        reader.read(1024)
    reader.read_ahead(1024)
    with pytest.raises(SourceError, match="open the file again"):
        reader.read(1024)
