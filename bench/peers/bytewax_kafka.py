"""Worker: the same windows by bytewax, one worker, orjson, timed from its first record to its last window.

It reads the partitions in turn, so its clock waits for a day: nothing is late, and windows close when the input ends.
Argument: `{"bootstrap", "topic", "events"}`; prints `{"seconds", "events", "rows", "version"}`.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import orjson
from bytewax import operators as op
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, TumblingWindower, count_window
from bytewax.testing import TestingSink, run_main

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BATCH = 1_000


def main() -> None:
    arguments = json.loads(sys.argv[1])
    times: list[float] = []

    def click(message: KafkaSourceMessage) -> tuple[str, datetime]:
        if not times:
            times.append(time.perf_counter())
        event = orjson.loads(message.value)
        return event["payload"]["page_id"], datetime.fromisoformat(event["timestamp"])

    found: list[tuple[str, tuple[int, int]]] = []
    flow = Dataflow("clicks")
    source = KafkaSource([arguments["bootstrap"]], [arguments["topic"]], tail=False, batch_size=BATCH)
    clicks = op.map("click", op.input("input", flow, source), click)
    clock = EventClock(lambda click: click[1], wait_for_system_duration=timedelta(days=1))
    minutes = TumblingWindower(length=timedelta(minutes=1), align_to=EPOCH)
    op.output("output", count_window("views", clicks, clock, minutes, lambda click: click[0]).down, TestingSink(found))
    run_main(flow)
    seconds = time.perf_counter() - times[0]
    rows = [(page, window * 60_000, views) for page, (window, views) in found]
    result = {"seconds": seconds, "events": arguments["events"], "rows": rows, "version": version("bytewax")}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
