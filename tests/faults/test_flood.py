"""F15: half copies, out of order within the bound and far beyond, late, equal, from years that cannot be, under kills.

Invariant: what is late depends on the order in a partition alone, so rows, late rows and rows of the future are exactly
those that plain Python works out, each with its reason and its distance, and so are the committed ledgers.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults import flood, oracle, oracle_flood, traffic
from tests.faults.oracle_flood import Expected
from tests.faults.workers import PARTITIONS, Job
from tests.servers.kafka import KafkaServer

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
KILLS = 2
KEYS = 60
PAUSE_S = 2 * traffic.PAUSE_S
START_MS, STEP_MS = -30_000, 25
RULES = flood.Rules(bound=100, allowed=2_000, size=10_000, slide=5_000, within=24_000, skew=10_000)
COUNTED = (
    *("read", "applied", "filtered", "duplicate", "late", "future", "rejected", "tombstone"),
    *("no_window", "late_windows"),
)

PIPELINE = f"""
name = "{{name}}"
delivery = "exactly_once"
commit_interval = "{{commit_interval}}"

[kafka]
session_timeout = "{{session_s}}s"
connect_timeout = "60s"

[source]
type = "kafka"
topic = "{{name}}.in"
event_time = "t"
event_time_unit = "ms"
out_of_orderness = "{RULES.bound}ms"
max_future_skew = "{RULES.skew}ms"
keyed_by = "k"
idle_timeout = "1h"
poll_records_max = 2000

[source.schema]
k = "string"
v = "int64"
ident = "string"

[[steps]]
dedupe = "ident"
within = "{RULES.within}ms"

[[steps]]
window = "hopping"
size = "{RULES.size}ms"
slide = "{RULES.slide}ms"
allowed_lateness = "{RULES.allowed}ms"
by = "k"
[steps.aggregate]
n = "count()"
s = "sum(v)"
"""

SINKS = """
[[sinks]]
type = "kafka"
topic = "{name}.out"
partitions = 2
timestamp_format = "epoch_ms"

[[sinks]]
type = "kafka"
topic = "{name}.late"
output = "late"
columns = ["_partition", "_offset", "reason", "lateness_ms", "event_time"]
timestamp_format = "epoch_ms"

[[sinks]]
type = "kafka"
topic = "{name}.future"
output = "future"
columns = ["_partition", "_offset", "ahead_ms", "event_time"]
timestamp_format = "epoch_ms"
"""
"""A topic for each output; without `columns` the records themselves would be there, without a word on why."""

TOPICS = ("out", "late", "future")


@dataclass
class FloodJob(Job):
    """A pipeline that is flooded, with a topic for each of its outputs."""

    text: str = PIPELINE + SINKS
    _wanted: Expected | None = None

    def expected(self) -> None:
        """See `Job`; `wanted` is more."""

    def wanted(self) -> Expected:
        """What is to become of all there is in the input, of which nothing more comes."""
        if self._wanted is None:
            self._wanted = oracle_flood.expected(self.server.bootstrap_servers, self.input, RULES)
        return self._wanted

    def ends(self) -> dict[int, int]:
        return self.wanted().ends

    def differences(self) -> list[str]:
        servers = self.server.bootstrap_servers
        topics = {topic: f"{self.name}.{topic}" for topic in TOPICS}
        self.check_ended(list(topics.values()))
        assert oracle.read(servers, f"{self.name}.dead-letters") == []
        return oracle_flood.differences(
            servers, self.wanted(), output=topics["out"], late=topics["late"], future=topics["future"]
        )


@pytest.fixture
def flooded(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Iterator[FloodJob]:
    job = FloodJob(kafka_server, unique, tmp_path)
    yield job
    job.kill_all()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.column("pull"))])
def test_what_is_late_is_the_same_whoever_is_killed(flooded: FloodJob, workers: int, run: int) -> None:
    job, chance = flooded, random.Random(run)
    made = flood.records(
        random.Random(run), RULES, partitions=PARTITIONS, keys=KEYS, start_ms=START_MS, step_ms=STEP_MS
    )
    sender = traffic.Sender(job.server.bootstrap_servers, job.input, made, pause_s=PAUSE_S)
    job.end(sender, job.run_and_kill(workers, chance, KILLS))
    wanted = job.wanted()
    _check_flood(wanted)
    told = {lane: {name: counts.get(name, 0) for name in COUNTED} for lane, counts in job.ledgers().items()}
    assert told == {lane: {name: counts[name] for name in COUNTED} for lane, counts in wanted.ledgers.items()}


def _check_flood(wanted: Expected) -> None:
    """Every lane had all of it, and enough."""
    for counts in wanted.ledgers.values():
        for name in ("applied", "duplicate", "late", "future", "late_windows"):
            assert counts[name] >= 20, counts
    assert {reason for reason, _, _ in wanted.late.values()} == {"WINDOW", "DEDUPE_HORIZON"}
    assert min(start for _, start in wanted.sums) < 0
    assert any(ahead == RULES.skew + 1 for ahead, _ in wanted.future.values())
