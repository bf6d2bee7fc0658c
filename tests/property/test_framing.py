"""Files of records against the list of them: whatever the framing, the pieces, the restarts and the growth of the file.

A record comes out once, at its place, whole or, over the limit, as its beginning and its length.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcore import _core
from streamcore.errors import SourceError
from tests.framing import PREFIXES, framed

RECORD_BYTES_MAX = 40
SPEC = {"source": {"format": "raw"}, "steps": [], "limits": {"record_bytes_max": RECORD_BYTES_MAX}}

Fate = tuple[int, str, bytes, int | None]
"""Offset, reason, what is kept of the value, and how long it was where that is not all."""

bodies = st.binary(max_size=RECORD_BYTES_MAX + 20) | st.binary(min_size=150, max_size=300)
line_bodies = bodies.map(lambda body: body.translate(None, b"\r\n") or b"-")
pieces = st.lists(st.integers(1, 200), min_size=1, max_size=8)


def expected(records: Sequence[bytes], framing: str) -> list[Fate]:
    at, fates = 0, []
    for record in records:
        long = len(record) > RECORD_BYTES_MAX
        # A good record is refused as well, for want of a time: so all come out of one door.
        reason, whole = ("SIZE_LIMIT", len(record)) if long else ("BAD_TIMESTAMP", None)
        fates.append((at, reason, record[:RECORD_BYTES_MAX], whole))
        at += len(framed([record], framing))
    return fates


class Reading:
    """A file read to its end again and again, each time by a new reader that goes on at the last position."""

    def __init__(self, path: Path, framing: str) -> None:
        self._path, self._framing = path, framing
        self._engine = _core.Pipeline(json.dumps(SPEC).encode())
        self._engine.assign([0])
        self.position = 0
        self.found: list[Fate] = []

    def read(self, bytes_max: Sequence[int], *, reads: int = 10**6, ahead: bool = False, grows: bool = False) -> bool:
        """Up to `reads` pieces; false at the end."""
        reader = _core.FileReader(
            str(self._path),
            0,
            "f",
            self.position,
            framing=self._framing,
            record_bytes_max=RECORD_BYTES_MAX,
            grows=grows,
        )
        for number in range(reads):
            raw = reader.read(bytes_max[number % len(bytes_max)])
            if raw is None:
                return False
            if ahead:
                reader.read_ahead(bytes_max[(number + 1) % len(bytes_max)])
            for batch in self._engine.push(raw, 0):
                self.found += [fate(row) for row in batch.to_rows()]
            self.position = reader.position
        return True


def fate(row: dict[str, Any]) -> Fate:
    return row["_offset"], row["reason"], row["_value"], row["truncated_len"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("framing") / "records"


@settings(deadline=None)
@given(
    data=st.data(),
    framing=st.sampled_from(["lines", *PREFIXES]),
    bytes_max=pieces,
    stops=st.lists(st.integers(1, 5), max_size=6),
)
def test_pieces_and_restarts_change_nothing(
    path: Path, data: st.DataObject, framing: str, bytes_max: list[int], stops: list[int]
) -> None:
    records = data.draw(st.lists(line_bodies if framing == "lines" else bodies, max_size=30))
    path.write_bytes(framed(records, framing))
    reading, ahead = Reading(path, framing), data.draw(st.booleans())
    for reads in stops:
        reading.read(bytes_max, reads=reads, ahead=ahead)
    reading.read(bytes_max, ahead=ahead)
    assert reading.found == expected(records, framing)


@settings(deadline=None)
@given(
    records=st.lists(bodies, max_size=20),
    framing=st.sampled_from(sorted(PREFIXES)),
    bytes_max=pieces,
    lengths=st.lists(st.floats(0, 1), max_size=8),
)
def test_a_file_that_grows_is_read_on_wherever_it_was_cut(
    path: Path, records: list[bytes], framing: str, bytes_max: list[int], lengths: list[float]
) -> None:
    whole = framed(records, framing)
    reading = Reading(path, framing)
    for length in sorted(lengths):
        path.write_bytes(whole[: int(length * len(whole))])
        try:
            reading.read(bytes_max, grows=True)
        except SourceError as error:
            # Of a record over the limit it cannot be told whether the file is damaged there, or yet to grow.
            assert f"the record at byte {reading.position} is said to have" in str(error)  # noqa: PT017
    path.write_bytes(whole)
    assert not reading.read(bytes_max)
    assert reading.found == expected(records, framing)
    assert reading.position == len(whole)


@settings(deadline=None)
@given(records=st.lists(bodies, min_size=1, max_size=10), framing=st.sampled_from(sorted(PREFIXES)), data=st.data())
def test_of_a_file_that_is_cut_everything_before_is_read_and_the_rest_is_told(
    path: Path, records: list[bytes], framing: str, data: st.DataObject
) -> None:
    whole, fates = framed(records, framing), expected(records, framing)
    length = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:length])
    reading = Reading(path, framing)
    starts = [at for at, *_ in fates]
    complete = sum(end <= length for end in [*starts[1:], len(whole)])
    at_its_start = length == ([*starts, len(whole)])[complete]
    try:
        reading.read([64])
    except SourceError as error:
        assert f"the record at byte {starts[complete]} is said to have" in str(error)  # noqa: PT017
        assert reading.found == fates[:complete]
    else:
        assert reading.found[:complete] == fates[:complete]
        cut = [(at, reason) for at, reason, *_ in reading.found[complete:]]
        assert cut == ([] if at_its_start else [(starts[complete], "DECODE_SYNTAX")])
