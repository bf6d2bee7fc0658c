"""Worker: the same windows by pathway's Kafka and JSON connectors, one worker, timed as a whole bounded run.

Argument: `{"bootstrap", "topic", "events"}`; prints `{"seconds", "events", "rows", "version"}`.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any

import pathway as pw

EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (pathway's times without a zone)


class Click(pw.Schema):  # type: ignore[misc]
    timestamp: str
    page: str


def main() -> None:
    arguments = json.loads(sys.argv[1])
    counts: dict[tuple[str, int], int] = {}

    def keep(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:  # noqa: FBT001
        del key, time
        if is_addition:
            counts[row["page"], round((row["start"] - EPOCH).total_seconds() * 1000)] = row["views"]

    began = time.perf_counter()
    settings = {
        "bootstrap.servers": arguments["bootstrap"],
        "group.id": uuid.uuid4().hex,
        "auto.offset.reset": "earliest",
    }
    clicks = pw.io.kafka.read(
        settings,
        topic=arguments["topic"],
        schema=Click,
        format="json",
        json_field_paths={"page": "/payload/page_id"},
        mode="static",
    )
    timed = clicks.select(page=pw.this.page, at=pw.this.timestamp.dt.strptime("%Y-%m-%dT%H:%M:%S%.3fZ"))
    minutes = timed.windowby(
        timed.at, window=pw.temporal.tumbling(duration=timedelta(minutes=1)), instance=timed.page
    ).reduce(page=pw.this._pw_instance, start=pw.this._pw_window_start, views=pw.reducers.count())  # noqa: SLF001
    pw.io.subscribe(minutes, keep)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    seconds = time.perf_counter() - began
    rows = [(page, start, views) for (page, start), views in counts.items()]
    result = {"seconds": seconds, "events": arguments["events"], "rows": rows, "version": version("pathway")}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
