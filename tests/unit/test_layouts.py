"""Which of several topics a pipeline's state is in."""

from __future__ import annotations

from typing import Any, cast

import pytest

from streamcore.errors import StateError
from streamcore.kafka_client import Cluster
from streamcore.layouts import BEGIN, find_layout, layouts_there, state_plans, state_topic, topics_there


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
