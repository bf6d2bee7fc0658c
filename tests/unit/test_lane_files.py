"""Which lane's manifest lists the files of an epoch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamcore.config import ParquetSinkConfig
from streamcore.errors import FilesAheadError, SinkError
from streamcore.lane_files import LaneFiles
from streamcore.sinks.base import Version
from streamcore.sinks.parquet_lanes import LaneParquetSink
from tests.batches import pages
from tests.fakes import FakeSink


def opened(folder: Path, output: str = "result") -> LaneParquetSink:
    sink = LaneParquetSink(ParquetSinkConfig.model_validate({"path": str(folder), "output": output}), pipeline="job")
    sink.open()
    return sink


def shown(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def manifest(epoch: int, files: dict[str, list[str]]) -> bytes:
    return json.dumps({"epoch": epoch, "facts": {"files": files}}).encode()


def test_one_lane_lists_the_files_of_all_sinks(tmp_path: Path) -> None:
    sinks = [opened(tmp_path / "a"), opened(tmp_path / "b", "late")]
    files = LaneFiles([FakeSink([]), *sinks])
    for sink in sinks:
        sink.write(pages(1), Version(1, 1, 0))
    lanes = [{"lane": -1, "epoch": 5}, {"lane": 2, "epoch": 3}, {"lane": 1, "epoch": 4}]
    listed = files.write(lanes, {1: 10, 2: 20}, seal=9)
    name = "p00001-e000000000000004-o000000000000010-s0000.parquet"
    entries = {
        str(tmp_path / "a"): [f"job-result-{name}.00000000000009"],
        str(tmp_path / "b"): [f"job-late-{name}.00000000000009"],
    }
    assert listed == {-1: {}, 1: entries, 2: {}}
    for sink in sinks:
        sink.committed(1)
    files.publish()
    assert (shown(tmp_path / "a"), shown(tmp_path / "b")) == ([f"job-result-{name}"], [f"job-late-{name}"])


def test_files_go_by_what_all_lanes_share_where_nothing_else_is_committed(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    sink.write(pages(1), Version(1, 1, 0))
    listed = LaneFiles([sink]).write([{"lane": -1, "epoch": 5}], {0: 7}, seal=1)
    assert [entry[:37] for entry in listed[-1][str(tmp_path)]] == ["job-result-all-e000000000000005-o0000"]


def test_a_lane_is_recovered_with_the_files_of_sinks_that_are_gone(tmp_path: Path) -> None:
    before = [opened(tmp_path), opened(tmp_path, "late"), opened(tmp_path / "more")]
    for sink in before:
        sink.write(pages(1), Version(1, 1, 0))
    listed = LaneFiles(before).write([{"lane": 0, "epoch": 1}], {0: 7}, seal=1)[0]
    assert len(listed[str(tmp_path)]) == 2
    after = LaneFiles([opened(tmp_path)])
    after.recover(0, manifest(1, listed))
    after.publish()
    assert [len([name for name in shown(path) if name[0] != "."]) for path in (tmp_path, tmp_path / "more")] == [3, 1]


def test_a_lane_without_a_manifest_has_no_files(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    sink.write(pages(1), Version(1, 1, 0))
    LaneFiles([sink]).write([{"lane": 0, "epoch": 1}], {0: 7}, seal=1)
    files = LaneFiles([opened(tmp_path)])
    files.recover(0, None)
    files.publish([{"lane": 0, "epoch": 0}])
    assert len(shown(tmp_path)) == 1, "whoever has written it may be about to commit it"
    files.publish([{"lane": 0, "epoch": 1}])
    assert shown(tmp_path) == []
    files.forget([0])


def test_state_that_is_older_than_files_is_read_once_more_and_then_refused(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    sink.write(pages(1), Version(1, 1, 0))
    files = LaneFiles([sink])
    files.write([{"lane": 0, "epoch": 3}], {0: 7}, seal=1)
    sink.committed(1)
    files.publish()
    for epoch in (1, 2):
        with pytest.raises(SinkError, match=r"came after the state .* is read once more") as raised:
            files.recover(0, manifest(epoch, {}))
        assert raised.value.retriable
    with pytest.raises(FilesAheadError, match="came after the state"):
        files.recover(0, manifest(2, {}))
    files.recover(0, manifest(3, {}))


def test_files_wait_until_they_have_names(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    sink.write(pages(1), Version(1, 1, 0))
    files = LaneFiles([sink])
    files.write([{"lane": 0, "epoch": 3}], {0: 7}, seal=1)
    waits = [files.waits]
    sink.committed(1)
    waits.append(files.waits)
    files.publish()
    assert [*waits, files.waits] == [False, True, False]
