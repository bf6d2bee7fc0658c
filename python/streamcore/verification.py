"""Owns holding the engine's final windows of a range of the input against a batch recomputation of the same records.

Before it: a configuration. After it: `streamcore verify`.
Invariant: both sides saw the same records, which is counted; the batch is told what the engine left out, by place, and whether a
step did, and nothing else.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamcore.assemble import make_plan
from streamcore.clock import SystemClock
from streamcore.config import (
    FilesSourceConfig,
    KafkaConnection,
    KafkaSourceConfig,
    PipelineConfig,
    describe,
    kafka_connection,
    unkept,
)
from streamcore.config.durations import format_instant
from streamcore.config.steps import SessionStep
from streamcore.errors import ConfigError, Error, Problem, SourceError
from streamcore.kafka_client import Cluster, Topic, application, creating_client, partition_list
from streamcore.kafka_errors import failed_reading
from streamcore.options import RunOptions
from streamcore.recipe import Recipe, recipe_of
from streamcore.recompute import NEWEST, Row, behind, entered, recompute, row_of
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

BY_A_STEP = {"KEY_NULL", "KEY_TOO_LONG", "MISSING_FIELD", "STATE_FULL"}
"""Reasons of steps to refuse a record that has moved the clock; one without an id is behind the clock where it has a time."""

OVERFLOWED = "arithmetic in an expression overflowed"
"""The detail of `NUMBER_RANGE` where a step says so, and not who reads records."""

FLOAT_TOLERANCE = 1e-9
"""Relative: a batch adds floats in another order."""

SUPPORTED = (
    "it does tumbling, hopping and session windows of fields, behind filters that compare fields with literals, selects of "
    "fields, and exact dedupe: docs/state.md"
)
"""What to do about a pipeline that is refused."""

READ_TIMEOUT_S = 60.0
"""How long the input may bring nothing before its end."""

SPAN_TIMEOUT_S = 10.0
"""How long the broker may take to say from when to when a topic's records are."""

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
    columns_left_out: list[str] = field(default_factory=list)
    """Columns of the result that were not compared, and why."""
    nothing: str | None = None
    """Why nothing was compared; None: something was."""


@dataclass(slots=True)
class _Input:
    """The range, as a plain reader has it."""

    records: list[Record]
    lanes: list[int]
    """All of the input, those without records in the range among them."""
    span_ms: tuple[int, int] | None = None
    """The first and the newest timestamp of the topic's records, where the range has none."""


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
        raise ConfigError(f"polars cannot work this pipeline out anew; {SUPPORTED}", problems)
    if isinstance(config.source, KafkaSourceConfig):
        stop = stop or "end"
        read = _kafka_records(config, config.source, start, stop)
    elif isinstance(config.source, FilesSourceConfig) and config.source.framing == "lines":
        start, read = None, _file_records(config.source)
    else:
        raise ConfigError(f"verify reads topics, and files of lines; this source is of type {config.source.type}")
    ledger, outputs = _replay(config, start, stop)
    if ledger.read != len(read.records):
        raise Error(
            f"the replay read {ledger.read} records, and a plain reader {len(read.records)}: the input changed meanwhile; name an "
            "end that is past, as --stop=-1m"
        )
    missed = ledger.late_windows + ledger.late_after_combine
    if missed:
        raise Error(
            f"{missed} windows were missed by records that others of theirs took, which no batch works out; raise "
            "out_of_orderness for this, with --set source.out_of_orderness=1h"
        )
    if ledger.shed and recipe.has_dedupe:
        raise Error(
            f"{ledger.shed} records were refused as the state was full, so that their copies count, which no batch works out; "
            "raise limits.max_state_bytes and limits.max_keys for this, with --set"
        )
    # The end of the input closes all windows; a time does not.
    return _compared(config, recipe, read, outputs, is_over=stop in (None, "end"))


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


def _file_records(source: FilesSourceConfig) -> _Input:
    import glob

    found = sorted(path for path in glob.glob(source.path, recursive=True) if Path(path).is_file())  # noqa: PTH207
    records = []
    for number, path in enumerate(found):
        offset = 0
        for line in Path(path).read_bytes().splitlines(keepends=True):
            if line.strip():
                records.append(Record((number, offset), line, None))
            offset += len(line)
    return _Input(records, list(range(len(found))))


