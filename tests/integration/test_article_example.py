"""The clickstream example as a whole, on a bad day, with its worker killed twice.

100,000 clicks go through the service over HTTP while somebody else writes garbage beside it. What is then in Redis,
in the compacted topic and among the dead letters must be what an independent recount of the topic says.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from streamcore import _core
from tests.integration.article.recount import Recount, recount
from tests.integration.article.traffic import clicks, post_all
from tests.integration.kafka_tools import produce, read_topic
from tests.servers.kafka import KafkaServer
from tests.servers.ports import free_ports
from tests.servers.process import ServerProcess
from tests.servers.redis import RedisServer

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "clickstream"
PIPELINE = EXAMPLE / "page_counts.toml"
CLICKS = 100_000
KILLS_AT = (CLICKS // 3, CLICKS * 2 // 3)
START_TIMEOUT_S = 60.0
FINISH_TIMEOUT_S = 120.0

# A recount knows no wall clock: no lane may become idle, whatever this machine does meanwhile.
SETTINGS = ["source.idle_timeout=1h", "kafka.session_timeout=6s"]

ROGUE = [
    b"\xff\xfe not text",
    b"{not json",
    b'{"event_id":"r1","event_type":"page.view","timestamp":"2026-01-01T00:00:00Z"',
    b"[" * 30 + b"]" * 29,
    b'{"event_id":"r2","event_type":"page.view","timestamp":"2026-01-01T00:00:00Z","payload":{"user_id":"x","page_id":"p1"}}',
    None,
]
"""What a producer that is not the service writes, under the key `rogue`."""


@dataclass
class System:
    """The example, running."""

    kafka: KafkaServer
    redis: RedisServer
    folder: Path
    port: int
    environment: dict[str, str]
    kills: int = 0
    workers: list[ServerProcess] = field(default_factory=list)

    def command(self, *arguments: str) -> list[str]:
        overrides = [part for setting in SETTINGS for part in ("--set", setting)]
        return [sys.executable, "-m", "streamcore", "run", str(PIPELINE), *overrides, *arguments]

    def start_worker(self) -> None:
        log = self.folder / f"worker-{len(self.workers)}.log"
        self.workers.append(ServerProcess(self.command(), log, env=self.environment))

    def kill_worker(self) -> None:
        """Kills the worker once it has a checkpoint to go on from, and starts another."""
        worker = self.workers[-1]
        worker.wait_until(self.checkpoint.exists, "the worker's first checkpoint", START_TIMEOUT_S)
        worker.kill()
        self.kills += 1
        self.start_worker()

    @property
    def checkpoint(self) -> Path:
        return self.folder / "state" / "page-counts" / "checkpoint"

    def finish(self) -> None:
        """Stops the worker in order, then reads to the end so that every window closes."""
        assert self.workers[-1].stop(FINISH_TIMEOUT_S) == 0, self.workers[-1].log_tail()
        done = subprocess.run(
            self.command("--stop", "end"),
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=FINISH_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """Servers of its own: the example's topics and group have fixed names."""
    with KafkaServer() as kafka, RedisServer() as redis_server:
        (port,) = free_ports(1)
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "REDIS_URL": redis_server.url,
            "STREAMCORE_STATE_DIR": str(tmp_path / "state"),
        }
        create = [sys.executable, "-m", "streamcore", "topics", "create", str(PIPELINE)]
        subprocess.run(create, env={**os.environ, **environment}, check=True)
        system = System(kafka, redis_server, tmp_path, port, environment)
        uvicorn = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(EXAMPLE), "--port", str(port)]
        service = ServerProcess([*uvicorn, "--log-level", "warning"], tmp_path / "service.log", env=environment)
        try:
            service.wait_until(lambda: healthy(port), "the service", START_TIMEOUT_S)
            system.start_worker()
            yield system
        finally:
            for process in [*system.workers, service]:
                process.kill()


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def send(system: System, start: datetime) -> None:
    """All clicks over HTTP, garbage beside them, and the worker killed on the way."""
    kills = list(KILLS_AT)
    rogue = iter(range(0, CLICKS, CLICKS // 10))
    due = next(rogue)

    def on_progress(done: int) -> None:
        nonlocal due
        if kills and done >= kills[0]:
            kills.pop(0)
            system.kill_worker()
        if done >= due:
            due = next(rogue, CLICKS + 1)
            for partition in range(4):
                produce(system.kafka, "clickstream", ROGUE, partition=partition, key=b"rogue")

    statuses = asyncio.run(post_all(system.port, clicks(CLICKS, start, seed=7), on_progress))
    assert statuses == [202] * CLICKS
    assert system.kills == len(KILLS_AT)


@pytest.mark.timeout(600)
def test_a_bad_day_comes_out_exactly(system: System) -> None:
    start = (datetime.now(UTC) - timedelta(minutes=10)).replace(second=0, microsecond=0)
    send(system, start)
    system.finish()
    messages = read_topic(system.kafka, "clickstream")
    expected = recount(messages)
    for kind in ("applied", "filtered", "duplicate", "late", "future", "rejected", "tombstone"):
        assert expected.ledger[kind] > 0, f"the traffic has no {kind} records, so this proves nothing about them"
    check_ledger(system, expected)
    check_redis(system, expected)
    check_topic(system, expected)
    check_dead_letters(system, expected, messages)
    check_answers(system, expected)


def check_ledger(system: System, expected: Recount) -> None:
    """The checkpoint's ledger is that of the pipeline's whole life: what a killed worker did not keep counts once."""
    header = json.loads(_core.decode_checkpoint(system.checkpoint.read_bytes())[0])
    ledger: Counter[str] = Counter()
    for lane in header["ledger"].values():
        ledger.update(lane)
    assert {kind: ledger[kind] for kind in expected.ledger} == dict(expected.ledger)
    assert ledger["late_after_combine"] == 0


def check_redis(system: System, expected: Recount) -> None:
    with redis.Redis.from_url(system.redis.url, decode_responses=True) as client:
        keys = sorted(client.scan_iter("*", count=10_000))
        rows: list[dict[str, str]] = [client.hgetall(key) for key in keys]
    assert {key: int(row["cnt"]) for key, row in zip(keys, rows, strict=True)} == {
        f"page:{page}:{end}": views for (page, end), views in expected.views.items()
    }
    assert {row["is_final"] for row in rows} == {"true"}


def check_topic(system: System, expected: Recount) -> None:
    newest: dict[bytes, tuple[int, int, bytes]] = {}
    for message in read_topic(system.kafka, "page-counts"):
        partition, offset, _ = newest.get(message.key(), (message.partition(), -1, b""))
        assert partition == message.partition(), "rows of one key in two partitions cannot be compacted"
        newest[message.key()] = (partition, max(offset, message.offset()), message.value())
    rows = [json.loads(value) for _, _, value in newest.values()]
    assert all(list(row) == ["window_end", "page_id", "cnt"] for row in rows)
    assert {(row["page_id"], seconds(row["window_end"])): row["cnt"] for row in rows} == dict(expected.views)


def check_dead_letters(system: System, expected: Recount, messages: list[Any]) -> None:
    """Each refused record once at least, byte for byte, for the right reason, and nothing else."""
    originals = {(message.partition(), message.offset()): message for message in messages}
    found: dict[tuple[int, int], str] = {}
    for letter in read_topic(system.kafka, "clickstream.dead-letters"):
        facts = {name: value.decode() for name, value in letter.headers() if value is not None}
        original = originals[int(facts["dlq.partition"]), int(facts["dlq.offset"])]
        assert (letter.key(), letter.value()) == (original.key(), original.value())
        assert facts["dlq.sha256"] == hashlib.sha256(original.value()).hexdigest()
        assert (facts["dlq.topic"], facts["dlq.pipeline"]) == ("clickstream", "page-counts")
        found[original.partition(), original.offset()] = facts["dlq.reason"]
    assert found == expected.rejected


def check_answers(system: System, expected: Recount) -> None:
    (page, end), views = expected.views.most_common(1)[0]
    url = f"http://127.0.0.1:{system.port}/page/{page}/count?window_end={end}"
    with urllib.request.urlopen(url, timeout=10) as response:
        answer = json.load(response)
    assert (answer["cnt"], answer["is_final"], seconds(answer["window_end"])) == (views, True, end)


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())
