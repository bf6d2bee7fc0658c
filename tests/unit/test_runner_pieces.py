"""The loop where rows of one push leave in pieces."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamcore import runner as runner_module
from streamcore.checkpoint import Checkpoint
from tests.unit.test_runner import Parts

COMMITS = ("piece", "push", "seal", "end", "behind")


def order(parts: Parts) -> list[str]:
    return [entry.split()[0] for entry in parts.log if entry.split()[0] in COMMITS]


def test_an_epoch_that_is_due_ends_between_two_pieces() -> None:
    parts = Parts(total=1, interval_ms=1_000)
    parts.engine.pieces_a_push = 5
    parts.engine.on_piece = lambda: parts.clock.advance(600)
    report = parts.runner.run()
    assert order(parts) == ["push", *["piece"] * 2, "seal", *["piece"] * 2, "seal", "piece", "end", "seal"]
    assert parts.sink.rows.count("piece") == 5
    assert [entry for entry in parts.log if entry.startswith("source committed")] == ["source committed {0: 1}"] * 3
    assert (report.epoch, report.ledger.read) == (3, 1)


def test_the_pieces_of_a_push_leave_before_the_next_is_read() -> None:
    parts = Parts(total=3)
    parts.engine.pieces_a_push = 2
    parts.runner.run()
    assert order(parts) == [*["push", "piece", "piece"] * 3, "end", "seal"]


def test_pushes_behind_wait_for_the_pieces_of_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "PUSH_BEHIND_RECORDS_MIN", 1)
    parts = Parts(total=7)
    parts.engine.pieces_a_push = 3
    assert parts.runner.run().ledger.read == 7
    assert parts.sink.rows == [row for count in range(1, 8) for row in (count, "piece", "piece", "piece")] + [
        "closed",
        "sealed",
    ]


@pytest.mark.parametrize("kept", [True, False])
def test_a_stop_leaves_the_other_pieces_to_the_next_run_where_there_is_one(kept: bool, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "job")
    checkpoint.open()
    parts = Parts(total=9, interval_ms=60_000, checkpoint=checkpoint if kept else None)
    parts.engine.pieces_a_push = 5
    parts.engine.on_piece = parts.stopping.set
    assert parts.runner.run().state == "stopped"
    assert parts.sink.rows.count("piece") == (3 if kept else 5)
    assert order(parts)[-1] == "seal"
