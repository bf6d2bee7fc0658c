"""Dead letters in a file, and the breaker."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamcore import _core
from streamcore.config import DeadLettersConfig, PipelineConfig
from streamcore.dead_letters import KEPT_MAX, ErrorRate, ExactFileDeadLetters, FileDeadLetters, open_dead_letters
from streamcore.errors import ConfigError, ErrorRateError, SinkError, StateError
from streamcore.outputs import ExactDeadLetters, Outputs

SPEC = {"source": {"format": "json", "out_of_orderness_ms": 0}, "steps": []}


def rejected(*values: bytes, key: bytes | None = b"k") -> _core.Batch:
    engine = _core.Pipeline(json.dumps(SPEC).encode())
    engine.assign([3])
    headers = [("h", b"text"), ("h", b"\xff"), ("n", None)]
    records = [(value, key, headers, 1_000 + offset, offset) for offset, value in enumerate(values)]
    (batch,) = (batch for batch in engine.push(_core.Raw.from_records(3, "clicks", records), 10**12) if len(batch))
    return batch


@pytest.fixture
def letters(tmp_path: Path) -> Iterator[FileDeadLetters]:
    file = FileDeadLetters(tmp_path / "made" / "letters.jsonl", pipeline="pages")
    file.open()
    yield file
    file.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_says_what_why_and_where(letters: FileDeadLetters, tmp_path: Path) -> None:
    path = tmp_path / "made" / "letters.jsonl"
    letters.write(rejected(b"{nope", b"\xff\xfe"))
    assert path.read_bytes() == b""  # nothing before the flush
    letters.flush()
    text, binary = lines(path)
    assert (text["reason"], text["topic"], text["partition"], text["offset"]) == ("DECODE_SYNTAX", "clicks", 3, 0)
    assert (text["timestamp"], text["pipeline"], text["index"]) == (1_000, "pages", 0)
    assert (text["key"], text["value"]) == ("k", "{nope")
    assert text["headers"] == [
        {"name": "h", "value": "text"},
        {"name": "h", "base64": "/w=="},
        {"name": "n", "value": None},
    ]
    assert base64.b64decode(binary["value_base64"]) == b"\xff\xfe"
    assert "value" not in binary


def test_only_the_owner_may_read_it(letters: FileDeadLetters, tmp_path: Path) -> None:
    letters.flush()
    assert stat.S_IMODE((tmp_path / "made" / "letters.jsonl").stat().st_mode) == 0o600


def test_discarded_letters_are_not_written(letters: FileDeadLetters, tmp_path: Path) -> None:
    letters.write(rejected(b"{first"))
    letters.discard()
    letters.write(rejected(b"{second"))
    letters.flush()
    assert [line["value"] for line in lines(tmp_path / "made" / "letters.jsonl")] == ["{second"]


def test_of_a_run_that_breaks_off_the_first_letters_are_kept(letters: FileDeadLetters, tmp_path: Path) -> None:
    letters.write(rejected(*(b"{%d" % number for number in range(KEPT_MAX + 5))))
    letters.keep_some()
    letters.flush()
    kept = [line["value"] for line in lines(tmp_path / "made" / "letters.jsonl")]
    assert kept == [f"{{{number}" for number in range(KEPT_MAX)]
    assert letters.place == str(tmp_path / "made" / "letters.jsonl")


def test_a_line_cut_by_a_crash_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "letters.jsonl"
    path.write_bytes(b'{"reason":"DECODE')
    letters = FileDeadLetters(path, pipeline="pages")
    letters.open()
    letters.write(rejected(b"{bad"))
    letters.flush()
    letters.close()
    cut, whole = path.read_bytes().splitlines()
    assert cut == b'{"reason":"DECODE'
    assert json.loads(whole)["value"] == "{bad"


def test_a_failed_write_leaves_no_half_line(
    letters: FileDeadLetters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_write = os.write

    def full_disk(descriptor: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return real_write(descriptor, data[: len(data) - 10])

    def full_disk_too(*_: int) -> None:
        raise OSError(5, "Input/output error")

    letters.write(rejected(b"{bad"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full_disk)
        with pytest.raises(SinkError, match="No space left on device"):
            letters.flush()
    assert (tmp_path / "made" / "letters.jsonl").read_bytes() == b""
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full_disk)
        patch.setattr(os, "ftruncate", full_disk_too)
        with pytest.raises(
            SinkError, match=r"half a line that cannot be cut off: Input/output error; cut it at byte 0"
        ) as raised:
            letters.flush()
        assert not raised.value.retriable
    os.truncate(tmp_path / "made" / "letters.jsonl", 0)
    letters.flush()
    assert [line["value"] for line in lines(tmp_path / "made" / "letters.jsonl")] == ["{bad"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SinkError, match="cannot be written"):
        FileDeadLetters(tmp_path / "link", pipeline="pages").open()
    assert not (tmp_path / "elsewhere").exists()


def test_what_came_after_the_checkpoint_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "letters.jsonl"
    letters = ExactFileDeadLetters(path, pipeline="pages")
    assert isinstance(letters, ExactDeadLetters)
    assert not isinstance(FileDeadLetters(path, pipeline="pages"), ExactDeadLetters)
    letters.open()
    letters.write(rejected(b"a"))
    letters.flush()
    before, length = path.read_bytes(), letters.durable_bytes()
    letters.write(rejected(b"b"))
    letters.flush()
    letters.close()
    with path.open("ab") as file:
        file.write(b'{"half')
    outputs = Outputs([], letters, generation=1)
    outputs.open({}, {str(tmp_path / "other"): 0})
    assert path.stat().st_size > length
    outputs.open({}, outputs.letter_bytes() | {str(path): length})
    assert (path.read_bytes(), outputs.letter_bytes()) == (before, {str(path): length})
    letters.cut_back(length + 100)
    assert path.read_bytes() == before
    outputs.close()


def test_letters_of_another_pipeline_are_not_cut_off(tmp_path: Path) -> None:
    for name in ("pages", "clicks"):
        letters = ExactFileDeadLetters(tmp_path / "letters.jsonl", pipeline=name)
        letters.open()
        letters.write(rejected(b"a"))
        letters.flush()
        letters.close()
    pages = ExactFileDeadLetters(tmp_path / "letters.jsonl", pipeline="pages")
    pages.open()
    with pytest.raises(StateError, match="letters of clicks behind those of pages"):
        pages.cut_back(0)
    pages.close()


def test_a_topic_needs_a_name() -> None:
    config = PipelineConfig.model_validate({"source": {"type": "generate"}})
    with pytest.raises(ConfigError, match="give it one, or give the pipeline a name"):
        open_dead_letters(config, DeadLettersConfig())


def test_the_breaker_stays_closed_below_its_window() -> None:
    rate = ErrorRate(0.5, 100)
    rate.count(99, 99)


def test_the_breaker_opens_above_its_share_of_a_window() -> None:
    rate = ErrorRate(0.5, 100)
    rate.count(50, 50)
    rate.count(50, 0)  # exactly half
    with pytest.raises(ErrorRateError, match="DLQ_STORM: 51 of the last 101 records") as error:
        rate.count(1, 1)
    assert error.value.exit_code == 5


def test_the_breaker_forgets_what_lies_before_its_window() -> None:
    rate = ErrorRate(0.5, 100)
    rate.count(50, 50)
    rate.count(50, 0)
    for _ in range(20):
        rate.count(10, 0)
    rate.count(60, 50)  # 50 of the last 100
    assert len(rate._counts) <= 6
    with pytest.raises(ErrorRateError):
        rate.count(40, 40)


def test_one_push_may_be_larger_than_the_window() -> None:
    rate = ErrorRate(0.5, 100)
    rate.count(10_000, 5_000)
    with pytest.raises(ErrorRateError):
        rate.count(10_000, 5_001)
