"""Windows and deduplication as they grow: cost an event by keys, hops and sessions, and bytes of state.

`rust/benches/windows.rs` measures it, and first compares all rows with an independent count. It has no rivals: what is
held to a target is one job beside another of the same run, or a number of nanoseconds or bytes.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.python import criterion
from bench.python.measure import Figure, machine

BENCH = "windows"

RATIOS = {"keys": ("100 keys", 4.0), "hopping": ("1 h", 1.3), "sessions": ("1 min", 2.0)}
"""By part: the job that the others are compared with, and the most that they may cost an event beside it."""

ID_NS = 60
ID_BYTES = 24
FALSE_DROP_RATE = 0.001
PAIR_BYTES = 64
KEY_BYTES = 8
"""Of the names of keys, which `PAIR_BYTES` does not count."""


def run(folder: Path, rounds: int) -> list[Figure]:
    """The figures of all parts."""
    (path,) = criterion.run(BENCH, folder, rounds, arguments=())
    return figures(json.loads(path.read_text()))


def figures(parts: list[Mapping[str, Any]]) -> list[Figure]:
    found: list[Figure] = []
    for part in parts:
        name = part["figure"]
        if name in RATIOS:
            found += _ratios(name, part["ns"])
        elif name == "dedupe":
            found += _dedupe(part)
        else:
            found += _memory(part["jobs"])
    return found


def _ratios(part: str, times: list[tuple[str, list[float]]]) -> list[Figure]:
    """How many times as much an event costs as in the job compared with: the median of the rounds' ratios."""
    base, most = RATIOS[part]
    by_name = dict(times)
    found = []
    for name, rounds in by_name.items():
        value = round(statistics.median(rounds), 1)
        if name == base:
            found.append(_figure(f"{part}: {name}", value, "ns/event"))
            continue
        ratio = statistics.median(own / other for own, other in zip(rounds, by_name[base], strict=True))
        found.append(_figure(f"{part}: {name}", value, "ns/event"))
        found.append(_figure(f"{part}: {name} beside {base}", round(ratio, 2), "times the cost", most))
    return found


def _dedupe(part: Mapping[str, Any]) -> list[Figure]:
    added = {name: round(statistics.median(rounds), 1) for name, rounds in part["ns"]}
    id_bytes = round(statistics.median(part["id_bytes"]), 1)
    step = {name: round(statistics.median(rounds), 1) for name, rounds in part["step_ns"]}
    return [
        _figure("dedupe: the step by itself while 10 M ids fill the horizon", step["filling"], "ns/event", ID_NS),
        _figure("dedupe: the step by itself with 10 M ids in the horizon", step["full"], "ns/event", ID_NS),
        _figure(
            "dedupe: added while 10 M ids fill the horizon, decoding the id included",
            added["filling"],
            "ns/event",
            ID_NS,
        ),
        _figure(
            "dedupe: added with 10 M ids in the horizon, decoding the id included", added["full"], "ns/event", ID_NS
        ),
        _figure("dedupe: state", id_bytes, "bytes/id", ID_BYTES),
        *_bloom(part),
    ]


def _bloom(part: Mapping[str, Any]) -> list[Figure]:
    """The same with filters, at the rate of false drops that the bench asks for and asserts."""
    added = {name: round(statistics.median(rounds), 1) for name, rounds in part["bloom_ns"]}
    id_bits = round(8 * statistics.median(part["bloom_id_bytes"]), 1)
    return [
        _figure("dedupe with filters: added while 10 M ids fill the horizon", added["filling"], "ns/event"),
        _figure("dedupe with filters: added with 10 M ids in the horizon", added["full"], "ns/event"),
        _figure("dedupe with filters: state", id_bits, "bits/id"),
        _figure("dedupe with filters: new ids dropped", part["bloom_false_drops"], "of 1", FALSE_DROP_RATE),
    ]


def _memory(jobs: list[Mapping[str, Any]]) -> list[Figure]:
    by_name = {job["job"]: job for job in jobs}
    nothing = by_name["nothing"]
    found = []
    for name, about, key_bytes, most in (
        ("windows", "count of a key in a window beyond the key", KEY_BYTES, PAIR_BYTES),
        ("ids", "dedupe of an id", 0, ID_BYTES),
        ("filters", "dedupe of an id with filters", 0, ID_BYTES),
    ):
        job = by_name[name]
        for what, title in (("state_bytes", "as the engine says"), ("resident_bytes", "resident")):
            each = (job[what] - nothing[what]) / job["entries"] - key_bytes
            found.append(_figure(f"memory: {about}, {title}", round(each, 1), "bytes", most))
    return found


def _figure(name: str, value: float, unit: str, most: float | None = None) -> Figure:
    return Figure(BENCH, name, value, unit, None, None, most, None if most is None else value <= most, machine())
