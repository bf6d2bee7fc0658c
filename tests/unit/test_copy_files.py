from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from streamcore import _core
from streamcore.copy_files import (
    NO_COUNTS,
    At,
    CopyFiles,
    copies_folder,
    lane_file,
    remove_copies,
    told_copies,
)

FACTS = b'{"lane":0}'


def records(engine: _core.Pipeline) -> _core.StateRecords:
    return engine.state_records(0)


@pytest.fixture
def engine() -> _core.Pipeline:
    from tests.state_log import SPEC

    return _core.Pipeline(SPEC)


def opened(folder: Path, **more: int) -> CopyFiles:
    files = CopyFiles(folder, dict(NO_COUNTS), **more)
    files.open()
    return files


def epochs_of(files: CopyFiles, engine: _core.Pipeline, lane: int = 0) -> int | None:
    content = files.read(lane)
    assert content is not None
    return _core.StateCopy.read(FACTS, content, engine.state_records(0))[0].epoch


def append(files: CopyFiles, epoch: int, *, size: int = 10, lane: int = 0) -> None:
    files.append(lane, FACTS, [(b"D/%d/0" % epoch, b"x" * size)], At(epoch, 10 * epoch))


def test_epochs_are_appended_by_and_by_for_the_owner_alone(tmp_path: Path, engine: _core.Pipeline) -> None:
    files = opened(copies_folder(tmp_path, "host-0"))
    for epoch in (1, 2, 3):
        append(files, epoch)
    append(files, 1, lane=-1)
    assert (epochs_of(files, engine), epochs_of(files, engine, -1)) == (3, 1)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files.folder.iterdir()}
    assert modes == {"LOCK": 0o600, "lane-0": 0o600, "meeting": 0o600}
    assert stat.S_IMODE(files.folder.stat().st_mode) == 0o700
    assert files.folder == tmp_path / "cache" / "host-0" / "0"
    files.close()
    files.close()
    assert files.read(0) is None


@pytest.mark.parametrize(("worker", "name"), [("a/b", "a%2Fb"), ("..", "%2E."), (".x", "%2Ex"), ("pod-0", "pod-0")])
def test_any_name_of_a_worker_is_a_folder_of_its_own(tmp_path: Path, worker: str, name: str) -> None:
    assert copies_folder(tmp_path, worker) == tmp_path / "cache" / name / "0"


def test_no_worker_has_the_folder_of_another_or_of_another_stage(tmp_path: Path) -> None:
    workers = ["a", "combine-a", "a/1", "a%2F1", "1"]
    folders = {copies_folder(tmp_path, worker, stage) for worker in workers for stage in (0, 1)}
    assert len(folders) == 2 * len(workers)
    assert all(folder.parent.parent == tmp_path / "cache" for folder in folders)


