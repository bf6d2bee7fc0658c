"""Joins against a naive model, whatever the batch cuts and whichever input is read first.

The model is written from docs/semantics.md, not from the engine: it judges each row by the clock of its own input, and
looks at every pair of those that are on time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import streamcore as sc
from streamcore import testing

BOUND_MS = 20
Joined = tuple[str | None, int | None, int | None]
START_MS = 1_767_225_600_000


@dataclass(frozen=True)
class Row:
    """One record of an input."""

    key: str | None
    at: int
    value: int

    def record(self) -> dict[str, Any]:
        """As it is pushed."""
        return {"k": self.key, "t": START_MS + self.at, "v": self.value}


def pipeline(name: str, **join: Any) -> sc.Pipeline:
    """A stream `left` joined with a stream of the same fields."""
    keys: dict[str, Any] = {
        "event_time": "t",
        "event_time_unit": "ms",
        "out_of_orderness": f"{BOUND_MS}ms",
        "schema": {"k": "string", "v": "int64"},
    }
    left, right = sc.memory("left", **keys), sc.memory("right", **keys)
    joined: sc.Pipeline = getattr(left, name)(right, on="k", name="right", **join)
    return joined


rows = st.lists(
    st.builds(Row, st.sampled_from(["a", "b", "c", None]), st.integers(0, 40), st.integers(0, 9)), max_size=40
)
Turns = list[tuple[bool, int]]
"""Of which input the next rows are pushed, and how many."""

turns: st.SearchStrategy[Turns] = st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=20)


@dataclass(frozen=True)
class Case:
    """Rows of both inputs, which move on in time by `drift`, and two orders to push them in."""

    left_rows: list[Row]
    right_rows: list[Row]
    drift: int
    order: Turns
    other_order: Turns

    @property
    def left(self) -> list[Row]:
        """Of the pipeline's own input."""
        return self._drifting(self.left_rows)

    @property
    def right(self) -> list[Row]:
        """Of the other."""
        return self._drifting(self.right_rows)

    def _drifting(self, given_rows: list[Row]) -> list[Row]:
        return [Row(row.key, row.at + self.drift * number, row.value) for number, row in enumerate(given_rows)]


cases = st.builds(Case, rows, rows, st.integers(0, 4), turns, turns)
hows = st.sampled_from(["inner", "left", "outer"])


def pushed(flow: sc.Pipeline, case: Case, order: Turns) -> list[dict[str, Any]]:
    """The result rows, the inputs pushed in turns of `order` and the rest behind."""
    rest = {None: case.left, "right": case.right}
    with testing.start(flow) as run:
        for is_right, count in [*order, (False, len(case.left)), (True, len(case.right))]:
            source = "right" if is_right else None
            part, rest[source] = rest[source][:count], rest[source][count:]
            run.push([row.record() for row in part], source)
            run.commit()
        run.end()
        assert run.ledger.read == len(case.left) + len(case.right)
        return run.rows()


def result(flow: sc.Pipeline, case: Case) -> list[Joined]:
    """Key and values of the rows, which do not depend on the order."""
    found = [(row["k"], row["v"], row["v_right"]) for row in pushed(flow, case, case.order)]
    assert found == [(row["k"], row["v"], row["v_right"]) for row in pushed(flow, case, case.other_order)]
    return sorted(found, key=sort_key)


def on_time(given_rows: Sequence[Row], size: int | None = None) -> list[Row]:
    """Those that are not late: of a windowed join, by the end of their window."""
    watermark, taken = -(10**12), []
    for row in given_rows:
        last = row.at if size is None else row.at - row.at % size + size - 1
        if last > watermark:
            taken.append(row)
        watermark = max(watermark, row.at - BOUND_MS - 1)
    return taken


def sort_key(row: Joined) -> tuple[Any, ...]:
    """An order of rows with nulls."""
    return tuple((value is not None, str(value)) for value in row)


def model(left: list[Row], right: list[Row], how: str, belong: Callable[[Row, Row], bool]) -> list[Joined]:
    """Rows of the join, in no order."""
    found: list[Joined] = []
    for one in left:
        partners = [other for other in right if one.key is not None and one.key == other.key and belong(one, other)]
        found += [(one.key, one.value, other.value) for other in partners]
        if not partners and how != "inner":
            found.append((one.key, one.value, None))
    if how == "outer":
        for other in right:
            if not any(one.key is not None and one.key == other.key and belong(one, other) for one in left):
                found.append((other.key, None, other.value))
    return sorted(found, key=sort_key)


@settings(max_examples=40, deadline=None)
@given(cases, hows, st.integers(-20, 15), st.integers(0, 30))
def test_interval(case: Case, how: str, back: int, length: int) -> None:
    found = result(pipeline("join", how=how, within=(f"{back}ms", f"{back + length}ms")), case)
    near = lambda one, other: back <= other.at - one.at <= back + length  # noqa: E731 - shorter than its name
    assert found == model(on_time(case.left), on_time(case.right), how, near)


@settings(max_examples=30, deadline=None)
@given(cases, hows, st.integers(1, 40))
def test_window(case: Case, how: str, size: int) -> None:
    window = sc.tumbling(f"{size}ms", offset=f"{START_MS % size}ms")
    found = result(pipeline("join", how=how, window=window), case)
    together = lambda one, other: one.at // size == other.at // size  # noqa: E731 - shorter than its name
    assert found == model(on_time(case.left, size), on_time(case.right, size), how, together)


@settings(max_examples=30, deadline=None)
@given(cases, st.sampled_from(["inner", "left"]), st.none() | st.integers(0, 30))
def test_as_of(case: Case, how: str, tolerance: int | None) -> None:
    reach = None if tolerance is None else f"{tolerance}ms"
    found = result(pipeline("join_asof", how=how, tolerance=reach), case)
    known = list(enumerate(on_time(case.right)))
    expected: list[Joined] = []
    for one in on_time(case.left):
        before = [(other.at, number) for number, other in known if other.key == one.key and other.at <= one.at]
        latest = max(before, default=None) if one.key is not None else None
        if latest is not None and (tolerance is None or one.at - latest[0] <= tolerance):
            expected.append((one.key, one.value, known[latest[1]][1].value))
        elif how == "left":
            expected.append((one.key, one.value, None))
    assert found == sorted(expected, key=sort_key)


@settings(max_examples=40, deadline=None)
@given(cases, st.integers(1, 40))
def test_a_window_behind_a_join(case: Case, size: int) -> None:
    window = sc.tumbling(f"{size}ms", offset=f"{START_MS % size}ms")
    flow = pipeline("join", within=("-10ms", "10ms")).window(window, by="k").agg(n=sc.count(), s=sc.sum("v"))
    expected: dict[tuple[str | None, int], tuple[int, int]] = {}
    for one in on_time(case.left):
        for other in on_time(case.right):
            if one.key is not None and one.key == other.key and abs(one.at - other.at) <= 10:
                place = (one.key, max(one.at, other.at) // size)
                count, total = expected.get(place, (0, 0))
                expected[place] = (count + 1, total + one.value)
    found = {
        (row["k"], (round(row["window_start"].timestamp() * 1000) - START_MS) // size): (row["n"], row["s"])
        for row in pushed(flow, case, case.order)
    }
    assert found == expected
