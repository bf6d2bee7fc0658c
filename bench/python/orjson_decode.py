"""Worker: orjson over records in memory, the wanted fields to lists, in ranges as the engine cuts them.

Argument: `{"path", "fields"}`; prints `{"seconds", "events", "columns", "version"}`. The time is that of the thread,
the median of several passes; `timeit` keeps the garbage collector away.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import timeit
from pathlib import Path
from typing import Any

import orjson

RANGE_ROWS = 4096
PASSES = 5


def read(records: list[bytes], fields: list[str]) -> list[list[Any]]:
    columns: list[list[Any]] = [[] for _ in fields]
    wanted = [(column.append, *path.rpartition(".")) for column, path in zip(columns, fields, strict=True)]
    for record in records:
        event = orjson.loads(record)
        for append, parent, _, name in wanted:
            append((event[parent] if parent else event).get(name))
    return columns


def main() -> None:
    arguments = json.loads(sys.argv[1])
    records, fields = Path(arguments["path"]).read_bytes().splitlines(), arguments["fields"]
    ranges = [records[start : start + RANGE_ROWS] for start in range(0, len(records), RANGE_ROWS)]

    def read_all() -> None:
        for part in ranges:
            read(part, fields)

    seconds = statistics.median(timeit.Timer(read_all, timer=time.thread_time).repeat(PASSES, number=1))
    columns, version = read(records, fields), orjson.__version__
    print(json.dumps({"seconds": seconds, "events": len(records), "columns": columns, "version": version}))


if __name__ == "__main__":
    main()
