"""Worker: streamcore over a topic, through quixstreams' consumer, partials met by `combine = "local"`.

Argument: `{"bootstrap", "topic", "events"}`; prints `{"seconds", "events", "rows", "version"}`. Connecting and
placing the consumer is part of the time, as it is for the bare consumer.
"""

from __future__ import annotations

import json
import sys
import time
import warnings

import polars as pl
import pyarrow as pa  # noqa: F401

import streamcore as sc
import streamcore.run  # all that streamcore loads when first used, before the clock starts: as the rivals' libraries
from streamcore import _core

with warnings.catch_warnings(record=True):
    import quixstreams  # noqa: F401


def main() -> None:
    arguments = json.loads(sys.argv[1])
    began = time.perf_counter()
    table = (
        sc.kafka(
            arguments["topic"],
            connection={"bootstrap_servers": arguments["bootstrap"]},
            event_time="timestamp",
            schema={"payload.page_id": "string"},
        )
        .window(sc.tumbling("1m"), by="payload.page_id")
        .agg(views=sc.count())
        .collect(stop="end", combine="local")
    )
    frame = pl.DataFrame(table)
    seconds = time.perf_counter() - began
    starts = frame["window_start"].dt.epoch("ms")
    rows = list(zip(frame["page_id"].to_list(), starts.to_list(), frame["views"].to_list(), strict=True))
    print(json.dumps({"seconds": seconds, "events": arguments["events"], "rows": rows, "version": _core.__version__}))


if __name__ == "__main__":
    main()
