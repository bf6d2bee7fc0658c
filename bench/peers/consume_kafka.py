"""Worker: quixstreams' consumer and nothing else, every value taken, from the first records to the last. The limit of that door.

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
    consumer = Application(
        broker_address=arguments["bootstrap"],
        consumer_group=f"bench-{uuid.uuid4().hex}",
        auto_offset_reset="earliest",
        consumer_extra_config=arguments["settings"],
        loglevel=None,
    ).get_consumer(auto_commit_enable=False)
    consumer.assign([TopicPartition(arguments["topic"], number, 0) for number in range(arguments["partitions"])])
    began = 0.0
    events = taken = 0
    while events < arguments["events"]:
        messages = consumer.consume(arguments["records_max"], arguments["timeout_s"])
        if messages and not began:
            began = time.perf_counter()
        for message in messages:
            if message.error() is None:
                events += 1
                taken += len(message.value() or b"")
    seconds = time.perf_counter() - began
    consumer.close()  # type: ignore[no-untyped-call]
    version = quixstreams.__version__
    print(json.dumps({"seconds": seconds, "events": events, "bytes": taken, "rows": None, "version": version}))


if __name__ == "__main__":
    main()
