"""What phases are called, and the topic between them."""

from __future__ import annotations

from typing import Any, cast

from streamcore.config import PipelineConfig
from streamcore.layouts import partials_topic
from streamcore.phases import (
    FINAL,
    PARTIAL,
    WHOLE,
    partials_plan,
    partials_source,
    phases_of,
    send_partials,
)
from streamcore.transactions import Transactions
from tests.fakes import FakeEngine, engine

WINDOW = {"window": "tumbling", "size": "1m", "by": ["page"], "aggregate": {"views": "count()"}}
KAFKA = {"type": "kafka", "topic": "clicks", "event_time": "at", "schema": {"page": "string"}}


def config(**keys: Any) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {"name": "p", "delivery": "exactly_once", "source": KAFKA, "steps": [WINDOW], **keys}
    )


def test_a_pipeline_has_two_phases_only_where_windows_meet_through_a_topic() -> None:
    assert phases_of(config()) == (PARTIAL, FINAL)
    assert phases_of(config(combine="local")) == (WHOLE,)
    assert phases_of(config(source={**KAFKA, "keyed_by": "page"})) == (WHOLE,)


def test_phases_share_no_name_and_results_leave_the_final_one() -> None:
    assert [phase.group("g") for phase in (WHOLE, PARTIAL, FINAL)] == ["g", "g", "g.combine"]
    assert [phase.prefix for phase in (WHOLE, PARTIAL, FINAL)] == ["", "", "combine-"]
    assert [phase.takes("result") for phase in (WHOLE, PARTIAL, FINAL)] == [True, False, True]
    assert all(phase.takes(output) for phase in (PARTIAL, FINAL) for output in ("late", "rejected", "all"))


def test_the_topic_of_partials_follows_the_input_or_what_is_said() -> None:
    plan = partials_plan(config(), 5)
    assert (plan.name, plan.role, plan.partitions) == ("p.0.partials.g1", "partials", 5)
    assert plan.settings == {"cleanup.policy": "delete", "retention.ms": "604800000", "retention.bytes": "-1"}
    assert partials_plan(config(combine_partitions=2), 5).partitions == 2
    source = partials_source(config(source={**KAFKA, "start": "latest"}))
    assert (source.topic, source.start, source.connection) == ("p.0.partials.g1", "earliest", None)


class _Engine(FakeEngine):
    def partials(self, lanes: list[int], *, seal: int) -> dict[int, list[tuple[int, bytes, bytes]]]:
        return {lane: [(7, b"%d/1" % lane, b"%d" % seal)] for lane in lanes}


class _Transactions:
    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, bytes, int]] = []

    def send(self, topic: str, *, key: bytes, value: bytes, partition: int) -> None:
        self.sent.append((topic, key, value, partition))


def test_what_is_handed_over_goes_where_the_engine_says() -> None:
    transactions = _Transactions()
    lanes = [{"lane": 0, "epoch": 3}, {"lane": 4, "epoch": 9}]
    send_partials(engine(_Engine([])), cast("Transactions", transactions), "p", lanes, seal=5)
    topic = partials_topic("p")
    assert transactions.sent == [(topic, b"0/1", b"5", 7), (topic, b"4/1", b"5", 7)]
