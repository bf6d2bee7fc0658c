"""What becomes of each record of a topic with poison in it, told from its bytes by plain Python, and what became of it.

Shares no code with the engine, and takes nothing from `poison.py`, which made the records. Windows of ten seconds by `k`; ids
seen before in the partition count once. Invariant: `differences` names every row that is lost, doubled or wrong, and
every dead letter that is not there once with its reason, its place and all of its record.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.conformance import strict_json
from tests.faults import oracle

SCHEMA = {"k": "string", "v": "int64", "id": "string", "f": "float64"}
YEARS_MS = range(-62_135_596_800_000, 253_402_300_800_000)
"""Times that there are: the years 1 to 9999."""

FUTURE_SKEW_MS = 3_600_000
KEY_BYTES_MAX = 4_096
DEPTH_MAX = 64
HEADER = "dlq."

Row = tuple[str | None, int, int, int | None, float | None]
"""Key, beginning of the window, count, sum and greatest."""


@dataclass
class Expected:
    """Of everything in the input topic."""

    rows: dict[tuple[str | None, int], list[dict[str, Any]]] = field(default_factory=dict)
    """By key and window: its records."""
    fates: list[tuple[Any, str]] = field(default_factory=list)
    """Each message, and what becomes of it: a reason, or the name it is counted by."""
    ledgers: dict[int, Counter[str]] = field(default_factory=dict)
    """By partition."""
    ends: dict[int, int] = field(default_factory=dict)

    def counted(self) -> Counter[Row]:
        """Its rows, each once."""
        return Counter({_row(key, start, records): 1 for (key, start), records in self.rows.items()})

    def letters(self) -> dict[tuple[int, int], tuple[Any, str]]:
        """By partition and offset: the record, and why it was refused."""
        return {_place(message): (message, fate) for message, fate in self.fates if fate.isupper()}


def expected(servers: str, topic: str, record_bytes_max: int) -> Expected:
    """Goes through the input record by record."""
    answer, seen = Expected(), set()
    for message in oracle.read(servers, topic):
        lane = message.partition()
        answer.ends[lane] = message.offset() + 1
        row: dict[str, Any] = {}
        fate = _refused(message, record_bytes_max, row)
        if fate is None:
            identity = lane, row["id"]
            fate = "duplicate" if identity in seen else "applied"
            seen.add(identity)
            if fate == "applied" and row["k"] is not None and len(row["k"].encode()) > KEY_BYTES_MAX:
                fate = "KEY_TOO_LONG"
        if fate == "applied":
            answer.rows.setdefault((row["k"], row["t"] // oracle.SIZE_MS * oracle.SIZE_MS), []).append(row)
        answer.fates.append((message, fate))
        counts = answer.ledgers.setdefault(lane, Counter())
        counts.update(("read", "rejected" if fate.isupper() else fate))
    return answer


def _refused(message: Any, record_bytes_max: int, row: dict[str, Any]) -> str | None:
    """Why a record reaches no step, or how it counts where it is not refused; otherwise its fields are in `row`."""
    value: bytes | None = message.value()
    if value is None:
        return "tombstone"
    if (reason := _unread(value, record_bytes_max)) is not None:
        return reason
    verdict = strict_json.judge(value, SCHEMA)
    if verdict.reasons:
        (reason,) = verdict.reasons
        return reason
    assert verdict.row is not None
    row.update(verdict.row)
    return _without_time(value, row) or _misplaced(message, row)


def _misplaced(message: Any, row: dict[str, Any]) -> str | None:
    """What is wrong with fields that can be read."""
    if message.key() != (None if row["k"] is None else row["k"].encode()):
        return "KEY_MISMATCH"
    if row["t"] - message.timestamp()[1] > FUTURE_SKEW_MS:
        return "future"
    return "MISSING_FIELD" if row["id"] is None else None


def _unread(value: bytes, record_bytes_max: int) -> str | None:
    """Why a value is no JSON, or is not looked at."""
    if len(value) > record_bytes_max:
        return "SIZE_LIMIT"
    if _depth(value) > DEPTH_MAX:
        return "DEPTH_LIMIT"
    try:
        strict_json.parse(value)
    except UnicodeDecodeError:
        return "DECODE_UTF8"
    except ValueError:
        return "DECODE_SYNTAX"
    return None


def _without_time(value: bytes, row: dict[str, Any]) -> str | None:
    """Puts the time into the row, or says why there is none."""
    time = strict_json.find(strict_json.parse(value), "t")
    if time is None:
        return "MISSING_FIELD"
    if not isinstance(time, strict_json.Number) or int(time.text) not in YEARS_MS:
        return "BAD_TIMESTAMP"
    row["t"] = int(time.text)
    return None


def _depth(value: bytes) -> int:
    """How deep brackets outside of text are nested."""
    depth = deepest = 0
    for bracket in re.findall(rb"[\[{\]}]", re.sub(rb'"(?:[^"\\]|\\.)*"', b"", value)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _row(key: str | None, start: int, records: list[dict[str, Any]]) -> Row:
    amounts = [record["v"] for record in records if record["v"] is not None]
    greatest = max((record["f"] for record in records if record["f"] is not None), default=None)
    return key, start, len(records), sum(amounts) if amounts else None, greatest


def differences(servers: str, wanted: Expected, *, output: str, dead_letters: str, kept_bytes_max: int) -> list[str]:
    """What a reader of committed records finds wrong; nothing, where each row and letter is there once and right.

    `kept_bytes_max`: of a value that is too large, so much is in its letter.
    """
    found = Counter(row_of(message) for message in oracle.read(servers, output))
    right = wanted.counted()
    wrong = [f"lost or wrong: {row!s:.200}" for row in (right - found)]
    wrong += [f"doubled or wrong: {row!s:.200} x{times}" for row, times in (found - right).items()]
    letters = wanted.letters()
    told: Counter[tuple[int, int]] = Counter()
    for letter in oracle.read(servers, dead_letters):
        place, reason, problems = _letter(letter, letters, kept_bytes_max)
        told[place] += 1
        wrong += [f"dead letter of {place}, {reason}: {problem}" for problem in problems]
    wrong += [f"dead letter lost: {place}, {letters[place][1]}" for place in letters if not told[place]]
    wrong += [f"dead letter doubled: {place} x{times}" for place, times in told.items() if times > 1]
    return wrong


def _letter(
    letter: Any, letters: dict[tuple[int, int], tuple[Any, str]], kept_bytes_max: int
) -> tuple[Any, str, list[str]]:
    """The place that a letter names, its reason, and what is wrong with it."""
    own = [(name, value) for name, value in letter.headers() if not name.startswith(HEADER)]
    facts = {name.removeprefix(HEADER): value for name, value in letter.headers() if name.startswith(HEADER)}
    place, reason = (int(facts["partition"]), int(facts["offset"])), facts["reason"].decode()
    if place not in letters:
        return place, reason, ["of a record that is good, or is none"]
    message, why = letters[place]
    value = message.value()
    is_large = why == "SIZE_LIMIT"
    same = {
        "reason": (reason, why),
        "topic": (facts["topic"].decode(), message.topic()),
        "index": (facts["index"], b"0"),
        "timestamp": (int(facts["timestamp"]), message.timestamp()[1]),
        "key": (letter.key(), message.key()),
        "value": (letter.value(), value[:kept_bytes_max] if is_large else value),
        "headers": (own, message.headers()),
        "sha256": (facts["sha256"], None if is_large else hashlib.sha256(value).hexdigest().encode()),
        "truncated_len": (facts.get("truncated_len"), str(len(value)).encode() if is_large else None),
    }
    return (
        place,
        reason,
        [f"{name} is {is_!r:.80}, not {to_be!r:.80}" for name, (is_, to_be) in same.items() if is_ != to_be],
    )


def row_of(message: Any) -> Row:
    """Of a message of the output."""
    row = json.loads(message.value())
    return row["k"], row["window_start"], row["n"], row["s"], row["m"]


def _place(message: Any) -> tuple[int, int]:
    return message.partition(), message.offset()
