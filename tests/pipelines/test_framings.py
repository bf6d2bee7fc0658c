"""The same records as lines and behind their lengths: `streamcore run` gives the same answer, also of a file that
grows between runs and was cut anywhere meanwhile.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.framing import PREFIXES, framed
from tests.pipelines.test_pipelines import read_lines

RECORD_BYTES_MAX = 2_000

WINDOWS = """
[source]
type = "files"
path = "events-*"
framing = "{framing}"
piece_bytes = 4096
event_time = "at"

[source.schema]
page = "string"

[limits]
max_record_bytes = {record_bytes_max}

[[steps]]
dedupe = "id"
within = "10m"

[[steps]]
window = "tumbling"
size = "1m"
by = "page"
[steps.aggregate]
views = "count()"
dwell = "sum(ms)"
"""

ROWS = """
name = "rows"
state_dir = "state"

[source]
type = "files"
path = "events"
framing = "{framing}"
event_time = "at"

[source.schema]
id = "string"

[limits]
max_record_bytes = {record_bytes_max}

[[steps]]
[steps.select]
id = "id"
"""


def event(number: int) -> bytes:
    row = {"id": f"e{number}", "page": f"p{number * 7 % 5}", "at": f"2026-01-01T00:{number * 13 % 60:02d}:00Z"}
    # Lengths whose bytes are quotes, backslashes, newlines and no UTF-8: none of that is text.
    row["pad"] = "é" * (number % 300)
    return json.dumps({**row, "ms": number}, ensure_ascii=False).encode()


EVENTS = [event(number) for number in range(3_000)]
EVENTS[700] = b"no event"
EVENTS[1400] = b'{"id": "long", "pad": "' + b"x" * 5_000 + b'"}'
EVENTS[2100] = EVENTS[2097]  # in the same file of three


def run(folder: Path, pipeline: str, framing: str) -> tuple[list[dict[str, Any]], dict[str, Any], list[str]]:
    """Rows, report and notes."""
    (folder / "job.toml").write_text(pipeline.format(framing=framing, record_bytes_max=RECORD_BYTES_MAX))
    command = [sys.executable, "-m", "streamcore", "run", "job.toml", "--output", "jsonl"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stderr.splitlines()]
    notes = [line["note"] for line in told if "note" in line]
    return [json.loads(line) for line in done.stdout.splitlines()], told[-1]["report"], notes


def test_windows_are_the_same_as_of_lines(tmp_path: Path) -> None:
    answers = {}
    for framing in ("lines", *PREFIXES):
        folder = tmp_path / framing
        folder.mkdir()
        for part in range(3):
            (folder / f"events-{part}").write_bytes(framed(EVENTS[part::3], framing))
        rows, report, _ = run(folder, WINDOWS, framing)
        answers[framing] = (rows, report["ledger"], report["rows"])
    assert answers["lines"][1]["read"] == len(EVENTS)
    assert (answers["lines"][1]["rejected"], answers["lines"][1]["duplicate"]) == (2, 1)
    assert answers["varint"] == answers["u32be"] == answers["lines"]


@pytest.mark.parametrize("framing", ["lines", *PREFIXES])
def test_a_growing_file_is_read_on_wherever_it_was_cut(tmp_path: Path, framing: str) -> None:
    events = [event for event in EVENTS[:60] if event != EVENTS[0]]
    whole, begin = framed(events, framing), len(framed(events[:20], framing))
    found: list[str] = []
    # Within the first length, behind a record, within a length, within a record, and at the end.
    for cut in (1, begin, begin + 1, begin + 9, len(whole)):
        (tmp_path / "events").write_bytes(whole[:cut])
        rows, report, notes = run(tmp_path, ROWS, framing)
        found += [row["id"] for row in rows]
        complete = len(found)
        behind = len(framed(events[:complete], framing))
        told = [note.partition(";")[0] for note in notes if note.startswith("events ")]
        assert told == ([] if cut == behind else [f"events ends within the record at byte {behind}"])
        assert report["ledger"]["rejected"] == 0
    assert found == [json.loads(event)["id"] for event in events]


@pytest.mark.parametrize("framing", PREFIXES)
def test_of_a_file_that_ends_within_a_record_that_one_is_a_dead_letter(tmp_path: Path, framing: str) -> None:
    whole = framed(EVENTS[:3], framing)
    (tmp_path / "events").write_bytes(whole[:-5])
    (tmp_path / "letters").mkdir()
    pipeline = ROWS.replace('name = "rows"\n', "") + '\n[dead_letters]\npath = "letters/all.jsonl"\n'
    rows, report, _ = run(tmp_path, pipeline, framing)
    assert (len(rows), report["ledger"]["read"], report["ledger"]["rejected"]) == (2, 3, 1)
    (letter,) = read_lines(tmp_path / "letters" / "all.jsonl")
    assert (letter["reason"], letter["offset"]) == ("DECODE_SYNTAX", len(framed(EVENTS[:2], framing)))
    size = len(EVENTS[2])
    assert letter["detail"] == f"the file ends within this record: {size - 5} of its {size} bytes are there"
    assert letter["value"].encode() == EVENTS[2][:-5]


def test_a_record_over_the_limit_is_a_dead_letter_of_its_beginning(tmp_path: Path) -> None:
    letters = {}
    for framing in ("lines", *PREFIXES):
        folder = tmp_path / framing
        folder.mkdir()
        (folder / "events").write_bytes(framed(EVENTS[1390:1410], framing))
        _, report, _ = run(folder, ROWS, framing)
        assert report["ledger"]["rejected"] == 1
        (letters[framing],) = read_lines(folder / "state" / "rows" / "dead-letters.jsonl")
        assert letters[framing].pop("offset") == len(framed(EVENTS[1390:1400], framing))
    assert letters["varint"] == letters["u32be"] == letters["lines"]
    letter = letters["lines"]
    assert (letter["reason"], letter["truncated_len"], letter["sha256"]) == ("SIZE_LIMIT", len(EVENTS[1400]), None)
    assert letter["detail"] == f"the value has {len(EVENTS[1400])} bytes; limits.max_record_bytes is {RECORD_BYTES_MAX}"
    assert letter["value"].encode() == EVENTS[1400][:RECORD_BYTES_MAX]


def test_a_damaged_length_ends_the_run_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "events").write_bytes(framed(EVENTS[:5], "u32be") + b"\xff\xff\xff\xff damaged")
    (tmp_path / "job.toml").write_text(ROWS.format(framing="u32be", record_bytes_max=RECORD_BYTES_MAX))
    command = [sys.executable, "-m", "streamcore", "run", "job.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode != 0
    place = len(framed(EVENTS[:5], "u32be"))
    assert f"error: events: the record at byte {place} is said to have 4294967295 bytes" in done.stderr


def test_saved_state_is_not_read_on_in_another_framing(tmp_path: Path) -> None:
    (tmp_path / "events").write_bytes(framed(EVENTS[:5], "varint"))
    run(tmp_path, ROWS, "varint")
    (tmp_path / "job.toml").write_text(ROWS.format(framing="u32be", record_bytes_max=RECORD_BYTES_MAX))
    command = [sys.executable, "-m", "streamcore", "run", "job.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "framing was 'varint' and is now 'u32be'" in done.stderr
