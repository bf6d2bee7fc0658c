"""What a savepoint's manifest has to be before anything of it is believed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamcore.errors import StateError
from streamcore.savepoint_checks import CHECKSUM, EMPTY, check_content, check_head, check_lanes, with_checksum

PATH = Path("noon/manifest.json")


def lane(number: int) -> dict[str, Any]:
    positions = {} if number < 0 else {"clicks": 40}
    facts = {"owner": 0, "seal": 9, "generation": 1, "files": {}, "source": {}, "ended": False, "positions": positions}
    rest = {"epoch": 3, "fingerprint": "ff", "digest": "0" * 16, "watermark_ms": 4, "ledger": {}}
    return {**rest, "lane": number, "facts": facts}


def content(*lanes: int, empty: list[int] | None = None) -> dict[str, Any]:
    """Of an earlier version where nothing is said of empty partitions."""
    rest = {"format": 1, "pipeline": "p", "fingerprint": "ff", "saved_at_ms": 5, "meets": -1 in lanes, "rows": 6}
    whole = {**rest, "lanes": {str(number): lane(number) for number in lanes}}
    return whole if empty is None else with_checksum({**whole, EMPTY: empty})


def test_what_was_written_is_taken_and_so_is_that_of_earlier_versions() -> None:
    written = content(0, 1, empty=[2])
    check_content(PATH, written)
    check_content(PATH, orjson.loads(orjson.dumps(written, option=orjson.OPT_INDENT_2)))
    check_content(PATH, content(0, -1))


def _back(changed: dict[str, Any]) -> None:
    changed["lanes"]["1"]["facts"]["positions"]["clicks"] -= 10


def _without(changed: dict[str, Any]) -> None:
    del changed["lanes"]["1"]


def _unsealed(changed: dict[str, Any]) -> None:
    del changed[CHECKSUM]


def _more(changed: dict[str, Any]) -> None:
    changed["note"] = "mine"


@pytest.mark.parametrize("change", [_back, _without, _unsealed, _more])
def test_whatever_was_changed_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    changed = content(0, 1, empty=[])
    change(changed)
    with pytest.raises(StateError, match=r"manifest.json is not as it was written"):
        check_content(PATH, changed)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["lanes"], [], "lanes is \\[\\]"),
        (["lanes", "1"], None, "lanes.1 is no object"),
        (["rows"], True, "rows is True"),
        (["lanes", "1", "lane"], 0, "lanes.1.lane is 0"),
        (["lanes", "1", "digest"], "x", "lanes.1.digest is 'x'"),
        (["lanes", "1", "epoch"], 0, "an epoch or a position that there is not"),
        (["lanes", "1", "facts", "positions"], "x", "lanes.1.facts.positions is 'x'"),
        (["lanes", "1", "facts", "positions", "clicks"], "40", "positions.clicks is '40'"),
        (["lanes", "1", "facts", "positions", "clicks"], -1, "an epoch or a position that there is not"),
        (["lanes", "1", "facts", "owner"], 1.5, "facts.owner is 1.5"),
    ],
)
def test_one_without_a_checksum_has_what_it_has_to_have(place: list[str], value: object, message: str) -> None:
    changed = content(0, 1)
    at: Any = changed
    for name in place[:-1]:
        at = at[name]
    at[place[-1]] = value
    with pytest.raises(StateError, match=message):
        check_content(PATH, changed)
    del at[place[-1]]
    if "clicks" not in place and place != ["lanes", "1"]:
        with pytest.raises(StateError, match=f"{place[-1]} is missing"):
            check_content(PATH, changed)


def saved(folder: Path, *lanes: int) -> None:
    for number in lanes:
        (folder / ("shared.state" if number < 0 else f"lane-{number}.state")).touch()


def check(folder: Path, found: dict[str, Any], *, meets: bool = False) -> None:
    check_lanes(folder, found, partitions=(0, 1, 2), topics=("clicks",), meets=meets)


def test_the_lanes_are_those_of_the_pipeline(tmp_path: Path) -> None:
    saved(tmp_path, 0, 1)
    check(tmp_path, content(0, 1, empty=[2]))
    check(tmp_path, content(0, 1))
    for found in (content(empty=[]), content(0, 1, empty=[]), content(), content(0, 1, 3)):
        with pytest.raises(StateError, match=r"has the state of .*, and the pipeline that of lanes 0, 1, 2;"):
            check(tmp_path, found)
    with pytest.raises(StateError, match=r"lanes 0, 1, and the pipeline that of lanes 0, 1, 2 and what they share"):
        check(tmp_path, content(0, 1), meets=True)


def test_each_lane_has_its_file_and_each_file_its_lane(tmp_path: Path) -> None:
    saved(tmp_path, 0, 1, -1)
    check(tmp_path, content(0, 1, -1), meets=True)
    for found in (content(0, -1), content(0, 1, 2, -1)):
        with pytest.raises(StateError, match=r"not whole: lane-[12].state is either not there or not in its manifest"):
            check(tmp_path, found, meets=True)


@pytest.mark.parametrize("positions", [{}, {"views": 3}, {"clicks": 3, "views": 3}])
def test_a_lane_has_a_position_of_each_topic(tmp_path: Path, positions: dict[str, int]) -> None:
    saved(tmp_path, 0)
    found = content(0)
    found["lanes"]["0"]["facts"]["positions"] = positions
    with pytest.raises(StateError, match=r"lane 0 has positions of .*, and the input is clicks"):
        check(tmp_path, found)


def test_the_file_of_a_lane_is_its_own() -> None:
    head = orjson.dumps({"lane": 1, "digest": "0" * 16})
    check_head(PATH, head, [1], lane(1))
    for number, lanes in ((0, [1]), (0, [0]), (1, [0]), (1, [])):
        with pytest.raises(StateError, match="and the manifest says"):
            check_head(PATH, head, lanes, lane(number))
