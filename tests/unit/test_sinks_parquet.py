from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

import streamcore as sc
from streamcore import epoch_size
from streamcore.config import ParquetSinkConfig
from streamcore.errors import SinkError, StateError
from streamcore.outputs import Outputs
from streamcore.sinks import parquet
from streamcore.sinks.base import Publisher, Version
from streamcore.sinks.parquet import ParquetSink
from tests.batches import pages

NAME = "job-result-g0000000005-e000000000000001-s0000000000.parquet"


@pytest.fixture
def sink(tmp_path: Path) -> ParquetSink:
    return opened_sink(tmp_path / "out", "job")


def opened_sink(folder: Path, pipeline: str | None) -> ParquetSink:
    opened = ParquetSink(ParquetSinkConfig(path=str(folder)), pipeline=pipeline)
    opened.open()
    return opened


def files(sink: ParquetSink) -> list[str]:
    return sorted(path.name for path in Path(sink.folder).iterdir())


def test_a_file_appears_with_the_commit(sink: ParquetSink) -> None:
    assert isinstance(sink, Publisher)
    sink.write(pages(1), Version(5, 1, 0))
    sink.write(pages(2, 3), Version(5, 1, 1))
    assert sink.pending() == []
    sink.flush()
    assert (sink.pending(), files(sink)) == ([NAME], [f".{NAME}.unfinished"])
    sink.committed(1)
    assert (sink.pending(), files(sink)) == ([], [NAME])
    assert pl.read_parquet(Path(sink.folder) / NAME)["views"].to_list() == [1, 2, 3]


def test_only_the_chosen_columns_are_written(tmp_path: Path) -> None:
    sink = ParquetSink(ParquetSinkConfig(path=str(tmp_path), columns=("views",)), pipeline="job")
    sink.write(pages(1), Version(5, 1, 0))
    sink.flush()
    sink.committed(1)
    assert pl.read_parquet(tmp_path / NAME).columns == ["views"]


def test_an_epoch_without_rows_makes_no_file(sink: ParquetSink) -> None:
    sink.flush()
    sink.committed(1)
    assert files(sink) == []


def test_a_long_epoch_is_cut_into_files(sink: ParquetSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "FILE_ROWS_MAX", 2)
    for sequence in range(3):
        sink.write(pages(1, 2), Version(5, 1, sequence))
    sink.flush()
    assert len(sink.pending()) == 3
    sink.committed(1)
    assert pl.read_parquet(sink.folder).height == 6


def test_a_rolled_back_epoch_leaves_nothing(sink: ParquetSink) -> None:
    sink.write(pages(1), Version(5, 1, 0))
    sink.flush()
    sink.write(pages(2), Version(5, 1, 1))
    sink.discard()
    assert (sink.pending(), files(sink)) == ([], [])
    sink.flush()
    assert files(sink) == []


@pytest.mark.parametrize(("listed", "left"), [([NAME], [NAME]), ([], [])])
def test_after_a_crash_the_checkpoint_decides(sink: ParquetSink, listed: list[str], left: list[str]) -> None:
    sink.write(pages(1), Version(5, 1, 0))
    sink.flush()
    after = opened_sink(Path(sink.folder), "job")
    after.recover(listed)
    assert files(after) == left


def test_unfinished_files_of_another_output_are_not_touched(sink: ParquetSink) -> None:
    other = Path(sink.folder) / f".{NAME.replace('result', 'late')}.unfinished"
    other.write_bytes(b"")
    sink.recover([])
    assert files(sink) == [other.name]


@pytest.mark.parametrize("other", ["job-result-g1", "jo", "job.result", "JOB", None])
def test_pipelines_that_share_a_folder_and_a_second_leave_each_other_alone(
    sink: ParquetSink, other: str | None
) -> None:
    beside = opened_sink(Path(sink.folder), other)
    for number, one in enumerate([sink, beside]):
        one.write(pages(number), Version(5, 1, 0))
        one.flush()
    opened_sink(Path(sink.folder), "job").recover(sink.pending())
    opened_sink(Path(sink.folder), None).recover([])
    beside.committed(1)
    assert sorted(pl.read_parquet(sink.folder)["views"].to_list()) == [0, 1]


