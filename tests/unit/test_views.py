from __future__ import annotations

import polars as pl
import pytest

from streamcore import views
from streamcore.errors import ConfigError
from streamcore.sinks.base import Version
from streamcore.views import View
from tests.batches import result_batch

TYPES = {"page": "string", "window_start": "int64", "views": "int64", "retracted": "bool"}
KEYS = ["page", "window_start"]


def written(view: View, *rows: tuple[str | None, int, int], retracted: bool = False, epoch: int | None = 1) -> None:
    named = [
        {"page": page, "window_start": start, "views": count, "retracted": retracted} for page, start, count in rows
    ]
    view.write(result_batch(named, TYPES), Version(1, epoch or 1, 0))
    if epoch is not None:
        view.committed(epoch)


def found(frame: pl.DataFrame | None) -> list[tuple[object, ...]]:
    assert frame is not None
    return frame.select("page", "window_start", "views").rows()


def test_the_newest_row_of_a_key_is_seen() -> None:
    view = View(KEYS)
    written(view, ("home", 0, 1), ("shop", 0, 1))
    written(view, ("home", 0, 2), ("home", 60, 1))
    assert found(view.query({"page": "home"})) == [("home", 0, 2), ("home", 60, 1)]
    assert found(view.query({"page": "home", "window_start": 60})) == [("home", 60, 1)]
    assert len(found(view.query({}))) == 3


def test_nothing_that_is_not_committed_is_seen() -> None:
    view = View(KEYS)
    assert view.query({}) is None
    written(view, ("home", 0, 1), epoch=None)
    assert view.query({}) is None
    view.discard()
    view.committed(1)
    assert view.query({}) is None


def test_retracted_rows_are_gone() -> None:
    view = View(KEYS)
    written(view, ("home", 0, 1), ("home", 60, 1))
    written(view, ("home", 0, 1), retracted=True)
    frame = view.query({"page": "home"})
    assert found(frame) == [("home", 60, 1)]
    assert frame is not None
    assert "retracted" not in frame.columns


def test_a_null_key_can_be_asked_for() -> None:
    view = View(KEYS)
    written(view, (None, 0, 1), ("home", 0, 1))
    assert found(view.query({"page": None})) == [(None, 0, 1)]


def test_an_unknown_column_is_named() -> None:
    view = View(KEYS)
    written(view, ("home", 0, 1))
    with pytest.raises(ConfigError, match="no column pag; its columns are page, window_start"):
        view.query({"pag": "home"})


def test_the_oldest_batches_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "VIEW_ROWS_MAX", 3)
    view = View(KEYS)
    for start in range(3):
        written(view, ("home", start, 1), ("shop", start, 1))
    assert found(view.query({})) == [("home", 2, 1), ("shop", 2, 1)]
    view.flush()
    view.open()
    view.close()
