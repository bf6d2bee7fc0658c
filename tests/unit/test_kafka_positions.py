"""What is said where a topic is no longer the one that was read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from streamcore.errors import StateError
from streamcore.kafka_client import Topic
from streamcore.sources.kafka_positions import check_same_topic, start_positions

AWAY = (
    r"to begin anew, move the pipeline's state \(.*reset FILE\) and the files of its Parquet sinks, if it has any, away"
)


class Broker:
    """Has records 10 to 19 of every partition."""

    def offsets_at(
        self, topic: str, lanes: Iterable[int], at: Sequence[str | int], *, within_s: float
    ) -> list[dict[int, int]]:
        return [dict.fromkeys(lanes, 10 if each == "earliest" else 20) for each in at]


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"topic_id": "b"}, "deleted and made again"), ({"partitions": 3}, "keys have moved")],
)
def test_another_topic_of_that_name_says_all_that_is_to_be_moved(changed: dict[str, object], message: str) -> None:
    topic = Topic("t", "a", (0, 1))
    same: dict[str, object] = {"topic": "t", "topic_id": "a", "partitions": 2}
    check_same_topic(topic, same)
    with pytest.raises(StateError, match=rf"{message}.*; {AWAY}"):
        check_same_topic(topic, {**same, **changed})


@pytest.mark.parametrize(("position", "message"), [(5, "retention is shorter"), (25, "was cut or made again")])
def test_a_position_that_is_gone_says_all_that_is_to_be_moved(position: int, message: str) -> None:
    topic, broker = Topic("t", "a", (0,)), Broker()
    assert start_positions(broker, topic, {0: 20}, "earliest", 0) == {0: 20}  # type: ignore[arg-type]
    with pytest.raises(StateError, match=rf"{message}.*; {AWAY}"):
        start_positions(broker, topic, {0: position}, "earliest", 0)  # type: ignore[arg-type]
