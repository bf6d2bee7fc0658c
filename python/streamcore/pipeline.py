"""Owns the builder: an immutable description that grows by steps and sinks, and starts runs.

Before it: `builders.py` gives a pipeline its source, or `load` reads a file. After it: `run.py` executes it.
Invariant: a pipeline does nothing and holds no connection; every method gives a new one or raises at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from streamcore.config import KafkaConnection, PipelineConfig, RedisConnection, to_toml
from streamcore.config import load as load_config
from streamcore.config.environment import fill_from_environment
from streamcore.config.joining import with_input
from streamcore.config.plan import explain
from streamcore.config.steps import tag_of
from streamcore.config.validation import validated
from streamcore.errors import ConfigError, Problem
from streamcore.sinks.base import Sink
from streamcore.user_aggregates import Aggregate, AggregateCall
from streamcore.windows import Window

if TYPE_CHECKING:
    from streamcore.report import Report
    from streamcore.run import Run
    from streamcore.tables import Batch, Table


class SinkKeys(TypedDict, total=False):
    """Keywords that every `.sink_...` takes."""

    name: str
    output: Literal["result", "late", "future", "rejected"]
    columns: Sequence[str]
    timestamp_format: Literal["iso", "epoch_ms"]


class JoinKeys(TypedDict, total=False):
    """Keywords that every join takes."""

    name: str
    """What the other input is called in files, reports and the name of its consumer group."""
    allowed_lateness: str | timedelta
    suffix: str


class RunKeys(TypedDict, total=False):
    """Keywords of `.start` and `.run`."""

    name: str
    delivery: Literal["exactly_once", "effectively_once", "at_least_once"]
    commit_interval: str | timedelta
    combine: Literal["auto", "local", "topic", "none"]
    instance_id: str
    start: str
    stop: str
    for_: str | timedelta
    listen: str
    accept_gap: bool
    keep_seat: bool
    transport: str


@dataclass(frozen=True, slots=True, repr=False)
class Pipeline:
    """A source, steps and sinks. Made by `sc.kafka`, `sc.files`, ... or `sc.load`.

    >>> import streamcore as sc
    >>> views = sc.files("clicks/*.jsonl", event_time="timestamp").window(sc.tumbling("1m")).agg(views=sc.count())
    >>> print(views.to_toml())
    [source]
    type = "files"
    event_time = "timestamp"
    path = "clicks/*.jsonl"
    <BLANKLINE>
    [[steps]]
    window = "tumbling"
    size = "1m"
    <BLANKLINE>
    [steps.aggregate]
    views = "count()"
    <BLANKLINE>
    """

    config: PipelineConfig
    """The description; also what `streamcore.config.load` gives."""
    inputs: Iterable[Any] | None = field(default=None, compare=False)
    """The records of `sc.records`."""
    joined_inputs: Mapping[str, Iterable[Any]] = field(default_factory=dict, compare=False)
    """Those of inputs that are joined, by name."""
    extra_sinks: tuple[Sink, ...] = ()
    """Sinks that are Python objects."""

    def filter(self, condition: str, /, **parameters: Any) -> Pipeline:
        """Keeps the rows for which `condition` is true; `parameters` are its `$names`.

        Raises `ExpressionError` with a caret under the mistake.
        """
        return self._step({"filter": condition}, parameters)

    def select(self, columns: Mapping[str, str] | None = None, /, **more: Any) -> Pipeline:
        """Replaces the columns: `.select(page="payload.page_id")`.

        With a mapping, the keywords are the parameters of its expressions: `.select({"x": "a * $n"}, n=2)`.
        """
        return self._step({"select": more if columns is None else dict(columns)}, {} if columns is None else more)

    def dedupe(
        self,
        by: str,
        /,
        *,
        within: str | timedelta,
        method: Literal["exact", "bloom"] = "exact",
        false_drop_rate: float | None = None,
        capacity: int | None = None,
    ) -> Pipeline:
        """Drops records whose field `by` was seen before; an id is remembered for `within` past its event time.

        With `method="bloom"` ids are kept in filters, which take about a fifth of the memory and drop new records
        too: at most the share `false_drop_rate` of them (0.001 if not given), over the whole horizon. `capacity` is how
        many ids of one partition are expected `within` the horizon; filters grow if more come. `Report.dedupes` tells
        how full they are and how many records they have dropped by mistake, as expected.
        """
        filters = _given({"false_drop_rate": false_drop_rate, "capacity": capacity})
        return self._step({"dedupe": by, "within": within, "method": method, **filters}, {})

    def map_batches(self, function: Callable[[Batch], object] | str, /, *, schema: Mapping[str, str]) -> Pipeline:
        """Replaces the columns by what `function` makes of whole batches, as many rows in the same order.

        It is given a `Batch` of the columns of the `select` or window before, or of the fields that the source's
        `schema` declares, and gives Arrow with the columns of `schema` (types as there): a polars frame, a pyarrow
        table, or anything with `__arrow_c_stream__`. How rows are cut into batches is not defined, so a row must
        not depend on its neighbours. Rows it fails for are dead letters with the line that failed. `function` may
        be named, as `"module:name"`; a pipeline with any other function cannot be written as a file.
        """
        return self._step({"map_batches": function, "schema": dict(schema)}, {})

    def join(
        self,
        other: Pipeline,
        /,
        *,
        on: str | Sequence[str] | None = None,
        left_on: str | Sequence[str] | None = None,
        right_on: str | Sequence[str] | None = None,
        how: Literal["inner", "left", "outer"] = "inner",
        within: str | timedelta | tuple[str | timedelta, str | timedelta] | None = None,
        window: Window | None = None,
        **keys: Unpack[JoinKeys],
    ) -> Pipeline:
        """Joins with the rows of `other` that have an equal key.

        Of `other` the source and the steps count: `filter`, `select`, `dedupe`, `map_batches`.
        `within=("-5m", "10m")`: the other row is from 5 minutes before to 10 minutes after; one duration reaches as far
        both ways. `window=sc.tumbling("1m")`: both lie in one window. Rows leave in order of their time, the later of
        the two. Columns are those of the `select` before, or the key and the fields that the source's `schema` declares.
        """
        own: dict[str, Any] = {"how": how, "within": within}
        if window is not None:
            sizes = set(window.keys) - {"window", "size", "offset"}
            if window.keys.get("window") != "tumbling" or sizes:
                raise ConfigError('a join takes a tumbling window of one length, as window=sc.tumbling("1m")')
            own |= {key: value for key, value in window.keys.items() if key != "window"}
        return self._join(other, {"on": on, "left_on": left_on, "right_on": right_on, **own}, keys, table=False)

    def join_asof(
        self,
        other: Pipeline,
        /,
        *,
        on: str | Sequence[str] | None = None,
        left_on: str | Sequence[str] | None = None,
        right_on: str | Sequence[str] | None = None,
        how: Literal["inner", "left"] = "inner",
        tolerance: str | timedelta | None = None,
        **keys: Unpack[JoinKeys],
    ) -> Pipeline:
        """Joins each row with the latest of `other` up to its time of equal key, no further back than `tolerance`."""
        own = {"on": on, "left_on": left_on, "right_on": right_on, "how": how, "tolerance": tolerance}
        return self._join(other, {**own, "as_of": True}, keys, table=False)

    def join_table(
        self,
        table: Pipeline,
        /,
        *,
        on: str | Sequence[str] | None = None,
        left_on: str | Sequence[str] | None = None,
        right_on: str | Sequence[str] | None = None,
        how: Literal["inner", "left"] = "inner",
        versioned: bool = False,
        **keys: Unpack[JoinKeys],
    ) -> Pipeline:
        """Looks each row up in a table: a compacted topic or files, of which the last row of a key counts.

        The table is read to its end before anything else. Later rows of a topic replace those of their key; one without
        a value deletes it. `versioned=True`: the row that the key had at the time of the row that is looked up.
        """
        own = {"on": on, "left_on": left_on, "right_on": right_on, "how": how, "versioned": versioned or None}
        return self._join(table, own, keys, table=True)

    def window(
        self,
        kind: Window,
        *,
        by: str | Sequence[str] | Mapping[str, str] = (),
        emit: Literal["final", "updates"] = "final",
        emit_every: str | timedelta | None = None,
        emit_when: str | None = None,
        allowed_lateness: str | timedelta = "0s",
        null_keys: Literal["group", "drop", "reject"] = "group",
    ) -> Windowed:
        """Groups by window and by the fields `by` (a mapping renames them); `.agg(...)` says what is computed.

        With `emit="updates"` changed rows leave early at each commit; or each `emit_every` of event time; or, with
        `emit_when="n >= 10"`, when a record makes that true of its row. With both, the changed rows of which it is true.
        """
        if not isinstance(kind, Window):
            raise ConfigError('the first argument of window is a kind of window, such as sc.tumbling("1m")')
        given: object = by  # whatever a caller without a type checker gives
        if not isinstance(given, (str, Sequence, Mapping)):
            hint = 'as by="page", by=["page", "country"] or by={"page": "payload.page"}'
            raise ConfigError("a window", [Problem("by", f"is a field or several, not {type(by).__name__}", hint=hint)])
        keys: dict[str, Any] = {"emit": emit, "allowed_lateness": allowed_lateness, "null_keys": null_keys}
        keys |= _given({"emit_every": emit_every, "emit_when": emit_when})
        if by:
            keys["by"] = by
        return Windowed(self, {**kind.keys, **keys})

    def sink_kafka(
        self,
        topic: str,
        *,
        key: Sequence[str] | None = None,
        mode: Literal["upsert", "append"] | None = None,
        key_format: Literal["json", "string"] = "json",
        connection: str | KafkaConnection | None = None,
        partitions: int | None = None,
        options: Mapping[str, Any] | None = None,
        **keys: Unpack[SinkKeys],
    ) -> Pipeline:
        """Writes rows to a topic as JSON objects; see `docs/pipeline-toml.md` for the keys."""
        connections, name = self._connected(connection)
        own = {"topic": topic, "key": key, "mode": mode, "connection": name, "partitions": partitions}
        return self._sink("kafka", {**own, "key_format": key_format, "options": options}, keys, connections)

    def sink_redis(
        self,
        key_template: str,
        *,
        url: str | None = None,
        connection: str | RedisConnection | None = None,
        value: str | None = None,
        ttl: str | timedelta | None = None,
        batch_rows: int | None = None,
        **keys: Unpack[SinkKeys],
    ) -> Pipeline:
        """Keeps one Redis key a row, as `"page:{page_id}:{window_end:epoch_s}"`; older rows never replace newer ones."""
        connections, name = self._connected(connection)
        own = {"key_template": key_template, "url": url, "connection": name, "value": value, "ttl": ttl}
        return self._sink("redis", {**own, "batch_rows": batch_rows}, keys, connections)

    def sink_parquet(self, path: str | os.PathLike[str], **keys: Unpack[SinkKeys]) -> Pipeline:
        """Writes Parquet files into the folder `path`; a file appears when its rows are durable.

        Rows are appended: of each group and window the one with the highest `revision` counts.
        """
        return self._sink("parquet", {"path": os.fspath(path)}, keys)

    def sink_webhook(
        self,
        url: str,
        *,
        method: Literal["POST", "PUT", "PATCH"] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: str | timedelta | None = None,
        **keys: Unpack[SinkKeys],
    ) -> Pipeline:
        """Sends each row to an HTTP server, as a JSON object; see `docs/pipeline-toml.md` for what is tried again."""
        return self._sink("webhook", {"url": url, "method": method, "headers": headers, "timeout": timeout}, keys)

    def sink_console(
        self,
        *,
        format: Literal["table", "jsonl"] | None = None,  # noqa: A002 - named like the key
        **keys: Unpack[SinkKeys],
    ) -> Pipeline:
        """Shows rows on the terminal: a live table, or one JSON object a line."""
        return self._sink("console", {"format": format}, keys)

    def sink_memory(self, topic: str, **keys: Unpack[SinkKeys]) -> Pipeline:
        """Appends rows to a topic of the in-process log."""
        return self._sink("memory", {"topic": topic}, keys)

    def sink(self, sink: Sink) -> Pipeline:
        """Adds a sink of your own: any object with the methods of `streamcore.sinks.base.Sink`."""
        return replace(self, extra_sinks=(*self.extra_sinks, sink))

    def dead_letters(
        self,
        topic: str | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        connection: str | KafkaConnection | None = None,
        error_rate_max: float | None = None,
        error_rate_window: int | None = None,
    ) -> Pipeline:
        """Sends refused records to a topic, or to a file when `path` is given."""
        connections, name = self._connected(connection)
        keys: dict[str, Any] = {"topic": topic, "path": None if path is None else os.fspath(path), "connection": name}
        keys |= {"error_rate_max": error_rate_max, "error_rate_window": error_rate_window}
        return self._changed(dead_letters=_given(keys), **connections)

    def configure(self, **keys: Any) -> Pipeline:
        """Sets keys of the top of a pipeline file: `name`, `commit_interval`, `limits={...}`, `tests=[...]`."""
        return self._changed(**keys)

    def start(self, **options: Unpack[RunKeys]) -> Run:
        """Starts a run in a thread of its own.

        `name` makes it durable: state and positions are kept under it, and a later run goes on. Without one the
        run is ephemeral. `start`: `"earliest"`, `"latest"`, an ISO time or `"-2h"`. `stop`: `"end"` or a time.
        `for_` is wall time; `listen` serves the status as JSON; `accept_gap` goes on without records that retention deleted
        before they were read; with `keep_seat` this worker's partitions wait for its restart; `transport`
        is how records of Kafka come. Raises `ConfigError`, `SourceError`, `StateError` or `FencedError`.
        """
        from streamcore.run import start

        return start(self, **options)

    def run(self, **options: Unpack[RunKeys]) -> Report:
        """Starts a run and waits for its end; takes what `start` takes."""
        return self.start(**options).wait()

    def collect(self, **options: Unpack[RunKeys]) -> Table:
        """All result rows of an input that ends, or of one cut with `stop="end"`; sinks are not written.

        Warns with `LateRowsWarning` when rows came too late, with `RefusedRecordsWarning` when records could not be
        used. Raises `ConfigError` for an input without end.
        """
        from streamcore.run import collect

        return collect(self, **options)

    def explain(self) -> str:
        """The plan as text: source, steps, combine stage, sinks, delivery."""
        config = fill_from_environment(self.config, os.environ)
        return explain(config, python_sinks=[type(sink).__name__ for sink in self.extra_sinks])

    def to_toml(self) -> str:
        """The pipeline file that `sc.load` reads back to an equal pipeline; passwords become `${VARIABLES}`.

        Raises `ConfigError` when the pipeline holds Python objects: records, or sinks of your own.
        """
        if any(source.type == "records" for source in self.config.all_sources.values()):
            raise ConfigError("records live in Python and have no place in a file; use sc.files or sc.memory")
        if self.extra_sinks:
            raise ConfigError("sinks of your own live in Python and have no place in a file")
        return to_toml(self.config)

    def __repr__(self) -> str:
        steps = [tag_of(step) for step in self.config.steps]
        parts = [self.config.source.type, *steps, *(f"sink_{sink.type}" for sink in self.config.sinks)]
        return f"<Pipeline {' > '.join(parts)}; .explain() shows the plan, .run() or .collect() executes it>"

    def _step(self, keys: Mapping[str, Any], parameters: Mapping[str, Any]) -> Pipeline:
        return replace(self, config=_with_step(self.config, keys, parameters))

    def _join(self, other: Pipeline, own: Mapping[str, Any], shared: JoinKeys, *, table: bool) -> Pipeline:
        if not isinstance(other, Pipeline):
            raise ConfigError("the first argument of a join is the other pipeline, as sc.kafka(...)")
        if other.extra_sinks or other.joined_inputs:
            raise ConfigError("a pipeline that is joined has a source and steps alone")
        rest = dict(shared)
        given = with_input(self.config, other.config, name=rest.pop("name", None), table=table)  # type: ignore[arg-type]
        name = next(reversed(given["sources"]))
        step = {"join": name, **_given(own), **_given(rest)}
        config = validated(self.config, {**given, "steps": (*self.config.steps, step)})
        joined = {} if other.inputs is None else {name: other.inputs}
        return replace(self, config=config, joined_inputs={**self.joined_inputs, **joined})

    @property
    def iterables(self) -> dict[str | None, Iterable[Any]]:
        """The records of every `sc.records`, by the name of the input; the pipeline's own under None."""
        own: dict[str | None, Iterable[Any]] = {} if self.inputs is None else {None: self.inputs}
        return own | dict(self.joined_inputs)

    def _sink(
        self, kind: str, own: Mapping[str, Any], shared: SinkKeys, connections: Mapping[str, Any] | None = None
    ) -> Pipeline:
        sink = {"type": kind, **_given(own), **_given(shared)}
        return self._changed(sinks=(*self.config.sinks, sink), **(connections or {}))

    def _connected(
        self, connection: str | KafkaConnection | RedisConnection | None
    ) -> tuple[dict[str, Any], str | None]:
        """What makes the pipeline know the connection, and the connection's name (None: `[kafka]`)."""
        if connection is None or isinstance(connection, str):
            return {}, connection
        if connection == self.config.kafka:
            return {}, None
        known = self.config.connections
        name = next((name for name, other in known.items() if other == connection), None)
        if name is not None:
            return {}, name
        name = next(name for index in range(len(known) + 1) if (name := f"{connection.type}_{index + 1}") not in known)
        return {"connections": {**known, name: connection}}, name

    def _changed(self, **changes: Any) -> Pipeline:
        return replace(self, config=validated(self.config, changes))


