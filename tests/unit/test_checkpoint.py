from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from streamcore.checkpoint import Checkpoint, Header, check_fit, state_folder
from streamcore.errors import FencedError, StateError

HEADER = Header(
    pipeline="job",
    fingerprint="abc",
    generation=1_700_000_000,
    epoch=3,
    digest=2**64 - 1,
    positions={0: 10, 1: 20},
    source={"type": "kafka", "topic": "clicks"},
    files={"out": ["a.parquet"]},
    ended=True,
    ledger={0: {"read": 5}, -1: {"late_after_combine": 1}},
)
LANES = [(-1, b"combine"), (0, b"zero"), (1, b"")]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    opened = Checkpoint(tmp_path / "state" / "job")
    opened.open()
    return opened


def test_what_was_written_is_read(checkpoint: Checkpoint) -> None:
    checkpoint.write(HEADER, LANES)
    saved = checkpoint.read(pipeline="job")
    assert saved is not None
    assert (saved.header, saved.lanes) == (HEADER, LANES)


def test_there_is_none_at_first(checkpoint: Checkpoint) -> None:
    assert checkpoint.read(pipeline="job") is None


def test_nobody_else_may_read_it(checkpoint: Checkpoint) -> None:
    checkpoint.write(HEADER, LANES)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in checkpoint.folder.iterdir()}
    assert modes == {"LOCK": 0o600, "checkpoint": 0o600}
    assert stat.S_IMODE(checkpoint.folder.stat().st_mode) == 0o700


def test_the_one_before_is_kept(checkpoint: Checkpoint) -> None:
    for epoch in (3, 4, 5):
        checkpoint.write(replace(HEADER, epoch=epoch), LANES)
    checkpoint.path.unlink()
    (checkpoint.folder / "checkpoint.previous").rename(checkpoint.path)
    saved = checkpoint.read(pipeline="job")
    assert saved is not None
    assert saved.header.epoch == 4


def test_a_file_that_was_never_finished_is_ignored(checkpoint: Checkpoint) -> None:
    checkpoint.write(HEADER, LANES)
    (checkpoint.folder / "checkpoint.new").write_bytes(b"half of it")
    saved = checkpoint.read(pipeline="job")
    assert saved is not None
    assert saved.header == HEADER


def test_a_failed_write_leaves_the_last_one(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.write(HEADER, LANES)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="No space left on device; the one before it is whole"):
        checkpoint.write(replace(HEADER, epoch=4), LANES)
    saved = checkpoint.read(pipeline="job")
    assert saved is not None
    assert saved.header.epoch == 3


def test_no_second_names_on_the_file_system_is_no_obstacle(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", unsupported)
    for epoch in (3, 4):
        checkpoint.write(replace(HEADER, epoch=epoch), LANES)
    saved = checkpoint.read(pipeline="job")
    assert saved is not None
    assert saved.header.epoch == 4


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data + b"x", lambda _: b"", lambda _: b"{}"])
def test_a_damaged_file_is_refused_and_says_what_to_do(checkpoint: Checkpoint, damage: object) -> None:
    checkpoint.write(HEADER, LANES)
    checkpoint.path.write_bytes(damage(checkpoint.path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(StateError) as caught:
        checkpoint.read(pipeline="job")
    assert str(caught.value).startswith(f"{checkpoint.path} cannot be used: ")
    assert f"move {checkpoint.folder} away to start afresh" in str(caught.value)
    assert "rename" not in str(caught.value)
    assert caught.value.exit_code == 6


def test_a_damaged_file_names_the_one_before(checkpoint: Checkpoint) -> None:
    checkpoint.write(HEADER, LANES)
    checkpoint.write(HEADER, LANES)
    checkpoint.path.write_bytes(b"damaged")
    with pytest.raises(
        StateError, match=r"rename .*checkpoint\.previous to checkpoint to go on from one epoch earlier"
    ):
        checkpoint.read(pipeline="job")


def test_a_lost_file_does_not_start_the_state_afresh(checkpoint: Checkpoint) -> None:
    checkpoint.write(HEADER, LANES)
    checkpoint.write(HEADER, LANES)
    checkpoint.path.unlink()
    with pytest.raises(StateError, match=r"is gone, but checkpoint\.previous is there"):
        checkpoint.read(pipeline="job")


def test_the_state_of_another_name_is_refused(checkpoint: Checkpoint) -> None:
    checkpoint.write(HEADER, LANES)
    with pytest.raises(StateError, match="belongs to the pipeline job, not to other"):
        checkpoint.read(pipeline="other")


def test_an_unknown_header_format_is_refused(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamcore.checkpoint.HEADER_FORMAT", 2)
    checkpoint.write(HEADER, LANES)
    monkeypatch.undo()
    with pytest.raises(StateError, match="format that this version of streamcore does not know"):
        checkpoint.read(pipeline="job")


def test_one_process_at_a_time(checkpoint: Checkpoint) -> None:
    second = Checkpoint(checkpoint.folder)
    with pytest.raises(FencedError, match=rf"process {os.getpid()} on .* is running this pipeline") as caught:
        second.open()
    assert caught.value.exit_code == 7
    checkpoint.close()
    checkpoint.close()
    second.open()


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from streamcore.checkpoint import Checkpoint\n"
        "held = Checkpoint(Path(sys.argv[1])); held.open(); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(FencedError, match=f"process {holder.pid} on"):
            Checkpoint(tmp_path).open()
        holder.kill()
    Checkpoint(tmp_path).open()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot keep state here"):
        Checkpoint(tmp_path / "file" / "job").open()


def test_the_folder_is_chosen_by_setting_then_variable() -> None:
    assert state_folder("here", "job", {"STREAMCORE_STATE_DIR": "there"}) == Path("here/job")
    assert state_folder(None, "job", {"STREAMCORE_STATE_DIR": "there"}) == Path("there/job")
    assert state_folder(None, "job", {}) == Path(".streamcore/job")


SOURCE = {"type": "kafka", "topic": "clicks", "partitions": [0, 1, 2]}


def test_a_checkpoint_fits_its_pipeline_also_when_the_input_has_grown() -> None:
    check_fit(HEADER, Path("state/job"), fingerprint="abc", source=SOURCE, lanes=[0, 1, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "xyz"}, r"version of the pipeline: its source, .* \(fingerprint then abc, now xyz\)"),
        ({"source": {**SOURCE, "topic": "views"}}, "topic was 'clicks' and is now 'views'"),
        ({"lanes": [0]}, r"lanes that the input no longer has: \[1\]"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    facts = {"fingerprint": "abc", "source": SOURCE, "lanes": [0, 1, 2], **change}
    with pytest.raises(StateError, match=message):
        check_fit(HEADER, Path("state/job"), **facts)  # type: ignore[arg-type]


def test_a_full_disk_at_the_start_is_a_state_error_and_holds_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(StateError, match="No space left on device; make room"):
            Checkpoint(tmp_path).open()
    Checkpoint(tmp_path).open()


def test_a_checkpoint_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    with pytest.raises(StateError, match=r"it cannot be read: Is a directory; move .* away to start afresh"):
        Checkpoint(tmp_path).read(pipeline="job")
