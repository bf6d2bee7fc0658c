"""Worker: the same windows by a quixstreams `StreamingDataFrame`, timed from its first record to its last window row.

Grouping by page goes through its repartition topic, where the order of the partitions it came from is mixed; so windows
are kept open (`grace_ms`) and read as they grow: the last row of each is the answer.
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

QUIET_S = 10.0
"""How long nothing may come before the input counts as read; not part of the time measured."""

GRACE_MS = 600_000


def event_time_ms(value: dict[str, Any], _headers: object, _timestamp: float, _kind: object) -> int:
    return int(datetime.fromisoformat(value["timestamp"]).timestamp() * 1000)


def main() -> None:
    arguments = json.loads(sys.argv[1])
    counts: dict[tuple[str, int], int] = {}
    times: list[float] = []

    def keep(row: dict[str, Any], page: str, _time: int, _headers: object) -> None:
        counts[page, row["start"]] = row["value"]
        times.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as state:
        application = Application(
            broker_address=arguments["bootstrap"],
            consumer_group=f"bench-{uuid.uuid4().hex}",
            auto_offset_reset="earliest",
            state_dir=state,
            loglevel=None,
        )
        topic = application.topic(arguments["topic"], value_deserializer="json", timestamp_extractor=event_time_ms)
        clicks = application.dataframe(topic).update(lambda _: times.append(time.perf_counter()))
        by_page = clicks.group_by(lambda value: value["payload"]["page_id"], name="page")
        by_page.tumbling_window(duration_ms=60_000, grace_ms=GRACE_MS).count().current().update(keep, metadata=True)
        application.run(timeout=QUIET_S)
    if len(times) != 2 * arguments["events"]:
        raise SystemExit(f"quixstreams handled {len(times) / 2} of {arguments['events']} events")
    rows = [(page, start, count) for (page, start), count in counts.items()]
    seconds = times[-1] - times[0]
    print(
        json.dumps(
            {"seconds": seconds, "events": arguments["events"], "rows": rows, "version": quixstreams.__version__}
        )
    )


if __name__ == "__main__":
    main()
