from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from streamcore import stream as stream_module
from streamcore.errors import ConfigError
from streamcore.outputs import UndeliveredError
from streamcore.sinks.base import Version
from streamcore.stream import BatchStream, StreamSink
from tests.fakes import batch


def rows_of(stream: BatchStream) -> list[list[Any]]:
    """The rows of each batch to the end."""
    return [list(taken.to_rows()) for taken in stream]


def next_rows(stream: BatchStream) -> list[Any]:
    return list(next(stream).to_rows())


def nothing() -> None:
    """Nothing to raise at the end."""


def sink(*, acknowledged: bool) -> tuple[StreamSink, threading.Event]:
    stopping = threading.Event()
    return StreamSink(stopping, acknowledged=acknowledged), stopping


def write(to: StreamSink, *rows: object, epoch: int = 1, output: str = "result") -> None:
    for row in rows:
        to.write(batch(output, [row]), Version(1, epoch, 0))


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_rows_are_taken_in_order_until_the_end() -> None:
    target, _ = sink(acknowledged=False)
    stream = BatchStream(target, ["result"], at_end=nothing)
    write(target, 1, 2)
    target.close()
    assert rows_of(stream) == [[1], [2]]
    assert list(stream) == []


def test_only_outputs_that_were_asked_for_are_kept() -> None:
    target, _ = sink(acknowledged=False)
    write(target, 0)
    stream = BatchStream(target, ["late"], at_end=nothing)
    write(target, 1)
    write(target, 2, output="late")
    target.close()
    assert rows_of(stream) == [[2]]


def test_the_failure_of_the_run_comes_after_the_rows() -> None:
    def fail() -> None:
        raise RuntimeError("broken")

    target, _ = sink(acknowledged=False)
    stream = BatchStream(target, ["result"], at_end=fail)
    write(target, 1)
    target.close()
    assert next_rows(stream) == [1]
    with pytest.raises(RuntimeError, match="broken"):
        next(stream)


def test_a_commit_waits_for_the_next_to_be_asked_for() -> None:
    target, _ = sink(acknowledged=True)
    stream = BatchStream(target, ["result"], at_end=nothing)
    write(target, 1)
    next(stream)
    flushed = in_thread(target.flush)
    flushed.join(0.05)
    assert flushed.is_alive()
    asking = in_thread(lambda: rows_of(stream))
    flushed.join()
    target.close()
    asking.join()


def test_without_acknowledgement_a_commit_does_not_wait() -> None:
    target, _ = sink(acknowledged=False)
    BatchStream(target, ["result"], at_end=nothing)
    write(target, 1)
    target.flush()


def test_what_was_not_followed_up_comes_again_to_the_next_taker() -> None:
    target, _ = sink(acknowledged=True)
    first = BatchStream(target, ["result"], at_end=nothing)
    write(target, 1, 2)
    assert next_rows(first) == [1]
    first.close()
    target.close()
    assert rows_of(BatchStream(target, ["result"], at_end=nothing)) == [[1], [2]]


def test_a_stop_without_taker_gives_the_epoch_up() -> None:
    target, stopping = sink(acknowledged=True)
    stream = BatchStream(target, ["result"], at_end=nothing)
    write(target, 1)
    stream.close()
    stopping.set()
    with pytest.raises(UndeliveredError):
        target.flush()


def test_an_abandoned_iterator_does_not_hold_up_a_stop() -> None:
    target, stopping = sink(acknowledged=True)
    stream = BatchStream(target, ["result"], at_end=nothing)
    write(target, 1)
    stopping.set()
    target.abandon()
    with pytest.raises(UndeliveredError):
        target.flush()
    stream.close()


def test_a_full_queue_makes_the_writer_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "QUEUE_BATCHES_MAX", 1)
    target, _ = sink(acknowledged=False)
    stream = BatchStream(target, ["result"], at_end=nothing)
    write(target, 1)
    writing = in_thread(lambda: write(target, 2))
    writing.join(0.05)
    assert writing.is_alive()
    assert next_rows(stream) == [1]
    writing.join()
    assert next_rows(stream) == [2]


@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_rollback_drops_only_its_own_epoch(acknowledged: bool) -> None:
    target, _ = sink(acknowledged=acknowledged)
    stream = BatchStream(target, ["result"], at_end=nothing)
    write(target, 1, epoch=1)
    target.committed(1)
    write(target, 2, epoch=2)
    target.discard()
    write(target, 3, epoch=2)
    target.close()
    assert rows_of(stream) == [[1], [3]]


def test_a_taker_that_left_gets_nothing_more() -> None:
    target, _ = sink(acknowledged=True)
    stream = BatchStream(target, ["result"], at_end=nothing)
    write(target, 1)
    stream.close()
    assert stream.next_or_none() is None
    assert rows_of(_rest(target)) == [[1]]


def _rest(target: StreamSink) -> BatchStream:
    target.close()
    return BatchStream(target, ["result"], at_end=nothing)


def test_dropping_the_iterator_leaves() -> None:
    target, stopping = sink(acknowledged=True)
    stream = BatchStream(target, ["result"], at_end=nothing)
    write(target, 1)
    del stream
    stopping.set()
    with pytest.raises(UndeliveredError):
        target.flush()


def test_a_second_taker_beside_a_live_one_is_refused_and_takes_nothing() -> None:
    target, _ = sink(acknowledged=True)
    first = BatchStream(target, ["result"], at_end=nothing)
    with pytest.raises(ConfigError, match="being taken already"):
        BatchStream(target, ["late"], at_end=nothing)
    write(target, 1)
    write(target, 2, output="late")
    target.close()
    assert rows_of(first) == [[1]]
    assert rows_of(BatchStream(target, ["late"], at_end=nothing)) == []
