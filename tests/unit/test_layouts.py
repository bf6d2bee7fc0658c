"""Which of several topics a pipeline's state is in."""

from __future__ import annotations

from typing import Any, cast

import pytest

from streamcore.errors import StateError
from streamcore.kafka_client import Cluster, Topic
from streamcore.layouts import (
    BEGIN,
    find_layout,
    layouts_there,
    refuse_state,
    state_plans,
    state_topic,
    topics_there,
)


class Names:
    """A cluster of which only the names of topics are known."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def topic_names(self) -> list[str]:
        return sorted(self._names)


def found(names: list[str], first: dict[str, tuple[bytes, bytes]]) -> tuple[int, Any]:
    return find_layout(cast("Cluster", Names(*names)), "p.q", 0, first.get)


def test_layouts_are_told_by_their_names_the_last_first() -> None:
    others = [
        "p.q.0.state.g",
        "p.q.0.state.g01",
        "p.q.0.state.g3x",
        "pxq.0.state.g4",
        "p.q.0.combine.g5",
        "x.p.q.0.state.g6",
    ]
    mine = [state_topic("p.q", layout=layout) for layout in (1, 2, 10)]
    assert layouts_there(cast("Cluster", Names(*others, *mine)), "p.q") == [10, 2, 1]
    assert [plan.name for plan in state_plans("p.q", 3, meets=True, layout=2)] == ["p.q.0.state.g2", "p.q.0.combine.g2"]


def test_the_topics_of_all_layouts_are_told_those_of_where_lanes_meet_among_them() -> None:
    others = [
        "p.q.0.combine.g",
        "p.q.0.partials.g1",
        "pxq.0.state.g4",
        "x.p.q.0.state.g6",
        "p.q.1.combine.g1",
        "p.q-0.state.g1",
    ]
    mine = ["p.q.0.combine.g5", "p.q.0.state.g1", "p.q.0.combine.g1", "p.q.0.state.g10"]
    cluster = cast("Cluster", Names(*others, *mine, "p.q.1.state.g1"))
    assert topics_there(cluster, "p.q") == [
        (10, "p.q.0.state.g10"),
        (5, "p.q.0.combine.g5"),
        (1, "p.q.0.state.g1"),
        (1, "p.q.0.combine.g1"),
    ]
    assert topics_there(cluster, "p.q", 1) == [(1, "p.q.1.state.g1")]


def test_the_last_layout_that_begins_as_one_counts() -> None:
    names = [state_topic("p.q", layout=layout) for layout in (1, 2, 3)]
    begun = (BEGIN, b'{"layout":2}')
    assert found([], {}) == (1, {})
    assert found(names, {}) == (1, {})
    assert found(names, {names[1]: begun}) == (2, {"layout": 2})
    assert found(names, {names[1]: begun, names[2]: (b"D/7/0", b"")}) == (2, {"layout": 2})
    assert found(names[1:], {names[1]: begun, names[2]: (BEGIN, b"{}")}) == (3, {})
    with pytest.raises(StateError, match=r"the first record of topic p\.q\.0\.state\.g2 is damaged"):
        found(names, {names[1]: (BEGIN, b"{")})


class Ends(Names):
    """A cluster of which ends of topics are known as well."""

    def __init__(self, **ends: dict[int, int]) -> None:
        self._ends = {f"p.q.0.{name.replace('_', '.')}": of_topic for name, of_topic in ends.items()}
        super().__init__(*self._ends)

    def topic(self, name: str) -> Topic:
        return Topic(name, "id", tuple(self._ends[name]))

    def offsets(self, name: str, lanes: tuple[int, ...], at: str) -> dict[int, int]:
        assert at == "latest"
        return {lane: self._ends[name][lane] for lane in lanes}


@pytest.mark.parametrize(
    ("ends", "counts", "is_refused"),
    [
        ({}, (1, {}), False),
        ({"state_g1": {0: 0, 1: 0}}, (1, {}), False),
        ({"state_g1": {0: 0, 1: 3}}, (1, {}), True),
        # What was discarded does not count, and neither does what never came to.
        ({"state_g1": {0: 9}, "state_g2": {0: 2, 1: 0}, "state_g3": {0: 7}}, (2, {"empty": True}), False),
        ({"state_g2": {0: 2, 1: 3}}, (2, {"empty": True}), True),
        ({"state_g2": {0: 5, 1: 0}}, (2, {"empty": True}), True),
        ({"state_g2": {0: 2, 1: 0}, "combine_g2": {0: 2}}, (2, {"empty": True}), True),
        ({"state_g2": {0: 2}}, (2, {}), True),
    ],
)
def test_state_is_refused_under_another_delivery_where_any_counts(
    ends: dict[str, dict[int, int]], counts: tuple[int, dict[str, Any]], is_refused: bool
) -> None:
    asked = cast("Cluster", Ends(**ends)), "p.q", "at_least_once", counts
    if is_refused:
        with pytest.raises(StateError, match=rf"p\.q has state in the topic p\.q\.0\.\w+\.g{counts[0]}, "):
            refuse_state(*asked)
    else:
        refuse_state(*asked)
