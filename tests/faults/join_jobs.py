"""Pipelines that join two topics, as processes of their own; see `workers.py`.

Before it: a test. After it: `oracle_join.py`, which says what they must give.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamcore._core import LANES_PER_INPUT
from tests.faults import oracle, oracle_join, traffic
from tests.faults.workers import PARTITIONS, RECORDS, TOPIC_SINK, Job
from tests.integration.kafka_tools import create_topic

KAFKA = """
name = "{name}"
delivery = "exactly_once"
combine = "none"
commit_interval = "{commit_interval}"

[kafka]
session_timeout = "{session_s}s"
connect_timeout = "60s"
"""

TOPIC = """
type = "kafka"
event_time = "t"
event_time_unit = "ms"
out_of_orderness = "100ms"
keyed_by = "k"
idle_timeout = "1h"
poll_records_max = 2000
schema = {{ k = "string", v = "int64", id = "string" }}
"""

STREAMS = (
    KAFKA
    + '\n[source]\ntopic = "{name}.in"'
    + TOPIC
    + '\n[sources.right]\ntopic = "{name}.right"'
    + TOPIC
    + """
[[sources.right.steps]]
dedupe = "id"
within = "1h"

[[steps]]
dedupe = "id"
within = "1h"

[[steps]]
join = "right"
on = ["k"]
how = "left"
within = "2s"
"""
    + TOPIC_SINK
)
"""Each pair of rows of a key that are near in time."""

TABLE = (
    KAFKA
    + '\n[source]\ntopic = "{name}.in"'
    + TOPIC
    + '\n[sources.right]\ntopic = "{name}.right"\ntable = true'
    + TOPIC
    + """
[[sources.right.steps]]
filter = "v >= -900"

[[steps]]
dedupe = "id"
within = "1h"

[[steps]]
join = "right"
on = ["k"]
how = "left"
versioned = true

[[steps]]
window = "tumbling"
size = "10s"
by = ["k"]
aggregate = {{ n = "count()", s = "sum(v_right)" }}
"""
    + TOPIC_SINK
)
"""Windows of rows with what a table had for their key at their time."""

TEXTS = {"streams": STREAMS, "table": TABLE}


@dataclass
class Both:
    """The streams of both inputs."""

    left: traffic.Stream
    right: traffic.Stream

    def close(self) -> None:
        """Nothing more is sent."""
        self.left.close()
        self.right.close()


@dataclass
class JoinJob(Job):
    """A pipeline of two inputs with topics of its own."""

    text: str = STREAMS

    def __post_init__(self) -> None:
        super().__post_init__()
        create_topic(self.server, self.right, PARTITIONS)

    @property
    def right(self) -> str:
        return f"{self.name}.right"

    def offsets(self) -> dict[int, int]:
        """Of both topics, by the lanes of the runner."""
        servers = self.server.bootstrap_servers
        of_right = oracle.group_offsets(servers, self.name, self.right, PARTITIONS)
        return super().offsets() | {LANES_PER_INPUT + lane: offset for lane, offset in of_right.items()}

    def ends(self) -> dict[int, int]:
        left, right = self.sides()
        return left.ends | {LANES_PER_INPUT + lane: end for lane, end in right.ends.items()}

    def sides(self) -> tuple[oracle_join.Side, oracle_join.Side]:
        servers, is_table = self.server.bootstrap_servers, self.text == TABLE
        left = oracle_join.side(servers, self.input, once=True)
        return left, oracle_join.side(servers, self.right, once=not is_table)

    def expected(self) -> None:
        """See `Job`."""

    def differences(self) -> list[str]:
        sides, is_table = self.sides(), self.text == TABLE
        return oracle_join.differences(
            self.server.bootstrap_servers,
            sides=sides,
            output=f"{self.name}.out",
            dead_letters=f"{self.name}.dead-letters",
            wanted=oracle_join.windows(*sides) if is_table else oracle_join.pairs(*sides),
            as_row=oracle_join.window_row if is_table else oracle_join.joined_row,
        )

    def streams(self, seed: int, *, keys: int = 500) -> Both:
        """Records of both topics that are sent until it is closed."""

        def of(topic: str, seed: int) -> traffic.Stream:
            servers = self.server.bootstrap_servers
            return traffic.Stream(servers, topic, seed, RECORDS, partitions=PARTITIONS, keys=keys)

        return Both(of(self.input, seed), of(self.right, seed + 1_000_000))