@dataclass(frozen=True, slots=True)
class Windowed:
    """A window that waits for `.agg(...)`."""

    pipeline: Pipeline
    keys: Mapping[str, Any]

    def agg(self, aggregates: Mapping[str, str | AggregateCall] | None = None, /, **more: Any) -> Pipeline:
        """Names the result columns: `.agg(views=sc.count(), slow="count() where payload.dwell_ms > 30000")`.

        A column may be the call of an aggregate of your own, see `sc.aggregate`. With a mapping, the keywords are the
        parameters of its expressions. Raises `ConfigError` for two aggregates of your own with one name.
        """
        given = more if aggregates is None else dict(aggregates)
        parameters = {} if aggregates is None else more
        columns = {name: call.text if isinstance(call, AggregateCall) else call for name, call in given.items()}
        hint = 'as sc.count(), sc.sum("amount") or "count() where amount > 1000"'
        wrong = [
            Problem(f"agg.{name}", f"is the call of an aggregate, not {type(call).__name__}", hint=hint)
            for name, call in columns.items()
            if not isinstance(call, str)
        ]
        if wrong:
            raise ConfigError("the columns of a window", wrong)
        keys = {**self.keys, "aggregate": columns}
        if functions := _functions(given.values()):
            keys["functions"] = functions
        return replace(self.pipeline, config=_with_step(self.pipeline.config, keys, parameters))

    def __repr__(self) -> str:
        return f"<{self.keys['window']} window; .agg(views=sc.count()) says what is computed>"


def load(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Pipeline:
    """The pipeline in a TOML file; `overrides` are `a.b=value` as `--set` takes them.

    Raises `ConfigError` with every mistake, each with its line and column.
    """
    return Pipeline(load_config(path, overrides))


def _with_step(config: PipelineConfig, keys: Mapping[str, Any], parameters: Mapping[str, Any]) -> PipelineConfig:
    step = {**keys, "parameters": dict(parameters)} if parameters else dict(keys)
    return validated(config, {"steps": (*config.steps, step)})


def _functions(columns: Iterable[object]) -> dict[str, Any]:
    """What a window step declares of the aggregates of the user among its columns."""
    known: dict[str, Aggregate] = {}
    for column in columns:
        if isinstance(column, AggregateCall):
            own = column.aggregate
            if known.setdefault(own.name, own) != own:
                raise ConfigError(f"two aggregates are called {own.name}; give one of them another name")
    return {name: {"function": own.function, **own.declared} for name, own in known.items()}


def _given(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in keys.items() if value is not None}
