"""Owns which rivals of the `kafka` part are there, and what each is called with.

Before it: environments and jars that may be installed. After it: `kafka_to_windows.py`, which runs those in turn with streamcore.
Invariant: a rival that is not installed is said so and has no figure; one that is has its answer asserted.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.python.clickstream import Input
from bench.python.measure import BENCH, Contestant, say
from tests.servers.kafka import java, libraries
from tests.servers.process import ServerError

STREAMS = "Kafka Streams"
FLINK = "Flink SQL"
GUARANTEES = {f"{STREAMS} exactly once": "exactly_once_v2", f"{STREAMS} at least once": "at_least_once"}
TARGETS = {
    f"{STREAMS} exactly once": 20.0,
    f"{STREAMS} at least once": None,
    FLINK: 20.0,
    "bytewax": 30.0,
    "pathway": 30.0,
    "StreamingDataFrame": 200.0,
}
"""The least ratio of streamcore's exactly once to it."""


@dataclass(frozen=True)
class Rivals:
    """Pythons of the environments that rivals are in, or None."""

    python: str
    """Has `bench/peers/requirements.txt`."""
    pathway: str | None = None
    flink: str | None = None

    def contestants(self, sample: Mapping[str, Any], data: Input) -> list[Contestant]:
        """Those that are installed, over a topic of `data`."""
        peers = {"bytewax": self.python, "pathway": self.pathway}
        found = [
            Contestant(name, f"peers/{name}_kafka.py", python, sample, data.counts)
            for name, python in peers.items()
            if python is not None and _has(python, name)
        ]
        commands = {name: command for name, command in self._commands().items() if command}
        found += [
            Contestant(name, "python/to_topic.py", sys.executable, {**sample, "command": command}, data.counts)
            for name, command in commands.items()
        ]
        for name in TARGETS.keys() - {one.name for one in found} - {"StreamingDataFrame"}:
            say(f"  {name} is not installed: no figure (bench/README.md says how)")
        return found

    def _commands(self) -> dict[str, list[str]]:
        """Programs of their own that write to a topic; empty for one that is not there."""
        program = str(BENCH / "peers" / "KafkaStreamsJob.java")
        streams = _jars("kafka_streams") if shutil.which("javac") else None
        run = [java(), "-cp", f"{streams}/*", program] if streams else []
        commands = {name: [*run, guarantee] if run else [] for name, guarantee in GUARANTEES.items()}
        if self.flink is not None and _has(self.flink, "pyflink"):
            jars = _jars("flink_kafka")
            script = str(BENCH / "peers" / "flink_kafka.py")
            commands[FLINK] = [os.path.abspath(self.flink), script, *map(str, jars.glob("*.jar"))] if jars else []  # noqa: PTH100 (keeps the link that an environment's Python is)
        return commands


def _has(python: str, module: str) -> bool:
    command = [python, "-c", f"import importlib.util as found; raise SystemExit(found.find_spec('{module}') is None)"]
    return Path(python).is_file() and subprocess.run(command, check=False).returncode == 0


def _jars(name: str) -> Path | None:
    """The folder of the jars of `peers/NAME.xml`."""
    try:
        return libraries(BENCH / "peers" / f"{name}.xml")
    except ServerError as error:
        say(f"  {error}")
        return None
