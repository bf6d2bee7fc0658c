from __future__ import annotations

import bz2
import gzip
from pathlib import Path

import pytest

from streamcore.config import FilesSourceConfig
from streamcore.errors import SourceError, StateError
from streamcore.sources import files
from streamcore.sources.base import Start
from streamcore.sources.files import FilesSource

LINE = '{"a": 1}\n'


def opened(pattern: Path, start: Start | None = None) -> FilesSource:
    source = FilesSource(FilesSourceConfig(path=str(pattern), piece_bytes=4096))
    source.open(start or Start())
    return source


def read_all(source: FilesSource) -> int:
    records = 0
    while True:
        polled = source.poll(0)
        records += 0 if polled.raw is None else len(polled.raw)
        if polled.ended:
            return records


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, lines in (("b.jsonl", 2), ("a.jsonl", 3), ("c.jsonl", 1_000)):
        (tmp_path / name).write_text(LINE * lines)
    (tmp_path / "folder.jsonl").mkdir()
    return tmp_path


def test_files_are_lanes_in_the_order_of_their_names(folder: Path) -> None:
    source = opened(folder / "*.jsonl")
    assert read_all(source) == 1_005
    assert source.positions() == {0: 3 * len(LINE), 1: 2 * len(LINE), 2: 1_000 * len(LINE)}
    described = source.describe()["files"]
    assert [Path(entry["path"]).name for entry in described] == ["a.jsonl", "b.jsonl", "c.jsonl"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("magic", "advice"),
    [
        (gzip.compress(LINE.encode()), r"compressed \(gzip\).*; .* zcat (\S+)\.gz > \1$"),
        (b"\x28\xb5\x2f\xfdrest", r"compressed \(zstd\).*; .* zstdcat "),
        (bz2.compress(LINE.encode()), r"compressed \(bzip2\)"),
        (bz2.compress(b""), r"compressed \(bzip2\)"),
        (b"\xfd7zXZ\x00", r"compressed \(xz\)"),
    ],
    ids=["gzip", "zstd", "bzip2", "empty bzip2", "xz"],
)
def test_a_compressed_file_is_refused(tmp_path: Path, magic: bytes, advice: str) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(magic)
    with pytest.raises(SourceError, match=rf"^{tmp_path}/a.jsonl.gz is {advice}"):
        opened(tmp_path / "a.jsonl.gz")


def test_polls_take_a_piece_of_a_few_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LANES_AT_ONCE", 2)
    source = opened(folder / "*.jsonl")
    counts = []
    for _ in range(3):
        raw = source.poll(0).raw
        counts.append(0 if raw is None else len(raw))
    assert counts[0] == 5
    assert 0 < counts[1] <= 4096 // len(LINE)


def test_it_goes_on_from_a_position_and_back(folder: Path) -> None:
    source = opened(folder / "a.jsonl", Start(positions={0: len(LINE)}))
    assert read_all(source) == 2
    source.seek({0: 0})
    assert read_all(source) == 3


def test_a_file_keeps_its_lane_when_others_appear(folder: Path) -> None:
    first = opened(folder / "[bc].jsonl")
    read_all(first)
    later = opened(folder / "*.jsonl", Start(positions=first.positions(), previous=first.describe()))
    assert read_all(later) == 3
    assert [Path(entry["path"]).name for entry in later.describe()["files"]] == ["b.jsonl", "c.jsonl", "a.jsonl"]  # type: ignore[attr-defined]


def test_a_file_that_has_grown_is_read_on(folder: Path) -> None:
    first = opened(folder / "a.jsonl")
    read_all(first)
    with (folder / "a.jsonl").open("a") as file:
        file.write(LINE * 4)
    later = opened(folder / "a.jsonl", Start(positions=first.positions(), previous=first.describe()))
    assert read_all(later) == 4


def test_a_file_that_was_replaced_is_refused(folder: Path) -> None:
    first = opened(folder / "a.jsonl")
    read_all(first)
    (folder / "a.jsonl").write_text('{"b": 1}\n' * 3)
    with pytest.raises(StateError, match=r"a.jsonl is not the file that was read before"):
        opened(folder / "a.jsonl", Start(positions=first.positions(), previous=first.describe()))


def test_a_file_that_is_gone_is_named(folder: Path) -> None:
    first = opened(folder / "a.jsonl")
    (folder / "a.jsonl").unlink()
    with pytest.raises(SourceError, match=r"a.jsonl: cannot be opened"):
        opened(folder / "*.jsonl", Start(positions=first.positions(), previous=first.describe()))


def test_no_file_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file matches"):
        opened(tmp_path / "*.jsonl")


def test_held_lanes_are_not_read(folder: Path) -> None:
    source = opened(folder / "[ac].jsonl")
    source.pause([1])
    source.poll(0)
    assert source.positions() == {0: 3 * len(LINE), 1: 0}


def test_lanes_are_held_only_while_an_unfinished_one_is_behind(folder: Path) -> None:
    source = opened(folder / "[ac].jsonl")
    source.pause([1])
    source.poll(0)
    assert source.poll(0).caught_up == (0,)
    assert read_all(source) == 1_000  # nobody calls again for a file that ended


def test_a_closed_source_is_closed(folder: Path) -> None:
    source = opened(folder / "a.jsonl")
    source.close()
    source.close()
    assert source.positions() == {}
