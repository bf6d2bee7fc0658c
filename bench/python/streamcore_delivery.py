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
from collections.abc import Iterable
from pathlib import Path

import streamcore as sc
import streamcore.run  # all that streamcore loads when first used, before the clock starts
from streamcore import _core

with warnings.catch_warnings(record=True):
    import quixstreams  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.python.committed_topic import last_values  # noqa: E402

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
    rows = windows(last_values(bootstrap, f"{name}.out").values())
    print(json.dumps({"seconds": seconds, "events": arguments["events"], "rows": rows, "version": _core.__version__}))


def windows(values: Iterable[bytes]) -> list[tuple[str, int, int]]:
    """Page, start of the window (ms) and views of each row."""
    rows = map(json.loads, values)
    return [(row["page_id"], _ms(row["window_start"]), row["views"]) for row in rows]


def _ms(text: str) -> int:
    return round((dt.datetime.fromisoformat(text) - EPOCH).total_seconds() * 1000)


if __name__ == "__main__":
    main()
