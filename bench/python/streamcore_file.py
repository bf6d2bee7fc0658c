"""Worker: streamcore over a file. Argument: `{"path", "events"}`; prints `{"seconds", "events", "rows", "version"}`."""

from __future__ import annotations

import json
import sys
import time

import polars as pl
import pyarrow as pa  # noqa: F401

import streamcore as sc

# All that streamcore loads when first used, before the clock starts: as the rivals' libraries.
import streamcore.builders
import streamcore.config.plan
import streamcore.dead_letters
import streamcore.pipeline
import streamcore.run
import streamcore.sources.files
import streamcore.windows
from streamcore import _core


def main() -> None:
    arguments = json.loads(sys.argv[1])
    began = time.perf_counter()
    table = (
        sc.files(arguments["path"], event_time="timestamp", schema={"payload.page_id": "string"})
        .window(sc.tumbling("1m"), by="payload.page_id")
        .agg(views=sc.count())
        .collect()
    )
    frame = pl.DataFrame(table)
    seconds = time.perf_counter() - began
    starts = frame["window_start"].dt.epoch("ms")
    rows = list(zip(frame["page_id"].to_list(), starts.to_list(), frame["views"].to_list(), strict=True))
    print(json.dumps({"seconds": seconds, "events": arguments["events"], "rows": rows, "version": _core.__version__}))


if __name__ == "__main__":
    main()
