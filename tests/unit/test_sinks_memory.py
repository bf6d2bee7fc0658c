from __future__ import annotations

from streamcore.config import MemorySinkConfig
from streamcore.memory_log import MemoryLog
from streamcore.sinks.base import Version
from streamcore.sinks.memory import CollectSink, MemorySink
from tests.batches import pages

VERSION = Version(1, 1, 0)


def test_collected_batches_appear_with_their_epoch() -> None:
    sink = CollectSink()
    sink.write(pages(1), VERSION)
    sink.flush()
    assert sink.batches == []
    sink.committed(1)
    sink.write(pages(2), VERSION)
    sink.discard()
    sink.committed(2)
    assert [batch.to_rows()[0]["views"] for batch in sink.batches] == [1]


def test_rows_become_records_of_the_log() -> None:
    log = MemoryLog()
    sink = MemorySink(MemorySinkConfig(topic="out", columns=("page", "views")), log)
    sink.open()
    sink.write(pages(1, 2), VERSION)
    sink.flush()
    assert log.ends("out") == [0]
    sink.committed(1)
    assert [entry.value for entry in log.read("out", 0, 0, 10)] == [
        b'{"page":"p0","views":1}',
        b'{"page":"p1","views":2}',
    ]


def test_rolled_back_rows_never_reach_the_log() -> None:
    log = MemoryLog()
    sink = MemorySink(MemorySinkConfig(topic="out"), log)
    sink.write(pages(1), VERSION)
    sink.discard()
    sink.committed(1)
    assert log.ends("out") == [0]
