"""The number of a layout is used once, and its topics are deleted only below one that is committed."""

from __future__ import annotations

import logging
from typing import Any, cast

import pytest

from streamcore.committed_state import CommittedState
from streamcore.errors import FencedError, SourceError
from streamcore.layouts import state_topic
from streamcore.next_layout import await_layout, delete_layouts, make_layout, next_number
from streamcore.phases import WHOLE
from streamcore.state_changes import Claim
from streamcore.topics import TopicPlan


class Broker:
    """Has topics, and the state of one pipeline."""

    phase, name, meets = WHOLE, "p", True

    def __init__(self, layout: int, *topics: str, may_delete: bool = True) -> None:
        self.cluster = self.states = self
        self.layout, self.topics, self._may_delete = layout, set(topics), may_delete
        self.is_kept = 0

    def topic_names(self) -> list[str]:
        return sorted(self.topics)

    def create_topic(self, plan: TopicPlan) -> bool:
        is_new = plan.name not in self.topics
        self.topics.add(plan.name)
        return is_new

    def delete_topics(self, names: list[str]) -> None:
        if not self._may_delete:
            raise SourceError("topic p cannot be deleted")
        self.topics -= set(names)

    def keep(self) -> None:
        self.is_kept += 1

    def look_again(self) -> None:
        """Nothing has changed."""

    @property
    def committed(self) -> CommittedState:
        return cast("CommittedState", self)


@pytest.mark.parametrize(
    ("layout", "topics", "number"),
    [
        (1, ["p.0.state.g1"], 2),
        (2, ["p.0.state.g2"], 3),
        (1, ["p.0.state.g1", "p.0.state.g2"], 3),  # that of a try that died
        (1, ["p.0.state.g1", "p.0.combine.g4"], 5),
        (3, ["p.0.state.g3", "p.1.state.g9", "q.0.state.g9"], 4),
    ],
)
def test_a_layout_gets_a_number_that_none_has_had(layout: int, topics: list[str], number: int) -> None:
    assert next_number(Broker(layout, *topics).committed) == number


def test_a_layout_that_somebody_else_makes_at_the_moment_is_not_shared() -> None:
    broker = Broker(1, "p.0.state.g1")
    held = cast("Claim", cast("Any", broker))
    make_layout(broker.committed, held, 2, 3)
    assert (broker.topics, broker.is_kept) == ({"p.0.state.g1", "p.0.state.g2", "p.0.combine.g2"}, 1)
    with pytest.raises(FencedError, match=r"topic p\.0\.state\.g2 was made by another command"):
        make_layout(broker.committed, held, 2, 3)


def test_topics_above_what_is_committed_stay(caplog: pytest.LogCaptureFixture) -> None:
    all_of_them = [state_topic("p", layout=layout) for layout in range(1, 6)]
    broker = Broker(3, *all_of_them)
    delete_layouts(broker.committed, range(1, 9), below=3)
    assert sorted(broker.topics) == all_of_them[2:]
    broker = Broker(3, *all_of_them, may_delete=False)
    with caplog.at_level(logging.WARNING):
        delete_layouts(broker.committed, [1], below=3)
    assert caplog.messages == ["topic p cannot be deleted; nothing uses it any more"]


def test_a_later_layout_is_not_waited_for() -> None:
    await_layout(Broker(2).committed, 2)
    with pytest.raises(FencedError, match="another command has made layout 3 since"):
        await_layout(Broker(3).committed, 2)
