"""The engine against Python's own parser, on the fuzzer's corpus and on changes of it, through the binding.

`fuzz/` does the same below the binding for much longer; here another parser judges, one unrelated to the engine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamcore import _core
from tests.conformance import strict_json
from tests.conformance.test_json_validity import DOCUMENTS

CORPUS = Path(__file__).resolve().parents[2] / "fuzz" / "corpus"
FILES = sorted(CORPUS.glob("*/*.txt"))

TYPED = {
    "text": "string",
    "int": "int64",
    "float": "float64",
    "bool": "bool",
    "decimal": "decimal(18,2)",
    "time": "timestamp",
    "sub.text": "string",
    "sub.sub.int": "int64",
}
PLANS: dict[str, dict[str, str]] = {
    "clicks": {
        "timestamp": "string",
        "payload.page_id": "string",
        "payload.user_id": "string",
        "payload.dwell_ms": "int64",
    },
    "events": {
        "type": "string",
        "actor.login": "string",
        "repo.id": "int64",
        "payload.action": "string",
        "created_at": "string",
    },
    "typed": TYPED,
    "keyed": {"text": "string", "int": "int64"},
    "nothing": {},
}
"""What is wanted, as `fuzz/src/plans.rs` has it but for what only the engine knows."""

EVENT_TIME = {"clicks": "timestamp"}


def read(path: Path) -> tuple[str, list[bytes | None]]:
    """The plan and the records of a file of the corpus: `fuzz/src/batch.rs` says how they are written."""
    header, *records = path.read_bytes().removesuffix(b"\n").split(b"\n\n")
    plan = header.decode().removesuffix(" far")
    return plan, [None if record == b"(null)" else unescape(record) for record in records]


def unescape(text: bytes) -> bytes:
    return re.sub(rb"%([0-9a-fA-F]{2})", lambda digits: bytes.fromhex(digits[1].decode()), text)


@cache
def spec(plan: str) -> bytes:
    columns = [{"name": path.replace(".", "_"), "text": path} for path in PLANS[plan]]
    columns.append({"name": "offset", "text": "_offset"})
    source: dict[str, Any] = {"out_of_orderness_ms": 0, "schema": PLANS[plan]}
    source |= {"event_time": EVENT_TIME[plan]} if plan in EVENT_TIME else {}
    return json.dumps({"source": source, "steps": [{"verb": "select", "columns": columns}]}).encode()


Outcome = tuple[str | None, dict[str, Any] | None]


def decode(plan: str, records: Sequence[bytes | None]) -> list[Outcome]:
    """For each record the reason why it was refused, or its row; neither for one without a value."""
    pipeline = _core.Pipeline(spec(plan))
    pipeline.assign([0])
    raw = _core.Raw.from_records(0, "t", [(record, None, None, 1, place) for place, record in enumerate(records)])
    outcomes: list[Outcome] = [(None, None)] * len(records)
    for batch in pipeline.push(raw, 1):
        for row in batch.to_rows():
            if batch.output == "rejected":
                outcomes[row["_offset"]] = (row["reason"], None)
            else:
                outcomes[row["offset"]] = (None, {path: row[path.replace(".", "_")] for path in PLANS[plan]})
    return outcomes


def check(plan: str, records: Sequence[bytes | None]) -> None:
    for record, (reason, row) in zip(records, decode(plan, records), strict=True):
        if record is None:
            assert (reason, row) == (None, None)
        else:
            verdict = strict_json.judge(record, PLANS[plan], EVENT_TIME.get(plan))
            assert verdict.allows(reason, row), (record, reason, row, verdict)


def test_there_is_a_corpus() -> None:
    assert {read(path)[0] for path in FILES} == set(PLANS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_engine_reads_what_python_reads(path: Path) -> None:
    plan, records = read(path)
    check(plan, [*records, *records])


@cache
def pool(plan: str) -> list[bytes]:
    """Records to change; with those of JSONTestSuite as a field, where they are at hand."""
    documents = [path.read_bytes() for path in sorted(DOCUMENTS.glob("test_*/*.json")) if path.stat().st_size < 2000]
    records = [record for path in FILES if read(path)[0] == plan for record in read(path)[1] if record is not None]
    if plan == "typed":
        names = b"any text int float sub".split()
        records += [
            b'{"%s":%s,"n":1}' % (names[number % len(names)], document) for number, document in enumerate(documents)
        ]
    return records


VALUES = """null true 0 -0 01 1. 1e5 1e400 9223372036854775808 12345678 NaN [] {} [1,{}] "" "a" "7" "\\u0061" "\\ud800"
"\\ud83d\\ude42" "é" {"text":1} "text":1,""".encode().split()
BYTES = [bytes([byte]) for byte in b'"\\{}[],:0123456789+-.eEtfnu/ \t\n\r\x00\x1f\x7f\x80\xc3\xe2\xed\xf0\xff']
VALUE = re.compile(rb'(?<=[:,\[])("[^"]*"|[^,\]}]*)')


def with_another_value(record: bytes, place: int, text: bytes) -> bytes:
    spans = [found.span() for found in VALUE.finditer(record)] or [(0, len(record))]
    start, end = spans[place % len(spans)]
    return record[:start] + text + record[end:]


def with_other_bytes(record: bytes, place: int, text: bytes) -> bytes:
    start = place % (len(record) + 1)
    return record[:start] + text + record[start + place % 3 :]


places = st.integers(0, 10_000)
edits = st.one_of(
    st.tuples(st.just(with_another_value), places, st.sampled_from(VALUES)),
    st.tuples(st.just(with_other_bytes), places, st.sampled_from([*BYTES, b""])),
)


@st.composite
def batches(draw: st.DrawFn) -> tuple[str, list[bytes | None]]:
    """Records of one plan, and changed ones behind those they were made from, which have taught their layouts."""
    plan = draw(st.sampled_from(sorted(PLANS)))
    records: list[bytes | None] = []
    for base in draw(st.lists(st.sampled_from(pool(plan)), min_size=1, max_size=4)):
        changed = base
        for edit, place, text in draw(st.lists(edits, max_size=3)):
            changed = edit(changed, place, text)
        records += [base, changed, base]
    return plan, records


@settings(max_examples=400, deadline=None)
@given(batches())
@example(("typed", [b'{"sub":null}', b'{"sub":true}']))
def test_changed_records_are_read_as_python_reads_them(batch: tuple[str, list[bytes | None]]) -> None:
    plan, records = batch
    check(plan, records)
