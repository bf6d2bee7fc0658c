from __future__ import annotations

from datetime import UTC, datetime

import pytest

from streamcore.sinks.fitting import cell_text, fit

NAMES = ["page", "window_start", "window_end", "views", "users", "revision", "is_final"]


def row(page: str = "home", *, hour: int = 9, day: int = 1, views: int = 10_234_567) -> dict[str, object]:
    start, end = (datetime(2026, 1, day, hour, minute, tzinfo=UTC) for minute in (0, 1))
    values = [page, start, end, views, 1_234, 0, True]
    return dict(zip(NAMES, values, strict=True))


def shown(width: int, *rows: dict[str, object]) -> tuple[list[str], list[str]]:
    """The columns, and the cells of the first row as wide as they get."""
    fitted = fit(rows, NAMES, width)
    assert fitted.width <= width
    return [column.name for column in fitted.columns], [column.cells[0][: column.width] for column in fitted.columns]


def test_everything_is_shown_where_there_is_room() -> None:
    names, cells = shown(120, row())
    assert names == NAMES
    assert cells == ["home", "2026-01-01 09:00:00", "2026-01-01 09:01:00", "10234567", "1234", "0", "True"]


def test_revisions_go_first() -> None:
    names, cells = shown(88, row())
    assert names == NAMES[:5]
    assert cells[1] == "2026-01-01 09:00:00"


def test_times_lose_the_day_they_share() -> None:
    _, cells = shown(80, row("x" * 20))
    assert cells == ["x" * 20, "09:00:00", "09:01:00", "10234567", "1234"]
    assert str(fit([row("x" * 20)], NAMES, 80).day) == "2026-01-01"


def test_times_of_several_days_lose_the_year_only() -> None:
    _, cells = shown(80, row("x" * 20), row(day=2))
    assert cells[1] == "01-01 09:00:00"
    assert fit([row("x" * 20), row(day=2)], NAMES, 80).day is None


def test_a_key_is_shortened_last_and_a_count_never() -> None:
    _, cells = shown(60, row("x" * 40))
    assert cells == ["x" * 16, "09:00:00", "09:01:00", "10234567", "1234"]


def test_what_has_no_room_is_left_out_from_the_right_but_the_start_of_a_window_first() -> None:
    fitted = fit([row("x" * 40)], NAMES, 36)
    assert [column.name for column in fitted.columns] == ["page", "window_end", "views"]
    assert fitted.left_out == ["window_start", "users"]
    assert len(fit([row()], NAMES, 3).columns) == 1


def test_columns_without_rows_are_as_wide_as_their_names() -> None:
    assert [column.width for column in fit([], NAMES, 200).columns] == [len(name) for name in NAMES]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.1 + 0.2, "0.3"),
        ("a\x1b[31mb\nc", "a�[31mb�c"),
        ("x" * 50, "x" * 39 + "…"),
        ("[bold]", "[bold]"),
        (True, "True"),
    ],
)
def test_cells_cannot_move_the_cursor(value: object, text: str) -> None:
    assert cell_text(value) == text
