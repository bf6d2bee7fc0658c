"""What the runner does when the state is at a bound, and when it is asked how it is doing."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from streamcore import _core
from streamcore.checkpoint import Checkpoint
from streamcore.errors import StateFullError
from streamcore.sources.base import Polled
from tests.unit.test_runner import Parts


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(tmp_path)


@pytest.mark.parametrize("full_at", [0, 1, 7, 8, 19])
def test_all_that_fits_the_state_is_committed_before_the_run_ends(checkpoint: Checkpoint, full_at: int) -> None:
    parts = Parts(total=20, interval_ms=1_000_000, checkpoint=checkpoint)
    parts.engine.full_at = full_at
    with pytest.raises(
        StateFullError, match=r"would hold more\nnothing of the poll that does not fit \(1 record\)"
    ) as caught:
        parts.runner.run()
    assert caught.value.exit_code == 6
    assert parts.committer.positions == {0: full_at}
    saved = checkpoint.read(pipeline="")
    assert (saved.header.positions if saved else {0: 0}) == {0: full_at}
    assert [row for row in parts.sink.rows if row != "sealed"] == list(range(1, full_at + 1))
    # Halves of halves, not record by record.
    assert parts.log.count("engine rollback") <= 6


def test_polls_that_are_no_halves_are_taken_apart(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts(total=6, interval_ms=1_000_000, checkpoint=checkpoint)
    parts.engine.full_at = 5
    source, sizes = parts.source, {0: 2, 2: 4}

    def poll(_timeout_s: float) -> Polled:
        size = sizes[source.position]
        records = [(b"{}", None, None, 0, source.position + number) for number in range(size)]
        source.position += size
        return Polled(_core.Raw.from_records(0, "topic", records))

    monkeypatch.setattr(source, "poll", poll)
    with pytest.raises(
        StateFullError,
        match=r"\(4 records\) is committed, all before it is \(epoch 1\); the next start goes on with it",
    ):
        parts.runner.run()
    assert parts.committer.positions == {0: 2}


def test_an_epoch_that_fits_after_all_is_no_error(checkpoint: Checkpoint) -> None:
    parts = Parts(total=20, interval_ms=1_000_000, checkpoint=checkpoint)
    parts.engine.full_at = 7
    undo = parts.engine.rollback

    def make_room() -> None:
        undo()
        parts.engine.full_at = None

    parts.engine.rollback = make_room  # type: ignore[method-assign]
    assert parts.runner.run().state == "ended"
    assert parts.committer.positions == {0: 20}
    # What came again was cut in halves once, the rest not.
    assert parts.log.count("engine committed") <= 4


def test_a_run_that_keeps_nothing_ends_at_once() -> None:
    parts = Parts(total=20)
    parts.engine.full_at = 7
    with pytest.raises(StateFullError, match=r"would hold more$"):
        parts.runner.run()
    assert "engine rollback" not in parts.log


def test_an_epoch_whose_undoing_takes_much_is_committed_early(checkpoint: Checkpoint) -> None:
    parts = Parts(total=3, interval_ms=1_000_000, checkpoint=checkpoint)
    parts.engine.is_due = True
    parts.runner.run()
    assert parts.log.count("engine committed") == 4


def test_an_epoch_with_many_letters_is_committed_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamcore.epoch_size.EPOCH_REFUSED_MAX", 2)
    parts = Parts(total=6, interval_ms=1_000_000)
    parts.engine.refuses = True
    parts.runner.run()
    assert parts.log.count("engine committed") == 4


def test_it_tells_its_status_between_two_rounds() -> None:
    parts = Parts(total=None)
    answers: list[object] = []

    def ask() -> None:
        answers.append(parts.runner.ask_status(1_000))
        parts.stopping.set()

    asking = threading.Thread(target=ask)
    asking.start()
    parts.runner.run()
    asking.join()
    status = answers[0]
    assert isinstance(status, dict)
    assert (status["live"], status["source"], status["clocks"][0]["watermark_ms"]) == (True, {"type": "fake"}, 5)
    assert status["windows"][0]["over_at_ms"] == 1_000
    assert status["report"]["held"] == {"steps[0] (window)": {"keys": status["report"]["ledger"]["read"], "bytes": 100}}


def test_a_run_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamcore.runner.STATUS_WAIT_S", 0.01)
    assert Parts().runner.ask_status(None) is None
