"""Every class of bad record through `streamcore run` on a real topic: where each ends, and that the next good one counts.

The records and their fates are listed once; the dead-letter topic, the results and the report are compared with the list.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kafka_tools import create_topic, produce, read_topic
from tests.servers.kafka import KafkaServer

GOOD = b'{"id":"%d","timestamp":"2026-01-01T00:00:10Z","page":"home"}'
RECORD_BYTES_MAX = 1 << 20

FATES: list[tuple[str, bytes | None, str]] = [
    ("garbage", b"\x00\x01garbage", "DECODE_SYNTAX"),
    ("two megabytes", b'{"id":"big","x":"' + b"a" * (2 << 20) + b'"}', "SIZE_LIMIT"),
    ("100,000 nested arrays", b'{"id":"deep","x":' + b"[" * 100_000, "DEPTH_LIMIT"),
    ("invalid UTF-8", b'{"id":"utf","x":"\xff\xfe"}', "DECODE_UTF8"),
    ("no timestamp", b'{"id":"none","page":"home"}', "MISSING_FIELD"),
    ("a timestamp of null", b'{"id":"null","timestamp":null,"page":"home"}', "MISSING_FIELD"),
    ("an absurd timestamp", b'{"id":"absurd","timestamp":"the day before","page":"home"}', "BAD_TIMESTAMP"),
    ("a timestamp without a zone", b'{"id":"zone","timestamp":"2026-01-01T00:00:10","page":"home"}', "BAD_TIMESTAMP"),
    ("a number for text", b'{"id":"type","timestamp":"2026-01-01T00:00:10Z","page":7}', "TYPE_MISMATCH"),
    ("no id to compare", b'{"timestamp":"2026-01-01T00:00:10Z","page":"home"}', "MISSING_FIELD"),
    ("a timestamp of year 9999", b'{"id":"far","timestamp":"9999-12-31T00:00:00Z","page":"home"}', "future"),
    ("a null value", None, "tombstone"),
    ("a null group key", b'{"id":"group","timestamp":"2026-01-01T00:00:10Z","page":null}', "applied"),
]

PIPELINE = """
name = "{name}"
commit_interval = "100ms"

[kafka]
bootstrap_servers = "{servers}"

[limits]
max_record_bytes = {record_bytes_max}

[source]
type = "kafka"
topic = "{name}-in"
event_time = "timestamp"

[source.schema]
page = "string"

[[steps]]
dedupe = "id"
within = "10m"

[[steps]]
window = "tumbling"
size = "1m"
by = ["page"]
[steps.aggregate]
views = "count()"

[[sinks]]
type = "kafka"
topic = "{name}-out"
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamcore", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=90, check=False)


def last_report(stderr: str) -> dict[str, Any]:
    lines = [json.loads(line) for line in stderr.splitlines() if line.startswith('{"report"')]
    report: dict[str, Any] = lines[-1]["report"]
    return report


def test_every_bad_record_ends_where_the_docs_say(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> None:
    create_topic(kafka_server, f"{unique}-in", max_message_bytes=str(4 << 20))
    values: list[bytes | None] = []
    for number, (_, value, _) in enumerate(FATES):
        values += [value, GOOD % number]
    produce(kafka_server, f"{unique}-in", values)
    file = tmp_path / "pipeline.toml"
    servers = kafka_server.bootstrap_servers
    file.write_text(PIPELINE.format(name=unique, servers=servers, record_bytes_max=RECORD_BYTES_MAX))

    finished = run(tmp_path, "run", str(file), "--stop", "end")

    assert finished.returncode == 0, finished.stderr
    expected = {fate: sum(1 for _, _, other in FATES if other == fate) for _, _, fate in FATES}
    outside = {"future", "tombstone", "applied"}
    rejected = sum(count for fate, count in expected.items() if fate not in outside)
    ledger = last_report(finished.stderr)["ledger"]
    assert ledger["read"] == len(values)
    assert ledger["rejected"] == rejected
    assert ledger["future"] == ledger["tombstone"] == 1
    assert ledger["applied"] == len(FATES) + 1
    parts = ("applied", "filtered", "duplicate", "late", "future", "rejected", "tombstone")
    assert ledger["read"] == sum(ledger[part] for part in parts)

    letters = read_topic(kafka_server, f"{unique}.dead-letters")
    reasons = [dict(letter.headers())["dlq.reason"].decode() for letter in letters]
    assert reasons == [fate for _, _, fate in FATES if fate not in outside]
    for letter, (what, value, _) in zip(letters, [row for row in FATES if row[2] not in outside], strict=True):
        headers = dict(letter.headers())
        if headers["dlq.reason"] == b"SIZE_LIMIT":
            # It was never held whole, so the letter holds its beginning and no digest.
            assert (letter.value(), headers["dlq.sha256"]) == ((value or b"")[: 64 << 10], None), what
            assert int(headers["dlq.truncated_len"]) == len(value or b""), what
        else:
            assert letter.value() == value, what

    rows = [json.loads(message.value()) for message in read_topic(kafka_server, f"{unique}-out")]
    assert {row["page"]: row["views"] for row in rows} == {"home": len(FATES), None: 1}


@pytest.mark.parametrize("port", [1])
def test_no_broker_is_exit_4_with_one_line(tmp_path: Path, port: int) -> None:
    file = tmp_path / "pipeline.toml"
    servers = f'127.0.0.1:{port}"\nconnect_timeout = "2s'
    file.write_text(PIPELINE.format(name="nobody", servers=servers, record_bytes_max=RECORD_BYTES_MAX))
    finished = run(tmp_path, "run", str(file))
    assert finished.returncode == 4, finished.stderr
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, finished.stderr
    assert f"127.0.0.1:{port}" in errors[0]
    assert "hint:" in finished.stderr


def test_a_wrong_file_shows_every_mistake_at_once(tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(
        """name = "wrong"
commit_interval = 5

[source]
type = "kafka"
topik = "clicks"
event_time = "timestamp"

[[steps]]
filter = "country = 'GB'"

[[steps]]
window = "tumbling"
size = "0s"
[steps.aggregate]
views = "cuont()"
"""
    )
    finished = run(tmp_path, "run", str(file))
    assert finished.returncode == 3, finished.stderr
    for place in ("2:1", "6:1", "10:1", "14:1", "16:1"):
        assert f"{place}:" in finished.stderr, f"{place} in\n{finished.stderr}"
