"""Random jobs for both engines, each with its input: `test_flink.py` runs one side, `peer.py` the other.

A job is plain data, written as JSON for the peer. Invariant: the same seed gives the same job and the same input,
and the input of a job without `late` rows keeps within the job's bound on disorder.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RECORDS = 120
SIZES = (40, 100, 250, 1_000)
"""Lengths of windows, ms. Events come about 12 ms apart."""

TYPES = {
    "key": "string",
    "team": "int64",
    "ident": "int64",
    "name": "string",
    "value": "int64",
    "weight": "float64",
    "price": "decimal(10,2)",
}

AGGREGATES = {
    "n": ("count()", "COUNT(*)"),
    "known": ("count(value)", "COUNT(`value`)"),
    "total": ("sum(value)", "SUM(`value`)"),
    "least": ("min(value)", "MIN(`value`)"),
    "most": ("max(value)", "MAX(`value`)"),
    "first_name": ("min(name)", "MIN(`name`)"),
    "names": ("count_distinct(name)", "COUNT(DISTINCT `name`)"),
    "weight": ("sum(weight)", "SUM(`weight`)"),
    "mean": ("mean(weight)", "AVG(`weight`)"),
    "spread": ("var(weight)", "VAR_SAMP(`weight`)"),
    "deviation": ("stddev(weight)", "STDDEV_SAMP(`weight`)"),
    "price": ("sum(price)", "SUM(`price`)"),
    "dearest": ("max(price)", "MAX(`price`)"),
    "large": ("count() where value > 10", "COUNT(*) FILTER (WHERE `value` > 10)"),
    "large_total": ("sum(value) where name == 'b'", "SUM(`value`) FILTER (WHERE `name` = 'b')"),
}
"""Each column in streamcore's language and in Flink SQL."""

FIRING_AGGREGATES = {
    "n": "count()",
    "total": "sum(value)",
    "idents": "collect_list(ident, 100000)",
}
"""What a firing of a DataStream window is compared by: the events in it, above all."""


@dataclass(frozen=True)
class Job:
    name: str
    seed: int
    kind: str
    size: int
    """Length, or the gap of a session, ms."""
    slide: int = 0
    """Distance between starts; of cumulating windows, between ends."""
    offset: int = 0
    by: tuple[str, ...] = ("key",)
    out_of_orderness: int = 0
    lateness: int = 0
    late: int = 0
    """How far behind the bound a record may be, ms."""
    start: int = 0
    """The first event's time; negative ones lie before 1970."""
    path: str = field(default="", compare=False)
    """Where the input is, one JSON object a line."""

    def has_window(self, time: int) -> bool:
        """Whether an event of that time lies in a window, not between two."""
        return self.kind != "hopping" or (time - self.offset) % self.slide < self.size

    def describe(self, aggregates: dict[str, str], emit: str = "final") -> bytes:
        """The engine's description of the job."""
        kind: dict[str, Any] = {"type": self.kind}
        if self.kind == "session":
            kind |= {"gap_ms": self.size}
        else:
            kind |= {"size_ms": self.size, "offset_ms": self.offset}
        if self.slide:
            kind["slide_ms" if self.kind == "hopping" else "step_ms"] = self.slide
        # sessions leave early only where the group key is the record key
        texts = {"key": "_key"} if self.kind == "session" and emit == "updates" else {}
        window = {
            "verb": "window",
            "kind": kind,
            "by": [{"name": name, "text": texts.get(name, name)} for name in self.by],
            "aggregates": [{"name": name, "text": text} for name, text in aggregates.items()],
            "emit": emit,
            "allowed_lateness_ms": self.lateness,
        }
        source = {
            "event_time": "at",
            "event_time_unit": "ms",
            "out_of_orderness_ms": self.out_of_orderness,
            "schema": TYPES,
        }
        return json.dumps({"source": source, "steps": [window]}).encode()