def test_runs_without_a_name_do_not_share_files(tmp_path: Path) -> None:
    for number in range(2):
        run = opened_sink(tmp_path, None)
        run.write(pages(number), Version(5, 1, 0))
        run.flush()
        run.committed(1)
    assert sorted(pl.read_parquet(tmp_path)["views"].to_list()) == [0, 1]


@pytest.mark.parametrize(("pipeline", "left"), [("job", 1), (None, 0)])
def test_what_no_later_start_will_find_is_deleted_at_the_end(tmp_path: Path, pipeline: str | None, left: int) -> None:
    run = opened_sink(tmp_path, pipeline)
    run.write(pages(1), Version(5, 1, 0))
    run.flush()
    run.close()
    assert len(files(run)) == left


def test_a_name_from_elsewhere_stays_inside_the_folder(tmp_path: Path) -> None:
    run = opened_sink(tmp_path / "out", "../a b")
    run.write(pages(1), Version(5, 1, 0))
    run.flush()
    run.committed(1)
    assert files(run) == [NAME.replace("job", "a_b")]


def test_a_listed_file_that_is_gone_is_an_error(sink: ParquetSink) -> None:
    with pytest.raises(StateError, match=f"{NAME} is gone, and the checkpoint says") as caught:
        sink.recover([NAME])
    assert caught.value.exit_code == 6


def test_published_files_stay_when_the_checkpoint_lists_them_again(sink: ParquetSink) -> None:
    sink.write(pages(1), Version(5, 1, 0))
    sink.flush()
    sink.committed(1)
    sink.recover([NAME])
    assert files(sink) == [NAME]


def test_a_folder_whose_sink_was_taken_away_is_finished(sink: ParquetSink) -> None:
    sink.write(pages(1), Version(5, 1, 0))
    sink.flush()
    Outputs([], None, generation=5).open({sink.folder: [NAME, "gone.parquet"], f"{sink.folder}/none": ["x.parquet"]})
    assert files(sink) == [NAME]


def test_a_folder_that_cannot_be_made_is_not_tried_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sink = ParquetSink(ParquetSinkConfig(path=str(tmp_path / "file" / "out")))
    with pytest.raises(SinkError, match="cannot be made") as caught:
        sink.open()
    assert not caught.value.retriable


def test_a_failed_write_can_be_retried(sink: ParquetSink, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    sink.write(pages(1), Version(5, 1, 0))
    with pytest.raises(SinkError, match="No space left") as caught:
        sink.flush()
    assert caught.value.retriable
    sink.discard()
    monkeypatch.undo()
    sink.write(pages(4), Version(5, 1, 0))
    sink.flush()
    sink.committed(1)
    assert pl.read_parquet(sink.folder)["views"].to_list() == [4]


def test_a_full_disk_under_polars_is_a_sink_error(sink: ParquetSink, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise pl.exceptions.ComputeError("No space left on device (os error 28)\nhint: of polars")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    sink.write(pages(1), Version(5, 1, 0))
    with pytest.raises(
        SinkError, match=r"cannot be written: No space left on device \(os error 28\); make room"
    ) as caught:
        sink.flush()
    assert caught.value.retriable
    assert "\n" not in str(caught.value)
    assert files(sink) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_device_that_is_full_is_a_sink_error(sink: ParquetSink) -> None:
    (Path(sink.folder) / f".{NAME}.unfinished").symlink_to("/dev/full")
    sink.write(pages(*range(1_000)), Version(5, 1, 0))
    with pytest.raises(SinkError, match=r"No space left on device.*; make room") as caught:
        sink.flush()
    assert "\n" not in str(caught.value)


def test_early_rows_stay_and_the_highest_revision_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch_size, "EPOCH_RECORDS_MAX", 1)
    records = ({"page": "home", "at": second, "ms": 2} for second in range(5))
    pages = sc.records(records, event_time="at", event_time_unit="s", schema={"page": "string", "ms": "int64"})
    by_minute = pages.window(sc.tumbling("1m"), by="page", emit="updates").agg(n=sc.count(), total="sum(ms)")
    by_minute.sink_parquet(tmp_path).run()
    rows = pl.read_parquet(tmp_path)
    newest = rows.group_by("page", "window_start").agg(pl.all().sort_by("revision").last())
    assert newest.select("n", "total", "is_final").rows() == [(5, 10, True)]
    assert rows["n"].sum() > 5
