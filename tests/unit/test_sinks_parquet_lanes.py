"""Parquet files of an epoch that is a transaction: when they are written, named, taken over and deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from streamcore.config import ParquetSinkConfig
from streamcore.errors import SinkError, StateError
from streamcore.sinks import parquet_lanes
from streamcore.sinks.base import Home, LanePublisher, Publisher, Version
from streamcore.sinks.parquet_lanes import LaneParquetSink, finish_entries
from tests.batches import pages

NAME = "job-result-p00001-e000000000000007-o000000000000042-s0000.parquet"
ENTRY = f"{NAME}.0000000000002a"
HOME = Home(lane=1, epoch=7, offset=42, seal=42)


def opened(folder: Path, **keys: Any) -> LaneParquetSink:
    sink = LaneParquetSink(ParquetSinkConfig(path=str(folder), **keys), pipeline="job")
    sink.open()
    return sink


@pytest.fixture
def sink(tmp_path: Path) -> LaneParquetSink:
    return opened(tmp_path / "out")


def files(sink: LaneParquetSink) -> list[str]:
    return sorted(path.name for path in Path(sink.folder).iterdir())


def write(sink: LaneParquetSink, *views: int, home: Home = HOME) -> None:
    sink.write(pages(*views), Version(5, 1, 0))
    sink.flush()
    sink.write_files(home)


def test_a_file_is_listed_before_the_commit_and_named_after_it(sink: LaneParquetSink) -> None:
    assert isinstance(sink, LanePublisher)
    assert not isinstance(sink, Publisher)
    write(sink, 1, 2)
    assert (sink.listed(1), sink.listed(0), files(sink)) == ([ENTRY], [], [f".{ENTRY}.unfinished"])
    sink.publish()
    assert files(sink) == [f".{ENTRY}.unfinished"]
    sink.committed(1)
    sink.publish()
    sink.publish()
    assert (sink.listed(1), files(sink)) == ([], [NAME])
    assert pl.read_parquet(Path(sink.folder) / NAME)["views"].to_list() == [1, 2]


def test_an_epoch_without_rows_makes_no_file(sink: LaneParquetSink) -> None:
    sink.write_files(HOME)
    assert (sink.listed(1), files(sink)) == ([], [])


def test_only_the_chosen_columns_are_written(tmp_path: Path) -> None:
    sink = opened(tmp_path, columns=("views",))
    write(sink, 1)
    sink.committed(1)
    sink.publish()
    assert pl.read_parquet(tmp_path / NAME).columns == ["views"]


def test_a_long_epoch_is_cut_into_files(sink: LaneParquetSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_lanes, "FILE_ROWS_MAX", 3)
    for count in range(5):
        sink.write(pages(count, count), Version(5, 1, count))
    sink.write_files(HOME)
    numbers = [entry.split("-s")[1][:4] for entry in sink.listed(1)]
    assert numbers == ["0000", "0001", "0002"]
    rows = [pl.read_parquet(Path(sink.folder) / f".{entry}.unfinished").height for entry in sink.listed(1)]
    assert rows == [4, 4, 2]


def test_what_could_not_be_named_is_listed_again(sink: LaneParquetSink, monkeypatch: pytest.MonkeyPatch) -> None:
    write(sink, 1)
    sink.committed(1)

    def fail(_folder: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(parquet_lanes, "fsync_folder", fail)
        with pytest.raises(SinkError, match="cannot be published: Input/output error"):
            sink.publish()
        with pytest.raises(SinkError, match="cannot be synced"):
            write(sink, 2, home=Home(1, 8, 50, 43))
    assert [entry[:34] for entry in sink.listed(1)] == [ENTRY[:34], ENTRY[:33] + "8"]
    sink.committed(2)
    sink.publish()
    assert len(files(sink)) == 2
    assert sink.listed(1) == []


def test_a_rolled_back_epoch_leaves_nothing(sink: LaneParquetSink) -> None:
    write(sink, 1)
    sink.committed(1)
    write(sink, 2, home=Home(1, 8, 50, 43))
    sink.write(pages(3), Version(5, 2, 0))
    sink.discard()
    sink.write_files(Home(1, 8, 60, 44))
    assert (sink.listed(1), files(sink)) == ([ENTRY], [f".{ENTRY}.unfinished"])


def test_an_epoch_whose_end_is_not_known_is_left_to_whoever_gets_the_lane(sink: LaneParquetSink) -> None:
    write(sink, 1)
    sink.forget([0, 1])
    sink.discard()
    sink.close()
    assert files(sink) == [f".{ENTRY}.unfinished"]


@pytest.mark.parametrize(("listed", "left"), [([ENTRY], [NAME]), ([], [])])
def test_after_a_crash_the_manifest_decides(sink: LaneParquetSink, listed: list[str], left: list[str]) -> None:
    write(sink, 1)
    heir = opened(Path(sink.folder))
    heir.recover_lane(0, 9, [])
    assert files(sink) == [f".{ENTRY}.unfinished"], "it is of another lane"
    assert heir.recover_lane(1, 7, listed) == []
    heir.publish()
    assert files(sink) == left


def test_a_worker_that_was_asleep_leaves_a_file_that_another_is_about_to_commit(sink: LaneParquetSink) -> None:
    asleep = opened(Path(sink.folder))
    write(sink, 1)
    asleep.recover_lane(1, 6, [])
    asleep.publish({1: 6})
    sink.committed(1)
    sink.publish({1: 7})
    assert files(sink) == [NAME]


def test_what_a_dead_worker_left_goes_when_its_epoch_is_committed_by_another(sink: LaneParquetSink) -> None:
    write(sink, 1)
    heir = opened(Path(sink.folder))
    heir.recover_lane(1, 6, [])
    write(heir, 2, home=Home(lane=1, epoch=7, offset=42, seal=43))
    heir.committed(1)
    heir.publish({1: 7})
    assert files(sink) == [NAME]
    assert pl.read_parquet(Path(sink.folder) / NAME)["views"].to_list() == [2]


def test_a_file_that_another_worker_has_named_meanwhile_is_named(sink: LaneParquetSink) -> None:
    write(sink, 1)
    sink.committed(1)
    heir = opened(Path(sink.folder))
    heir.recover_lane(1, 7, [ENTRY])
    sink.publish()
    heir.publish()
    assert files(sink) == [NAME]
    assert heir.recover_lane(1, 7, [ENTRY]) == []


def test_a_file_that_is_gone_is_an_error(sink: LaneParquetSink) -> None:
    write(sink, 1)
    sink.committed(1)
    (Path(sink.folder) / f".{ENTRY}.unfinished").unlink()
    with pytest.raises(SinkError, match="No such file"):
        sink.publish()
    with pytest.raises(StateError, match=r"p00001.* is gone.*same folder"):
        sink.recover_lane(1, 7, [ENTRY])


def test_files_of_later_epochs_than_the_state_are_refused(sink: LaneParquetSink) -> None:
    write(sink, 1)
    sink.committed(1)
    sink.publish()
    sink.recover_lane(0, 0, [])
    sink.recover_lane(1, 7, [])
    with pytest.raises(StateError, match=r"1 file of job .* is of epoch 6"):
        sink.recover_lane(1, 6, [])
    with pytest.raises(StateError, match="state of p00001, which is not there"):
        sink.recover_lane(1, 0, [])


def test_files_of_others_are_left_alone(sink: LaneParquetSink) -> None:
    late = opened(Path(sink.folder), output="late")
    write(late, 1)
    (entry,) = late.listed(1)
    assert sink.recover_lane(1, 0, [entry]) == [entry]
    assert files(sink) == [f".{entry}.unfinished"]
    finish_entries(sink.folder, [entry, "gone.parquet.00000000000001"])
    assert files(sink) == [NAME.replace("result", "late")]


def test_what_lanes_share_has_files_without_a_partition(sink: LaneParquetSink) -> None:
    write(sink, 1, home=Home(-1, 3, 0, 1))
    (entry,) = sink.listed(-1)
    assert entry.startswith("job-result-all-e000000000000003-o")
    assert sink.recover_lane(-1, 3, [entry]) == []


def test_a_folder_that_cannot_be_looked_into_is_not_tried_again(sink: LaneParquetSink) -> None:
    Path(sink.folder).rmdir()
    with pytest.raises(SinkError, match="cannot be looked into") as failed:
        sink.recover_lane(0, 0, [])
    assert not failed.value.retriable
