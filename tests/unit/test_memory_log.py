from __future__ import annotations

import threading

import pytest

from streamcore import memory_log
from streamcore.errors import Error
from streamcore.memory_log import MemoryLog


def test_records_get_rising_offsets() -> None:
    log = MemoryLog()
    assert [log.append("t", b"a"), log.append("t", b"b", timestamp_ms=5)] == [(0, 0), (0, 1)]
    assert [(entry.value, entry.timestamp_ms, entry.offset) for entry in log.read("t", 0, 0, 10)] == [
        (b"a", None, 0),
        (b"b", 5, 1),
    ]
    assert log.read("t", 0, 1, 10) == log.read("t", 0, 0, 10)[1:]
    assert log.read("t", 0, 0, 1) == log.read("t", 0, 0, 10)[:1]
    assert log.read("t", 0, 2, 10) == []


def test_equal_keys_share_a_partition() -> None:
    log = MemoryLog()
    log.create("t", partitions=4)
    places = {log.append("t", b"", key=f"k{number % 20}".encode())[0] for number in range(100)}
    assert places == {0, 1, 2, 3}
    assert len({log.append("t", b"", key=b"one")[0] for _ in range(10)}) == 1


def test_a_partition_can_be_chosen() -> None:
    log = MemoryLog()
    log.create("t", partitions=2)
    assert log.append("t", b"", partition=1) == (1, 0)
    assert log.ends("t") == [0, 1]
    with pytest.raises(Error, match="has 2 partitions; there is no 2"):
        log.append("t", b"", partition=2)


def test_topics_are_made_once_and_can_be_deleted() -> None:
    log = MemoryLog()
    log.create("t", partitions=2)
    with pytest.raises(Error, match="exists already"):
        log.create("t")
    log.delete("t")
    log.delete("t")
    log.create("t")
    assert log.partitions("t") == 1
    with pytest.raises(Error, match="at least one partition"):
        log.create("u", partitions=0)


def test_a_full_topic_refuses_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_log, "RECORDS_MAX", 2)
    log = MemoryLog()
    log.append("t", b"")
    log.append("t", b"")
    with pytest.raises(Error, match="is full"):
        log.append("t", b"")


def test_a_waiting_reader_wakes_when_something_comes() -> None:
    log = MemoryLog()
    log.append("t", b"")
    writer = threading.Thread(target=log.append, args=("t", b"x"))
    writer.start()
    log.wait("t", [1], timeout_s=60)
    writer.join()
    assert log.ends("t") == [2]


def test_a_waiting_reader_does_not_miss_what_came_before() -> None:
    log = MemoryLog()
    log.append("t", b"")
    log.wait("t", [0], timeout_s=60)
