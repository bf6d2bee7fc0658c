"""Owns the cases of the `kafka` part: the base one, and those in which one thing is other than there.

Before it: the events and a broker. After it: `kafka_to_windows.py`. In each case streamcore's exactly once is beside the raw
fetch limit. Invariant: what both read is the same topic, and all of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.python.clickstream import Input, prepare, values
from bench.python.kafka_topics import Sent, Shape, fill
from bench.python.measure import Contestant

ROOT = Path(__file__).resolve().parents[2]
REFERENCE_BYTES = 236
LIMIT = "fetch limit"
NATIVE = "streamcore exactly once"

CASES = {
    "uncompressed": Shape(compression="none"),
    "zstd": Shape(compression="zstd"),
    "1 partition": Shape(partitions=1),
    "32 partitions": Shape(partitions=32),
    "1 KB events": Shape(event_bytes=1 << 10),
    "10 KB events": Shape(event_bytes=10 << 10),
}
"""What is other than in the base case, by the name of the figure."""


@dataclass(frozen=True)
class Topic:
    """A topic that was filled, and what a job over it must find."""

    bootstrap: str
    name: str
    sent: Sent
    data: Input

    @property
    def arguments(self) -> dict[str, Any]:
        """What every worker is told."""
        return {"bootstrap": self.bootstrap, "topic": self.name, "events": self.sent.events}

    def limit(self, program: str) -> Contestant:
        arguments = {**self.arguments, "program": program, "sent": asdict(self.sent)}
        return Contestant(LIMIT, "python/fetch_limit.py", sys.executable, arguments, None)

    def streamcore(self, name: str = NATIVE, delivery: str = "exactly_once", transport: str = "native") -> Contestant:
        arguments = {**self.arguments, "delivery": delivery, "transport": transport}
        return Contestant(name, "python/streamcore_delivery.py", sys.executable, arguments, self.data.counts)


def topic(bootstrap: str, name: str, data: Input, shape: Shape | None = None) -> Topic:
    """Filled with the events of `data`."""
    return Topic(bootstrap, name, fill(bootstrap, name, values(data), shape), data)


def cases(bootstrap: str, whole: Input) -> Iterator[tuple[str, Topic]]:
    """Each case and its topic, made when it is asked for. Larger events are fewer, and as many bytes."""
    for number, (case, shape) in enumerate(CASES.items()):
        data = whole
        if shape.event_bytes is not None:
            data = prepare(whole.path.parent, whole.events * REFERENCE_BYTES // shape.event_bytes)
        yield case, topic(bootstrap, f"clicks-case-{number}", data, shape)


def fetch_limit() -> str:
    """The program of `fetch_limit.rs`, built as it is shipped."""
    build = ["cargo", "build", "--release", "--locked", "--quiet", "--message-format", "json"]
    command = [*build, "--package", "streamcore-kafka", "--example", "fetch_limit"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    made = [line.get("executable") for line in map(json.loads, done.stdout.splitlines())]
    return str(next(program for program in made if program))
