"""When two stages of state are of one moment."""

from __future__ import annotations

from typing import Any

from streamcore.stage_savepoints import apart


def _known(numbers: dict[int, int], *, waiting: int = 0) -> dict[str, Any]:
    return {"waiting": waiting, "table": {lane: {"number": number} for lane, number in numbers.items()}}


def test_stages_are_of_one_moment_where_every_partition_has_merged_what_every_lane_handed_over() -> None:
    assert apart({0: 3, 1: 0}, {0: _known({0: 3}), 1: _known({0: 3})}, 2) == []
    assert apart({}, {}, 2) == []


def test_what_is_ahead_is_named() -> None:
    behind = apart({0: 3, 1: 2}, {0: _known({0: 2, 1: 2}), 1: _known({0: 3, 1: 2}, waiting=4)}, 3)
    assert behind == [
        "lane 0 has handed over 3 epochs, and partition 0 of partials has merged 2 of them",
        "4 records of partition 1 of partials wait to be merged",
        "lane 0 has handed over 3 epochs, and partition 2 of partials has merged 0 of them",
        "lane 1 has handed over 2 epochs, and partition 2 of partials has merged 0 of them",
    ]
    assert apart({}, {0: _known({5: 1})}, 1) == [
        "lane 5 has handed over 0 epochs, and partition 0 of partials has merged 1 of them"
    ]
