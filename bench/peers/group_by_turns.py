"""How a rival takes its turns at the group-by: one query, again and again, as `group_by.py` asks for it.

Argument: `{"columns", "threads"}`, an Arrow file, and null for as many threads as the rival takes by itself. Prints
`{"version"}`, then for each line of input `{"rows", "seconds", "cpu_seconds"}`. A line is the name of an Arrow file for
the rows, or empty.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import pyarrow as pa
from pyarrow import ipc

Rows = TypeVar("Rows")


def columns(path: str) -> pa.Table:
    """In memory, not mapped from the file."""
    with pa.OSFile(path) as file:
        return ipc.open_file(file).read_all()


def take(version: str, query: Callable[[], Rows], to_arrow: Callable[[Rows], pa.Table]) -> None:
    """`query` gives the rows, and is all that is timed; `to_arrow` has them written."""
    print(json.dumps({"version": version}), flush=True)
    for line in sys.stdin:
        began = time.perf_counter(), time.process_time()
        rows = query()
        seconds, cpu_seconds = time.perf_counter() - began[0], time.process_time() - began[1]
        table = to_arrow(rows)
        if path := line.strip():
            with pa.OSFile(path, "wb") as file, ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
        print(json.dumps({"rows": table.num_rows, "seconds": seconds, "cpu_seconds": cpu_seconds}), flush=True)
