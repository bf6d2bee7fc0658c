"""Kinds of windows of the builder."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import streamcore as sc
from streamcore.config import CumulateStep, HoppingStep, SessionStep, SlidingStep, TumblingStep, WholeStep
from streamcore.config.durations import Months
from streamcore.windows import Window


def step(kind: Window, by: str | tuple[str, ...] = ()) -> Any:
    return sc.files("x").window(kind, by=by).agg(n="count()").config.steps[0]


def test_each_kind_becomes_its_step() -> None:
    tumbling = step(sc.tumbling("1m", offset="-10s", min_start=datetime(2026, 1, 1, tzinfo=UTC)))
    assert isinstance(tumbling, TumblingStep)
    assert (tumbling.size, tumbling.offset, tumbling.min_start) == (60_000, -10_000, 1_767_225_600_000)
    weeks = step(sc.tumbling("1w", timezone="Europe/Berlin", week_start="sunday"))
    assert (weeks.size, weeks.timezone, weeks.week_start) == (604_800_000, "Europe/Berlin", "sunday")
    assert step(sc.tumbling("3mo", timezone="UTC")).size == Months(3)
    hopping = step(sc.hopping("1m", slide=timedelta(seconds=10)))
    assert isinstance(hopping, HoppingStep)
    assert (hopping.size, hopping.slide) == (60_000, 10_000)
    sliding = step(sc.sliding("5m"), by="_key")
    assert isinstance(sliding, SlidingStep)
    assert sliding.size == 300_000
    cumulate = step(sc.cumulate("1h", step="10m", offset="5m"))
    assert isinstance(cumulate, CumulateStep)
    assert (cumulate.size, cumulate.step, cumulate.offset) == (3_600_000, 600_000, 300_000)
    whole = step(sc.whole(min_start="2026-01-01T00:00:00Z"))
    assert isinstance(whole, WholeStep)
    assert whole.min_start == 1_767_225_600_000
    session = step(sc.session("30s", max_length="1h", gap_inclusive=False))
    assert isinstance(session, SessionStep)
    assert (session.gap, session.max_length, session.gap_inclusive) == (30_000, 3_600_000, False)
    assert step(sc.session("30s")).max_length is None


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (lambda: sc.tumbling(60), "size"),  # type: ignore[arg-type]
        (lambda: sc.tumbling("1m", offset="x"), "offset"),
        (lambda: sc.tumbling("1m", min_start="2026-01-01"), "min_start"),
        (lambda: sc.hopping("1m", slide="1"), "slide"),
        (lambda: sc.session("1mo"), "gap"),
        (lambda: sc.hopping("1mo", slide="1d"), "size"),
        (lambda: sc.tumbling("1y"), "size"),
        (lambda: sc.sliding("x"), "size"),
        (lambda: sc.cumulate("1h", step="60"), "step"),
        (lambda: sc.session("1m", max_length=60), "max_length"),  # type: ignore[arg-type]
        (lambda: sc.whole(min_start="x"), "min_start"),
    ],
)
def test_a_wrong_length_is_an_error_where_it_is_made(make: Any, place: str) -> None:
    with pytest.raises(sc.ConfigError) as caught:
        make()
    assert [problem.path for problem in caught.value.problems] == [place]


def test_a_length_of_zero_is_found_with_the_aggregates() -> None:
    with pytest.raises(sc.ConfigError, match="longer than zero"):
        step(sc.tumbling("0s"))


def test_the_day_so_far() -> None:
    records = [{"t": t} for t in (0, 9, 10, 25, 31)]
    events = sc.records(records, event_time="t", event_time_unit="ms", schema={"t": "int64"})
    rows = events.window(sc.cumulate("30ms", step="10ms")).agg(n=sc.count()).collect().to_polars()
    found = [(epoch(row["window_start"]), epoch(row["window_end"]), row["n"]) for row in rows.rows(named=True)]
    assert found == [(0, 10, 2), (0, 20, 3), (0, 30, 4), (30, 40, 1), (30, 50, 1), (30, 60, 1)]


def epoch(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def test_the_whole_input_is_one_row_without_bounds() -> None:
    events = sc.records([{"t": 3}, {"t": 10**9}], event_time="t", event_time_unit="ms", schema={"t": "int64"})
    rows = events.window(sc.whole()).agg(n=sc.count(), sum="sum(t)").collect().to_polars()
    expected = {"window_start": None, "window_end": None, "n": 2, "sum": 1_000_000_003, "revision": 0, "is_final": True}
    assert rows.rows(named=True) == [expected]


def test_a_day_of_berlin_has_23_hours_when_the_clocks_go_forward() -> None:
    records = [{"t": f"2026-03-{day}T{hour}:00:00Z"} for day, hour in ((28, 22), (28, 23), (29, 21), (29, 22))]
    events = sc.records(records, event_time="t", schema={"t": "timestamp"})
    rows = events.window(sc.tumbling("1d", timezone="Europe/Berlin")).agg(n=sc.count()).collect().to_polars()
    bounds = [(f"{start:%d %H}", f"{end:%d %H}", n) for start, end, n, *_ in rows.rows()]
    assert bounds == [("27 23", "28 23", 1), ("28 23", "29 22", 2), ("29 22", "30 22", 1)]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (sc.tumbling("1mo"), "timezone is not given"),
        (sc.tumbling("1d", timezone="Europe/Berlni"), "there is no time zone Europe/Berlni"),
        (sc.tumbling("1h", timezone="UTC"), "size is whole days, weeks or months"),
        (sc.tumbling("1d", timezone="UTC", week_start="monday"), "only weeks have a first day"),
        (sc.tumbling("1w", week_start="monday"), "timezone is not given"),
    ],
)
def test_what_a_calendar_cannot_have(kind: Window, message: str) -> None:
    with pytest.raises(sc.ConfigError, match=message):
        sc.files("x").window(kind).agg(n="count()").collect()


def keyed(times: list[int], **source: Any) -> sc.Pipeline:
    records = [sc.Record(b'{"t": %d, "k": "a"}' % t, key=b"a") for t in times]
    schema = {"t": "int64", "k": "string"}
    return sc.records(records, event_time="t", event_time_unit="ms", keyed_by="k", schema=schema, **source)


def test_the_trail_of_each_event() -> None:
    rows = keyed([0, 5, 5, 10, 16]).window(sc.sliding("10ms"), by="k").agg(n=sc.count(), most="max(t)").collect()
    found = [
        (epoch(row["window_start"]), epoch(row["window_end"]), row["n"]) for row in rows.to_polars().rows(named=True)
    ]
    assert found == [(-10, 0, 1), (-5, 5, 3), (0, 10, 4), (6, 16, 2)]


def test_a_running_total_by_the_thousand() -> None:
    events = keyed([10 * number for number in range(1, 3001)], out_of_orderness="0s")
    window = events.window(sc.whole(), by="k", emit="updates", emit_when="n % 1000 == 0")
    rows = window.agg(n=sc.count()).collect().to_polars().select("n", "revision", "is_final").rows()
    assert rows == [(1000, 0, False), (2000, 1, False), (3000, 2, False), (3000, 3, True)]


def test_a_row_of_a_session_that_grows_is_taken_back() -> None:
    window = keyed([0, 5, 12, 40], out_of_orderness="0s").window(
        sc.session("10ms"), by="k", emit="updates", emit_every="5ms"
    )
    rows = (
        window.agg(n=sc.count())
        .collect()
        .to_polars()
        .select("window_end", "n", "revision", "is_final", "retracted")
        .rows()
    )
    assert [(epoch(end), *rest) for end, *rest in rows] == [
        (15, 2, 0, False, False),
        (15, None, 1, False, True),
        (22, 3, 1, False, False),
        (22, 3, 2, True, False),
        (50, 1, 0, False, False),
        (50, 1, 1, True, False),
    ]


@pytest.mark.parametrize(
    ("kind", "keys", "message"),
    [
        (sc.sliding("1m"), {}, "all events of its group in one lane"),
        (sc.session("1m"), {"emit": "updates"}, "none is early"),
        (sc.tumbling("1m"), {"emit": "updates", "emit_when": "n > 1"}, "looks at every record"),
        (sc.tumbling("1m"), {"emit_every": "1s"}, "there are none"),
    ],
)
def test_what_needs_a_group_in_one_lane(kind: Window, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(sc.ConfigError, match=message):
        sc.files("x").window(kind, by="page", **keys).agg(n="count()").collect()


@pytest.mark.parametrize(
    ("kind", "starts"),
    [
        (sc.tumbling("7d"), [(1, 4)]),
        (sc.hopping("7d", slide="1d"), [(1, 1), (1, 2), (1, 3), (1, 4)]),
        (sc.cumulate("7d", step="1d"), [(1, 4)] * 7),
        (sc.tumbling("1mo", timezone="Asia/Tokyo"), []),
        (sc.tumbling("1mo", timezone="UTC"), [(1, 1)]),
    ],
)
def test_no_window_starts_before_the_year_1(kind: Window, starts: list[tuple[int, int]]) -> None:
    records = [{"at": "0001-01-01T00:00:00Z"}, {"at": "0001-01-04T00:00:00Z"}]
    counted = sc.records(records, event_time="at").window(kind).agg(n="count()")
    with counted.start() as run:
        rows = [row for batch in run.stream() for row in batch.to_rows()]
    found = sorted((row["window_start"].month, row["window_start"].day) for row in rows)
    assert list(dict.fromkeys(found)) == list(dict.fromkeys(starts))
    ledger = run.report.ledger
    assert ledger.read == ledger.applied + ledger.filtered
    assert ledger.no_window == ledger.filtered


def test_what_no_window_can_take_is_named() -> None:
    events = sc.files("x", event_time="at")
    with pytest.raises(sc.ConfigError, match=r"by: is a field or several, not int\n    hint: as by=\"page\""):
        events.window(sc.tumbling("1m"), by=5)  # type: ignore[arg-type]
    with pytest.raises(
        sc.ConfigError, match=r"agg\.n: is the call of an aggregate, not int\n    hint: as sc\.count\(\)"
    ):
        events.window(sc.tumbling("1m")).agg(n=5)
    with pytest.raises(sc.ConfigError, match="a column has no name"):
        events.window(sc.tumbling("1m")).agg({"": "count()"}).explain()
    with pytest.raises(
        sc.ConfigError, match=r"100000000mo is longer than a hundred years\n    hint: the most is 1200mo"
    ):
        sc.tumbling("100000000mo", timezone="UTC")


def test_a_long_expression_is_shown_around_its_mistake() -> None:
    condition = "n > 0 and " * 500 + "lenth(page) > 0" + " and n > 0" * 500
    with pytest.raises(sc.ConfigError) as told:
        sc.files("x", event_time="at", schema={"n": "int64", "page": "string"}).filter(condition).explain()
    shown, carets = str(told.value).splitlines()[2:4]
    assert len(shown) < 200
    assert shown.strip().startswith("...")
    assert shown.endswith("...")
    at = carets.index("^")
    assert shown[at : carets.rindex("^") + 1] == "lenth"
