"""Runs a model's job through the engine on a schedule of pushes, commits, restarts and rollbacks.

`model.py` says what a job and a record are; the tests compare. Invariant: rows of an epoch count only once it
is committed, as the runner's sinks see it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from streamcore import _core
from tests.property.aggregates import TYPES
from tests.property.calendars import WEEKDAYS
from tests.property.model import Event, Garbage, Job, Record, Row, Window

DAY_MS = 86_400_000

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
    ledgers: dict[int, dict[str, int]] = field(default_factory=dict)
    digest: int = 0


def describe(
    job: Job, *, emit: str = "final", every: int | None = None, when: str | None = None, combine: str = "auto"
) -> bytes:
    """The engine's description. `every`, `when`: when rows leave early; ms, and a condition."""
    steps: list[dict[str, Any]] = []
    if job.before is not None:
        steps.append({"verb": "filter", "condition": {"text": job.before.text}})
    if job.within is not None:
        steps.append({"verb": "dedupe", "field": "ident", "within_ms": job.within})
    if job.doubles:
        doubled = [{"name": name, "text": "value * 2" if name == "value" else name} for name in TYPES]
        steps.append({"verb": "select", "columns": doubled})
    if job.after is not None:
        steps.append({"verb": "filter", "condition": {"text": job.after.text}})
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
    source = {
        "event_time": "time",
        "event_time_unit": "ms",
        "where": None if job.where is None else {"text": job.where.text},
        "out_of_orderness_ms": job.out_of_orderness,
        "keyed_by": "key" if job.keyed else None,
        "schema": TYPES,
    }
    return json.dumps({"source": source, "steps": steps, "combine": combine}).encode()


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
    return b"{garbage" if isinstance(content, Garbage) else None


def key_of(record: Record) -> bytes | None:
    """The record key: that of its event."""
    content = record.content
    return content.key.encode() if isinstance(content, Event) and content.key is not None else None


def run(spec: bytes, records: Sequence[Record], schedule: Sequence[Step] = ()) -> Outcome:
    """The whole input by `schedule`, then in one push what is left, then the end."""
    return _Driver(spec, records).run(schedule)


class _Driver:
    """Keeps what a runner keeps: the last checkpoint, its position, and the rows not yet committed."""

    def __init__(self, spec: bytes, records: Sequence[Record]) -> None:
        self._spec = spec
        self._records = records
        self._lanes = sorted({record.lane for record in records})
        self._pipeline = _core.Pipeline(spec)
        self._pipeline.assign(self._lanes)
        self._position = 0
        self._pending: list[_core.Batch] = []
        self._outcome = Outcome()
        self._checkpoint: tuple[int, list[tuple[int, bytes]]] | None = None

    def run(self, schedule: Sequence[Step]) -> Outcome:
        for step in [*schedule, Step(len(self._records))]:
            self._push(step.records)
            self._act(step.action)
        while self._position < len(self._records):
            self._push(len(self._records))
        self._pending += self._pipeline.end()
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
                (value_of(self._records[at]), key_of(self._records[at]), None, None, at)
                for at in chosen
                if self._records[at].lane == lane
            ]
            if rows:
                part = _core.Raw.from_records(lane, "input", rows)
                if raw is None:
                    raw = part
                else:
                    raw.add(part)
        if raw is not None:
            self._pending += self._pipeline.push(raw, 0)
        self._position = max(self._position, chosen.stop)

    def _commit(self) -> None:
        sealed = self._pipeline.seal()
        self._pending += sealed.outputs
        self._outcome.digest = sealed.digest
        self._outcome.rows += rows_of(self._pending)
        self._outcome.late += late_of(self._pending)
        self._pending = []
        self._pipeline.committed()
        self._checkpoint = (self._position, self._pipeline.save())

    def _rollback(self) -> None:
        self._pipeline.rollback()
        self._pending = []
        self._position = self._checkpoint[0] if self._checkpoint else 0

    def _restart(self) -> None:
        self._pending = []
        self._pipeline = _core.Pipeline(self._spec)
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
