"""Owns reading a Python iterable (`sc.records`); a lane is a record's `partition`.

Before it: the caller's iterable. After it: the runner.
Invariant: records since the last commit are kept, so a rolled back epoch can be read again.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, SupportsIndex

from streamcore import _core
from streamcore.errors import SourceError
from streamcore.sources.base import POLL_BYTES_MAX, Polled, Position, Start

POLL_RECORDS_MAX = 10_000
"""Most records of one poll; `POLL_BYTES_MAX` bounds their values."""

KEPT_RECORDS_MAX, KEPT_BYTES_MAX = 2_000_000, 256 << 20
"""With as many records since the last commit, or as many bytes of their values, the next commit is due."""

RANGES = {"partition": (0, 2**31 - 1), "offset": (0, 2**63 - 2), "timestamp_ms": (-(2**63), 2**63 - 1)}
"""Smallest and largest value of each number of a record."""

TOPIC = "records"
"""What `_topic` is for them."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record with its parts, where a value alone is not enough."""

    value: bytes | str | Mapping[str, Any] | None
    """Bytes as they are; text as UTF-8; a mapping as JSON; None is a tombstone."""
    key: bytes | str | None = None
    headers: Sequence[tuple[str, bytes | None]] | None = None
    timestamp_ms: int | None = None
    """Milliseconds since the epoch."""
    partition: int = 0
    offset: int | None = None
    """Unset: the place in its partition."""


_NO_FLOATS = frozenset({str, int, bool, type(None)})

_Parts = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes | None]] | None, int | None, int]


class RecordsSource:
    """Reads an iterable once, in order."""

    bounded = True

    def __init__(self, records: Iterable[Any], *, record_bytes_max: int | None = None) -> None:
        """`records` holds bytes, text, mappings or `Record`s; a sequence may be read by several runs."""
        self._record_bytes_max = record_bytes_max
        self._iterator: Iterator[Any] = iter(records)
        self._known_partitions = _partitions(records) if isinstance(records, Sequence) else frozenset({0})
        self._next_offsets: dict[int, int] = {}
        self._given_offsets: defaultdict[int, int] = defaultdict(int)
        """Offset of the next record taken from the iterator, by partition; ahead of `_next_offsets` after a rollback."""
        self._taken = 0
        """Records taken from the iterator."""
        self._kept: list[tuple[int, _Parts]] = []
        """Since the last commit, in order."""
        self._kept_bytes = 0
        """Of their values."""
        self._replayed = 0
        """How many of `_kept` have been handed out."""
        self._exhausted = False

    def open(self, start: Start) -> list[int]:
        """The partitions that are known beforehand; others join when their first record comes."""
        if start.positions:
            raise SourceError("an iterable cannot be read from a position; give the run no name, or use files or Kafka")
        lanes = sorted(self._known_partitions)
        self._next_offsets = dict.fromkeys(lanes, 0)
        return lanes

    def poll(self, timeout_s: float) -> Polled:
        """The next records."""
        portion = self._kept[self._replayed : self._replayed + POLL_RECORDS_MAX]
        if not portion:
            portion = self._next_records()
            self._exhausted = not portion
            self._kept += portion
            self._kept_bytes += sum(len(parts[0] or b"") for _, parts in portion)
        self._replayed += len(portion)
        added = tuple(sorted({lane for lane, _ in portion} - set(self._next_offsets)))
        by_lane: defaultdict[int, list[_Parts]] = defaultdict(list)
        for lane, parts in portion:
            by_lane[lane].append(parts)
            self._next_offsets[lane] = parts[-1] + 1
        raw: _core.Raw | None = None
        for lane, records in sorted(by_lane.items()):
            part = _core.Raw.from_records(lane, TOPIC, records, self._record_bytes_max)
            if raw is None:
                raw = part
            else:
                raw.add(part)
        ended = self._exhausted and self._replayed == len(self._kept)
        is_full = len(self._kept) >= KEPT_RECORDS_MAX or self._kept_bytes >= KEPT_BYTES_MAX
        caught_up = tuple(self._next_offsets) if ended else ()
        return Polled(raw, caught_up, lanes_added=added, ended=ended, source_is_full=is_full)

    def positions(self) -> dict[int, Position]:
        """The next offset of each partition."""
        return dict(self._next_offsets)

    def seek(self, positions: Mapping[int, Position]) -> None:
        """Goes back to the last commit: everything kept is handed out again, and lanes that came since join again."""
        self._replayed = 0
        self._next_offsets = dict(positions)

    def pause(self, lanes: list[int]) -> None:
        """Nothing: the order of an iterable is the order of its records, so no lane can be read without the others."""

    def committed(self, positions: Mapping[int, Position]) -> None:
        """Forgets what a rollback no longer needs."""
        del self._kept[: self._replayed]
        self._kept_bytes = sum(len(parts[0] or b"") for _, parts in self._kept)
        self._replayed = 0

    def describe(self) -> dict[str, object]:
        """Nothing tells one iterable from another."""
        return {"type": "records"}

    def close(self) -> None:
        """Nothing to let go of."""

    def _next_records(self) -> list[tuple[int, _Parts]]:
        """Those of one poll; no more than that are asked of the iterator."""
        taken: list[tuple[int, _Parts]] = []
        room = POLL_BYTES_MAX
        for item in itertools.islice(self._iterator, POLL_RECORDS_MAX):
            lane, parts = self._parts(item)
            taken.append((lane, parts))
            room -= len(parts[0] or b"")
            if room <= 0:
                break
        return taken

    def _parts(self, item: Any) -> tuple[int, _Parts]:
        number, self._taken = self._taken, self._taken + 1
        return record_parts(item, number, self._given_offsets)


