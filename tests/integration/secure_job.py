"""A small pipeline on a broker that wants TLS or a login: as a file, or in Python where a callback gives the token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from streamcore.cli import main
from tests.integration.kafka_tools import create_topic, produce
from tests.servers.secure_kafka import SecureKafka

RECORDS, PARTITIONS = 60, 2

FILE = """
name = "NAME"
state_dir = "FOLDER"

[kafka]
KAFKA
[kafka.options]
OPTIONS
[source]
type = "kafka"
topic = "NAME"
event_time = "t"
event_time_unit = "ms"
schema = { n = "int64" }

[[steps]]
select = { n = "n" }
"""

MODULE = """
import json
from pathlib import Path
import streamcore as sc

HERE = Path(__file__).parent


def token(config):
    return tuple(json.loads((HERE / "token.json").read_text()))


connection = json.loads((HERE / "connection.json").read_text())
rows = sc.kafka(
    "NAME", group_id="NAME", connection=connection | {"options": {"oauth_cb": token}},
    event_time="t", event_time_unit="ms", schema={"n": "int64"},
).select(n="n")
"""


@dataclass(frozen=True)
class Ended:
    """A run that is over."""

    code: int
    out: str
    err: str
    everything: str
    """Whatever it left: what it printed, logged and wrote."""

    @property
    def numbers(self) -> list[int]:
        """Of the rows that it printed."""
        return sorted(json.loads(line)["n"] for line in self.out.splitlines())

    @property
    def error(self) -> list[str]:
        """The lines for people."""
        return [line for line in self.err.splitlines() if not line.startswith("{")]


class SecureJob:
    """A topic with records, and runs that print them."""

    def __init__(self, secure: SecureKafka, name: str, folder: Path) -> None:
        self.secure, self.name, self.folder = secure, name, folder
        create_topic(secure.server, name, PARTITIONS)
        for lane in range(PARTITIONS):
            numbers = range(lane, RECORDS, PARTITIONS)
            produce(secure.server, name, [json.dumps({"t": n, "n": n}).encode() for n in numbers], partition=lane)

    def file(self, listener: str, settings: Mapping[str, Any], options: Mapping[str, Any]) -> str:
        """A pipeline file that reads by a listener."""
        path = self.folder / "job.toml"
        kafka = lines({"bootstrap_servers": self.secure.bootstrap(listener), **settings})
        text = FILE.replace("KAFKA", kafka).replace("OPTIONS", lines(options))
        path.write_text(text.replace("FOLDER", str(self.folder / "state")).replace("NAME", self.name))
        return str(path)

    def module(self, listener: str, settings: Mapping[str, Any], token: tuple[str, float] | None) -> str:
        """The same in Python, with the token of a callback, which fails where there is none."""
        path = self.folder / "job.py"
        connection = {"bootstrap_servers": self.secure.bootstrap(listener), **settings}
        (self.folder / "connection.json").write_text(json.dumps(connection))
        if token is not None:
            (self.folder / "token.json").write_text(json.dumps(token))
        path.write_text(MODULE.replace("NAME", self.name))
        return f"{path}:rows"

    def run(
        self, target: str, transport: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> Ended:
        """`streamcore run`, to the end of the topic."""
        report = self.folder / "report.json"
        arguments = ["--stop", "end", "--output", "jsonl", "--transport", transport, "--report", str(report)]
        capfd.readouterr()
        with caplog.at_level("DEBUG"):
            code = main(["run", target, *arguments])
        out, err = capfd.readouterr()
        written = report.read_text() if report.exists() else ""
        return Ended(code, out, err, f"{out}\n{err}\n{caplog.text}\n{written}")


def lines(settings: Mapping[str, Any]) -> str:
    """Keys of TOML; text is written as JSON writes it, too."""
    return "\n".join(f"{json.dumps(name)} = {json.dumps(value)}" for name, value in settings.items())
