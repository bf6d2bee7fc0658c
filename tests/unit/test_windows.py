"""Kinds of windows of the builder."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import streamcore as sc
from streamcore.config import HoppingStep, SessionStep, TumblingStep
from streamcore.windows import Window


def step(kind: Window) -> Any:
    return sc.files("x").window(kind).agg(n="count()").config.steps[0]


def test_each_kind_becomes_its_step() -> None:
    tumbling = step(sc.tumbling("1m", offset="-10s", min_start=datetime(2026, 1, 1, tzinfo=UTC)))
    assert isinstance(tumbling, TumblingStep)
    assert (tumbling.size, tumbling.offset, tumbling.min_start) == (60_000, -10_000, 1_767_225_600_000)
    hopping = step(sc.hopping("1m", slide=timedelta(seconds=10)))
    assert isinstance(hopping, HoppingStep)
    assert (hopping.size, hopping.slide) == (60_000, 10_000)
    session = step(sc.session("30s", gap_inclusive=False))
    assert isinstance(session, SessionStep)
    assert (session.gap, session.gap_inclusive) == (30_000, False)


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (lambda: sc.tumbling(60), "size"),  # type: ignore[arg-type]
        (lambda: sc.tumbling("1m", offset="x"), "offset"),
        (lambda: sc.tumbling("1m", min_start="2026-01-01"), "min_start"),
        (lambda: sc.hopping("1m", slide="1"), "slide"),
        (lambda: sc.session("1mo"), "gap"),
    ],
)
def test_a_wrong_length_is_an_error_where_it_is_made(make: Any, place: str) -> None:
    with pytest.raises(sc.ConfigError) as caught:
        make()
    assert [problem.path for problem in caught.value.problems] == [place]


def test_a_length_of_zero_is_found_with_the_aggregates() -> None:
    with pytest.raises(sc.ConfigError, match="longer than zero"):
        step(sc.tumbling("0s"))
