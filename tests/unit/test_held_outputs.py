"""Rows that wait for their transaction."""

from __future__ import annotations

import pytest

from streamcore.errors import SinkError
from streamcore.held_outputs import HeldOutputs
from streamcore.outputs import Outputs
from streamcore.sinks.base import Version
from tests.fakes import FakeSink, batch


def test_rows_leave_when_they_are_sent_and_never_after_a_rollback() -> None:
    sink = FakeSink([])
    held = HeldOutputs(Outputs([sink], None, generation=1))
    held.open({})
    held.write([batch(rows=["a", "b", "c"])], epoch=1)
    assert (held.held_rows, held.rows, sink.buffered) == (3, {"result": 3}, [])
    held.discard()
    assert (held.held_rows, held.rows) == (0, {})
    held.write([batch(rows=["d"])], epoch=1)
    held.hold([batch(rows=[])], epoch=1)
    held.send()
    held.send()
    assert (held.held_rows, held.rows, sink.buffered) == (0, {"result": 1}, ["d"])
    held.committed(1)
    assert (held.rows, sink.versions) == ({"result": 1}, [Version(1, 1, 0)])
    with pytest.raises(SinkError, match="not committed"):
        held.keep_dead_letters()
    held.close()
