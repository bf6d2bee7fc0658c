"""What is left of lanes that are gone: nothing, but for what may be committed. How epochs are committed is held by tests/faults and the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest

from streamcore import _core, epochs
from streamcore.config import ParquetSinkConfig
from streamcore.epochs import Epochs
from streamcore.errors import SinkError, StateFullError
from streamcore.held_outputs import HeldOutputs
from streamcore.lane_files import LaneFiles
from streamcore.outputs import Outputs
from streamcore.sinks.base import Version
from streamcore.sinks.parquet_lanes import LaneParquetSink
from tests.batches import pages
from tests.state_log import INPUT, SPEC

LANE = 0


def _epochs(engine: _core.Pipeline, **parts_given: Any) -> Epochs:
    """On a lane that is fed."""
    parts = ("source", "outputs", "transactions", "states", "machine", "identity", "meeting", "files")
    fakes: dict[str, Any] = {name: Mock() for name in parts}
    fakes["outputs"].held_rows = 0
    fakes["source"].numbers = lambda lane: [lane]
    fakes["source"].starts_late = False
    if isinstance(engine, Mock):
        engine.changed_bytes = 0
    epochs = Epochs(engine=engine, **(fakes | parts_given))
    epochs._rest({"feed": [LANE], "tick_ms": None})
    return epochs


def _push_behind(engine: _core.Pipeline) -> int:
    """Records that are none, a row each, until the engine has some of these rows yet; gives how many it has."""
    within = 0
    for first in range(0, 100_000, 100):
        records = [(b"no JSON", b"k", None, 0, offset) for offset in range(first, first + 100)]
        given, taken = engine.push_behind(_core.Raw.from_records(LANE, INPUT, cast("Any", records)), 0)
        within += 100 * taken - _rows(given)
        if within > 0:
            return within
    raise AssertionError("each push gave its rows at once")


def _rows(batches: list[_core.Batch]) -> int:
    return sum(batch.num_rows for batch in batches)


def test_rows_of_pushes_in_the_background_go_with_lanes_that_are_lost() -> None:
    engine = _core.Pipeline(SPEC)
    engine.assign([LANE])
    epochs = _epochs(engine)
    _push_behind(engine)
    epochs._do_drop({"lanes": [LANE], "keep_cache": False})
    engine.assign([LANE])  # they come back, and their input is read again
    assert engine.settle() == []
    within = _push_behind(engine)
    assert _rows(engine.settle()) == within


def test_while_an_epoch_is_in_doubt_lanes_that_are_lost_leave_it_to_the_others() -> None:
    engine = Mock()
    epochs = _epochs(engine)
    epochs._rest({"feed": [LANE, 1], "tick_ms": None})
    epochs._do_begin({})
    epochs._do_drop({"lanes": [LANE], "keep_cache": False})
    engine.rollback.assert_not_called()
    epochs._do_drop({"lanes": [1], "keep_cache": False})
    engine.rollback.assert_called_once()


def test_files_of_an_epoch_in_doubt_are_left_to_whoever_has_its_lanes_next(tmp_path: Path) -> None:
    sink = LaneParquetSink(ParquetSinkConfig(path=str(tmp_path)), pipeline="job")
    sink.open()
    files = LaneFiles([sink])
    made = _epochs(Mock(), files=files, outputs=HeldOutputs(Outputs([sink], None, generation=1)))
    made._do_begin({})
    sink.write(pages(1), Version(1, 1, 0))
    listed = files.write([{"lane": LANE, "epoch": 1}], {LANE: 7}, seal=1)[LANE][str(tmp_path)]
    # The commit took long, say, and the lane is revoked: only its manifest tells what became of it.
    made._do_drop({"lanes": [LANE], "keep_cache": False})
    heir = LaneParquetSink(ParquetSinkConfig(path=str(tmp_path)), pipeline="job")
    heir.recover_lane(LANE, 1, listed)
    heir.publish()
    assert len(list(tmp_path.glob("job-result-*.parquet"))) == 1


def test_a_state_that_is_full_takes_the_epoch_back_and_does_not_end_the_machine() -> None:
    engine = Mock()
    engine.seal.side_effect = StateFullError("full")
    made = _epochs(engine)
    assert made._carry_out("seal", {"action": "seal"}) == {"event": "failed", "error": "abortable", "message": "full"}


def test_an_error_that_was_lived_with_is_not_what_a_later_one_ends_the_run_with() -> None:
    files = Mock()
    files.publish.side_effect = SinkError("no folder", retriable=False)
    made = _epochs(Mock(), files=files)
    assert made._carry_out("publish", {"action": "publish", "lanes": []})["error"] == "fatal"
    made._carry_out("write_cache", {"action": "write_cache"})
    with pytest.raises(Exception, match=r"^another$"):
        made._exit({"action": "exit", "code": 1, "message": "another"})


def test_the_end_of_the_input_waits_for_names_of_its_files_and_says_so_where_they_get_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(epochs, "STOP_S", 0.1)
    files = Mock()
    files.waits = True
    made = _epochs(Mock(), files=files)

    def committed(event: dict[str, Any]) -> None:
        del event
        made._is_done = True

    monkeypatch.setattr(made, "_run", committed)
    with pytest.raises(SinkError, match="everything is committed, but files of it"):
        made.commit(ended=True)
    files.waits = False
    assert made.commit(ended=True)
