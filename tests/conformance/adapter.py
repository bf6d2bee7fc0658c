"""Answers a window case with streamcore: `adapter.py CASE_DIR [--batch N] [--restarts N]`.

Reads `spec.json`, describes the same job to the engine, feeds the input in order and prints one JSON row a
window. Exit code 3 declines a case, with the reason on stderr. Invariant: what is asked of the engine depends
on the specification and the types of the input alone, never on the expected rows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamcore import _core

AGGREGATES = {
    "count": "count()",
    "count_field": "count({field})",
    "sum": "sum({field})",
    "min": "min({field})",
    "max": "max({field})",
    "avg": "mean({field})",
    "count_distinct": "count_distinct({field})",
    "collect": "collect_list({field}, 100000)",
    "collect_sorted": "collect_list({field}, 100000)",
    "distinct_set": "collect_list({field}, 100000)",
}
SORTED = ("collect_sorted", "distinct_set")
CONDITIONS = {"eq": "{field} == {value}", "ne": "{field} != {value}", "not_null": "{field} is not null"}

# How far behind a window's end, in the case's own time unit, the rule puts its closing.
CLOSING = {
    "wm>=end-1": -1,
    "wm>=end": 0,
    "wm>end": 1,
    "wm>=last+gap-1": -1,
    "wm>=last+gap": 0,
    "wm>last+gap": 1,
}
# Explicit watermarks become records: `{"watermark": n}` is one of the time n + FAR under a delay of FAR, which no
# event reaches, and a filter behind the clock takes it out.
FAR = 1_000_000
PUNCTUATION = "punctuation"

WATERMARKS = {None, "none", "max_ts_minus_delay", "explicit"}
SESSION_RULE = "wm>=last+gap"
WINDOW_RULE = "wm>=end"

KINDS = {"tumbling", "hopping", "cumulate", "session"}
# Kinds that few systems have: their cases are marked as peculiar for no other reason.
RARE_KINDS = {"cumulate"}
# What cases depend on that is a setting here, or is declined for a reason of its own.
SETTINGS = {"gap_inclusive", "min_start", "judged", "scope"}

DECLINED = 3


class DeclinedError(Exception):
    """The case needs a setting streamcore does not have; the message says which."""


@dataclass(frozen=True)
class Case:
    folder: Path
    spec: dict[str, Any]
    lines: list[bytes]

    @property
    def ticks_ms(self) -> int:
        return 1000 if self.spec.get("time_unit") == "seconds" else 1

    @property
    def gap(self) -> int:
        return int(self.spec["window"]["gap"])


def load(folder: Path) -> Case:
    spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    source = (folder / spec.get("input", "input.jsonl")).resolve()
    lines = [line for line in source.read_bytes().split(b"\n") if line.strip()]
    if _is_punctuated(spec):
        lines = [_punctuated(line, spec.get("ts_field", "ts")) for line in lines]
    return Case(folder, spec, lines)


def _punctuated(line: bytes, time_field: str) -> bytes:
    value = json.loads(line)
    if "watermark" not in value:
        return line
    return json.dumps({time_field: value["watermark"] + FAR, PUNCTUATION: True}).encode()


def describe(case: Case) -> dict[str, Any]:
    """The engine's description of the case. Raises `DeclinedError`."""
    _check(case)
    if "stages" in case.spec:
        return _stages(case)
    spec = case.spec
    out_of_orderness, lateness = _closing(case)
    condition = _condition(spec)
    window = {
        "verb": "window",
        "kind": _kind(case),
        "by": [{"name": name, "text": name} for name in spec.get("key_fields", [])],
        "aggregates": list(_aggregates(spec)),
        "emit": "final",
        "allowed_lateness_ms": lateness,
        "null_keys": "drop" if spec.get("drop_null_key") else "group",
    }
    before_the_clock = spec.get("filter_before_watermark", True)
    steps: list[dict[str, Any]] = [window]
    if condition is not None and not before_the_clock:
        steps.insert(0, {"verb": "filter", "condition": condition})
    if _is_punctuated(spec):
        steps.insert(0, {"verb": "filter", "condition": {"text": f"{PUNCTUATION} is null"}})
    return {
        "source": {
            "event_time": spec.get("ts_field", "ts"),
            "event_time_unit": "s" if case.ticks_ms == 1000 else "ms",
            "where": condition if before_the_clock else None,
            "out_of_orderness_ms": out_of_orderness,
            "schema": _schema(case),
        },
        "steps": steps,
    }


