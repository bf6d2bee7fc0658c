"""The flood of the fault tests without a broker: rows, late rows and rows of the future as plain Python works them out.

`tests/faults/flood.py` makes it and `oracle_flood.py` judges it; batch cuts, commits, restarts and rollbacks are drawn at
random. Invariant: nothing but the rules, the records and their order decides what is late, and by how much.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import datetime
from itertools import islice

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults import flood, oracle_flood
from tests.faults.oracle_flood import Arrived
from tests.property import harness
from tests.property.harness import LEDGER_CLASSES, Step
from tests.property.model import Message, Record, Row
from tests.property.strategies import schedules

NOW_MS = 1_800_000_000_000
"""The producer's clock."""

COUNTED = ("read", *LEDGER_CLASSES, "no_window", "late_windows")

rules = st.builds(
    lambda bound, allowed, size, slide, remembered, skew: flood.Rules(
        bound, allowed, size, slide, (bound // 8 + 1 + remembered) * 8, skew
    ),
    st.integers(0, 200),
    st.sampled_from([0, 0, 1, 30, 500]),
    st.integers(1, 300),
    st.integers(20, 350),
    st.integers(0, 100),
    st.integers(0, 300),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rules, st.integers(0, 2**32), st.integers(1, 4), st.integers(0, 150), schedules)
def test_a_flood_is_judged_as_plain_python_does(
    told: flood.Rules, seed: int, lanes: int, count: int, schedule: list[Step]
) -> None:
    chance = random.Random(seed)
    made = flood.records(chance, told, partitions=lanes, keys=6, start_ms=chance.randint(-2_000, 500), step_ms=20)
    sent = list(islice(made, count))
    records = [Record(one.partition, Message(one.key, one.value, one.timestamp_ms or NOW_MS)) for one in sent]
    wanted = oracle_flood.judge(
        told,
        (Arrived(one.partition, at, one.value or b"", one.timestamp_ms or NOW_MS) for at, one in enumerate(sent)),
    )
    outcome = harness.run(_describe(told), records, schedule)
    rows = Counter((row["k"], row["window_start"], row["n"], row["s"]) for row in outcome.rows)
    left = Counter((output, *_left(output, row)) for output, row in outcome.left)
    late = Counter(("late", *one) for one in wanted.late.items())
    future = Counter(("future", *one) for one in wanted.future.items())
    assert oracle_flood.apart("row", rows, wanted.rows()) == []
    assert oracle_flood.apart("row", left, late + future) == []
    for lane, counts in wanted.ledgers.items():
        ledger = outcome.ledgers[lane]
        assert {name: ledger[name] for name in COUNTED} == {name: counts[name] for name in COUNTED}


def _describe(told: flood.Rules) -> bytes:
    """The engine's description of the pipeline."""
    source = {
        "event_time": "t",
        "event_time_unit": "ms",
        "out_of_orderness_ms": told.bound,
        "max_future_skew_ms": told.skew,
        "keyed_by": "k",
        "schema": {"k": "string", "v": "int64", "ident": "string"},
    }
    window = {
        "verb": "window",
        "kind": {"type": "hopping", "size_ms": told.size, "slide_ms": told.slide, "offset_ms": 0},
        "by": [{"name": "k", "text": "k"}],
        "aggregates": [{"name": "n", "text": "count()"}, {"name": "s", "text": "sum(v)"}],
        "allowed_lateness_ms": told.allowed,
    }
    steps = [{"verb": "dedupe", "field": "ident", "within_ms": told.within}, window]
    return json.dumps({"source": source, "steps": steps, "limits": harness.LIMITS}).encode()


def _left(output: str, row: Row) -> tuple[oracle_flood.Place, tuple[str, int, int] | tuple[int, int]]:
    """Of a row with times as Python has them, what the oracle says of it."""
    plain = row | {"event_time": _ms(row["event_time"])}
    return oracle_flood.late_row(plain) if output == "late" else oracle_flood.future_row(plain)


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)
