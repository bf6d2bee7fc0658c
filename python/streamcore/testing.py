"""Owns the test kit: a pipeline on records of your own, with time in your hands.

Before it: a pipeline and a list of records. After it: its rows and its ledger, to be compared.
Invariant: it is the engine of production, in this thread, and nothing happens that the test did not ask for.

    from streamcore import testing

    with testing.start(pipeline) as run:
        run.push([{"id": 1, "timestamp": "2026-01-01T00:00:10Z"}])
        run.end()
        assert run.rows() == [...]
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from streamcore import _core
from streamcore.config import PipelineConfig, check, describe, engine_json, parse_duration, problems_error
from streamcore.errors import ConfigError
from streamcore.functions import functions_of
from streamcore.inference import Undeclared, types_of, with_types
from streamcore.report import Ledger
from streamcore.sources.iterable import Record, record_parts

if TYPE_CHECKING:
    from streamcore.pipeline import Pipeline

START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z: what the clock shows at first."""


class ManualClock:
    """A clock that moves when it is told to."""

    def __init__(self, wall_ms: int = START_MS) -> None:
        self._wall_ms = wall_ms
        self._monotonic_ms = 0

    def monotonic_s(self) -> float:
        """Seconds from an arbitrary start."""
        return self._monotonic_ms / 1_000

    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""
        return self._wall_ms

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Waiting takes no time; the clock moves on by `seconds`."""
        self.advance(round(seconds * 1_000))
        return event.is_set()

    def advance(self, milliseconds: int) -> None:
        """Moves both clocks on."""
        self._wall_ms += milliseconds
        self._monotonic_ms += milliseconds


class TestRun:
    """A pipeline under test: records in, rows out, no source and no sink."""

    __test__ = False  # pytest would collect it by its name

    def __init__(self, config: PipelineConfig, *, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self._config = config
        self._engine: _core.Pipeline | None = None
        self._lanes: set[int] = set()
        self._next_offsets: defaultdict[int, defaultdict[int, int]] = defaultdict(lambda: defaultdict(int))
        self._rows: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)

    def push(self, records: Iterable[Any], source: str | None = None) -> None:
        """Runs records (bytes, text, mappings, `sc.Record`s) through the pipeline, together.

        `source` names the input that they are of, where it is joined; unset, they are of the pipeline's own. Types that
        nobody declared are inferred from the first ones. Raises `ConfigError` where these have none of a field but one with
        a name that is close.
        """
        raw = self._raw(records, source)
        if raw is None:
            return
        engine = self._opened(raw, source)
        self._take([*engine.push(raw, self.clock.wall_ms()), *engine.settle()])

    def advance(self, duration: str | timedelta) -> None:
        """Lets wall time pass while nothing arrives, with everything read: idle lanes, windows that close by it."""
        self.clock.advance(parse_duration(duration))
        engine = self._opened(None)
        self._take([*engine.advance(self.clock.wall_ms(), sorted(self._lanes)), *engine.settle()])

    def commit(self) -> None:
        """Ends the epoch: rows of `updates` windows leave, the ledger is checked."""
        engine = self._opened(None)
        self._take(engine.seal().outputs)
        engine.committed()

    def end(self) -> None:
        """The input is over: every window closes."""
        engine = self._opened(None)
        self._take([*engine.end(), *engine.settle()])
        self.commit()

    def rows(self, output: str = "result") -> list[dict[str, Any]]:
        """Rows of an output so far; times are `datetime`s in UTC."""
        return list(self._rows[output])

    @property
    def ledger(self) -> Ledger:
        """Where the records went."""
        return Ledger.total(self._opened(None).ledger())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._engine = None

    def _raw(self, records: Iterable[Any], source: str | None) -> _core.Raw | None:
        names = list(self._config.all_sources)
        if source not in names:
            raise ConfigError(f"there is no source called {source}; there are {names[1:]}")
        number = names.index(source)
        by_lane: defaultdict[int, list[Any]] = defaultdict(list)
        for place, item in enumerate(records):
            lane, parts = record_parts(item, place, self._next_offsets[number])
            by_lane[lane].append(parts)
        whole: _core.Raw | None = None
        for lane, parts_of_lane in sorted(by_lane.items()):
            raw = _core.Raw.from_records(lane, "test", parts_of_lane)
            if number:
                raw.of_input(number)
            if whole is None:
                whole = raw
            else:
                whole.add(raw)
        new = sorted({number * _core.LANES_PER_INPUT + lane for lane in by_lane} - self._lanes)
        self._lanes |= set(new)
        if self._engine is not None and new:
            self._engine.assign(new)
        return whole

    def _opened(self, sample: _core.Raw | None, of: str | None = None) -> _core.Pipeline:
        if self._engine is None:
            config = self._config
            description = describe(config)
            for name in config.all_sources:
                fields = Undeclared.of(description, name)
                known = sample is not None and name == of
                types = types_of(sample, fields, is_all=lambda: False) if known and sample else fields.as_text()
                config = with_types(config, name, types)
            self._engine = _core.Pipeline(engine_json(config), functions_of(config))
            self._engine.assign(sorted(self._lanes))
        return self._engine

    def _take(self, batches: Sequence[_core.Batch]) -> None:
        for batch in batches:
            self._rows[batch.output] += batch.to_rows()


def start(pipeline: Pipeline | PipelineConfig, *, clock: ManualClock | None = None) -> TestRun:
    """Puts a pipeline under test. Raises `ConfigError` with every mistake in it."""
    config = pipeline if isinstance(pipeline, PipelineConfig) else pipeline.config
    problems = check(config, types_required=False)
    if problems:
        raise problems_error(problems)
    return TestRun(config, clock=clock)


RECORD_PARTS = ("_key", "_headers", "_timestamp", "_partition", "_offset")


def record_of(row: Mapping[str, Any]) -> Record:
    """A record from a row of `[[tests]]`: columns are the value, `_key`, `_timestamp`, ... its other parts."""
    value = {name: cell for name, cell in row.items() if name not in RECORD_PARTS}
    timestamp = row.get("_timestamp")
    if isinstance(timestamp, str):
        from streamcore.config import parse_instant

        timestamp = parse_instant(timestamp)
    headers = [
        (name, None if cell is None else str(cell).encode()) for name, cell in dict(row.get("_headers", {})).items()
    ]
    return Record(
        value,
        key=row.get("_key"),
        headers=headers or None,
        timestamp_ms=timestamp,
        partition=int(row.get("_partition", 0)),
        offset=row.get("_offset"),
    )
