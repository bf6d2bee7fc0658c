"""Worker: polars' turns at the group-by (`group_by_turns.py`), over the Arrow columns as they are."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.peers.group_by_turns import columns, take


def main() -> None:
    arguments = json.loads(sys.argv[1])
    if arguments["threads"] is not None:
        os.environ["POLARS_MAX_THREADS"] = str(arguments["threads"])
    import polars as pl

    frame = pl.DataFrame(columns(arguments["columns"]))
    time, value = pl.col("time"), pl.col("value")

    def query() -> pl.DataFrame:
        return (
            frame.lazy()
            .group_by("key", (time - time % 60_000).alias("window_start"))
            .agg(
                pl.len().cast(pl.Int64).alias("events"),
                value.sum().alias("total"),
                value.min().alias("least"),
                value.max().alias("most"),
            )
            .collect()
        )

    take(pl.__version__, query, to_arrow=pl.DataFrame.to_arrow)


if __name__ == "__main__":
    main()
