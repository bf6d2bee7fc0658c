"""Runs a model's job through the engine on a schedule of pushes, commits, restarts and rollbacks.

`model.py` says what a job and a record are; the tests compare. Invariant: rows of an epoch count only once it
is committed, as the runner's sinks see it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from streamcore import _core
from streamcore.functions import Function
from tests.property.aggregates import TYPES
from tests.property.calendars import WEEKDAYS
from tests.property.join_model import Input, JoinJob
from tests.property.model import Delete, Event, Garbage, Job, Message, Record, Row, Steps, Window

DAY_MS = 86_400_000
LANES_PER_INPUT = 1 << 24

LIMITS = {"piece_rows": 3}
"""Rows that leave at once: so few that most windows leave in several pieces, with commits and restarts between them."""

Action = Literal["push", "commit", "restart", "rollback"]

LEDGER_CLASSES = ("applied", "filtered", "duplicate", "late", "future", "rejected", "tombstone")


@dataclass(frozen=True)
class Step:
    """Push up to `records` records, then do `action`."""

    records: int
    action: Action = "push"


@dataclass
class Outcome:
    rows: list[Row] = field(default_factory=list)
    """Committed result rows in the order they left."""
    late: list[tuple[int, str]] = field(default_factory=list)
    left: list[tuple[str, Row]] = field(default_factory=list, compare=False)
    """Every committed row of another output, and which."""
    ledgers: dict[int, dict[str, int]] = field(default_factory=dict)
    digest: int = 0
    pushes: list[range] = field(default_factory=list, compare=False)
    """Which records came together, of what was committed."""


def describe(
    job: Job, *, emit: str = "final", every: int | None = None, when: str | None = None, combine: str = "auto"
) -> bytes:
    """The engine's description. `every`, `when`: when rows leave early; ms, and a condition."""
    steps = _steps(job)
    steps.append(
        {
            "verb": "window",
            "kind": _kind(job.window),
            "by": [{"name": name, "text": name} for name in job.by],
            "aggregates": [{"name": aggregate.name, "text": aggregate.text} for aggregate in job.aggregates],
            "emit": emit,
            "emit_every_ms": every,
            "emit_when": None if when is None else {"text": when},
            "allowed_lateness_ms": job.lateness,
            "null_keys": job.null_keys,
        }
    )
    source = _source(job.out_of_orderness, job, "key" if job.keyed else None)
    return json.dumps({"source": source, "steps": steps, "combine": combine, "limits": LIMITS}).encode()


def _steps(steps: Steps) -> list[dict[str, Any]]:
    """Those before the window or the join."""
    described: list[dict[str, Any]] = []
    if steps.before is not None:
        described.append({"verb": "filter", "condition": {"text": steps.before.text}})
    if steps.within is not None:
        described.append({"verb": "dedupe", "field": "ident", "within_ms": steps.within})
    if steps.doubles:
        doubled = [{"name": name, "text": "value * 2" if name == "value" else name} for name in TYPES]
        described.append({"verb": "select", "columns": doubled})
    if steps.after is not None:
        described.append({"verb": "filter", "condition": {"text": steps.after.text}})
    return described


def _source(out_of_orderness: int | None, steps: Steps, keyed_by: str | None) -> dict[str, Any]:
    return {
        "event_time": "time",
        "event_time_unit": "ms",
        "where": None if steps.where is None else {"text": steps.where.text},
        "out_of_orderness_ms": out_of_orderness,
        "keyed_by": keyed_by,
        "schema": TYPES,
    }


def describe_join(job: JoinJob) -> bytes:
    """The engine's description of a join."""
    join = {
        "verb": "join",
        "input": "other",
        "left_on": list(job.on),
        "right_on": list(job.on),
        "kind": _join_kind(job),
        "how": job.how,
        "suffix": "_right",
        "allowed_lateness_ms": job.lateness,
    }
    steps = [*_steps(job.left), join]
    if job.behind is not None:
        kind = {"type": "tumbling", "size_ms": job.behind}
        steps.append({"verb": "window", "kind": kind, "by": [], "aggregates": [{"name": "rows", "text": "count()"}]})

    def source(side: Input) -> dict[str, Any]:
        return _source(side.out_of_orderness, side, "key" if job.is_table and side is job.right else None)

    other = {"name": "other", "source": source(job.right), "steps": _steps(job.right)}
    return json.dumps({"source": source(job.left), "inputs": [other], "steps": steps, "limits": LIMITS}).encode()


def _join_kind(job: JoinJob) -> dict[str, Any]:
    match job.kind:
        case "interval":
            return {"type": "interval", "from_ms": job.low, "to_ms": job.high}
        case "window":
            return {"type": "window", "size_ms": job.size, "offset_ms": job.offset}
        case "as_of":
            return {"type": "as_of", "tolerance_ms": job.tolerance}
        case "table" | "versions":
            return {"type": "table", "versioned": job.kind == "versions"}


def _kind(window: Window) -> dict[str, Any]:
    kind: dict[str, Any] = {"type": window.kind, "min_start_ms": window.min_start}
    if window.calendar is not None:
        calendar = window.calendar
        days = {"day": 1, "week": 7, "month": 0}[calendar.unit]
        kind["size_months" if calendar.unit == "month" else "size_ms"] = calendar.every * (days * DAY_MS or 1)
        kind["week_start"] = WEEKDAYS[calendar.week_start] if calendar.unit == "week" else None
        kind |= {"timezone": calendar.zone, "offset_ms": calendar.offset_minutes * 60_000}
    elif window.kind == "session":
        kind |= {"gap_ms": window.size, "gap_inclusive": window.inclusive, "max_length_ms": window.longest}
    elif window.kind == "sliding":
        kind = {"type": "sliding", "size_ms": window.size}
    elif window.kind != "whole":
        kind |= {"size_ms": window.size, "offset_ms": window.offset}
        if window.kind != "tumbling":
            kind["slide_ms" if window.kind == "hopping" else "step_ms"] = window.slide
    return kind


