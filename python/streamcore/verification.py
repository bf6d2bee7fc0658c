"""Owns holding the engine's final windows of a range of the input against a batch recomputation of the same records.

Before it: a configuration. After it: `streamcore verify`.
Invariant: both sides saw the same records, which is counted; what the engine left out is left out by its place alone.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamcore.assemble import make_plan
from streamcore.clock import SystemClock
from streamcore.config import FilesSourceConfig, KafkaSourceConfig, PipelineConfig, kafka_connection, unkept
from streamcore.config.durations import format_instant
from streamcore.config.steps import SessionStep
from streamcore.errors import ConfigError, Error, Problem, SourceError
from streamcore.kafka_client import Cluster, application, creating_client, partition_list
from streamcore.kafka_errors import failed_reading
from streamcore.options import RunOptions
from streamcore.recompute import Recipe, recipe_of, recompute, row_of
from streamcore.report import Ledger
from streamcore.run import Run
from streamcore.sinks.memory import CollectSink
from streamcore.sources.kafka_positions import start_positions, stop_positions
from streamcore.tables import Batch
from streamcore.topics import input_topic

if TYPE_CHECKING:
    import polars as pl

LEFT_OUT = ("late", "future", "rejected")
"""Outputs of records that the engine took into no window."""

FLOAT_TOLERANCE = 1e-9
"""Relative: a batch adds floats in another order."""

READ_TIMEOUT_S = 60.0
"""How long the input may bring nothing before its end."""

Place = tuple[int, int]
"""Partition (or number of the file) and offset."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the input."""

    place: Place
    value: bytes | None
    timestamp_ms: int | None


@dataclass(frozen=True, slots=True)
class Difference:
    """A value that is another one on either side, or a window that one side alone has."""

    window_start: str
    window_end: str
    key: dict[str, Any]
    column: str | None
    """None: one side has no row of the window; the other's is told with all its columns."""
    engine: Any
    recomputed: Any


@dataclass(slots=True)
class Verified:
    """What was found."""

    records: int = 0
    left_out: int = 0
    """Of them: late, of the future, refused, without a value."""
    windows: int = 0
    """Those that were compared."""
    open: int = 0
    """Those that are not over where the range ends at a time, so that the engine has no row of them yet."""
    differing: int = 0
    """Windows that differ, those that one side alone has among them."""
    differences: list[Difference] = field(default_factory=list)
    """In the order of windows, a column each."""


class _Rows(CollectSink):
    def __init__(self, output: str) -> None:
        super().__init__()
        self.output = output


def verify(config: PipelineConfig, *, start: str | None, stop: str | None) -> Verified:
    """Replays the range in an engine of its own, works it out anew, and compares.

    Raises `ConfigError` for a pipeline that cannot be worked out anew, `Error` for a range that cannot.
    """
    recipe, refused = recipe_of(config)
    if recipe is None:
        problems = [Problem(path, what) for path, _, what in (one.partition(": ") for one in refused)]
        raise ConfigError("polars cannot work this pipeline out anew", problems)
    if isinstance(config.source, KafkaSourceConfig):
        stop = stop or "end"
        records = list(_kafka_records(config, config.source, start, stop))
    elif isinstance(config.source, FilesSourceConfig) and config.source.framing == "lines":
        start, records = None, list(_file_records(config.source))
    else:
        raise ConfigError(f"verify reads topics, and files of lines; this source is of type {config.source.type}")
    ledger, outputs = _replay(config, start, stop)
    if ledger.read != len(records):
        raise Error(
            f"the replay read {ledger.read} records, and a plain reader {len(records)}: the input changed meanwhile; name an end "
            "that is past, as --stop=-1m"
        )
    missed = ledger.late_windows + ledger.late_after_combine
    if missed:
        raise Error(
            f"{missed} windows were missed by records that others of theirs took, which no batch works out; raise "
            "out_of_orderness for this, with --set source.out_of_orderness=1h"
        )
    left_out = {(row["_partition"], row["_offset"]) for name in LEFT_OUT for row in _rows(outputs[name])}
    # The end of the input closes all windows; a time does not.
    return _compared(config, recipe, records, left_out, outputs["result"], is_over=stop in (None, "end"))


