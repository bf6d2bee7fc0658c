from __future__ import annotations

from datetime import timedelta

import pytest

import streamcore as sc
from streamcore.errors import ConfigError
from streamcore.options import RunOptions

CONFIG = sc.records([]).config


def test_options_replace_what_the_pipeline_says() -> None:
    changed = RunOptions(name="job", commit_interval="5s", delivery="at_least_once", combine="local").applied_to(CONFIG)
    assert (changed.name, changed.commit_interval, changed.delivery, changed.combine) == (
        "job",
        5_000,
        "at_least_once",
        "local",
    )
    assert changed.source == CONFIG.source


def test_no_options_change_nothing() -> None:
    assert RunOptions().applied_to(CONFIG) is CONFIG


def test_wrong_options_are_all_named() -> None:
    with pytest.raises(ConfigError) as caught:
        RunOptions(name="no/slash", delivery="twice", commit_interval="5").applied_to(CONFIG)
    assert [problem.path for problem in caught.value.problems] == ["name", "delivery", "commit_interval"]


@pytest.mark.parametrize(("given", "milliseconds"), [(None, None), ("8s", 8_000), (timedelta(minutes=1), 60_000)])
def test_the_time_to_run(given: str | timedelta | None, milliseconds: int | None) -> None:
    assert RunOptions(for_=given).run_for_ms == milliseconds


def test_a_time_to_run_needs_its_unit() -> None:
    with pytest.raises(ConfigError, match="needs a unit"):
        _ = RunOptions(for_="8").run_for_ms


@pytest.mark.parametrize(("start", "stop"), [("earliest", "end"), ("-2h", "2026-01-01T00:00:00Z"), ("latest", None)])
def test_places_in_a_log(start: str | None, stop: str | None) -> None:
    RunOptions(start=start, stop=stop).check()


@pytest.mark.parametrize(("start", "stop"), [("soon", None), (None, "soon"), ("end", None), (None, "latest")])
def test_what_is_no_place_in_a_log(start: str | None, stop: str | None) -> None:
    with pytest.raises(ConfigError):
        RunOptions(start=start, stop=stop).check()