def sql_jobs() -> list[Job]:
    """Windows of Flink SQL over inputs without late rows."""
    jobs = []
    for number, size in enumerate(SIZES):
        chance = random.Random(f"sql {number}")
        common: dict[str, Any] = {"out_of_orderness": chance.choice([0, 7, 60, 400])}
        by = [(), ("key",), ("team",), ("key", "team")][number]
        start = chance.choice([-50_000, -777, 0, 1_700_000_000_123])
        shift = chance.randrange(1, size)
        jobs += [
            Job(f"tumble-{size}", number, "tumbling", size, by=by, start=start, **common),
            Job(f"tumble-{size}-shifted", 10 + number, "tumbling", size, offset=shift, start=-60_000, **common),
            Job(
                f"hop-{size}", 20 + number, "hopping", size, size // [2, 4, 5, 10][number], by=by, start=start, **common
            ),
            Job(f"hop-{size}-shifted", 30 + number, "hopping", size, size // 2, offset=-3, start=-900, **common),
            Job(f"cumulate-{size}", 40 + number, "cumulate", size, size // [4, 2, 10, 5][number], by=by, **common),
            Job(f"cumulate-{size}-early", 50 + number, "cumulate", size, size // 2, offset=5, start=-70_000, **common),
            Job(f"session-{size}", 60 + number, "session", size // 4, by=by, start=start, **common),
            Job(f"session-{size}-even", 70 + number, "session", 20, start=-2_000, **common),
        ]
    return jobs


def firing_jobs() -> list[Job]:
    """Windows of the DataStream API with allowed lateness, over inputs with late rows."""
    jobs = []
    for number, lateness in enumerate((0, 30, 90, 400)):
        chance = random.Random(f"firing {number}")
        size = chance.choice(SIZES[:3])
        common: dict[str, Any] = {
            "out_of_orderness": chance.choice([0, 5, 40]),
            "lateness": lateness,
            "late": size + lateness + chance.choice([60, 200, 700]),
            # Flink's SQL watermarks begin at 1970: before it there are none to be late by
            "start": chance.choice([5_000, 86_399_997, 1_700_000_000_123]),
        }
        shift = chance.randrange(1, 20)
        jobs += [
            Job(f"tumble-late-{lateness}", 100 + number, "tumbling", size, offset=shift, **common),
            Job(f"hop-late-{lateness}", 110 + number, "hopping", size, size * 3 // 7, offset=shift, **common),
            Job(f"gaps-late-{lateness}", 120 + number, "hopping", size, size + 25, offset=-shift, **common),
            Job(f"session-late-{lateness}", 130 + number, "session", 20 + 10 * number, **common),
        ]
    return jobs


def records(job: Job) -> list[dict[str, Any]]:
    """The input in order of arrival. Weights are eighths, so that a sum of them is the same float in every order."""
    chance = random.Random(job.seed)
    newest = job.start
    made = []
    for ident in range(RECORDS):
        newest += chance.choice([0, 1, 5, 10, 10, 20, 40]) if chance.random() > 0.04 else chance.randrange(100, 500)
        behind = chance.randint(0, job.out_of_orderness) if chance.random() < 0.5 else 0
        if job.late and chance.random() < 0.3:
            behind += chance.randint(0, job.late)
        made.append(
            {
                "at": newest - behind,
                "key": chance.choice([None, "", "a", "b", "ü"]),
                "team": chance.choice([None, -1, 0, 2]),
                "ident": ident,
                "name": chance.choice([None, "a", "b", "bb", "c"]),
                "value": chance.choice([None, chance.randint(-50, 50), chance.randint(-(10**12), 10**12)]),
                "weight": chance.choice([None, chance.randint(-4000, 4000) / 8]),
                "price": chance.choice([None, f"{chance.randint(-(10**9), 10**9) / 100:.2f}"]),
            }
        )
    return made


def write(jobs: list[Job], folder: Path) -> list[dict[str, Any]]:
    """The jobs as data, their inputs as files in `folder`."""
    for job in jobs:
        lines = [json.dumps(record) + "\n" for record in records(job)]
        (folder / f"{job.name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return [asdict(job) | {"path": str(folder / f"{job.name}.jsonl")} for job in jobs]
