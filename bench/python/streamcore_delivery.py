"""Worker: the reference job from topic to topic under one promise, at a commit a second.

Argument: `{"bootstrap", "topic", "events", "delivery", "name"}`; prints `{"seconds", "events", "rows", "version"}`. The time is
that of the run, from connecting to the last commit; the rows are then read from the output topic by a reader of
committed records, which takes the last of each key.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import tempfile
import time
import uuid
import warnings

import streamcore as sc
import streamcore.run  # all that streamcore loads when first used, before the clock starts
from streamcore import _core

with warnings.catch_warnings(record=True):
    import quixstreams  # noqa: F401
from confluent_kafka import Consumer, KafkaError

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def main() -> None:
    arguments = json.loads(sys.argv[1])
    name, bootstrap = f"clicks-{uuid.uuid4().hex[:8]}", arguments["bootstrap"]
    pipeline = (
        sc.kafka(
            arguments["topic"],
            connection={"bootstrap_servers": bootstrap},
            event_time="timestamp",
            schema={"payload.page_id": "string"},
        )
        .window(sc.tumbling("1m"), by="payload.page_id")
        .agg(views=sc.count())
        .sink_kafka(f"{name}.out")
        .dead_letters(topic=f"{name}.dead-letters")
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["STREAMCORE_STATE_DIR"] = folder
        began = time.perf_counter()
        pipeline.run(name=name, delivery=arguments["delivery"], commit_interval="1s", combine="local", stop="end")
        seconds = time.perf_counter() - began
    rows = last_rows(bootstrap, f"{name}.out")
    print(json.dumps({"seconds": seconds, "events": arguments["events"], "rows": rows, "version": _core.__version__}))


def last_rows(bootstrap: str, topic: str) -> list[tuple[str, int, int]]:
    """Page, start of the window (ms) and views of each key's last committed record."""
    settings = {"auto.offset.reset": "earliest", "enable.partition.eof": True, "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex, **settings})
    consumer.subscribe([topic])
    rows: dict[bytes, tuple[str, int, int]] = {}
    ended: set[int] = set()
    partitions = set(consumer.list_topics(topic, 10).topics[topic].partitions)
    while ended != partitions:
        message = consumer.poll(10)
        if message is None:
            raise RuntimeError(f"{topic} gave neither a record nor its end for 10 s")
        error = message.error()
        if error is None:
            row = json.loads(message.value())
            start = dt.datetime.fromisoformat(row["window_start"])
            rows[message.key()] = (row["page_id"], round((start - EPOCH).total_seconds() * 1000), row["views"])
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            ended.add(message.partition())
        else:
            raise RuntimeError(error.str())
    consumer.close()
    return list(rows.values())


if __name__ == "__main__":
    main()
