from __future__ import annotations

import pytest

from streamcore.config import MemorySourceConfig
from streamcore.errors import ConfigError
from streamcore.memory_log import MemoryLog
from streamcore.sources import memory
from streamcore.sources.base import Start
from streamcore.sources.memory import MemorySource

CONFIG = MemorySourceConfig(topic="t")


@pytest.fixture
def log() -> MemoryLog:
    filled = MemoryLog()
    filled.create("t", partitions=2)
    for number in range(5):
        filled.append("t", b"{}", partition=number % 2)
    return filled


def test_everything_is_read_and_then_what_comes(log: MemoryLog) -> None:
    source = MemorySource(CONFIG, log, stop=None)
    assert source.open(Start()) == [0, 1]
    polled = source.poll(0)
    assert polled.raw is not None
    assert (len(polled.raw), polled.caught_up, polled.ended) == (5, (0, 1), False)
    assert source.positions() == {0: 3, 1: 2}
    assert source.poll(0).raw is None
    log.append("t", b"{}", partition=1)
    polled = source.poll(0)
    assert polled.raw is not None
    assert (len(polled.raw), source.positions()) == (1, {0: 3, 1: 3})


def test_a_bounded_read_ends_where_the_log_ended(log: MemoryLog) -> None:
    source = MemorySource(CONFIG, log, stop="end")
    source.open(Start())
    log.append("t", b"{}", partition=0)
    polled = source.poll(0)
    assert polled.raw is not None
    assert (source.bounded, len(polled.raw), polled.ended) == (True, 5, True)


def test_an_empty_topic_ends_at_once() -> None:
    source = MemorySource(CONFIG, MemoryLog(), stop="end")
    assert source.open(Start()) == [0]
    assert source.poll(0).ended


def test_it_begins_at_the_checkpoint_or_at_the_default(log: MemoryLog) -> None:
    source = MemorySource(CONFIG, log, stop=None)
    source.open(Start(positions={0: 1}, default="latest"))
    assert source.positions() == {0: 1, 1: 2}
    with pytest.raises(ConfigError, match="the in-process log starts at"):
        source.open(Start(default="-2h"))


def test_it_goes_back(log: MemoryLog) -> None:
    source = MemorySource(CONFIG, log, stop=None)
    source.open(Start())
    source.poll(0)
    source.seek({0: 0, 1: 1})
    polled = source.poll(0)
    assert polled.raw is not None
    assert len(polled.raw) == 4


def test_held_lanes_are_not_read(log: MemoryLog) -> None:
    source = MemorySource(CONFIG, log, stop="end")
    source.open(Start())
    source.pause([0])
    polled = source.poll(0)
    assert (source.positions(), polled.caught_up, polled.ended) == ({0: 0, 1: 2}, (1,), False)
    source.pause([])
    assert source.poll(0).ended


def test_polls_are_bounded(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "POLL_RECORDS_MAX", 2)
    source = MemorySource(CONFIG, log, stop="end")
    source.open(Start())
    polled = source.poll(0)
    assert (source.positions(), polled.caught_up, polled.ended) == ({0: 2, 1: 2}, (1,), False)
    assert source.describe() == {"type": "memory", "topic": "t"}
    source.committed(source.positions())
    source.close()


def test_a_poll_ends_where_its_values_have_enough_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "POLL_BYTES_MAX", 10)
    log = MemoryLog()
    for size in (4, 4, 4, 30, 0, 0):
        log.append("t", b"x" * size)
    source = MemorySource(CONFIG, log, stop="end")
    source.open(Start())
    sizes = []
    while not (polled := source.poll(0)).ended:
        assert polled.raw is not None
        sizes.append((len(polled.raw), polled.raw.byte_len))
    assert sizes == [(3, 12), (1, 30)]
    assert polled.raw is not None
    assert len(polled.raw) == 2


def test_of_a_value_over_the_limit_only_the_beginning_is_taken() -> None:
    log = MemoryLog()
    for value in (b"1234", b"12345" * 1_000_000, None):
        log.append("t", value)
    source = MemorySource(CONFIG, log, stop="end", record_bytes_max=4)
    source.open(Start())
    raw = source.poll(0).raw
    assert raw is not None
    assert (len(raw), raw.byte_len) == (3, 8)