def _replay(config: PipelineConfig, start: str | None, stop: str | None) -> tuple[Ledger, dict[str, list[Any]]]:
    """Runs the range to its end; nothing is kept or committed."""
    sinks = {name: _Rows(name) for name in ("result", *LEFT_OUT)}
    plan = make_plan(unkept(config), RunOptions(start=start, stop=stop), sinks=list(sinks.values()))
    run = Run(plan, clock=SystemClock(), asked=False)
    try:
        report = run.wait()
    finally:
        run.close()
    return report.ledger, {name: sink.batches for name, sink in sinks.items()}


def _rows(batches: Iterable[Any]) -> Iterator[dict[str, Any]]:
    return (row for batch in batches for row in batch.to_rows())


def _file_records(source: FilesSourceConfig) -> Iterator[Record]:
    import glob

    found = sorted(path for path in glob.glob(source.path, recursive=True) if Path(path).is_file())  # noqa: PTH207
    for number, path in enumerate(found):
        offset = 0
        for line in Path(path).read_bytes().splitlines(keepends=True):
            if line.strip():
                yield Record((number, offset), line, None)
            offset += len(line)


def _kafka_records(config: PipelineConfig, source: KafkaSourceConfig, start: str | None, stop: str) -> Iterator[Record]:
    """The records of the range, by a consumer of its own."""
    connection = kafka_connection(config, source.connection)
    cluster = Cluster(connection)
    cluster.connect()
    topic = cluster.input_topic(input_topic(source))
    now_ms = time.time_ns() // 1_000_000
    begin = start_positions(cluster, topic, {}, start or source.start, now_ms)
    ends = stop_positions(cluster, topic, stop, now_ms)
    settings = {"isolation.level": "read_committed", "allow.auto.create.topics": False}
    with creating_client(connection):
        app = application(connection, group=f"streamcore-verify-{uuid.uuid4().hex}", defaults={}, settings=settings)
        consumer = app.get_consumer(auto_commit_enable=False)
    try:
        unread = {lane for lane, end in ends.items() if begin[lane] < end}
        consumer.assign(partition_list(topic.name, {lane: begin[lane] for lane in unread}))
        heard_s = time.monotonic()
        while unread:
            messages: list[Any] = consumer.consume(1_000, 0.1)
            for message in messages:
                if message.error() is not None:
                    failure = failed_reading(message.error(), topic.name, topic.name)
                    if failure is not None:
                        raise failure
                    continue
                heard_s = time.monotonic()
                place = (message.partition(), message.offset())
                if place[1] < ends[place[0]]:
                    yield Record(place, message.value(), message.timestamp()[1])
            positions = consumer.position(partition_list(topic.name, sorted(unread)))
            unread -= {part.partition for part in positions if part.offset >= ends[part.partition]}
            if unread and time.monotonic() - heard_s > READ_TIMEOUT_S:
                raise SourceError(f"{topic.name} brought nothing for {READ_TIMEOUT_S:.0f} s before its end")
    finally:
        consumer.close()  # type: ignore[no-untyped-call]


def _compared(
    config: PipelineConfig,
    recipe: Recipe,
    records: Sequence[Record],
    left_out: set[Place],
    results: Sequence[Any],
    *,
    is_over: bool,
) -> Verified:
    taken = [record for record in records if record.value is not None and record.place not in left_out]
    rows = [
        row_of(recipe, json.loads(record.value or b"", parse_float=Decimal), record.timestamp_ms) for record in taken
    ]
    if isinstance(recipe.window, SessionStep):
        _check_order(config, [record.place[0] for record in taken], [time_ms for time_ms, _ in rows])
    expected = recompute(recipe, [time_ms for time_ms, _ in rows], [values for _, values in rows])
    found = _final(recipe, results)
    newest_ms: dict[int, int] = {}
    for record, (time_ms, _) in zip(taken, rows, strict=True):
        newest_ms[record.place[0]] = max(time_ms, newest_ms.get(record.place[0], time_ms))
    compared = expected if is_over else _over(config, recipe, expected, found, newest_ms)
    told = list(differences(recipe, compared, found))
    return Verified(
        records=len(records),
        left_out=len(records) - len(taken),
        windows=len(compared),
        open=len(expected) - len(compared),
        differing=len({(one.window_start, one.window_end, *one.key.items()) for one in told}),
        differences=told,
    )


