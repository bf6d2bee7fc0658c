"""Random joins for both engines, each with its two inputs; `jobs.py` does the same for windows.

Invariant: the same seed gives the same job and the same inputs; no row is late, for there the two differ
(docs/semantics.md, "Two inputs joined").
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RECORDS = 150
TYPES = {"key": "string", "ident": "int64"}
Json = dict[str, Any]


@dataclass(frozen=True)
class JoinJob:
    name: str
    seed: int
    kind: str
    """`interval`, `window` or `versions`."""
    how: str
    low: int = 0
    high: int = 0
    """How far a right row may lie from its left one, ms."""
    size: int = 0
    offset: int = 0
    """Of a window, ms."""
    bounds: tuple[int, int] = (0, 0)
    """On the disorder of either input, ms."""
    start: int = 0

    def describe(self) -> bytes:
        """The engine's description of the job."""
        kinds: dict[str, Json] = {
            "interval": {"type": "interval", "from_ms": self.low, "to_ms": self.high},
            "window": {"type": "window", "size_ms": self.size, "offset_ms": self.offset},
            "versions": {"type": "table", "versioned": True},
        }
        left, right = (
            {"event_time": "at", "event_time_unit": "ms", "out_of_orderness_ms": bound, "schema": TYPES}
            for bound in self.bounds
        )
        if self.kind == "versions":
            right["keyed_by"] = "key"
        join = {
            "verb": "join",
            "input": "right",
            "left_on": ["key"],
            "right_on": ["key"],
            "suffix": "_right",
            "how": self.how,
            "kind": kinds[self.kind],
        }
        return json.dumps({"source": left, "inputs": [{"name": "right", "source": right}], "steps": [join]}).encode()


def join_jobs() -> list[JoinJob]:
    """Joins over inputs without late rows."""
    jobs = []
    for number, how in enumerate(("inner", "left", "outer")):
        chance = random.Random(f"joins {how}")
        bounds = [(0, 0), (7, 60), (200, 3)]
        # before 1970 Flink's interval join takes rows for expired
        starts = [5_000, 86_399_997, 1_700_000_000_123]
        reaches = [(-50, 30), (0, 90), (-200, -40), (15, 120), (-1, 0)]
        sizes = [(40, 0), (100, 33), (250, -7)]
        jobs += [
            JoinJob(f"interval-{how}{low:+}{high:+}", 100 * number + at, "interval", how, low, high,
                    bounds=chance.choice(bounds), start=chance.choice(starts))
            for at, (low, high) in enumerate(reaches)
        ]  # fmt: skip
        jobs += [
            JoinJob(f"window-{how}-{size}{offset:+}", 100 * number + 10 + at, "window", how, size=size, offset=offset,
                    bounds=chance.choice(bounds), start=chance.choice(starts))
            for at, (size, offset) in enumerate(sizes)
        ]  # fmt: skip
        jobs += [
            JoinJob(f"versions-{how}-{at}", 100 * number + 20 + at, "versions", how, bounds=bound, start=5_000)
            for at, bound in enumerate(bounds if how != "outer" else [])
        ]
    return jobs


def inputs(job: JoinJob) -> tuple[list[Json], list[Json]]:
    """Both inputs in order of arrival; a row of a table without an `ident` deletes that of its key."""
    return _records(job, 0), _records(job, 1)


def _records(job: JoinJob, side: int) -> list[Json]:
    chance = random.Random(f"{job.seed} {side}")
    is_table = job.kind == "versions" and side == 1
    keys = ["", "a", "b", "ü", *([] if is_table else [None])]
    newest, made = job.start, []
    for ident in range(RECORDS):
        newest += chance.choice([0, 1, 5, 10, 20]) if chance.random() > 0.04 else chance.randrange(100, 500)
        behind = chance.randint(0, job.bounds[side]) if chance.random() < 0.5 else 0
        is_delete = is_table and chance.random() < 0.15
        made.append({"at": newest - behind, "key": chance.choice(keys), "ident": None if is_delete else ident})
    return made


def write(jobs: list[JoinJob], folder: Path) -> list[Json]:
    """The jobs as data, their inputs as files in `folder`: a table as Debezium's changes, with each change's own time."""
    written = []
    for job in jobs:
        paths = []
        for side, records in enumerate(inputs(job)):
            path = folder / f"{job.name}-{side}.jsonl"
            told = map(_change, records) if job.kind == "versions" and side == 1 else records
            path.write_text("".join(json.dumps(record) + "\n" for record in told), encoding="utf-8")
            paths.append(str(path))
        written.append(asdict(job) | {"paths": paths})
    return written


def _change(record: Json) -> Json:
    if record["ident"] is None:
        return {"before": record, "after": None, "op": "d"}
    return {"before": None, "after": record, "op": "c"}
