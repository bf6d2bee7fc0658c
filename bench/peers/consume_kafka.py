"""Worker: quixstreams' consumer and nothing else, every value taken. The limit of that door for anybody.

Argument: `{"bootstrap", "topic", "partitions", "events", "records_max", "timeout_s", "settings"}`; prints
`{"seconds", "events", "rows", "version"}`.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
import warnings

with warnings.catch_warnings(record=True):
    import quixstreams
    from quixstreams import Application

from confluent_kafka import TopicPartition


def main() -> None:
    arguments = json.loads(sys.argv[1])
    began = time.perf_counter()
    consumer = Application(
        broker_address=arguments["bootstrap"],
        consumer_group=f"bench-{uuid.uuid4().hex}",
        auto_offset_reset="earliest",
        consumer_extra_config=arguments["settings"],
        loglevel=None,
    ).get_consumer(auto_commit_enable=False)
    consumer.assign([TopicPartition(arguments["topic"], number, 0) for number in range(arguments["partitions"])])
    events = taken = 0
    while events < arguments["events"]:
        for message in consumer.consume(arguments["records_max"], arguments["timeout_s"]):
            if message.error() is None:
                events += 1
                taken += len(message.value() or b"")
    seconds = time.perf_counter() - began
    consumer.close()  # type: ignore[no-untyped-call]
    version = quixstreams.__version__
    print(json.dumps({"seconds": seconds, "events": events, "bytes": taken, "rows": None, "version": version}))


if __name__ == "__main__":
    main()
