"""`streamcore check` against real servers: `--connect` and `--write-schema`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamcore.cli import main
from streamcore.config import KafkaConnection
from streamcore.kafka_client import Cluster
from streamcore.topics import TopicPlan
from tests.servers.kafka import KafkaServer
from tests.servers.redis import RedisServer

FILE = """\
[kafka]
bootstrap_servers = "{kafka}"
[source]
type = "kafka"
topic = "{topic}"
event_time = "at"
[[steps]]
window = "tumbling"
size = "1m"
by = ["page"]
[steps.aggregate]
slow = "max(ms)"
[[sinks]]
type = "kafka"
topic = "{topic}-out"
[[sinks]]
type = "redis"
url = "{redis}"
key_template = "{topic}:{{page}}"
"""


def produce(kafka: KafkaServer, topic: str, rows: list[dict[str, object]]) -> None:
    from confluent_kafka import Producer

    Cluster(KafkaConnection(bootstrap_servers=kafka.bootstrap_servers)).create_topic(TopicPlan(topic, "input", 2))
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "enable.idempotence": True})
    for row in rows:
        producer.produce(topic, json.dumps(row).encode())
    assert producer.flush(30) == 0


def test_asks_servers_and_samples_a_topic(
    kafka_server: KafkaServer,
    redis_server: RedisServer,
    unique: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    produce(kafka_server, unique, [{"at": "2026-01-01T00:00:10Z", "page": "home", "ms": 1.5}])
    path = tmp_path / "p.toml"
    text = FILE.format(kafka=kafka_server.bootstrap_servers, redis=redis_server.url, topic=unique)
    path.write_text(text)
    assert main(["check", str(path), "--connect"]) == 0
    out = capsys.readouterr().out
    assert f"kafka {kafka_server.bootstrap_servers}: reachable" in out
    assert f"topic {unique} (input): 2 partitions" in out
    assert f"topic {unique}-out (output): missing; a run creates it" in out
    assert "redis" in out.splitlines()[-2]
    assert main(["check", str(path), "--connect", "--set", "auto_create_topics=false"]) == 3
    assert f"{unique}-out" in capsys.readouterr().err

    assert main(["check", str(path), "--connect", "--set", f"source.topic={unique[:-1]}"]) == 3
    assert f'did you mean "{unique}"?' in capsys.readouterr().err

    path.write_text(f'name = "{unique}"\n{text}')
    assert main(["check", str(path), "--write-schema"]) == 0
    assert '"ms" = "float64"\n"page" = "string"' in path.read_text()