def _stages(case: Case) -> dict[str, Any]:
    """The description of a case of several windows in a row, each of the case's own kind and over the rows before."""
    steps: list[dict[str, Any]] = []
    for stage in case.spec["stages"]:
        field, operator, value = stage["filter"].split()
        equal = operator == "="
        condition = {"text": f"{field} {'==' if equal else operator} $value"}
        steps.append(
            {"verb": "filter", "condition": condition | {"parameters": {"value": value if equal else int(value)}}}
        )
        # the hour is the window
        keys = [name for name in stage["group"] if name != "hour"]
        call, _, column = stage["agg"].partition(" as ")
        *_, counted = call.removeprefix("count").split() or [""]
        text = f"count_distinct({counted})" if counted else "count()"
        steps.append(
            {
                "verb": "window",
                "kind": _kind(case),
                "by": [{"name": name, "text": name} for name in keys],
                "aggregates": [{"name": column, "text": text}],
            }
        )
    first = case.spec["stages"][0]
    fields = {first["filter"].split()[0], *first["group"]} - {"hour"}
    values = [json.loads(line) for line in case.lines]
    schema = {field: _type_of([value.get(field) for value in values]) for field in sorted(fields)}
    source = {"event_time": case.spec["ts_field"], "event_time_unit": "ms", "schema": schema}
    return {"source": source, "steps": steps}


def is_portable(spec: dict[str, Any]) -> bool:
    """Whether the case asks for nothing that only its own system does: what it depends on are settings here."""
    sensitive = set(spec.get("sensitive_to") or ())
    return bool(spec.get("portable") or spec["window"]["kind"] in RARE_KINDS or (sensitive and sensitive <= SETTINGS))


def _check(case: Case) -> None:
    spec, window = case.spec, case.spec["window"]
    sensitive = set(spec.get("sensitive_to") or ())
    lateness = spec.get("lateness") or {}
    watermark = spec.get("watermark") or {}
    unknown = sorted({entry["fn"] for entry in spec["aggregates"]} - {*AGGREGATES, "avg_int"})
    reasons = {
        "triggers": spec.get("model") == "none" and "stages" not in spec,
        f"no aggregate {', '.join(unknown)}": bool(unknown),
        "of the windows around an event there is the one before it": window["kind"] == "sliding_event",
        f"no window kind {window['kind']}": window["kind"] not in KINDS,
        "the gap of a session is a setting, not a field": bool(window.get("gap_field")),
        "watermarks come from event times": watermark.get("policy") not in WATERMARKS,
        "the clock is the partition's, not the key's": watermark.get("scope") == "key" and "scope" in sensitive,
        "lateness is judged for each window": lateness.get("judged") in {"event", "event_le"} and "judged" in sensitive,
        "a closed session stays closed": bool(lateness.get("revive_closed")),
        "peculiar to that system": not is_portable(spec),
    }
    for reason, holds in reasons.items():
        if holds:
            raise DeclinedError(reason)


def _kind(case: Case) -> dict[str, Any]:
    window, scale = case.spec["window"], case.ticks_ms
    if window["kind"] == "session":
        inclusive = bool(window.get("gap_inclusive", False))
        return {"type": "session", "gap_ms": window["gap"] * scale, "gap_inclusive": inclusive}
    kind = {"type": window["kind"], "size_ms": window["size"] * scale, "offset_ms": window.get("offset", 0) * scale}
    if window["kind"] == "hopping":
        kind["slide_ms"] = window["slide"] * scale
    if window["kind"] == "cumulate":
        kind["step_ms"] = window["step"] * scale
    if window.get("min_start") is not None:
        kind["min_start_ms"] = window["min_start"] * scale
    return kind


def _closing(case: Case) -> tuple[int | None, int]:
    """`(out_of_orderness_ms, allowed_lateness_ms)`, so that a window closes exactly where the case's rule says.

    Ours closes when `max_ts >= end + out_of_orderness + allowed_lateness`; the case's rule is the same inequality
    with `delay`, `allowed` and what the rule itself adds.
    """
    watermark = case.spec.get("watermark") or {"policy": "none"}
    lateness = case.spec.get("lateness") or {}
    is_session = case.spec["window"]["kind"] == "session"
    rule = lateness.get(
        "session_close_rule" if is_session else "close_rule", SESSION_RULE if is_session else WINDOW_RULE
    )
    if watermark["policy"] == "none" or rule == "never":
        return None, 0
    allowed = int(lateness.get("allowed", 0))
    delay = FAR if _is_punctuated(case.spec) else int(watermark.get("delay", 0))
    behind = delay + allowed + CLOSING[rule]
    if behind < 0:
        raise DeclinedError("a window never closes before its last event could arrive")
    return (behind - min(allowed, behind)) * case.ticks_ms, min(allowed, behind) * case.ticks_ms


def _is_punctuated(spec: dict[str, Any]) -> bool:
    return (spec.get("watermark") or {}).get("policy") == "explicit"


def _condition(spec: dict[str, Any]) -> dict[str, Any] | None:
    parts, parameters = [], {}
    for place, condition in enumerate(spec.get("filter") or ()):
        name = f"value{place}"
        parts.append(CONDITIONS[condition["op"]].format(field=condition["field"], value=f"${name}"))
        if "value" in condition:
            parameters[name] = condition["value"]
    return {"text": " and ".join(parts), "parameters": parameters} if parts else None


