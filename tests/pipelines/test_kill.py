"""A process that is killed again and again at one point of the commit, and still writes every row exactly once.

The points are those of the commit in order: rows written, rows flushed, checkpoint durable but nothing published,
everything published but the run not told. The process kills itself there, in its third epoch, until it gets through.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

PROGRAM = """
import os, signal, sys

import streamcore as sc
from streamcore import epoch_size
from streamcore.config import ParquetSinkConfig
from streamcore.sinks.parquet import ParquetSink

epoch_size.EPOCH_RECORDS_MAX = 1


class Killer:
    output = "result"
    point = sys.argv[1]
    epochs = 0

    def reach(self, point):
        if point == self.point:
            self.epochs += 1
            if self.epochs == 3:
                os.kill(os.getpid(), signal.SIGKILL)

    def open(self): ...
    def write(self, batch, version): self.reach("write")
    def flush(self): self.reach("flush")
    def committed(self, epoch): self.reach("committed")
    def discard(self): ...
    def close(self): ...


parquet = ParquetSink(ParquetSinkConfig(path="out"), pipeline="job")
killer = Killer()
killer.point, _, order = killer.point.partition(" ")
pages = sc.files("in.jsonl", piece_bytes=4096, event_time="at", event_time_unit="s", out_of_orderness="0s",
                 schema={"page": "string"}).window(sc.tumbling("1m"), by="page").agg(views=sc.count())
for sink in ([killer, parquet] if order == "first" else [parquet, killer]):
    pages = pages.sink(sink)
print(pages.run(name="job").state)
"""

RECORDS = 900
PAGES = 3
STARTS_MAX = 40


@pytest.mark.parametrize("point", ["write", "flush", "committed first", "committed"])
def test_rows_are_written_exactly_once(point: str, tmp_path: Path) -> None:
    lines = [json.dumps({"page": f"p{number % PAGES}", "at": number, "n": number}) for number in range(RECORDS)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n")
    kills = 0
    for _ in range(STARTS_MAX):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, point], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        kills += 1
    assert done.stdout == "ended\n"
    assert kills >= 2
    expected = Counter((f"p{number % PAGES}", number // 60) for number in range(RECORDS))
    rows = pl.read_parquet(tmp_path / "out").select("page", pl.col("window_start").dt.epoch("s") // 60, "views").rows()
    assert sorted(rows) == sorted((page, minute, count) for (page, minute), count in expected.items())
    assert not list((tmp_path / "out").glob(".*"))
