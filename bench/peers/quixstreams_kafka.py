"""Worker: the same windows by a quixstreams `StreamingDataFrame`, timed from its first to its last record.

Its topic is keyed by page already: it is spared the repartitioning that grouping by another field would cost it.
Argument: `{"bootstrap", "topic", "events"}`; prints `{"seconds", "events", "rows", "version"}`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import uuid
import warnings
from datetime import datetime
from typing import Any

with warnings.catch_warnings(record=True):
    import quixstreams
    from quixstreams import Application

QUIET_S = 15.0
"""How long nothing may come before the input counts as read; not part of the time measured."""


def event_time_ms(value: dict[str, Any], _headers: object, _timestamp: float, _kind: object) -> int:
    return int(datetime.fromisoformat(value["timestamp"]).timestamp() * 1000)


def main() -> None:
    arguments = json.loads(sys.argv[1])
    rows: list[tuple[str, int, int]] = []
    times: list[float] = []
    with tempfile.TemporaryDirectory() as state:
        application = Application(
            broker_address=arguments["bootstrap"],
            consumer_group=f"bench-{uuid.uuid4().hex}",
            auto_offset_reset="earliest",
            state_dir=state,
            loglevel=None,
        )
        topic = application.topic(arguments["topic"], value_deserializer="json", timestamp_extractor=event_time_ms)
        frame = application.dataframe(topic).update(lambda _: times.append(time.perf_counter()))
        counted = frame.tumbling_window(duration_ms=60_000).count().final(closing_strategy="partition")
        counted.update(
            lambda row, key, _time, _headers: rows.append((key.decode(), row["start"], row["value"])), metadata=True
        )
        application.run(timeout=QUIET_S)
    if len(times) != arguments["events"]:
        raise SystemExit(f"quixstreams saw {len(times)} of {arguments['events']} events")
    seconds = times[-1] - times[0]
    print(json.dumps({"seconds": seconds, "events": len(times), "rows": rows, "version": quixstreams.__version__}))


if __name__ == "__main__":
    main()
