"""Owns the translation of a configuration into the description the engine reads.

Before it: a validated configuration. After it: `rust/streamcore/src/spec.rs` reads the JSON.
Invariant: every key of the description is written out, so the engine's own defaults never matter.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from streamcore.config.combine import combine_of
from streamcore.config.durations import Months
from streamcore.config.models import Combine, LimitsConfig, PipelineConfig
from streamcore.config.sources import KeyedSource, SourceConfig
from streamcore.config.steps import (
    AggregateFunction,
    CumulateStep,
    DedupeStep,
    FilterStep,
    HoppingStep,
    JoinStep,
    MapBatchesStep,
    SelectStep,
    SessionStep,
    SlidingStep,
    StepConfig,
    TumblingStep,
    WholeStep,
    function_name,
)


def engine_spec(config: PipelineConfig, *, phase: str | None = None) -> dict[str, Any]:
    """The engine's description of the pipeline, as plain JSON values; `phase` where lanes' windows meet through a topic."""
    spec = _spec(config, combine_of(config, combined(config)))
    return spec if phase is None else {**spec, "phase": phase}


def combined(config: PipelineConfig) -> Callable[[Combine], dict[str, Any]]:
    """What the engine says of the pipeline, however it is combined (see `_core.describe`)."""
    from streamcore import _core

    return lambda combine: _core.describe(_json(_spec(config, combine)))


def _spec(config: PipelineConfig, combine: Combine) -> dict[str, Any]:
    return {
        "source": _source(config.source),
        "inputs": [
            {"name": name, "source": _source(source), "steps": [_step(step) for step in source.steps]}
            for name, source in config.sources.items()
        ],
        "steps": [_join(step, config) if isinstance(step, JoinStep) else _step(step) for step in config.steps],
        "combine": combine,
        "limits": _limits(config.limits),
    }


def engine_json(config: PipelineConfig, *, phase: str | None = None) -> bytes:
    """The description as `_core.Pipeline` and `_core.describe` take it."""
    return _json(engine_spec(config, phase=phase))


def _json(spec: dict[str, Any]) -> bytes:
    return json.dumps(spec, ensure_ascii=False, separators=(",", ":")).encode()


def _source(source: SourceConfig) -> dict[str, Any]:
    return {
        "format": source.format,
        "event_time": source.event_time,
        "event_time_unit": source.event_time_unit,
        "where": None if source.where is None else {"text": source.where, "parameters": {}},
        "out_of_orderness_ms": source.out_of_orderness_ms,
        "idle_timeout_ms": source.idle_timeout,
        "on_idle": source.on_idle,
        "max_future_skew_ms": source.max_future_skew,
        "max_lead_ms": source.max_lead,
        "keyed_by": source.keyed_by if isinstance(source, KeyedSource) else None,
        "schema": source.types,
    }


def _step(step: StepConfig) -> dict[str, Any]:
    if isinstance(step, FilterStep):
        return {"verb": "filter", "condition": {"text": step.filter, "parameters": step.parameters}}
    if isinstance(step, SelectStep):
        return {"verb": "select", "columns": _named(step.select, step.parameters)}
    if isinstance(step, DedupeStep):
        return _dedupe(step)
    if isinstance(step, MapBatchesStep):
        named = function_name(step.map_batches)
        return {"verb": "map_batches", "function": named, "schema": _typed(step.types)}
    if isinstance(step, JoinStep):
        return _join(step, None)
    return {
        "verb": "window",
        "kind": _window_kind(step),
        "by": _named(step.by, step.parameters),
        "aggregates": _named(step.aggregate, step.parameters),
        "functions": [_aggregate(name, function) for name, function in step.functions.items()],
        "emit": step.emit,
        "emit_every_ms": step.emit_every,
        "emit_when": None if step.emit_when is None else {"text": step.emit_when, "parameters": step.parameters},
        "allowed_lateness_ms": step.allowed_lateness,
        "null_keys": step.null_keys,
    }


def _dedupe(step: DedupeStep) -> dict[str, Any]:
    dedupe = {"verb": "dedupe", "field": step.dedupe, "within_ms": step.within}
    if step.method == "exact":
        return dedupe
    return {**dedupe, "bloom": {"capacity": step.capacity, "false_drop_rate": step.false_drop_rate}}


def _aggregate(name: str, function: AggregateFunction) -> dict[str, Any]:
    typed = {part: _typed(getattr(function, part)) for part in ("arguments", "state")}
    own = {"name": name, "function": function_name(function.function)}
    return {**own, **typed, "returns": function.returns, "version": function.version}


def _typed(types: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in types.items()]


def _join(step: JoinStep, config: PipelineConfig | None) -> dict[str, Any]:
    other = None if config is None else config.sources.get(step.join)
    left_on, right_on = step.keys
    return {
        "verb": "join",
        "input": step.join,
        "left_on": left_on,
        "right_on": right_on,
        "kind": _join_kind(step, is_table=other is not None and other.table),
        "how": step.how,
        "suffix": step.suffix,
        "allowed_lateness_ms": step.allowed_lateness,
    }


def _join_kind(step: JoinStep, *, is_table: bool) -> dict[str, Any]:
    if is_table:
        return {"type": "table", "versioned": step.versioned}
    if step.size is not None:
        return {"type": "window", "size_ms": step.size, "offset_ms": step.offset}
    if step.as_of:
        return {"type": "as_of", "tolerance_ms": step.tolerance}
    back, ahead = step.within or (0, 0)  # without it there is a problem, which `checks.py` tells
    return {"type": "interval", "from_ms": back, "to_ms": ahead}


def _window_kind(
    step: TumblingStep | HoppingStep | SlidingStep | CumulateStep | SessionStep | WholeStep,
) -> dict[str, Any]:
    if isinstance(step, SlidingStep):
        return {"type": "sliding", "size_ms": step.size}
    kind: dict[str, Any] = {"type": step.window, "min_start_ms": step.min_start}
    if isinstance(step, SessionStep):
        return kind | {"gap_ms": step.gap, "gap_inclusive": step.gap_inclusive, "max_length_ms": step.max_length}
    if isinstance(step, WholeStep):
        return kind
    kind |= {"size_ms": step.size, "offset_ms": step.offset}
    if isinstance(step, TumblingStep) and _by_calendar(step):
        months = step.size.count if isinstance(step.size, Months) else None
        kind |= {"type": "calendar", "timezone": step.timezone, "week_start": step.week_start}
        kind |= {"size_ms": None if months else step.size, "size_months": months}
    if isinstance(step, HoppingStep):
        kind["slide_ms"] = step.slide
    if isinstance(step, CumulateStep):
        kind["step_ms"] = step.step
    return kind


def _by_calendar(step: TumblingStep) -> bool:
    return step.timezone is not None or step.week_start is not None or isinstance(step.size, Months)


def _named(expressions: dict[str, str], parameters: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": name, "text": text, "parameters": parameters} for name, text in expressions.items()]


def _limits(limits: LimitsConfig) -> dict[str, Any]:
    return {
        "record_bytes_max": limits.max_record_bytes,
        "key_bytes_max": limits.max_key_bytes,
        "depth_max": limits.max_depth,
        "state_bytes_max": limits.max_state_bytes,
        "keys_max": limits.max_keys,
        "on_full": limits.on_full,
        "threads_max": limits.threads,
    }