def record_parts(item: Any, number: int, next_offsets: defaultdict[int, int]) -> tuple[int, _Parts]:
    """The partition and the parts of a record as the engine takes them; its offset is counted where it has none.

    Raises `SourceError`, which names it by `number`.
    """
    try:
        record = _in_range(item) if isinstance(item, Record) else Record(item)
        lane = record.partition
        offset = next_offsets[lane] if record.offset is None else record.offset
        next_offsets[lane] = offset + 1
        key = _utf8(record.key) if isinstance(record.key, str) else record.key
        for name, _ in record.headers or ():
            _utf8(name)
        return lane, (encode_value(record.value), key, record.headers, record.timestamp_ms, offset)
    except SourceError as error:
        raise SourceError(f"records[{number}]: {error}") from error


def encode_value(value: Any) -> bytes | None:
    """The bytes of a record's value. Raises `SourceError` for what is no record."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return _utf8(value)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, Mapping):
        return _json(value)
    raise SourceError(f"a record is bytes, text, a mapping or sc.Record, not {type(value).__name__}")


def _json(record: Mapping[str, Any]) -> bytes:
    import orjson

    try:
        written = orjson.dumps(dict(record))
    except TypeError as error:
        path, value = _misfit(record) or ("", record)
        where = f"field {path}" if path else "the record"
        advice = f"; {hint}" if (hint := _advice(value)) else ""
        raise SourceError(f"{where} cannot be written as JSON: {_reason(value, error)}{advice}") from error
    # What is no number would silently be none; records without a null pay nothing for it.
    if b"null" in written and _holds_no_number(record) and (misfit := _misfit(record)) is not None:
        path, value = misfit
        raise SourceError(f"field {path} is {value}, which JSON has no way to write; give None")
    return written


def _holds_no_number(record: Mapping[str, Any]) -> bool:
    """Whether there is a float within it that is infinite or none. Of values that JSON can hold."""
    left: list[Iterable[Any]] = [record.values()]
    while left:
        for value in left.pop():
            kind = type(value)
            if kind in _NO_FLOATS:
                continue
            if kind is float:
                if not math.isfinite(value):
                    return True
            elif isinstance(value, dict):
                left.append(value.values())
            elif isinstance(value, (list, tuple)):
                left.append(value)
            elif (within := _written_as(value)) is not value:
                left.append((within,))
    return False


def _written_as(value: Any) -> Any:
    """What is written of an instance of a dataclass or an enumeration; the value itself where it is neither."""
    if isinstance(value, Enum):
        return value.value
    if not is_dataclass(value) or isinstance(value, type):
        return value
    known = getattr(value, "__dict__", None) or {one.name: getattr(value, one.name) for one in fields(value)}
    return {name: inner for name, inner in known.items() if not name.startswith("_")}


def _misfit(record: Mapping[str, Any]) -> tuple[str, Any] | None:
    try:
        return next(_misfits("", dict(record)), None)
    except RecursionError:  # orjson has refused it as too deep
        return None


def _misfits(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The values within `value`, which is at `path`, that JSON cannot hold, with their own paths."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if isinstance(name, str):
                yield from _misfits(f"{path}.{name}" if path else name, inner)
            else:
                yield path, value
    elif (within := _written_as(value)) is not value:
        yield from _misfits(path, within)
    elif isinstance(value, list) or type(value) is tuple:
        for place, inner in enumerate(value):
            yield from _misfits(f"{path}[{place}]", inner)
    elif type(value) is float:
        if not math.isfinite(value):
            yield path, value
    elif not _can_be_written(value):
        yield path, value


def _can_be_written(value: Any) -> bool:
    import orjson

    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


def _reason(value: Any, error: TypeError) -> str:
    """What is wrong with a value, without more of it than a line."""
    if isinstance(value, int):
        return f"{str(value)[:24]} does not fit 64 bits" if value.bit_length() < 1_000 else "it does not fit 64 bits"
    return str(error)


def _advice(value: Any) -> str | None:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "decode it, or give it as base64 text"
    if isinstance(value, (Decimal, int)):
        return "give it as text"
    if isinstance(value, Mapping) and not isinstance(value, dict):
        return "give it as a dict"
    if isinstance(value, tuple) and type(value) is not tuple:
        return "give it as a list, or as a dict"
    if isinstance(value, str):
        return 'give text that UTF-8 can hold, as of value.encode("utf-8", "replace").decode()'
    return "give what value.item() returns" if hasattr(value, "item") else None


def _in_range(record: Record) -> Record:
    for name, (smallest, largest) in RANGES.items():
        value = getattr(record, name)
        if not _fits(name, value) and (value is not None or name == "partition"):
            raise SourceError(f"{name} is {value!r}, and has to be a whole number from {smallest} to {largest}")
    return record


def _fits(name: str, value: Any) -> bool:
    smallest, largest = RANGES[name]
    return isinstance(value, SupportsIndex) and smallest <= operator.index(value) <= largest


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise SourceError(f"text cannot be written as UTF-8: {error.reason} (character {error.start})") from error


def _partitions(records: Sequence[Any]) -> frozenset[int]:
    """Of the records that have a possible one; for the others there is an error when their turn comes."""
    given = (item.partition if isinstance(item, Record) else 0 for item in records)
    return frozenset(lane for lane in given if _fits("partition", lane)) or frozenset({0})
