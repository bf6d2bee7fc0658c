"""A small exactly-once pipeline for tests of its state: sends records, runs, and calls commands on its file."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections import Counter
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from streamcore.cli import main
from streamcore.kafka_client import Cluster
from tests.integration.kafka_tools import TIMEOUT_S, connection, create_topic, delete_records, produce, read_topic
from tests.servers.kafka import KafkaServer

PIPELINE = """
name = "NAME"
delivery = "exactly_once"
commit_interval = "100ms"
combine = "COMBINE"
state_dir = "FOLDER"

[kafka]
bootstrap_servers = "SERVERS"
session_timeout = "6s"

[source]
type = "kafka"
topic = "NAME-in"
event_time = "t"
event_time_unit = "ms"
out_of_orderness = "0s"
idle_timeout = "1h"
KEYED
schema = { k = "string", v = "int64" }

[[steps]]
filter = "v >= 0"

[[steps]]
window = "tumbling"
size = "10s"
by = ["k"]
aggregate = { n = "count()", s = "sum(v)" }

[[sinks]]
type = "kafka"
topic = "NAME-out"
"""


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Job:
    """One pipeline, its topics, and what was sent."""

    def __init__(
        self,
        server: KafkaServer,
        name: str,
        folder: Path,
        *,
        partitions: int = 2,
        keyed: bool = True,
        combine: str | None = None,
        text: str = PIPELINE,
    ) -> None:
        """Lanes of what is not `keyed` meet in one process, unless `combine` says otherwise."""
        self.server, self.name, self.folder, self.partitions = server, name, folder, partitions
        self.file = folder / "job.toml"
        self.file.write_text(
            self.filled(text.replace("COMBINE", combine or ("auto" if keyed else "local")), keyed=keyed)
        )
        self.admin = AdminClient({"bootstrap.servers": server.bootstrap_servers})
        create_topic(server, f"{name}-in", partitions)

    def filled(self, text: str, *, keyed: bool = True) -> str:
        text = text.replace("KEYED", 'keyed_by = "k"' if keyed else "")
        text = text.replace("FOLDER", str(self.folder / "state")).replace("SERVERS", self.server.bootstrap_servers)
        return text.replace("NAME", self.name)

    def send(self, times_s: range, *, keys: int = 3, partition: int | None = None) -> None:
        """A record a second for each key, some of them without a place (`v < 0`)."""
        producer = Producer({"bootstrap.servers": self.server.bootstrap_servers, "enable.idempotence": True})
        for lane in range(self.partitions) if partition is None else [partition]:
            for at, key in product(times_s, range(keys)):
                name = f"{lane}-{key}"
                value = json.dumps({"t": at * 1000, "k": name, "v": at if at % 7 else -1})
                producer.produce(f"{self.name}-in", key=name, value=value, partition=lane)
        assert producer.flush(TIMEOUT_S) == 0

    def __call__(self, *arguments: str) -> Answer:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(list(arguments))
        return Answer(code, out.getvalue(), err.getvalue())

    def state(self, action: str, *arguments: str) -> Answer:
        return self("state", action, str(self.file), *arguments)

    def run(self, *arguments: str) -> Answer:
        """Reads what there is; open windows close at the end of it, and stay."""
        return self("run", str(self.file), "--stop", "end", *arguments)

    def final(self) -> dict[tuple[str, str], tuple[int, int]]:
        """The last row of each key and window."""
        rows = [json.loads(message.value()) for message in read_topic(self.server, f"{self.name}-out")]
        return {(row["k"], row["window_start"]): (row["n"], row["s"]) for row in rows}

    def rows(self) -> Counter[tuple[str, str, int]]:
        rows = [json.loads(message.value()) for message in read_topic(self.server, f"{self.name}-out")]
        return Counter((row["k"], row["window_start"], row["n"]) for row in rows)

    @property
    def state_topic(self) -> str:
        return f"{self.name}.0.state.g1"

    def state_keys(self, partition: int = 0, topic: str | None = None) -> list[str]:
        """Keys of the records that compaction would leave, in order."""
        found: dict[str, bool] = {}
        for message in read_topic(self.server, topic or self.state_topic):
            if message.partition() == partition:
                key = message.key().decode()
                found.pop(key, None)
                if message.value() is not None:
                    found[key] = True
        return list(found)

    def state_value(self, key: str, partition: int = 0) -> bytes:
        records = read_topic(self.server, self.state_topic)
        found = [each.value() for each in records if (each.partition(), each.key()) == (partition, key.encode())]
        return bytes(found[-1])

    def put_state(self, key: str, value: bytes | None, partition: int = 0) -> None:
        self.put_state_of(self.state_topic, key, value, partition)

    def put_state_of(self, topic: str, key: str, value: bytes | None, partition: int = 0) -> None:
        produce(self.server, topic, [value], partition=partition, key=key.encode())

    def make_again(self, topic: str, partitions: int) -> None:
        """Deletes a topic, and makes an empty one of its name."""
        self.admin.delete_topics([topic])[topic].result(TIMEOUT_S)
        deadline = time.monotonic() + TIMEOUT_S
        while topic in self.admin.list_topics(timeout=TIMEOUT_S).topics:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        of_state = ".state." in topic or ".combine." in topic
        create_topic(self.server, topic, partitions, cleanup_policy="compact" if of_state else "delete")

    def group_offsets(self) -> dict[int, int | None]:
        """Where the group stands, once no transaction on it is pending."""
        cluster = Cluster(connection(self.server))
        return cluster.group_offsets(self.name, f"{self.name}-in", range(self.partitions))

    def delete_records(self, partition: int, before: int) -> None:
        """Retention, at once."""
        delete_records(self.server, f"{self.name}-in", partition, before)
