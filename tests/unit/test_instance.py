"""Names of workers: given, or leased from the machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamcore.errors import StateError
from streamcore.instance import lease_instance


def test_no_two_workers_have_a_leased_name_and_one_that_is_free_is_given_again(tmp_path: Path) -> None:
    first, second = lease_instance(tmp_path / "p", None), lease_instance(tmp_path / "p", None)
    assert first.name != second.name
    first.close()
    first.close()
    third = lease_instance(tmp_path / "p", None)
    assert third.name == first.name
    second.close()
    third.close()


def test_a_name_that_is_given_is_the_name(tmp_path: Path) -> None:
    assert lease_instance(tmp_path, "pod-3").name == "pod-3"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="set instance_id"):
        lease_instance(tmp_path / "file", None)
