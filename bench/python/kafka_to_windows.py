"""Kafka to final windows, against the same consumer doing nothing and a `StreamingDataFrame` doing the same job.

The topic has 4 partitions and is keyed by user; windows are grouped by page, so lanes' partials meet in the combine
stage. The `StreamingDataFrame` gets every 20th event, in a topic of its own with the same keys: the whole input would
take it minutes a round.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from bench.python.clickstream import Input, clicks, sampled_counts
from bench.python.measure import Contestant, Figure, Measured, figure, measure, say
from tests.servers.kafka import KafkaServer

BENCH = "kafka_to_windows"
PARTITIONS = 4
SAMPLE_EVERY = 20
CONSUME_TARGET = 0.7
FRAME_TARGET = 30.0
POLL_TIMEOUT_S = 0.05


@dataclass(frozen=True)
class KafkaBench:
    clicks: Input
    rivals: str
    rounds: int

    def run(self) -> tuple[list[Measured], list[Figure]]:
        with KafkaServer() as server:
            events = self.clicks.events
            fill(server.bootstrap_servers, "clicks", ((click.user, click.value) for click in clicks(events)))
            sample = (click for number, click in enumerate(clicks(events)) if number % SAMPLE_EVERY == 0)
            fill(server.bootstrap_servers, "clicks-sample", ((click.user, click.value) for click in sample))
            found = measure(self._contestants(server.bootstrap_servers), self.rounds)
        own = found["streamcore"]
        return list(found.values()), [
            figure(BENCH, "kafka to windows vs bare consume()", own, found["consume()"], CONSUME_TARGET),
            figure(BENCH, "kafka to windows vs StreamingDataFrame", own, found["StreamingDataFrame"], FRAME_TARGET),
        ]

    def _contestants(self, bootstrap: str) -> list[Contestant]:
        from streamcore.sources.kafka import CONSUME_RECORDS

        events = self.clicks.events
        whole = {"bootstrap": bootstrap, "topic": "clicks", "events": events}
        bare = {
            **whole,
            "partitions": PARTITIONS,
            "records_max": CONSUME_RECORDS,
            "timeout_s": POLL_TIMEOUT_S,
            "settings": consumer_settings(),
        }
        sample = {"bootstrap": bootstrap, "topic": "clicks-sample", "events": len(range(0, events, SAMPLE_EVERY))}
        counts = sampled_counts(events, SAMPLE_EVERY)
        frame = "peers/quixstreams_kafka.py"
        return [
            Contestant("streamcore", "python/streamcore_kafka.py", sys.executable, whole, self.clicks.counts),
            Contestant("consume()", "peers/consume_kafka.py", self.rivals, bare, None),
            Contestant("StreamingDataFrame", frame, self.rivals, sample, counts),
        ]


def consumer_settings() -> dict[str, object]:
    """What streamcore's own source sets, so that both read the same way."""
    from streamcore.sources.kafka import FETCH_SETTINGS

    return {**FETCH_SETTINGS, "isolation.level": "read_committed"}


def fill(bootstrap: str, topic: str, records: Iterable[tuple[str, bytes]]) -> None:
    """Makes the topic and produces the records, partitioned as Java clients would."""
    from confluent_kafka import Producer

    say(f"  filling {topic}")
    create_topic(bootstrap, topic)
    settings = {"linger.ms": 50, "compression.type": "lz4", "partitioner": "murmur2", "acks": "all"}
    producer = Producer({"bootstrap.servers": bootstrap, "queue.buffering.max.messages": 200_000, **settings})
    for number, (key, value) in enumerate(records):
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.1)
        if number % 10_000 == 0:
            producer.poll(0)
    if producer.flush(120):
        raise RuntimeError(f"the broker did not take every record of {topic}")


def create_topic(bootstrap: str, topic: str) -> None:
    """Of as many partitions as all inputs here have."""
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, num_partitions=PARTITIONS, replication_factor=1)])[topic].result(30)
