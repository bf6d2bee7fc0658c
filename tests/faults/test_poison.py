"""F13: records that cannot be used, of every class there is, while workers are killed.

Invariant: every good record counts once in its window, every other one is one dead letter with its reason, its place
and all of its bytes, or counted as what it is; and the committed ledgers are the oracle's, record by record.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults import oracle_poison, poison, traffic
from tests.faults.oracle_poison import Expected
from tests.faults.workers import PARTITIONS, Job
from tests.servers.kafka import KafkaServer

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
KILLS = 2
OF_EACH_MIN = 20
"""Records of each class that a run is to have met."""

KEYS = 500
PAUSE_S = 2 * traffic.PAUSE_S
COUNTED = ("read", "applied", "filtered", "duplicate", "late", "future", "rejected", "tombstone")

PIPELINE = f"""
name = "{{name}}"
delivery = "exactly_once"
commit_interval = "{{commit_interval}}"

[kafka]
session_timeout = "{{session_s}}s"
connect_timeout = "60s"

[limits]
max_record_bytes = {poison.RECORD_BYTES_MAX}

[source]
type = "kafka"
topic = "{{name}}.in"
event_time = "t"
event_time_unit = "ms"
out_of_orderness = "{traffic.BOUND_MS}ms"
keyed_by = "k"
idle_timeout = "1h"
poll_records_max = 2000

[source.schema]
k = "string"
v = "int64"
id = "string"
f = "float64"

[[steps]]
dedupe = "id"
within = "1h"

[[steps]]
window = "tumbling"
size = "10s"
by = "k"
[steps.aggregate]
n = "count()"
s = "sum(v)"
m = "max(f)"

[[sinks]]
type = "kafka"
topic = "{{name}}.out"
partitions = 2
timestamp_format = "epoch_ms"
"""


@dataclass
class PoisonJob(Job):
    """A pipeline whose input is poisoned."""

    text: str = PIPELINE
    _wanted: Expected | None = None

    def expected(self) -> None:
        """See `Job`; `wanted` is more."""

    def wanted(self) -> Expected:
        """What is to become of all there is in the input, of which nothing more comes."""
        if self._wanted is None:
            self._wanted = oracle_poison.expected(self.server.bootstrap_servers, self.input, poison.RECORD_BYTES_MAX)
        return self._wanted

    def ends(self) -> dict[int, int]:
        return self.wanted().ends

    def differences(self) -> list[str]:
        servers, letters = self.server.bootstrap_servers, f"{self.name}.dead-letters"
        kept = poison.RECORD_BYTES_MAX
        return oracle_poison.differences(
            servers, self.wanted(), output=f"{self.name}.out", dead_letters=letters, kept_bytes_max=kept
        )


@pytest.fixture
def poisoned(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> Iterator[PoisonJob]:
    job = PoisonJob(kafka_server, unique, tmp_path)
    yield job
    job.kill_all()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize("workers", [1, pytest.param(3, marks=pytest.mark.column("pull"))])
def test_every_poison_is_one_dead_letter_and_every_good_record_counts(
    poisoned: PoisonJob, workers: int, run: int
) -> None:
    job, chance = poisoned, random.Random(run)
    made = poison.records(run, partitions=PARTITIONS, keys=KEYS)
    sender = traffic.Sender(job.server.bootstrap_servers, job.input, made, pause_s=PAUSE_S)
    job.end(sender, job.run_and_kill(workers, chance, KILLS))
    wanted = job.wanted()
    _check_classes(wanted)
    told = {lane: {name: counts.get(name, 0) for name in COUNTED} for lane, counts in job.ledgers().items()}
    assert told == {lane: {name: counts[name] for name in COUNTED} for lane, counts in wanted.ledgers.items()}


def _check_classes(wanted: Expected) -> None:
    """The run met each class often, and the oracle judges it as the class is meant."""
    met: dict[str, Counter[str]] = {}
    for message, fate in wanted.fates:
        met.setdefault(dict(message.headers())[poison.CLASS].decode(), Counter())[fate] += 1
    for name, (fate, _) in poison.BAD.items():
        # A step before it takes out the copy of one whose key is too long.
        allowed = {fate, "duplicate"} if fate == "KEY_TOO_LONG" else {fate}
        assert met[name][fate] >= OF_EACH_MIN, f"{name}: {met[name]}"
        assert met[name].keys() <= allowed, f"{name}: {met[name]}"
    for name in (poison.GOOD, *poison.ODD):
        assert met[name]["applied"] > 0
        assert met[name].keys() <= {"applied", "duplicate"}, f"{name}: {met[name]}"
