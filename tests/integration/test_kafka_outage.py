"""A broker that is away for a while, under a whole run: it waits, and goes on with the same rows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

import streamcore as sc
from streamcore.run import Run
from tests.integration.kafka_tools import TIMEOUT_S, create_topic, produce, read_topic
from tests.integration.test_kafka_traps import QUICK_RESTART
from tests.servers.kafka import KafkaServer
from tests.servers.redis import RedisServer

SESSION_S = 2.0
OUTAGE_S = 4.0
RECORDS = 60_000
PAGES = 3


@contextmanager
def counting(server: KafkaServer, redis_server: RedisServer, topic: str) -> Iterator[Run]:
    """A run that counts into a topic and into Redis, slowly enough to be met in its work."""
    connection = sc.KafkaConnection(bootstrap_servers=server.bootstrap_servers, session_timeout=f"{SESSION_S:.0f}s")
    source = sc.kafka(
        topic,
        connection=connection,
        event_time="at",
        event_time_unit="ms",
        schema={"page": "string"},
        poll_records_max=50,
    )
    pipeline = (
        source.window(sc.tumbling("1d"), by="page", emit="updates")
        .agg(views=sc.count())
        .sink_kafka(f"{topic}-out")
        .sink_redis(topic + ":{page}", url=redis_server.url, value="views")
    )
    with pipeline.start(name=topic, stop="end", commit_interval="100ms") as run:
        yield run


def wait_for_records(run: Run, count: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while run.report.ledger.read < count:
        assert time.monotonic() < deadline, f"only {run.report.ledger.read} records were read"
        time.sleep(0.01)


def test_an_outage_longer_than_the_session_is_waited_out_and_changes_no_row(
    redis_server: RedisServer, unique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker sat in the flush of its sink meanwhile, and took that for having been stopped: exit code 7."""
    monkeypatch.setenv("STREAMCORE_STATE_DIR", str(tmp_path))
    with KafkaServer(properties=QUICK_RESTART) as server:
        create_topic(server, unique)
        values = [json.dumps({"at": number, "page": f"p{number % PAGES}"}).encode() for number in range(RECORDS)]
        produce(server, unique, values)
        with counting(server, redis_server, unique) as run:
            wait_for_records(run, 1)
            server.process.kill()
            time.sleep(OUTAGE_S)
            assert run.report.ledger.read < RECORDS
            server.launch()
            report = run.wait(timeout_s=60.0)
        assert report.ledger.read == report.ledger.applied == RECORDS
        rows = {
            row["page"]: row["views"]
            for row in map(json.loads, (m.value() for m in read_topic(server, f"{unique}-out")))
        }
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        kept = {f"p{page}": client.hget(f"{unique}:p{page}", "value") for page in range(PAGES)}
    assert kept == {page: str(views) for page, views in rows.items()}
    assert rows == dict.fromkeys(rows, RECORDS // PAGES)
