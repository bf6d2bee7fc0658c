"""Several inputs read as one: numbers of lanes, tables first, who is held back, what the checkpoint is told."""

from __future__ import annotations

import pytest

from streamcore import _core
from streamcore._core import LANES_PER_INPUT
from streamcore.config import MemorySourceConfig
from streamcore.errors import ConfigError, Error
from streamcore.memory_log import MemoryLog
from streamcore.sources import iterable
from streamcore.sources.base import Source, Start
from streamcore.sources.inputs import Input, InputsSource
from streamcore.sources.iterable import Record, RecordsSource
from streamcore.sources.memory import MemorySource

RIGHT = LANES_PER_INPUT


@pytest.fixture
def log() -> MemoryLog:
    filled = MemoryLog()
    for topic in ("left", "right"):
        filled.create(topic, partitions=2)
        for number in range(4):
            filled.append(topic, b"{}", partition=number % 2)
    return filled


def memory(log: MemoryLog, topic: str, stop: str | None = None) -> Source:
    return MemorySource(MemorySourceConfig(topic=topic), log, stop=stop)


def both(log: MemoryLog, *, table: bool = False, stop: str | None = None) -> InputsSource:
    return InputsSource(
        [
            Input("", memory(log, "left", stop), "earliest"),
            Input("right", memory(log, "right", stop), "earliest", is_table=table),
        ]
    )


def count(raw: _core.Raw | None) -> int:
    return 0 if raw is None else len(raw)


def test_lanes_of_the_second_input_have_numbers_of_their_own(log: MemoryLog) -> None:
    source = both(log)
    assert source.open(Start(positions={0: 1, RIGHT + 1: 2})) == [0, 1, RIGHT, RIGHT + 1]
    polled = source.poll(0)
    assert (count(polled.raw), polled.ended) == (1 + 2 + 2, False)
    assert source.positions() == {0: 2, 1: 2, RIGHT: 2, RIGHT + 1: 2}
    assert set(polled.caught_up) == {0, 1, RIGHT, RIGHT + 1}
    source.seek({0: 0, 1: 2, RIGHT: 2, RIGHT + 1: 1})
    assert count(source.poll(0).raw) == 3


def test_a_table_is_read_to_its_end_before_anything_else(log: MemoryLog) -> None:
    source = both(log, table=True)
    source.open(Start())
    polled = source.poll(0)
    assert set(source.positions().items()) == {(0, 0), (1, 0), (RIGHT, 2), (RIGHT + 1, 2)}
    assert count(polled.raw) == 4
    source.poll(0)
    assert count(source.poll(0).raw) + sum(source.positions()[lane] for lane in (0, 1)) >= 4
    source.seek(dict.fromkeys((0, 1, RIGHT, RIGHT + 1), 0))
    assert count(source.poll(0).raw) == 4, "after a rollback the table comes first again"


def test_lanes_are_held_back_unless_only_what_is_over_is_behind(log: MemoryLog) -> None:
    source = both(log, stop="end")
    source.open(Start())
    source.pause([0, 1])
    assert count(source.poll(0).raw) == 4
    assert source.positions()[0] == 0
    polled = source.poll(0)
    assert count(polled.raw) == 4, "the right side is over: nobody is behind"
    assert source.poll(0).ended


def test_a_table_that_is_read_is_not_held_back(log: MemoryLog) -> None:
    source = both(log, table=True)
    source.open(Start())
    source.pause([RIGHT, RIGHT + 1])
    assert count(source.poll(0).raw) == 4, "everything else waits for it: it would wait for ever"


def test_inputs_that_are_joined_lane_by_lane_have_as_many(log: MemoryLog) -> None:
    source = both(log)
    source.open(Start())
    source.check_sizes()
    log.create("wide", partitions=3)
    other = InputsSource([Input("", memory(log, "wide"), "earliest"), Input("right", memory(log, "right"), "earliest")])
    other.open(Start())
    with pytest.raises(ConfigError, match="the source has 3, right has 2 partitions"):
        other.check_sizes()


def test_an_iterable_is_held_back_as_a_whole(log: MemoryLog) -> None:
    records = RecordsSource([Record(b"{}"), Record(b"{}")])
    source = InputsSource([Input("", memory(log, "left"), "earliest"), Input("right", records, "earliest")])
    source.open(Start())
    source.pause([RIGHT])
    assert count(source.poll(0).raw) == 4
    source.pause([])
    polled = source.poll(0)
    assert count(polled.raw) == 2
    assert source.poll(0).finished == (RIGHT,), "it ended while the other goes on"


def test_it_says_which_of_them_must_not_keep_more(log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterable, "KEPT_RECORDS_MAX", 2)
    source = InputsSource(
        [Input("", RecordsSource([b"{}"] * 2), "earliest"), Input("right", memory(log, "right"), "earliest")]
    )
    source.open(Start())
    assert source.poll(0).source_is_full
    source.committed(source.positions())
    assert not source.poll(0).source_is_full


def test_the_facts_of_each_are_told_apart(log: MemoryLog) -> None:
    source = both(log)
    source.open(Start())
    assert source.describe() == {"type": "memory", "topic": "left", "right.type": "memory", "right.topic": "right"}


class Overtaken(MemorySource):
    """Retention has taken what was before position 3 of lane 1."""

    def gaps(self) -> dict[int, tuple[int, int]]:
        return {1: (2, 3)}


def test_gaps_are_by_the_numbers_of_lanes_here(log: MemoryLog) -> None:
    right = Overtaken(MemorySourceConfig(topic="right"), log, stop=None)
    source = InputsSource([Input("", memory(log, "left"), "earliest"), Input("right", right, "earliest")])
    assert source.gaps() == {RIGHT + 1: (2, 3)}


def test_a_partition_that_has_no_number_is_refused(log: MemoryLog) -> None:
    records = RecordsSource([Record(b"{}", partition=LANES_PER_INPUT)])
    source = InputsSource([Input("", memory(log, "left"), "earliest"), Input("right", records, "earliest")])
    source.open(Start())
    with pytest.raises(Error, match="where inputs are joined"):
        source.poll(0)