def test_a_worker_of_the_same_name_has_no_copies(
    tmp_path: Path, engine: _core.Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    files = opened(tmp_path)
    append(files, 1)
    twin = opened(tmp_path)
    assert not twin.is_open
    assert (twin.counts["given_up"], twin.read(0)) == (1, None)
    assert "another process of this worker's name holds it" in caplog.text
    append(twin, 2)
    twin.close()
    assert epochs_of(files, engine) == 1
    files.close()
    assert opened(tmp_path).is_open


def test_an_epoch_that_does_not_follow_begins_the_copy_anew(tmp_path: Path, engine: _core.Pipeline) -> None:
    files = opened(tmp_path)
    for epoch in (1, 2, 4, 5):
        append(files, epoch)
    content = files.read(0)
    assert content is not None
    found = engine.state_records(0)
    assert _core.StateCopy.read(FACTS, content, found)[0].epoch == 5
    assert sorted(found.keys()) == [b"D/4/0", b"D/5/0"]
    assert files.counts["dropped"] == 1


def test_a_disk_that_is_too_slow_costs_the_copy_and_nothing_else(
    tmp_path: Path, engine: _core.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, gate = opened(tmp_path, waiting_max=1_000), threading.Event()
    write = os.write

    def slow(descriptor: int, content: bytes) -> int:
        gate.wait(30)
        return write(descriptor, content)

    monkeypatch.setattr("streamcore.copy_files.os.write", slow)
    append(files, 1, size=5_000)  # whatever its size, where nothing waits
    append(files, 1, lane=1, size=10)
    assert files.counts["dropped"] == 1
    append(files, 2, size=10)
    assert files.counts["dropped"] == 2
    gate.set()
    assert files.read(0) is None
    assert files.read(1) is None
    append(files, 3)
    assert epochs_of(files, engine) == 3
    assert files.is_open


def test_a_file_of_which_half_is_over_is_written_anew(tmp_path: Path, engine: _core.Pipeline) -> None:
    files, sizes = opened(tmp_path), []
    for epoch in range(1, 40):
        gone = [(b"D/%d/0" % (epoch - 1), None)] if epoch > 1 else []
        files.append(0, FACTS, [*gone, (b"D/%d/0" % epoch, b"x" * 100_000)], At(epoch, 10 * epoch))
        content = files.read(0)
        assert content is not None
        sizes.append(len(content))
        assert epochs_of(files, engine) == epoch
    assert max(sizes) < (1 << 20) + 500_000
    assert min(sizes[20:]) < 250_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LOCK", "lane-0"]


def test_a_file_that_somebody_changed_is_not_written_anew(
    tmp_path: Path, engine: _core.Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    files = opened(tmp_path)
    append(files, 1, size=2_000_000)
    assert epochs_of(files, engine) == 1
    with lane_file(tmp_path, 0).open("r+b") as file:
        file.seek(1_000)
        file.write(b"y")
    files.append(0, FACTS, [(b"D/1/0", None)], At(2, 20))
    assert files.read(0) is None
    assert files.counts["dropped"] == 1
    assert "is begun again: it is damaged" in caplog.text


@pytest.mark.parametrize(
    ("call", "number"),
    list(product(["write", "open", "fsync", "ftruncate"], [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EFBIG])),
)
def test_a_disk_that_refuses_ends_the_copies_with_one_warning(  # noqa: PLR0917 - fixtures
    tmp_path: Path,
    engine: _core.Pipeline,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    call: str,
    number: int,
) -> None:
    files = opened(tmp_path)
    append(files, 1)
    append(files, 1, lane=1)
    assert epochs_of(files, engine) == 1
    content = files.read(0)
    assert content is not None
    copy = _core.StateCopy.read(FACTS, content, engine.state_records(0))[0]

    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(f"streamcore.copy_files.os.{call}", refuse)
    files.go_on(0, copy, len(content), [], At(1, 10))
    append(files, 2)
    files.begin(0, FACTS, engine.state_records(0), 10, At(3, 30))
    append(files, 4)
    deadline = threading.Event()
    while files.is_open and not deadline.wait(0.01):
        continue
    monkeypatch.undo()
    append(files, 5)
    files.close()
    assert files.counts["given_up"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["LOCK"]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert os.strerror(number) in warnings[0]


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").write_text("a file")
    files = opened(tmp_path / "cache" / "w")
    assert (files.is_open, files.counts["given_up"]) == (False, 1)
    assert "no local copy of the state is kept" in caplog.text
    append(files, 1)
    files.close()


def test_copies_are_told_and_removed_but_not_those_of_a_worker_that_runs(tmp_path: Path) -> None:
    first, second = opened(copies_folder(tmp_path, "a")), opened(copies_folder(tmp_path, "b"))
    for lane in (0, 1):
        append(first, 1, lane=lane)
    append(second, 1)
    assert first.read(0) is not None
    assert second.read(0) is not None
    first.close()
    told = {Path(folder).parent.name: (count, size > 0) for folder, count, size in told_copies(tmp_path)}
    assert told == {"a": (2, True), "b": (1, True)}
    assert remove_copies(tmp_path) == 2
    assert [Path(folder).parent.name for folder, _, _ in told_copies(tmp_path)] == ["b"]
    assert remove_copies(tmp_path / "elsewhere") == 0
    second.close()


def test_folders_of_others_and_files_that_go_away_meanwhile_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = opened(copies_folder(tmp_path, "a"))
    for lane in (0, 1):
        append(ours, 1, lane=lane)
    assert ours.read(1) is not None
    theirs, stage_of_theirs = tmp_path / "cache" / "b", copies_folder(tmp_path, "c")
    for folder in (theirs, stage_of_theirs):
        folder.mkdir(parents=True)
    (tmp_path / "cache" / "file").write_text("of somebody")
    # A file that is listed, and gone when it is looked at.
    (ours.folder / "lane-2").symlink_to(ours.folder / "gone")
    listed = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path in (theirs, stage_of_theirs):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert [(folder, count) for folder, count, _ in told_copies(tmp_path)] == [(str(ours.folder), 2)]
    ours.close()
    assert remove_copies(tmp_path) == 3
    assert told_copies(tmp_path) == []