def _kafka_records(config: PipelineConfig, source: KafkaSourceConfig, start: str | None, stop: str) -> _Input:
    connection = kafka_connection(config, source.connection)
    cluster = Cluster(connection)
    cluster.connect()
    topic = cluster.input_topic(input_topic(source))
    now_ms = time.time_ns() // 1_000_000
    begin = start_positions(cluster, topic, {}, start or source.start, now_ms)
    ends = stop_positions(cluster, topic, stop, now_ms)
    records = list(_consumed(connection, topic.name, begin, ends))
    span_ms = None if records else _span_ms(cluster, topic)
    return _Input(records, list(topic.partitions), span_ms)


def _span_ms(cluster: Cluster, topic: Topic) -> tuple[int, int] | None:
    """The first and the newest timestamp of the topic's records, if there are any and the broker says."""
    try:
        futures = [
            future
            for at in (0, "newest")
            for future in cluster.offsets_later(topic.name, topic.partitions, at).values()
        ]
        told = [future.result(SPAN_TIMEOUT_S).timestamp for future in futures]
    except Exception:  # noqa: BLE001 - it is only told, and what it is told with holds without it
        return None
    known = [timestamp_ms for timestamp_ms in told if timestamp_ms >= 0]
    return (min(known), max(known)) if known else None


def _consumed(
    connection: KafkaConnection, topic: str, begin: Mapping[int, int], ends: Mapping[int, int]
) -> Iterator[Record]:
    """The records from `begin` to `ends`, by a consumer of its own."""
    settings = {"isolation.level": "read_committed", "allow.auto.create.topics": False}
    with creating_client(connection):
        app = application(connection, group=f"streamcore-verify-{uuid.uuid4().hex}", defaults={}, settings=settings)
        consumer = app.get_consumer(auto_commit_enable=False)
    try:
        unread = {lane for lane, end in ends.items() if begin[lane] < end}
        consumer.assign(partition_list(topic, {lane: begin[lane] for lane in unread}))
        heard_s = time.monotonic()
        while unread:
            messages: list[Any] = consumer.consume(1_000, 0.1)
            for message in messages:
                if message.error() is not None:
                    failure = failed_reading(message.error(), topic, topic)
                    if failure is not None:
                        raise failure
                    continue
                heard_s = time.monotonic()
                place = (message.partition(), message.offset())
                if place[1] < ends[place[0]]:
                    yield Record(place, message.value(), message.timestamp()[1])
            positions = consumer.position(partition_list(topic, sorted(unread)))
            unread -= {part.partition for part in positions if part.offset >= ends[part.partition]}
            if unread and time.monotonic() - heard_s > READ_TIMEOUT_S:
                raise SourceError(f"{topic} brought nothing for {READ_TIMEOUT_S:.0f} s before its end")
    finally:
        consumer.close()  # type: ignore[no-untyped-call]


def _compared(
    config: PipelineConfig, recipe: Recipe, read: _Input, outputs: Mapping[str, Sequence[Any]], *, is_over: bool
) -> Verified:
    left_out = {(row["_partition"], row["_offset"]): row for name in LEFT_OUT for row in _rows(outputs[name])}
    taken = [record for record in read.records if record.value is not None and record.place not in left_out]
    frame, newest_ms = entered(recipe, list(_clocked(recipe, read.records, left_out)))
    if isinstance(recipe.window, SessionStep):
        _check_order(behind(recipe, frame))
    expected = recompute(recipe, frame)
    found = _final(recipe, outputs["result"], is_over=is_over)
    silent = [lane for lane in read.lanes if lane not in newest_ms]
    meets = describe(unkept(config))["combine"] != "none"
    compared = expected
    if not is_over:
        compared = _over(
            recipe, expected, found, slowest_ms=_slowest_ms(newest_ms, silent) if meets else None, meets=meets
        )
    told = list(differences(recipe, compared, found))
    verified = Verified(
        records=len(read.records),
        left_out=len(read.records) - len(taken),
        windows=len(compared),
        open=len(expected) - len(compared),
        differing=len({(one.window_start, one.window_end, *one.key.items()) for one in told}),
        differences=told,
        columns_left_out=recipe.left_out,
    )
    if not told and not verified.windows:
        verified.nothing = _why_nothing(config, read, verified, silent if meets else [])
    return verified


