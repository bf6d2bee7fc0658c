"""Where a group stands, and that a transaction on it is waited for."""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from streamcore.group_offsets import GroupOffsets
from streamcore.kafka_client import Cluster
from tests.integration.kafka_tools import TIMEOUT_S, connection, create_topic
from tests.servers.kafka import KafkaServer


def _commit(server: KafkaServer, group: str, topic: str, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": server.bootstrap_servers, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 1, offset)], asynchronous=False)
    consumer.close()


def test_a_group_stands_where_it_has_committed_and_else_nowhere(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique, 3)
    _commit(kafka_server, f"{unique}-g", unique, 7)
    cluster = Cluster(connection(kafka_server))
    cluster.connect()
    assert cluster.group_offsets(f"{unique}-g", unique, range(3)) == {0: None, 1: 7, 2: None}
    assert cluster.group_offsets(f"{unique}-none", unique, [1]) == {1: None}


def test_what_a_transaction_has_not_decided_yet_is_not_told(kafka_server: KafkaServer, unique: str) -> None:
    create_topic(kafka_server, unique, 3)
    group = f"{unique}-g"
    producer = Producer({"bootstrap.servers": kafka_server.bootstrap_servers, "transactional.id": unique})
    producer.init_transactions(TIMEOUT_S)
    producer.begin_transaction()
    member = Consumer({"bootstrap.servers": kafka_server.bootstrap_servers, "group.id": group})
    producer.send_offsets_to_transaction([TopicPartition(unique, 1, 9)], member.consumer_group_metadata(), TIMEOUT_S)
    asker = GroupOffsets(connection(kafka_server), group)
    with pytest.raises(KafkaException) as raised:
        asker.of(unique, [1], 1.0)
    assert raised.value.args[0].name() in ("UNSTABLE_OFFSET_COMMIT", "_TIMED_OUT")
    producer.commit_transaction(TIMEOUT_S)
    assert asker.of(unique, [1], TIMEOUT_S) == {1: 9}
    asker.close()
    member.close()
