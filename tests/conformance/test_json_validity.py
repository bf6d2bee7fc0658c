"""What is JSON and what is not, by nst/JSONTestSuite and nativejson-benchmark: each document as a record of its own, and
as a field of a record behind others of the same layout.

The collection is third-party data and not part of this repository; see `test_windows.py` for where it is looked for. What
we choose where the collection leaves a choice is `docs/decisions/0009-json.md`.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamcore import _core
from tests.conformance.test_windows import CASES

DOCUMENTS = CASES / "json-validity"
NOT_JSON = {"DECODE_SYNTAX", "DECODE_UTF8", "DEPTH_LIMIT"}
"""Reasons that say a record is no JSON document that we read."""

CHOSEN_TO_READ = {
    # Numbers of any size are JSON; only a column that must hold one exactly can refuse it.
    "i_number_double_huge_neg_exp",
    "i_number_huge_exp",
    "i_number_neg_int_huge_exp",
    "i_number_pos_double_huge_exp",
    "i_number_real_neg_overflow",
    "i_number_real_pos_overflow",
    "i_number_real_underflow",
    "i_number_too_big_neg_int",
    "i_number_too_big_pos_int",
    "i_number_very_big_negative_int",
}
"""Of the documents that a parser may accept or reject. All others hold text that is not Unicode, begin with a byte order
mark or nest 500 deep, and are refused."""

TEXT_THAT_IS_NOT_UNICODE = {
    f"string_{count}_{kind}" for count in "123" for kind in ("invalid_codepoint", "invalid_codepoints")
} | {f"string_{count}_escaped_{kind}" for count in "123" for kind in ("invalid_codepoint", "invalid_codepoints")}
"""Listed with those to accept, to see what a parser makes of them; we refuse them like the others of their kind."""

pytestmark = pytest.mark.skipif(
    not (DOCUMENTS / "index.jsonl").is_file(),
    reason=f"no JSON cases at {DOCUMENTS}: set STREAMCORE_CASES to their folder",
)


def documents() -> list[Any]:
    index = DOCUMENTS / "index.jsonl"
    lines = index.read_text(encoding="utf-8").splitlines() if index.is_file() else []
    entries = [json.loads(line) for line in lines]
    return [pytest.param(entry["path"], entry["expect"], id=entry["path"]) for entry in entries]


@cache
def spec() -> bytes:
    window: dict[str, Any] = {"verb": "window", "kind": {"type": "tumbling", "size_ms": 60_000}}
    window |= {"by": [{"name": "page", "text": "page"}], "aggregates": [{"name": "n", "text": "count()"}]}
    source = {"event_time_unit": "ms", "out_of_orderness_ms": 0, "schema": {"page": "string"}}
    return json.dumps({"source": source, "steps": [window]}).encode()


def judge(*records: bytes) -> list[str | None]:
    """For each record why it was refused, or None."""
    pipeline = _core.Pipeline(spec())
    pipeline.assign([0])
    raw = _core.Raw.from_records(0, "t", [(record, None, None, 1, place) for place, record in enumerate(records)])
    reasons: list[str | None] = [None] * len(records)
    for batch in pipeline.push(raw, 1):
        if batch.output == "rejected":
            for row in batch.to_rows():
                reasons[row["_offset"]] = row["reason"]
    return reasons


def is_read(reason: str | None) -> bool:
    return reason not in NOT_JSON


def expected(path: str, expect: str) -> bool:
    stem = Path(path).stem
    if expect == "either":
        return stem in CHOSEN_TO_READ
    return expect == "accept" and stem not in TEXT_THAT_IS_NOT_UNICODE


@pytest.mark.parametrize(("path", "expect"), documents())
def test_a_document_is_read_or_refused(path: str, expect: str) -> None:
    document = (DOCUMENTS / path).read_bytes()
    (reason,) = judge(document)
    assert is_read(reason) == expected(path, expect)
    if is_read(reason) and not document.lstrip().startswith(b"{"):
        assert reason == "TYPE_MISMATCH"


def oracle(record: bytes) -> bool:
    try:
        return isinstance(orjson.loads(record), dict)
    except orjson.JSONDecodeError:
        return False


@pytest.mark.parametrize(("path", "expect"), documents())
def test_a_field_is_read_or_refused_whatever_came_before(path: str, expect: str) -> None:
    document = (DOCUMENTS / path).read_bytes()
    record = b'{"page":"home","it":' + document + b',"n":1}'
    usual = [
        b'{"page":"%d","it":%s,"n":1}' % (number, value) for number, value in enumerate((b'"x"', b"7", b"true", b"[1]"))
    ]
    (alone,) = judge(record)
    among = judge(*usual, record, *usual, record, record, *usual)
    places = [place for place, one in enumerate([*usual, record, *usual, record, record, *usual]) if one is record]
    assert {among[place] for place in places} == {alone}
    assert {reason for place, reason in enumerate(among) if place not in places} == {None}
    if Path(path).stem not in CHOSEN_TO_READ and expect != "either" and alone != "DEPTH_LIMIT":
        assert is_read(alone) == oracle(record)