def _clocked(recipe: Recipe, records: Iterable[Record], left_out: Mapping[Place, Mapping[str, Any]]) -> Iterator[Row]:
    """The records that moved the clock, those among them that left at a step."""
    for record in records:
        left = left_out.get(record.place)
        if record.value is None or (left is not None and not _left_at_a_step(left)):
            continue
        time_ms, values = row_of(recipe, record.value, record.timestamp_ms)
        if time_ms is not None:
            yield Row(record.place[0], time_ms, values, is_left_out=left is not None)
        elif left is None:
            raise Error(f"the engine took the record at {record.place}, which has no event time")


def _left_at_a_step(left: Mapping[str, Any]) -> bool:
    """Of a record that the engine took into no window: whether its clock saw it. One that is late did not move it."""
    if "lateness_ms" in left:
        return True
    return left.get("reason") in BY_A_STEP or left.get("detail") == OVERFLOWED


def _slowest_ms(newest_ms: Mapping[int, int], silent: Sequence[int]) -> int | None:
    """The newest event time of the slowest lane; None where one was not heard of, for which windows wait."""
    return None if silent or not newest_ms else min(newest_ms.values())


def _over(
    recipe: Recipe, expected: pl.DataFrame, found: pl.DataFrame, *, slowest_ms: int | None, meets: bool
) -> pl.DataFrame:
    """Windows that the engine's clock has passed, and those that it has closed before, as lanes were idle.

    Where lanes meet that is the clock of the slowest of all, else that of the window's own lane.
    """
    import polars as pl

    bound_ms = recipe.out_of_orderness_ms
    passed = pl.lit(value=False)
    if bound_ms is not None and (not meets or slowest_ms is not None):
        newest = pl.lit(slowest_ms) if meets else pl.col(NEWEST)
        passed = pl.col("window_end") + recipe.window.allowed_lateness <= newest - bound_ms
    of_window = [*recipe.keys, "window_start", "window_end"]
    closed = {tuple(window) for window in found.select(of_window).rows()}
    has_row = pl.Series("closed", [window in closed for window in expected.select(of_window).rows()], dtype=pl.Boolean)
    return expected.filter(passed | has_row)


def _why_nothing(config: PipelineConfig, read: _Input, verified: Verified, silent: Sequence[int]) -> str:
    """Why there was no window to compare; what to do behind a semicolon."""
    if not read.records:
        if not isinstance(config.source, KafkaSourceConfig):
            return "the input has no records"
        if read.span_ms is None:
            return f"{config.source.topic} has no records that a reader gets"
        first, newest = map(format_instant, read.span_ms)
        return (
            "no record lies in the range, which goes by the records' Kafka timestamps, not by their event times; "
            f"those of {config.source.topic} are from {first} to {newest}"
        )
    if verified.open:
        if silent:
            lanes = ", ".join(map(str, silent))
            why = f"partitions without a record that moves the clock hold them all: {lanes}"
        else:
            why = "their ends, with out_of_orderness and allowed_lateness, lie behind the newest event times"
        return (
            f"none of {verified.open} windows is over at the end of the range ({why}); leave --stop out, as the end of the input "
            "closes all windows, or set it later"
        )
    return f"of {len(read.records)} records none is in a window: late, refused, or taken out by a step; see the report of a run"


def _check_order(behind_count: int) -> None:
    """A session that is over is not taken up again: of records behind the clock no batch can say which it was."""
    if behind_count:
        raise Error(
            f"{behind_count} records came further behind than out_of_orderness and are in sessions, which no batch works out; "
            "raise it for this, with --set source.out_of_orderness=1h"
        )


def _final(recipe: Recipe, results: Sequence[Any], *, is_over: bool) -> pl.DataFrame:
    """The row of each window that holds: the one with the highest revision.

    Rows that left early hold what there was then; what came since leaves with the window, at a time as the end not yet.
    """
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
    frame = frame.sort("revision").unique([*recipe.keys, "window_start", "window_end"], keep="last")
    if not is_over and (recipe.window.emit_every is not None or recipe.window.emit_when is not None):
        frame = frame.filter(pl.col("is_final"))
    return frame.with_columns(bounds).select(recipe.columns)


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
