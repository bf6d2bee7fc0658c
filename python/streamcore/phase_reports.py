"""Owns what is said of two phases as of one run: their reports and their statuses put together.

Before it: the reports of both. After it: progress, `Run.report`, the status server, `why`.
Invariant: a record of the input is counted once: where it was read, the partial phase; rows of windows are counted by the final one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from streamcore.report import COMBINE_LANE, Report, Stages, add_ledgers


def merged_report(partial: Report, final: Report | None, *, state: str) -> Report:
    """Both as one; what the final phase says of its partitions stands where lanes meet."""
    if final is None:
        return replace(partial, state=state, watermark_ms=None, open_windows=0)
    return replace(
        partial,
        state=state,
        retries=partial.retries + final.retries,
        refetched=partial.refetched + final.refetched,
        rows=_added(partial.rows, final.rows),
        first_refusal=partial.first_refusal or final.first_refusal,
        watermark_ms=final.watermark_ms,
        open_windows=final.open_windows,
        state_bytes=partial.state_bytes + final.state_bytes,
        held=_held(partial.held, final.held),
        lanes=partial.lanes | {COMBINE_LANE: meeting_ledger(final.lanes)},
        skipped=partial.skipped | _of_partials(final.skipped),
        skipped_by_outboxes=final.skipped_by_outboxes,
        stages=add_ledgers(partial.stages, final.stages),
        lost_values=partial.lost_values | final.lost_values,
        cache=_added(partial.cache, final.cache),
    )


def _of_partials(skipped: Mapping[Any, int]) -> dict[int, int]:
    """What was skipped of all partitions of partials, as of where lanes meet."""
    return {COMBINE_LANE: sum(skipped.values())} if skipped else {}


def meeting_ledger(lanes: Mapping[Any, Mapping[str, int]]) -> dict[str, int]:
    """The counts of all partitions of partials, as of one place where lanes meet."""
    total: dict[str, int] = {}
    for counts in lanes.values():
        total = _added(total, counts)
    return total


def _added(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    return {name: left.get(name, 0) + right.get(name, 0) for name in sorted({*left, *right})}


def _held(partial: Stages, final: Stages) -> Stages:
    return {step: _added(partial.get(step, {}), final.get(step, {})) for step in sorted({*partial, *final})}


def merged_status(partial: Mapping[str, Any], final: Mapping[str, Any]) -> dict[str, Any]:
    """Lanes as the partial phase has them, those of other workers as they have told, and windows as the final phase has them."""
    own, told = partial["clocks"], _told(final["inputs"].values())
    watermark_ms = slowest_ms(final["clocks"])
    first, last = partial["report"], final["report"]
    of_both = {
        "rows": _added(first["rows"], last["rows"]),
        "lanes": first["lanes"] | {str(COMBINE_LANE): meeting_ledger(last["lanes"])},
        "skipped": {**first["skipped"], **{str(lane): count for lane, count in _of_partials(last["skipped"]).items()}},
        "skipped_by_outboxes": last["skipped_by_outboxes"],
        "watermark_ms": last["watermark_ms"],
        "open_windows": last["open_windows"],
        "state_bytes": first["state_bytes"] + last["state_bytes"],
        "cache": _added(first.get("cache", {}), last.get("cache", {})),
    }
    return {
        **partial,
        "report": {**first, **of_both},
        "clocks": {**told, **own, COMBINE_LANE: {"watermark_ms": watermark_ms}},
        "windows": merged_windows(final["windows"]),
    }


def slowest_ms(clocks: Mapping[int, Mapping[str, Any]]) -> int | None:
    """The watermark of the slowest of the final phase's partitions; None where one has none yet."""
    meeting = [clock["watermark_ms"] for clock in clocks.values()]
    return min(meeting) if meeting and None not in meeting else None


def _told(inputs: Iterable[Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """The clocks of the input's lanes as the topic of partials last told: the slowest of what its partitions know."""
    found: dict[int, dict[str, Any]] = {}
    for partition in inputs:
        for lane, clock in partition["table"].items():
            known = found.get(int(lane))
            if known is None or clock["number"] < known["number"]:
                found[int(lane)] = {**clock, "caught_up": False, "quiet_ms": None, "elsewhere": True}
    return found


def merged_windows(windows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each window once, with the keys of all partitions."""
    found: dict[str, dict[str, Any]] = {}
    for window in windows:
        known = found.get(window["step"])
        if known is None:
            found[window["step"]] = {**window, "lane": None}
            continue
        nearest = sorted({*known["nearest_ms"], *window["nearest_ms"]})
        is_open = window if known["start_ms"] is None else known
        keys = [one["keys"] for one in (known, window) if one["start_ms"] is not None]
        counted = {"keys": sum(keys) if keys else known["keys"]}
        estimated = {"keys_estimated": bool(known["keys_estimated"] or window["keys_estimated"])}
        found[window["step"]] = {**is_open, "lane": None, "nearest_ms": nearest, **counted, **estimated}
    return list(found.values())
