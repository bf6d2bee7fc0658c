"""What is left of lanes that are gone: nothing. How epochs are committed is held by tests/faults and the simulator."""

from __future__ import annotations

from typing import Any, cast
from unittest.mock import Mock

from streamcore import _core
from streamcore.epochs import Epochs
from tests.state_log import INPUT, SPEC

LANE = 0


def _epochs(engine: _core.Pipeline) -> Epochs:
    """On a lane that is fed."""
    parts = ("source", "outputs", "transactions", "states", "machine", "identity", "meeting", "files")
    fakes: dict[str, Any] = {name: Mock() for name in parts}
    fakes["outputs"].held_rows = 0
    fakes["source"].numbers = lambda lane: [lane]
    epochs = Epochs(engine=engine, **fakes)
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
