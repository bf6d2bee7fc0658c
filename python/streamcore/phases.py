"""Owns the phases of a pipeline that commits in transactions: one, or two where windows meet through a topic.

Before it: a configuration. After it: whoever opens or looks at a phase: its group, topics, names and engine.
Invariant: two phases share nothing but the topic of partials: each has a stage of topics, a group and a producer of its own.

As in the two-phase aggregation of databases: `partial` goes from the records of the input's partitions to partial aggregates, `final`
from those of a group key, which are in one partition of the topic of partials, to rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from streamcore import _core
from streamcore.config import KafkaSourceConfig, PipelineConfig, describe
from streamcore.layouts import partials_topic
from streamcore.topics import TopicPlan
from streamcore.transactions import Transactions

PARTIALS_SETTINGS = {
    "cleanup.policy": "delete",
    # Partials are merged within seconds; this is how long the final phase may stand still.
    "retention.ms": str(7 * 86_400_000),
    # Not by bytes, whatever the broker does with other topics.
    "retention.bytes": "-1",
}

STATE_GENERATION = 1
"""Of a lane's partials: their numbers go on for as long as there is its state; a reset, after which they begin anew, deletes those
of before."""

POLL_FRAMES_MAX = 200
"""Records of the topic of partials that one poll takes: each may have half a MiB."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase."""

    name: Literal["partial", "final"] | None
    """As the engine is told it; None: there is but one."""
    stage: int
    """The number in the names of its topics."""

    @property
    def prefix(self) -> str:
        """Before names that both phases would use: of fault points and files."""
        return "combine-" if self is FINAL else ""

    def group(self, group: str) -> str:
        """Its consumer group; `group` is the pipeline's."""
        return f"{group}.combine" if self is FINAL else group

    def takes(self, output: str) -> bool:
        """Whether rows of `output` can leave it."""
        return self is not PARTIAL or output != "result"


WHOLE = Phase(None, 0)
PARTIAL = Phase("partial", 0)
FINAL = Phase("final", 1)


def phases_of(config: PipelineConfig) -> tuple[Phase, ...]:
    """The phases, in the order of the data."""
    return (PARTIAL, FINAL) if describe(config)["combine"] == "topic" else (WHOLE,)


def partials_plan(config: PipelineConfig, input_partitions: int) -> TopicPlan:
    """The topic of partials as it is made."""
    partitions = config.combine_partitions or input_partitions
    return TopicPlan(partials_topic(config.name or ""), "partials", partitions, PARTIALS_SETTINGS)


def partials_source(config: PipelineConfig) -> KafkaSourceConfig:
    """The topic of partials as a source."""
    assert isinstance(config.source, KafkaSourceConfig)  # noqa: S101 - checked by `choose_delivery`
    own = KafkaSourceConfig(
        topic=partials_topic(config.name or ""),
        connection=config.source.connection,
        start="earliest",
        poll_records_max=POLL_FRAMES_MAX,
        transport=config.source.transport,
    )
    return own.model_copy(update={"stall_timeout": config.source.stall_timeout})


def handed_over_bytes(engine: _core.Pipeline, phase: Phase) -> int:
    """What an epoch may hand over, at most: windows go out whole; nothing of other phases."""
    held = engine.state().items() if phase is PARTIAL else ()
    return sum(step["bytes"] for name, step in held if name.endswith("(window)"))


def send_partials(
    engine: _core.Pipeline, transactions: Transactions, pipeline: str, lanes: Sequence[Mapping[str, int]], *, seal: int
) -> None:
    """Queues what the sealed epoch of these lanes hands over, in the open transaction. Raises `KafkaException` or `BufferError`."""
    topic = partials_topic(pipeline)
    for records in engine.partials([each["lane"] for each in lanes], seal=seal).values():
        for partition, key, value in records:
            transactions.send(topic, key=key, value=value, partition=partition)