def value_of(record: Record) -> bytes | None:
    content = record.content
    if isinstance(content, Event):
        fields = asdict(content) | {"price": None if content.price is None else str(content.price)}
        return json.dumps(fields).encode()
    if isinstance(content, Message):
        return content.value
    return b"{garbage" if isinstance(content, Garbage) else None


def key_of(record: Record) -> bytes | None:
    """The record key: that of its event."""
    content = record.content
    if isinstance(content, Message):
        return content.key
    return content.key.encode() if isinstance(content, Event | Delete) and content.key is not None else None


def timestamp_of(record: Record) -> int | None:
    """When a delete counts, and a message was sent."""
    if isinstance(record.content, Message):
        return record.content.timestamp_ms
    return record.content.time if isinstance(record.content, Delete) else None


def lane_of(record: Record) -> int:
    """The engine's number of it."""
    return record.side * LANES_PER_INPUT + record.lane


def run(
    spec: bytes,
    records: Sequence[Record],
    schedule: Sequence[Step] = (),
    functions: Mapping[str, Function] | None = None,
    *,
    lanes: Iterable[int] = (),
) -> Outcome:
    """The whole input by `schedule`, then in one push what is left, then the end. `lanes`: those without records."""
    return _Driver(spec, records, functions, lanes).run(schedule)


class _Driver:
    """Keeps what a runner keeps: the last checkpoint, its position, and the rows not yet committed."""

    def __init__(
        self,
        spec: bytes,
        records: Sequence[Record],
        functions: Mapping[str, Function] | None,
        lanes: Iterable[int],
    ) -> None:
        self._spec = spec
        self._functions = functions
        self._records = records
        self._lanes = sorted({*lanes, *map(lane_of, records)})
        self._pipeline = _core.Pipeline(spec, functions)
        self._pipeline.assign(self._lanes)
        self._position = 0
        self._pending: list[_core.Batch] = []
        self._pushes: list[range] = []
        self._outcome = Outcome()
        self._checkpoint: tuple[int, list[tuple[int, bytes]]] | None = None

    def run(self, schedule: Sequence[Step]) -> Outcome:
        for step in [*schedule, Step(len(self._records))]:
            self._push(step.records)
            self._act(step.action)
        while self._position < len(self._records):
            self._push(len(self._records))
        self._pending += [*self._pipeline.end(), *self._pipeline.settle()]
        self._commit()
        self._outcome.ledgers = self._pipeline.ledger()
        return self._outcome

    def _act(self, action: Action) -> None:
        if action == "commit":
            self._commit()
        elif action == "restart":
            self._restart()
        elif action == "rollback":
            self._rollback()

    def _push(self, count: int) -> None:
        chosen = range(self._position, min(self._position + count, len(self._records)))
        raw: _core.Raw | None = None
        for lane in self._lanes:
            rows = [
                (value_of(record), key_of(record), None, timestamp_of(record), at)
                for at, record in ((at, self._records[at]) for at in chosen)
                if lane_of(record) == lane
            ]
            if rows:
                part = _core.Raw.from_records(lane % LANES_PER_INPUT, "input", rows)
                part.of_input(lane // LANES_PER_INPUT)
                if raw is None:
                    raw = part
                else:
                    raw.add(part)
        if raw is not None:
            self._pending += self._pipeline.push(raw, 0)
            self._pushes.append(chosen)
        self._position = max(self._position, chosen.stop)

    def _commit(self) -> None:
        sealed = self._pipeline.seal()
        self._pending += sealed.outputs
        self._outcome.digest = sealed.digest
        self._outcome.rows += rows_of(self._pending)
        self._outcome.late += late_of(self._pending)
        self._outcome.left += [
            (batch.output, row) for batch in self._pending if batch.output != "result" for row in batch.to_rows()
        ]
        self._outcome.pushes += self._pushes
        self._pending, self._pushes = [], []
        self._pipeline.committed()
        self._checkpoint = (self._position, self._pipeline.save())

    def _rollback(self) -> None:
        self._pipeline.rollback()
        self._pending, self._pushes = [], []
        self._position = self._checkpoint[0] if self._checkpoint else 0

    def _restart(self) -> None:
        self._pending, self._pushes = [], []
        self._pipeline = _core.Pipeline(self._spec, self._functions)
        if self._checkpoint is None:
            self._pipeline.assign(self._lanes)
            self._position = 0
        else:
            self._position = self._checkpoint[0]
            self._pipeline.restore(self._checkpoint[1])


def rows_of(batches: Iterable[_core.Batch]) -> list[Row]:
    results = (batch for batch in batches if batch.output == "result")
    return [json.loads(row) for batch in results for row in batch.to_json(timestamp_format="epoch_ms")]


def late_of(batches: Iterable[_core.Batch]) -> list[tuple[int, str]]:
    rows = [row for batch in batches if batch.output == "late" for row in batch.to_rows()]
    return [(row["_partition"], json.loads(row["_value"])["ident"]) for row in rows]
