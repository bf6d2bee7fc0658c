from __future__ import annotations

from collections.abc import Collection

import pytest

from streamcore.outputs import Outputs
from streamcore.sinks.base import Version
from tests.fakes import FakeDeadLetters, FakeSink, Log, batch


class FakePublisher(FakeSink):
    folder = "out"

    def recover(self, listed: Collection[str]) -> None:
        self.log.append(f"recover {sorted(listed)}")

    def pending(self) -> list[str]:
        return ["a", "b"]


def test_each_batch_goes_to_the_sinks_of_its_output() -> None:
    result, late, every = FakeSink([]), FakeSink([], output="late"), FakeSink([], output="all")
    outputs = Outputs([result, late, every], None, generation=5)
    outputs.write([batch(rows=["r"]), batch("late", ["l"]), batch("future", ["f"])], epoch=2)
    assert (result.buffered, late.buffered, every.buffered) == (["r"], ["l"], ["r", "l", "f"])


def test_versions_rise_within_an_epoch_and_begin_anew_after_it() -> None:
    sink = FakeSink([])
    outputs = Outputs([sink], None, generation=5)
    outputs.write([batch(), batch()], epoch=2)
    outputs.write([batch()], epoch=2)
    outputs.committed(2)
    outputs.write([batch()], epoch=3)
    assert sink.versions == [Version(5, 2, 0), Version(5, 2, 1), Version(5, 2, 2), Version(5, 3, 0)]
    assert sink.versions == sorted(sink.versions)


def test_empty_batches_are_left_out() -> None:
    sink = FakeSink([])
    outputs = Outputs([sink], None, generation=5)
    outputs.write([batch(rows=[]), batch(rows=[1])], epoch=1)
    assert (sink.versions, outputs.rows) == ([Version(5, 1, 0)], {"result": 1})


def test_rows_are_counted_also_without_a_sink_and_not_twice_after_a_rollback() -> None:
    outputs = Outputs([], None, generation=5)
    outputs.write([batch("late", [1, 2])], epoch=1)
    outputs.committed(1)
    outputs.write([batch("late", [3]), batch(rows=[4])], epoch=2)
    assert outputs.rows == {"late": 3, "result": 1}
    outputs.discard()
    assert outputs.rows == {"late": 2}


def test_refused_records_go_to_the_dead_letters() -> None:
    log: Log = []
    outputs = Outputs([], FakeDeadLetters(log), generation=5)
    outputs.open({})
    outputs.write([batch("rejected", [1, 2]), batch("late", [3])], epoch=1)
    outputs.flush()
    outputs.discard()
    outputs.close()
    assert log == ["letters open", "letters 2", "letters flush", "letters discard", "letters close"]


def test_dead_letters_can_be_kept_without_the_rows() -> None:
    log: Log = []
    outputs = Outputs([FakeSink(log)], FakeDeadLetters(log), generation=5)
    outputs.keep_dead_letters()
    assert (log, outputs.dead_letters_place) == (["letters kept"], "letters.jsonl")
    nowhere = Outputs([], None, generation=5)
    nowhere.keep_dead_letters()
    assert nowhere.dead_letters_place is None


def test_files_of_the_checkpoint_are_published_at_the_start_and_listed_at_the_end() -> None:
    log: Log = []
    outputs = Outputs([FakePublisher(log), FakeSink(log)], None, generation=5)
    outputs.open({"out": ["x"], "elsewhere": ["y"]})
    assert log == ["sink open", "recover ['x']", "sink open"]
    assert outputs.pending() == {"out": ["a", "b"]}


def test_every_sink_is_closed_though_one_fails() -> None:
    class Stubborn(FakeSink):
        def close(self) -> None:
            raise RuntimeError("no")

    log: Log = []
    outputs = Outputs([FakeSink(log), Stubborn(log), FakeSink(log)], FakeDeadLetters(log), generation=5)
    with pytest.raises(RuntimeError, match="no"):
        outputs.close()
    assert sorted(log) == ["letters close", "sink close", "sink close"]
