"""The seeded clickstream: its shape, its lanes, and that a position resumes it."""

from __future__ import annotations

import pytest

from streamcore import _core
from streamcore.errors import ConfigError, Error

FIELDS = [
    "event_id",
    "event_type",
    "timestamp",
    "payload.user_id",
    "payload.page_id",
    "payload.dwell_ms",
    "metadata.ip",
]


def test_events_have_the_fields_of_the_reference_event() -> None:
    raw = _core.Generator(lanes=3).read(1000)
    types, absent = _core.infer_fields(raw, FIELDS)
    assert absent == {}
    assert types == {field: "int64" if field == "payload.dwell_ms" else "string" for field in FIELDS}
    assert len(raw) == 1000
    assert 232 <= raw.byte_len / 1000 <= 240


def test_the_position_and_event_time_move_with_the_events() -> None:
    generator = _core.Generator(events_per_second=500.0, start_ms=1000)
    assert (generator.position, generator.event_time_ms) == (0, 1000)
    generator.read(250)
    assert (generator.position, generator.event_time_ms) == (250, 1500)
    resumed = _core.Generator(events_per_second=500.0, start_ms=1000, position=250)
    assert resumed.event_time_ms == 1500
    assert resumed.read(100).byte_len == generator.read(100).byte_len


def test_another_seed_gives_other_events() -> None:
    lengths = {_core.Generator(seed=seed).read(1000).byte_len for seed in (1, 2, -1)}
    assert len(lengths) == 3


def test_every_wrong_setting_is_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        _core.Generator("clicks", lanes=0, events_per_second=0.0, duplicate_rate=1.5)
    paths = [problem.path for problem in caught.value.problems]
    assert paths == ["name", "lanes", "events_per_second", "duplicate_rate"]
    assert "clickstream" in (caught.value.problems[0].hint or "")


def test_a_call_has_a_bound() -> None:
    with pytest.raises(Error, match="at most 1000000 events"):
        _core.Generator().read(1_000_001)
