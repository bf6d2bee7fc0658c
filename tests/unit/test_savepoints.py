"""Where savepoints are written; what is in them is held by tests/integration."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from streamcore.errors import StateError
from streamcore.savepoints import WRITTEN, new_folder


def test_a_folder_has_its_name_when_all_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "saved"
    with new_folder(folder) as made:
        (made / WRITTEN).mkdir()
        (made / WRITTEN / "file").write_text("x")
        assert not folder.exists()
    assert (folder / "file").read_text() == "x"
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "no room"), StateError("no room"), KeyboardInterrupt()])
def test_of_a_savepoint_that_fails_nothing_is_left(tmp_path: Path, error: BaseException) -> None:
    def fail() -> None:
        with new_folder(tmp_path / "saved") as made:
            (made / WRITTEN).mkdir()
            (made / WRITTEN / "file").write_text("x")
            raise error

    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else StateError):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["there", "."])
def test_a_folder_that_is_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StateError, match="the savepoint cannot be written: File exists"), new_folder(Path(name)):
        pass
