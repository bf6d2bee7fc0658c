from __future__ import annotations

from pathlib import Path

import pytest

from streamcore.checkpoint import Checkpoint, Header
from streamcore.commit import Committer
from streamcore.dead_letters import ExactFileDeadLetters
from streamcore.errors import SinkError
from streamcore.outputs import Outputs
from tests.fakes import FakeEngine, FakeSink, FakeSource, Log, engine

ORIGIN = Header("job", "f" * 16, 17, epoch=0, digest=0, positions={})


class LoggedCheckpoint(Checkpoint):
    def __init__(self, folder: Path, log: Log) -> None:
        super().__init__(folder)
        self.log = log

    def write(self, header: Header, lanes: object) -> None:
        self.log.append("checkpoint")
        super().write(header, lanes)  # type: ignore[arg-type]


class Parts:
    """A committer with everything around it."""

    def __init__(self, folder: Path, *, failures: list[SinkError] | None = None, origin: Header = ORIGIN) -> None:
        self.log: Log = []
        self.engine = FakeEngine(self.log)
        self.source = FakeSource(self.log)
        self.sink = FakeSink(self.log, failures=failures or [])
        self.outputs = Outputs([self.sink], None, generation=origin.generation)
        self.checkpoint = LoggedCheckpoint(folder, self.log)
        self.checkpoint.open()
        self.committer = Committer(
            engine=engine(self.engine),
            source=self.source,
            outputs=self.outputs,
            checkpoint=self.checkpoint,
            origin=origin,
        )

    def push(self) -> None:
        polled = self.source.poll(0)
        assert polled.raw is not None
        self.outputs.write(engine(self.engine).push(polled.raw, 0), epoch=self.engine.epoch)


def test_the_steps_come_in_their_order(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.push()
    parts.log.clear()
    parts.committer.commit(ended=False)
    assert parts.log == [
        "seal",
        "write ['sealed']",
        "flush",
        "save",
        "checkpoint",
        "engine committed",
        "sink committed 1",
        "source committed {0: 1}",
    ]


def test_the_checkpoint_holds_what_the_epoch_left(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.push()
    parts.committer.commit(ended=True)
    saved = parts.checkpoint.read(pipeline="job")
    assert saved is not None
    assert saved.header == Header(
        pipeline="job",
        fingerprint="f" * 16,
        generation=17,
        epoch=1,
        digest=7,
        positions={0: 1},
        source={"type": "fake"},
        ended=True,
        ledger={0: {"applied": 1, "read": 1}},
    )
    assert saved.lanes == [(0, b"state")]


def test_the_ledger_of_the_state_grows_over_runs(tmp_path: Path) -> None:
    origin = Header("job", "f" * 16, 17, epoch=4, digest=0, positions={0: 9}, ledger={0: {"read": 9, "applied": 8}})
    parts = Parts(tmp_path, origin=origin)
    parts.push()
    parts.committer.commit(ended=False)
    assert parts.committer.header.ledger == {0: {"read": 10, "applied": 9}}
    assert parts.committer.ledger() == {0: {"read": 1, "applied": 1}}


class Overtaken(FakeSource):
    """Was to go on at 4, and retention has taken what was before 6."""

    def gaps(self) -> dict[int, tuple[int, int]]:
        return {0: (4, 6)}


def test_what_was_skipped_is_kept_once_with_the_positions_behind_it(tmp_path: Path) -> None:
    before = {0: {"offsets": 3, "spans": [[0, 2]]}, 1: {"offsets": 1, "spans": [[7, 7]]}}
    origin = Header("job", "f" * 16, 17, epoch=4, digest=0, positions={0: 4}, skipped=before)
    parts = Parts(tmp_path, origin=origin)
    committer = Committer(
        engine=engine(parts.engine),
        source=Overtaken(parts.log),
        outputs=parts.outputs,
        checkpoint=parts.checkpoint,
        origin=origin,
    )
    for _ in range(2):
        committer.commit(ended=False)
    saved = parts.checkpoint.read(pipeline="job")
    assert saved is not None
    assert saved.header.skipped == {**before, 0: {"offsets": 5, "spans": [[0, 2], [4, 5]]}}
    assert committer.skipped() == {0: 2}
    # The next run has none of its own.
    assert Parts(tmp_path / "next", origin=saved.header).committer.skipped() == {}


def test_rows_that_cannot_be_flushed_leave_no_checkpoint(tmp_path: Path) -> None:
    parts = Parts(tmp_path, failures=[SinkError("full")])
    parts.push()
    with pytest.raises(SinkError, match="full"):
        parts.committer.commit(ended=False)
    assert "checkpoint" not in parts.log
    assert parts.checkpoint.read(pipeline="job") is None


def test_a_rollback_restores_the_last_commit(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.push()
    parts.committer.commit(ended=False)
    parts.push()
    parts.push()
    parts.log.clear()
    parts.committer.rollback()
    assert parts.log == ["engine rollback", "discard", "seek {0: 1}"]
    assert (parts.engine.count, parts.source.position, parts.sink.buffered) == (1, 1, [])


def test_the_epoch_after_a_rollback_commits_the_same_rows_with_versions_no_lower(tmp_path: Path) -> None:
    parts = Parts(tmp_path, failures=[SinkError("full")])
    parts.push()
    with pytest.raises(SinkError):
        parts.committer.commit(ended=False)
    first = list(parts.sink.versions)
    parts.committer.rollback()
    parts.push()
    parts.committer.commit(ended=False)
    assert parts.sink.rows == [1, "sealed"]
    assert parts.sink.versions[len(first) :] == first


def test_where_letters_are_exact_the_first_epoch_goes_by_a_checkpoint_as_well(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.committer.start()
    assert "checkpoint" not in parts.log
    letters = ExactFileDeadLetters(tmp_path / "letters.jsonl", pipeline="job")
    outputs = Outputs([], letters, generation=17)
    outputs.open({})
    committer = Committer(
        engine=engine(parts.engine),
        source=parts.source,
        outputs=outputs,
        checkpoint=parts.checkpoint,
        origin=ORIGIN,
    )
    committer.start()
    saved = parts.checkpoint.read(pipeline="job")
    assert saved is not None
    assert (saved.header.epoch, saved.header.letters) == (0, {letters.place: 0})
    assert saved.header.positions == parts.source.positions()
    outputs.close()
