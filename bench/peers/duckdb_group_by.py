"""Worker: DuckDB's turns at the group-by (`group_by_turns.py`), over the Arrow columns as they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import duckdb
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.peers.group_by_turns import columns, take

QUERY = """
    select key, time - time % 60000 as window_start,
           count(*) as events, sum(value)::bigint as total, min(value) as least, max(value) as most
    from events
    group by all
"""


def main() -> None:
    arguments = json.loads(sys.argv[1])
    connection = duckdb.connect()
    if arguments["threads"] is not None:
        connection.execute(f"set threads = {int(arguments['threads'])}")
    connection.register("events", columns(arguments["columns"]))

    def query() -> pa.Table:
        return connection.sql(QUERY).to_arrow_table()

    take(duckdb.__version__, query, to_arrow=lambda rows: rows)


if __name__ == "__main__":
    main()