def _aggregates(spec: dict[str, Any]) -> Iterable[dict[str, str]]:
    for entry in spec["aggregates"]:
        name, field = entry["as"], entry.get("field", "")
        if entry["fn"] == "avg_int":
            yield {"name": f"{name}_sum", "text": f"sum({field})"}
            yield {"name": f"{name}_count", "text": f"count({field})"}
        elif entry["fn"] == "collect":
            # ours is in the order of event times, theirs in that of arrival, which the offsets tell
            yield {"name": name, "text": AGGREGATES["collect"].format(field=field)}
            yield {"name": f"{name}_offsets", "text": f"collect_list(_offset, 100000) where {field} is not null"}
        else:
            yield {"name": name, "text": AGGREGATES[entry["fn"]].format(field=field)}


def _schema(case: Case) -> dict[str, str]:
    spec = case.spec
    fields = set(spec.get("key_fields", ()))
    fields |= {entry["field"] for entry in spec["aggregates"] if "field" in entry}
    fields |= {entry["field"] for entry in spec.get("filter") or ()}
    values = [json.loads(line) for line in case.lines]
    schema = {field: _type_of([value.get(field) for value in values]) for field in sorted(fields)}
    return schema | ({PUNCTUATION: "bool"} if _is_punctuated(spec) else {})


def _type_of(values: Sequence[Any]) -> str:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int} and kinds:
        return "int64"
    if kinds <= {int, float} and kinds:
        return "float64"
    return "bool" if kinds == {bool} else "string"


def answer(case: Case, *, batch: int = 1000, restarts: Sequence[int] = ()) -> list[dict[str, Any]]:
    """The rows of the case. `restarts`: after that many input lines the engine is saved, dropped and made anew."""
    spec = json.dumps(describe(case)).encode()
    pipeline = _core.Pipeline(spec)
    pipeline.assign([0])
    rows: list[dict[str, Any]] = []
    cuts = sorted({*restarts, len(case.lines)})
    start = 0
    for cut in cuts:
        for first in range(start, cut, batch):
            rows += _rows(pipeline.push(_records(case.lines, first, min(first + batch, cut)), 0))
        if cut < len(case.lines):
            rows += _rows(pipeline.seal().outputs)
            pipeline.committed()
            saved = pipeline.save()
            pipeline = _core.Pipeline(spec)
            pipeline.restore(saved)
        start = cut
    if case.spec.get("at_end", "flush") == "flush":
        rows += _rows([*pipeline.end(), *pipeline.settle()])
    rows += _rows(pipeline.seal().outputs)
    return [_report(case, row) for row in rows]


def _records(lines: Sequence[bytes], first: int, stop: int) -> _core.Raw:
    records = [(lines[place], None, None, None, place) for place in range(first, stop)]
    return _core.Raw.from_records(0, "input", records)


def _rows(batches: Iterable[_core.Batch]) -> list[dict[str, Any]]:
    results = (batch for batch in batches if batch.output == "result")
    return [json.loads(row) for batch in results for row in batch.to_json(timestamp_format="epoch_ms")]


def _report(case: Case, row: dict[str, Any]) -> dict[str, Any]:
    """One of our rows in the case's columns, time unit and way to report an end."""
    spec = case.spec
    for entry in spec["aggregates"]:
        if entry["fn"] == "avg_int":
            name = entry["as"]
            total, count = row.pop(f"{name}_sum"), row.pop(f"{name}_count")
            row[name] = None if not count else (abs(total) // count) * (1 if total >= 0 else -1)
        elif entry["fn"] == "collect":
            name = entry["as"]
            arrived = sorted(zip(row.pop(f"{name}_offsets") or [], row[name] or [], strict=True))
            row[name] = [value for _, value in arrived]
        elif entry["fn"] in SORTED:
            values = row[entry["as"]] or []
            row[entry["as"]] = sorted(set(values) if entry["fn"] == "distinct_set" else values)
    row["window_start"] //= case.ticks_ms
    row["window_end"] //= case.ticks_ms
    if spec["window"]["kind"] == "session" and spec["window"].get("end_reported") != "last_plus_gap":
        row["window_end"] -= case.gap
    return row


def thirds(count: int) -> list[int]:
    """Where to restart so that it happens after each third of `count` lines."""
    return sorted({count // 3, 2 * count // 3} - {0, count})


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path)
    parser.add_argument("--batch", type=int, default=1000, help="records in one push")
    parser.add_argument("--thirds", action="store_true", help="save and restart after each third of the input")
    options = parser.parse_args(arguments)
    case = load(options.case)
    restarts = thirds(len(case.lines)) if options.thirds else []
    if "restart_after_line" in case.spec:
        restarts.append(case.spec["restart_after_line"])
    try:
        for row in answer(case, batch=options.batch, restarts=restarts):
            print(json.dumps(row))
    except DeclinedError as reason:
        print(f"declined: {reason}", file=sys.stderr)
        return DECLINED
    return 0


if __name__ == "__main__":
    sys.exit(main())
