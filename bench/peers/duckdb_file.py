"""Worker: DuckDB over a file. Argument: `{"path", "events"}`; prints `{"seconds", "events", "rows", "version"}`."""

from __future__ import annotations

import json
import sys
import time

import duckdb

QUERY = """
    select payload.page_id, epoch_ms(time_bucket(interval '1 minute', timestamp)) as start, count(*)
    from read_json(?, format = 'newline_delimited',
                   columns = {timestamp: 'TIMESTAMP', payload: 'STRUCT(page_id VARCHAR)'})
    group by all
"""


def main() -> None:
    arguments = json.loads(sys.argv[1])
    connection = duckdb.connect()
    began = time.perf_counter()
    rows = connection.execute(QUERY, [arguments["path"]]).fetchall()
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "events": arguments["events"], "rows": rows, "version": duckdb.__version__}))


if __name__ == "__main__":
    main()
