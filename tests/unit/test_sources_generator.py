from __future__ import annotations

import pytest

from streamcore import _core
from streamcore.config import GenerateSourceConfig
from streamcore.sources import generator
from streamcore.sources.base import Start
from streamcore.sources.generator import GeneratorSource
from streamcore.testing import ManualClock


def opened(clock: ManualClock, position: int = 0, **settings: object) -> GeneratorSource:
    config = GenerateSourceConfig.model_validate(settings)
    source = GeneratorSource(config, clock)
    assert source.open(Start(positions=dict.fromkeys(range(config.lanes), position))) == list(range(config.lanes))
    return source


def poll(source: GeneratorSource) -> int:
    raw = source.poll(0.05).raw
    return 0 if raw is None else len(raw)


def test_the_rate_is_kept() -> None:
    clock = ManualClock()
    source = opened(clock, rate=1_000)
    assert poll(source) == 20
    clock.advance(1_000)
    assert poll(source) == 1_000
    assert source.positions() == {0: 1_020}


def test_nothing_due_is_waited_for() -> None:
    clock = ManualClock()
    source = opened(clock, rate=1)
    polled = source.poll(0.05)
    assert (polled.raw, polled.caught_up, clock.monotonic_s()) == (None, (0,), 0.02)


def test_without_a_rate_it_is_as_fast_as_it_can_be() -> None:
    source = opened(ManualClock())
    assert poll(source) == generator.POLL_EVENTS_MAX
    assert not source.bounded


def test_a_count_ends_it() -> None:
    source = opened(ManualClock(), count=60_000, lanes=3)
    assert source.bounded
    assert poll(source) == 50_000
    polled = source.poll(0)
    assert polled.raw is not None
    assert (len(polled.raw), polled.ended, polled.caught_up) == (10_000, True, (0, 1, 2))
    assert source.poll(0).ended


def test_no_events_at_all() -> None:
    polled = opened(ManualClock(), count=0).poll(0)
    assert (polled.raw, polled.ended) == (None, True)


def test_it_goes_on_from_a_position_at_the_same_pace() -> None:
    clock = ManualClock()
    source = opened(clock, position=5_000, rate=1_000, lanes=2)
    clock.advance(100)
    poll(source)
    assert source.positions() == {0: 5_100, 1: 5_100}
    source.seek({0: 5_000, 1: 5_000})
    clock.advance(500)
    poll(source)
    assert source.positions() == {0: 5_500, 1: 5_500}


def test_speed_stretches_event_time() -> None:
    clock = ManualClock()
    slow, fast = opened(clock, rate=1_000), opened(clock, rate=1_000, speed=60)
    for source in (slow, fast):
        clock.advance(1_000)
        poll(source)
    began = _core.Generator().event_time_ms
    spans = [(source._generator.event_time_ms - began) / source.positions()[0] for source in (slow, fast)]
    assert spans == pytest.approx([1.0, 60.0], rel=1e-4)


def test_what_the_events_depend_on_is_described() -> None:
    facts = opened(ManualClock(), rate=1_000, speed=2, seed=9, out_of_order="2s", duplicate_rate=0.5).describe()
    assert facts == {
        "type": "generate",
        "generator": "clickstream",
        "seed": 9,
        "lanes": 1,
        "events_per_second": "500.0",
        "out_of_order_ms": 2_000,
        "duplicate_rate": "0.5",
    }
