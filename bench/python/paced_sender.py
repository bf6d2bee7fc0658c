"""Worker: sends the reference events at a steady rate.

Argument: `{"bootstrap", "topic", "path", "events", "rate"}`: how many events of the file, and how many a second. Prints `{"sent_s",
"late_s"}`: when each batch of `BATCH_EVENTS` was handed to the client, by the clock on the wall, and by how much one of them was late at most.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from confluent_kafka import Producer  # noqa: E402

from bench.python.clickstream import user_of  # noqa: E402
from bench.python.kafka_topics import SETTINGS  # noqa: E402

BATCH_EVENTS = 500
LINGER_MS = 5


def main() -> None:
    arguments = json.loads(sys.argv[1])
    producer = Producer(
        {"bootstrap.servers": arguments["bootstrap"], "compression.type": "lz4", **SETTINGS, "linger.ms": LINGER_MS}
    )
    producer.list_topics(arguments["topic"], 30)
    sent_s: list[float] = []
    late_s = 0.0
    with Path(arguments["path"]).open("rb") as file:
        lines = itertools.islice(file, arguments["events"])
        began = time.monotonic()
        while batch := [{"value": line[:-1], "key": user_of(line)} for line in itertools.islice(lines, BATCH_EVENTS)]:
            producer.poll(0)
            due = began + len(sent_s) * BATCH_EVENTS / arguments["rate"]
            time.sleep(max(0.0, due - time.monotonic()))
            late_s = max(late_s, time.monotonic() - due)
            sent_s.append(time.time())
            if producer.produce_batch(arguments["topic"], batch) != len(batch):
                raise SystemExit("the client's queue is full: the broker does not take so many")
    if producer.flush(60):
        raise SystemExit("the broker did not take every record")
    print(json.dumps({"sent_s": sent_s, "late_s": late_s}))


if __name__ == "__main__":
    main()
