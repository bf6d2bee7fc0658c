"""Worker: polars over a file. Argument: `{"path", "events"}`; prints `{"seconds", "events", "rows", "version"}`."""

from __future__ import annotations

import json
import sys
import time

import polars as pl

SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "timestamp": pl.String,
    "payload": pl.Struct({"page_id": pl.String}),
}


def main() -> None:
    arguments = json.loads(sys.argv[1])
    began = time.perf_counter()
    event_time = pl.col("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%S%.3fZ", time_unit="ms")
    frame = (
        pl.scan_ndjson(arguments["path"], schema=SCHEMA)
        .select(pl.col("payload").struct.field("page_id"), event_time.dt.truncate("1m").dt.epoch("ms").alias("start"))
        .group_by("page_id", "start")
        .len()
        .collect()
    )
    seconds = time.perf_counter() - began
    print(
        json.dumps({"seconds": seconds, "events": arguments["events"], "rows": frame.rows(), "version": pl.__version__})
    )


if __name__ == "__main__":
    main()
