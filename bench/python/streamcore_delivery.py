"""Worker: the reference job from topic to topic under one promise, at a commit a second.

Argument: `{"bootstrap", "topic", "events", "delivery"}` and perhaps `transport`; prints `{"seconds", "begin_seconds", "events",
"rows", "version"}`. The time is from the first records to the last commit; before it, to have connected, joined the group and recovered took
`begin_seconds`. The rows are then read from the output topic by a reader of committed records, which takes the last of each key.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import uuid
import warnings
from pathlib import Path

import streamcore as sc
import streamcore.run  # all that streamcore loads when first used, before the clock starts
from streamcore import _core
from streamcore.runner import Runner
from streamcore.sources.base import Polled

with warnings.catch_warnings(record=True):
    import quixstreams  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.python.committed_topic import windows  # noqa: E402


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
        first = FirstRecords()
        began = time.perf_counter()
        pipeline.run(
            name=name,
            delivery=arguments["delivery"],
            transport=arguments.get("transport"),
            commit_interval="1s",
            combine="local",
            stop="end",
        )
        ended = time.perf_counter()
    rows = windows(bootstrap, f"{name}.out")
    found = {
        "seconds": ended - first.at,
        "begin_seconds": first.at - began,
        "events": arguments["events"],
        "rows": rows,
    }
    print(json.dumps({**found, "version": _core.__version__}))


class FirstRecords:
    """Takes the time of the first poll that gave records."""

    def __init__(self) -> None:
        self.at = 0.0
        self._poll = Runner._poll  # noqa: SLF001

        def poll(runner: Runner) -> Polled:
            polled = self._poll(runner)
            if self.at == 0.0 and polled.raw is not None:
                self.at = time.perf_counter()
            return polled

        Runner._poll = poll  # type: ignore[method-assign, assignment]  # noqa: SLF001


if __name__ == "__main__":
    main()
