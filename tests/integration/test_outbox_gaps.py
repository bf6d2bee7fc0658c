"""Retention of a topic that overtakes the sinks it feeds: a run is refused by the exact rows, or goes on without them and counts them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from streamcore.config import KafkaConnection
from streamcore.kafka_client import Cluster, partition_list
from tests.integration.kafka_tools import connection, delete_records, read_topic
from tests.integration.state_job import PIPELINE, Job
from tests.servers.kafka import KafkaServer
from tests.servers.redis import RedisServer
from tests.servers.webhook import WebhookServer

EXIT_STATE = 6

APPENDS = PIPELINE + 'mode = "append"\n'
"""Compaction deletes no beginning; retention does."""


def report_of(job: Job, *arguments: str) -> Any:
    path = job.folder / "report.json"
    answer = job.run(*arguments, "--report", str(path))
    assert answer.code == 0, answer.err
    return json.loads(path.read_text())["report"]


def test_a_redis_that_was_away_too_long(
    kafka_server: KafkaServer, redis_server: RedisServer, unique: str, tmp_path: Path
) -> None:
    sink = f'\n[[sinks]]\ntype = "redis"\nname = "cache"\nurl = "{redis_server.url}"\nkey_template = "{unique}:{{k}}:{{window_start:epoch_ms}}"\n'
    job = Job(kafka_server, unique, tmp_path, text=APPENDS + sink)
    job.send(range(25))
    assert report_of(job)["skipped_by_outboxes"] == {"cache": 0}
    applied = f"streamcore:{unique}:cache:applied:0"
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        stored = str(client.get(applied))
        client.set(applied, f"{stored.rpartition(':')[0]}:1")
        delete_records(kafka_server, f"{unique}-out", 0, 4)
        lost = f"rows 1 to 3 of partition 0 of topic {unique}-out were deleted before Redis"
        refused = job.run()
        assert (refused.code, lost in refused.err, "--accept-gap" in refused.err) == (EXIT_STATE, True, True), (
            refused.err
        )
        assert str(client.get(applied)).endswith(":1")

        assert report_of(job, "--accept-gap")["skipped_by_outboxes"] == {"cache": 3}
        assert client.get(applied) == stored
    # It is not judged again, and nothing is counted twice.
    assert report_of(job)["skipped_by_outboxes"] == {"cache": 0}


def test_a_server_that_was_away_too_long(kafka_server: KafkaServer, unique: str, tmp_path: Path) -> None:
    with WebhookServer() as server:
        job = Job(
            kafka_server, unique, tmp_path, text=f'{APPENDS}\n[[sinks]]\ntype = "webhook"\nurl = "{server.url}"\n'
        )
        job.send(range(25))
        assert job.run().code == 0
        rows = read_topic(kafka_server, f"{unique}-out")
        taken, group = len(server.taken), f"{unique}.sink1"
        assert taken == len(rows)
        end = max(row.offset() for row in rows if row.partition() == 0) + 1
        _set_group(connection(kafka_server), group, f"{unique}-out", 2)
        delete_records(kafka_server, f"{unique}-out", 0, 5)
        refused = job.run()
        assert (refused.code, "rows 2 to 4 of partition 0" in refused.err) == (EXIT_STATE, True), refused.err
        assert report_of(job, "--accept-gap")["skipped_by_outboxes"] == {"sinks[1]": 3}
        assert len(server.taken) == taken, "the others have the keys that they had"
        # Behind the transaction's marker too, which retention may delete.
        assert Cluster(connection(kafka_server)).group_offsets(group, f"{unique}-out", [0]) == {0: end + 1}


def _set_group(settings: KafkaConnection, group: str, topic: str, offset: int) -> None:
    from confluent_kafka import ConsumerGroupTopicPartitions
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": settings.bootstrap_servers})
    wanted = ConsumerGroupTopicPartitions(group, partition_list(topic, {0: offset}))
    for altered in admin.alter_consumer_group_offsets([wanted]).values():
        altered.result(10)


@pytest.mark.parametrize("flag", ["", "--accept-gap"])
def test_a_redis_that_forgot_everything_gets_what_there_is(
    kafka_server: KafkaServer, redis_server: RedisServer, unique: str, tmp_path: Path, flag: str
) -> None:
    sink = f'\n[[sinks]]\ntype = "redis"\nurl = "{redis_server.url}"\nkey_template = "{unique}:{{k}}:{{window_start:epoch_ms}}"\n'
    job = Job(kafka_server, unique, tmp_path, text=APPENDS + sink)
    job.send(range(25))
    assert job.run().code == 0
    with redis.Redis.from_url(redis_server.url) as client:
        client.delete(*client.keys(f"*{unique}:*"))
        delete_records(kafka_server, f"{unique}-out", 0, 4)
        answer = job.run(*flag.split())
        assert (answer.code, "which begins with 4 by now" in answer.err) == (0, True), answer.err
        assert len(client.keys(f"{unique}:*")) == len(job.final())
