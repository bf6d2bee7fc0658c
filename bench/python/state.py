"""What exactly once costs: throughput, commits, restore, changes, and handing lanes over.

The reference job runs under `exactly_once` and `at_least_once`, at a commit a second, dead letters in a topic in both. Commits
of a keyed count stand beside those of a bare transactional producer that sends the same records to topics of the same shape. The
hand-over is watched from outside: from the signal until the group has committed records that came after it, in every partition.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.python import handover
from bench.python.clickstream import Input, values
from bench.python.kafka_topics import create_topic, fill
from bench.python.measure import (
    BENCH,
    WORKER_TIMEOUT_S,
    Contestant,
    Figure,
    Measured,
    WrongAnswerError,
    figure,
    machine,
    measure,
    say,
)
from bench.python.state_worker import Sender
from tests.servers.kafka import KafkaServer

NAME = "state"
KEYS = 1_000_000
COMMITS = 9
"""Of each size, in a round."""

THROUGHPUT_TARGET = 0.85
COMMIT_TARGET = 1.15
RESTORE_TARGET = 1_000_000
COPY_TARGET = 1.0
"""A local copy that is no faster than the topic would be of no use."""
GROWTH_TARGET = 1.1
"""What a changed key may take among many, of what it takes among fewer."""

PROPERTIES = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": str(handover.SCAN_S * 1000)}


@dataclass(frozen=True)
class StateBench:
    clicks: Input
    rounds: int

    def run(self) -> tuple[list[Measured], list[Figure]]:
        with KafkaServer(properties=PROPERTIES) as server:
            fill(server.bootstrap_servers, "clicks", values(self.clicks))
            found = measure(self._contestants(server.bootstrap_servers), self.rounds)
            own, other = found["exactly_once"], found["at_least_once"]
            figures = [figure(NAME, "exactly once vs at least once", own, other, THROUGHPUT_TARGET)]
            figures += self._commits(server.bootstrap_servers)
            figures += handover.run(server, self.rounds)
        return list(found.values()), figures

    def _contestants(self, bootstrap: str) -> list[Contestant]:
        worker = "python/streamcore_delivery.py"
        arguments = {"bootstrap": bootstrap, "topic": "clicks", "events": self.clicks.events}
        return [
            Contestant(delivery, worker, sys.executable, {**arguments, "delivery": delivery}, self.clicks.counts)
            for delivery in ("exactly_once", "at_least_once")
        ]

    def _commits(self, bootstrap: str) -> list[Figure]:
        rounds = []
        for number in range(self.rounds):
            topic = f"users-{number}"
            say(f"  filling {topic}")
            create_topic(bootstrap, topic)
            Sender(bootstrap, topic).send(range(KEYS))
            rounds.append(_work({"bootstrap": bootstrap, "topic": topic, "keys": KEYS, "commits": COMMITS}))
            found = rounds[-1]
            say(f"  round {number + 1}: restore {KEYS / found['restore']:,.0f} keys/s")
            say(f"  round {number + 1}: restore from the local copy {KEYS / found['restore_copied']:,.0f} keys/s")
        figures = []
        for changed in rounds[0]["commits"]:
            ours, bare, _ = zip(*(one for found in rounds for one in found["commits"][changed]), strict=True)
            value, rival = statistics.median(ours), statistics.median(bare)
            ratio = statistics.median(own / other for own, other in zip(ours, bare, strict=True))
            title = f"commit, {int(changed):,} keys changed"
            figures.append(
                _figure(
                    title,
                    value * 1000,
                    "ms",
                    ratio=ratio,
                    target=COMMIT_TARGET,
                    rival=f"bare producer {rival * 1000:.1f} ms",
                )
            )
        each = {int(changed): _bytes_each(rounds, changed) for changed in rounds[0]["commits"]}
        *_, fewer, most = each
        title = f"bytes of one of {most:,} changed keys"
        figures.append(
            _figure(
                title, each[most], "bytes", ratio=each[most] / each[fewer], target=GROWTH_TARGET, rival=f"of {fewer:,}"
            )
        )
        restore = statistics.median(KEYS / found["restore"] for found in rounds)
        holds = restore >= RESTORE_TARGET
        figures.append(Figure(NAME, "restore", round(restore), "keys/s", None, None, RESTORE_TARGET, holds, machine()))
        return [*figures, _copied(rounds)]


def _copied(rounds: Sequence[Mapping[str, Any]]) -> Figure:
    """Keys that come back from the worker's own copy, beside those from the topic."""
    value, rival = (statistics.median(KEYS / found[name] for found in rounds) for name in ("restore_copied", "restore"))
    ratio = round(statistics.median(found["restore"] / found["restore_copied"] for found in rounds), 2)
    name, beside = "restore from the local copy", f"the topic {rival:,.0f} keys/s"
    return Figure(NAME, name, round(value), "keys/s", beside, ratio, COPY_TARGET, ratio >= COPY_TARGET, machine())


def _figure(name: str, value: float, unit: str, *, ratio: float, target: float, rival: str) -> Figure:
    """One whose ratio must not be above its target."""
    return Figure(NAME, name, round(value, 2), unit, rival, round(ratio, 2), target, ratio <= target, machine())


def _bytes_each(rounds: Sequence[Mapping[str, Any]], changed: str) -> float:
    """Bytes that commits wrote for a changed key, manifests and parts written anew included."""
    written: int = sum(size for found in rounds for _, _, size in found["commits"][changed])
    return written / (int(changed) * COMMITS * len(rounds))


def _work(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A run of the worker, whose answer is checked."""
    command = [sys.executable, str(BENCH / "python" / "state_worker.py"), json.dumps(dict(arguments))]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=WORKER_TIMEOUT_S)
    if done.returncode != 0:
        raise RuntimeError(f"the keyed count failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    events = arguments["keys"] + sum(int(changed) for changed in found["commits"]) * arguments["commits"]
    if found["rows"] != [arguments["keys"], events]:
        raise WrongAnswerError(f"keys and events are {found['rows']}, and should be {[arguments['keys'], events]}")
    return found