def _over(
    config: PipelineConfig,
    recipe: Recipe,
    expected: pl.DataFrame,
    found: pl.DataFrame,
    newest_ms: Mapping[int, int],
) -> pl.DataFrame:
    """Windows that the slowest lane's clock has passed, and those that the engine has closed before."""
    import polars as pl

    bound_ms = config.source.out_of_orderness_ms
    passed = pl.lit(value=False)
    if newest_ms and bound_ms is not None:
        passed = pl.col("window_end") + recipe.window.allowed_lateness <= min(newest_ms.values()) - bound_ms
    of_window = [*recipe.keys, "window_start", "window_end"]
    closed = {tuple(window) for window in found.select(of_window).rows()}
    has_row = pl.Series("closed", [window in closed for window in expected.select(of_window).rows()], dtype=pl.Boolean)
    return expected.filter(passed | has_row)


def _check_order(config: PipelineConfig, lanes: Sequence[int], times_ms: Sequence[int]) -> None:
    """A session that is over is not taken up again: of records behind the clock no batch can say which it was."""
    bound_ms, newest = config.source.out_of_orderness_ms, dict[int, int]()
    behind = 0
    for lane, time_ms in zip(lanes, times_ms, strict=True):
        newest[lane] = max(time_ms, newest.get(lane, time_ms))
        behind += bound_ms is not None and newest[lane] - time_ms > bound_ms
    if behind:
        raise Error(
            f"{behind} records came further behind than out_of_orderness and are in sessions, which no batch works out; raise "
            "it for this, with --set source.out_of_orderness=1h"
        )


def _final(recipe: Recipe, results: Sequence[Any]) -> pl.DataFrame:
    """The row of each window that holds: the one with the highest revision."""
    import polars as pl

    frames = [Batch(batch).to_polars() for batch in results if batch.num_rows]
    if not frames:
        return pl.DataFrame(schema=dict.fromkeys(recipe.columns, pl.Null))
    frame = pl.concat(frames)
    if "retracted" in frame.columns:
        frame = (
            frame.sort("revision")
            .unique([*recipe.keys, "window_start", "window_end"], keep="last")
            .filter(~pl.col("retracted"))
        )
    bounds = [pl.col(name).dt.epoch("ms") for name in ("window_start", "window_end")]
    return (
        frame.with_columns(bounds)
        .sort("revision")
        .unique([*recipe.keys, "window_start", "window_end"], keep="last")
        .select(recipe.columns)
    )


def differences(recipe: Recipe, expected: pl.DataFrame, found: pl.DataFrame) -> Iterator[Difference]:
    """Each value of a window that the sides have otherwise, and each window that only one of them has."""
    names = [one.name for one in recipe.aggregates]
    sides = [_by_window(recipe, frame, names) for frame in (found, expected)]
    for window in sorted({*sides[0], *sides[1]}, key=lambda window: (window[-1], window[-2], str(window[:-2]))):
        engine, batch = (side.get(window) for side in sides)
        key = dict(zip(recipe.keys, window[:-2], strict=True))
        bounds = (format_instant(window[-2]), format_instant(window[-1]))
        if engine is None or batch is None:
            rows = [None if values is None else dict(zip(names, values, strict=True)) for values in (engine, batch)]
            yield Difference(*bounds, key, column=None, engine=rows[0], recomputed=rows[1])
            continue
        for name, left, right in zip(names, engine, batch, strict=True):
            if not _equal(left, right):
                yield Difference(*bounds, key, column=name, engine=left, recomputed=right)


def _by_window(recipe: Recipe, frame: pl.DataFrame, names: Sequence[str]) -> Mapping[tuple[Any, ...], tuple[Any, ...]]:
    keys = [*recipe.keys, "window_start", "window_end"]
    windows, values = frame.select(keys).rows(), frame.select(names).rows()
    return dict(zip(windows, values, strict=True))


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return (
            left == right
            or math.isclose(left, right, rel_tol=FLOAT_TOLERANCE)
            or (math.isnan(left) and math.isnan(right))
        )
    return bool(left == right) and (left is None) == (right is None)
