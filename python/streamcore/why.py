"""Owns the answer to "why is the window that ends then still open".

Before it: the status of a live run (`status.py`), or of a checkpoint (`commands/why.py` makes it). After it: text or JSON.
Invariant: what would close a window follows from the inequalities of docs/semantics.md; nothing is asked here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from streamcore.config.durations import format_duration, format_instant
from streamcore.errors import Error
from streamcore.report import COMBINE_LANE

LANES_SHOWN_MAX = 5
"""Lanes that hold a window and are told one by one."""


@dataclass(frozen=True, slots=True)
class ClockRules:
    """What of the source's settings moves clocks."""

    out_of_orderness_ms: int | None
    """None: unbounded, the clock never moves."""
    idle_timeout_ms: int
    advances_when_idle: bool

    def event_time_for(self, watermark_ms: int) -> int:
        """The event time that moves a clock to `watermark_ms`; there is a bound."""
        return watermark_ms + (self.out_of_orderness_ms or 0) + 1


@dataclass(frozen=True, slots=True)
class LaneClock:
    """A lane's clock and how far it has read."""

    lane: int
    name: str
    last_event_ms: int | None
    watermark_ms: int | None
    state: str
    """`caught up`, `behind`, `idle`, `held back` (by max_lead) or `unknown`."""
    behind: int | None
    """How much is left to read, in `unit`; None: not known."""
    unit: str
    """`records` or `bytes`."""
    end_age_s: float | None
    """How old the knowledge of the lane's end is."""
    quiet_ms: int | None
    """How long nothing has come; None where nothing runs."""
    future: int
    """Records that were of the future, and did not move the clock."""


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """An open window and what it waits for."""

    step: str
    lane: str | None
    """Whose window it is; None: lanes meet there."""
    start_ms: int
    end_ms: int
    keys: int
    closes_at_ms: int
    """The watermark from which on it is over."""
    watermark_ms: int | None
    """The one it goes by; None: nothing has been seen yet."""
    held_by: tuple[LaneClock, ...]
    """The lanes whose clocks are not there, slowest first."""
    closes_when: str


def explain_window(status: Mapping[str, Any], end_ms: int, rules: ClockRules) -> list[OpenWindow]:
    """The open windows that end at `end_ms`. Raises `Error` when there is none, with the ends there are."""
    lanes = lane_clocks(status)
    windows = status["windows"]
    if not windows:
        raise Error("the pipeline has no window step, so nothing of it is open")
    found = [window for window in windows if window["start_ms"] is not None]
    if not found:
        raise Error(_not_open(windows, lanes, end_ms))
    return [_open_window(window, end_ms, lanes, status, rules) for window in found]


def lane_clocks(status: Mapping[str, Any]) -> dict[int, LaneClock]:
    """The lanes of a status, by number."""
    clocks = {int(lane): clock for lane, clock in status["clocks"].items()}
    return {lane: _lane_clock(lane, clock, status) for lane, clock in sorted(clocks.items()) if lane != COMBINE_LANE}


def _of_lane(values: Mapping[Any, Any], lane: int) -> Any:
    """A lane's value: JSON makes text of numbers that are keys."""
    return values.get(lane, values.get(str(lane)))


def _lane_clock(lane: int, clock: Mapping[str, Any], status: Mapping[str, Any]) -> LaneClock:
    source, position, end = status["source"], _of_lane(status["positions"], lane), _of_lane(status["ends"], lane)
    behind = None if end is None or position is None else max(0, end["position"] - position)
    if clock["idle"]:
        state = "idle"
    elif lane in status["paused"]:
        state = "held back"
    elif clock["caught_up"] or behind == 0:
        state = "caught up"
    elif behind is not None or status["live"]:
        state = "behind"
    else:
        state = "unknown"
    return LaneClock(
        lane=lane,
        name=_lane_name(source, lane),
        last_event_ms=clock["max_event_time_ms"],
        watermark_ms=clock["watermark_ms"],
        state=state,
        behind=0 if state in {"idle", "caught up"} else behind,
        unit="bytes" if source.get("type") == "files" else "records",
        end_age_s=None if end is None else end["age_s"],
        quiet_ms=clock["quiet_ms"] if status["live"] else None,
        future=_of_lane(status["future"], lane) or 0,
    )


def _lane_name(source: Mapping[str, Any], lane: int) -> str:
    if source.get("type") == "files":
        return str(source["files"][lane]["path"])
    return f"{source.get('topic', source.get('type', 'lane'))} [{lane}]"


def _open_window(
    window: Mapping[str, Any], end_ms: int, lanes: Mapping[int, LaneClock], status: Mapping[str, Any], rules: ClockRules
) -> OpenWindow:
    needed_ms = window["over_at_ms"]
    if window["lane"] is None:
        active = [lane for lane in lanes.values() if lane.state != "idle"] or list(lanes.values())
        watermark_ms = (_of_lane(status["clocks"], COMBINE_LANE) or {}).get("watermark_ms")
    else:
        active = [lanes[window["lane"]]]
        watermark_ms = active[0].watermark_ms
    held = sorted((lane for lane in active if _reading(lane) < needed_ms), key=lambda lane: (_reading(lane), lane.lane))
    silence = _silence(held, needed_ms, rules, ahead=len(active) - len(held), lanes=len(lanes))
    return OpenWindow(
        step=window["step"],
        lane=None if window["lane"] is None else lanes[window["lane"]].name,
        start_ms=window["start_ms"],
        end_ms=end_ms,
        keys=window["keys"],
        closes_at_ms=needed_ms,
        watermark_ms=watermark_ms,
        held_by=tuple(held),
        closes_when=("" if status["live"] else "once the run goes on: ")
        + _closes_when(held, needed_ms, rules, silence),
    )


def _reading(lane: LaneClock) -> int:
    return -(1 << 63) if lane.watermark_ms is None else lane.watermark_ms


def _closes_when(held: Sequence[LaneClock], needed_ms: int, rules: ClockRules, silence: str) -> str:
    """In one line what would close the window."""
    if rules.out_of_orderness_ms is None:
        return 'at the end of the input: with out_of_orderness = "unbounded" no event moves the clock'
    if not held:
        return "at once: the clock has passed it"
    event = f"an event of {format_instant(rules.event_time_for(needed_ms))} or later"
    lane, more = held[0], len(held) - 1
    rest = f", and the same of {more} more" if more else ""
    if lane.state == "held back":
        return f"{lane.name} is held back by max_lead; it goes on when the slowest lane does{rest}"
    if lane.state in ("behind", "unknown"):
        left = "" if lane.behind is None else f" ({lane.behind:,} {lane.unit} to go)"
        return f"when {lane.name} has been read on to {event}{left}{rest}"
    return f"with {event} in {lane.name}{rest}{f', or {silence}' if silence else ''}"


def _silence(held: Sequence[LaneClock], needed_ms: int, rules: ClockRules, *, ahead: int, lanes: int) -> str:
    """What silence would do: leave idle lanes out, if active ones are `ahead`, else let the clock of idle lanes run on."""
    if not held:
        return ""
    lane = held[0]
    quiet_ms = lane.quiet_ms or 0
    if ahead:
        return f"{_length(max(0, rules.idle_timeout_ms - quiet_ms))} more without any there (idle_timeout)"
    if not rules.advances_when_idle or lane.last_event_ms is None:
        return ""
    stood_ms = lane.last_event_ms - (rules.out_of_orderness_ms or 0) - 1
    wait_ms = max(0, max(rules.idle_timeout_ms, needed_ms - stood_ms) - quiet_ms)
    where = "anywhere" if lanes > 1 else "there"
    return f"in {_length(wait_ms)} if nothing comes {where}: the clock of idle lanes runs on"


def _not_open(windows: Sequence[Mapping[str, Any]], lanes: Mapping[int, LaneClock], end_ms: int) -> str:
    ends = sorted({end for window in windows for end in window["nearest_ms"]})
    readings = [lane.watermark_ms for lane in lanes.values() if lane.watermark_ms is not None]
    passed = bool(readings) and min(readings) >= end_ms - 1
    why = (
        f"the clock has passed it (watermark {format_instant(min(readings))}), so it has left or had no rows"
        if passed
        else "it has no rows so far, or no window ends then"
    )
    shown = ", ".join(format_instant(end) for end in ends[: 2 * LANES_SHOWN_MAX])
    hint = f"open windows end at {shown}" if ends else "no window is open"
    return f"no open window ends at {format_instant(end_ms)}: {why}; {hint}"


def to_json(windows: Sequence[OpenWindow], origin: Mapping[str, Any]) -> dict[str, Any]:
    """The answer as plain values; times are ISO-8601."""
    return {"from": dict(origin), "windows": [_plain(asdict(window)) for window in windows]}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return dict(_named(name, item) for name, item in value.items())
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _named(name: str, value: Any) -> tuple[str, Any]:
    if name == "quiet_ms" or not name.endswith("_ms"):
        return name, _plain(value)
    return name.removesuffix("_ms"), None if value is None else format_instant(value)


def to_lines(windows: Sequence[OpenWindow]) -> Iterator[str]:
    """The answer for a person."""
    for window in windows:
        where = "" if window.lane is None else f" in {window.lane}"
        keys = f"{window.keys:,} key" if window.keys == 1 else f"{window.keys:,} keys"
        yield (
            f"{window.step}: window {format_instant(window.start_ms)} to {format_instant(window.end_ms)}{where}, "
            f"{keys}, open"
        )
        yield f"  watermark    {_distance(window)}"
        for lane in window.held_by[:LANES_SHOWN_MAX]:
            yield f"  held by      {_lane_line(lane)}"
        if len(window.held_by) > LANES_SHOWN_MAX:
            yield f"  held by      {len(window.held_by) - LANES_SHOWN_MAX} more lanes"
        future = sum(lane.future for lane in window.held_by)
        if future:
            yield f"  future       {future:,} records further ahead than max_future_skew; they do not move the clock"
        yield f"  closes       {window.closes_when}"


def _distance(window: OpenWindow) -> str:
    needed = format_instant(window.closes_at_ms)
    if window.watermark_ms is None:
        return f"none yet; it closes at {needed}"
    left_ms = window.closes_at_ms - window.watermark_ms
    return f"{format_instant(window.watermark_ms)}, {_length(max(0, left_ms))} before {needed}, where it closes"


def _lane_line(lane: LaneClock) -> str:
    last = "no event yet" if lane.last_event_ms is None else f"last event {format_instant(lane.last_event_ms)}"
    parts = [lane.name, last]
    if lane.state == "behind" and lane.behind is not None:
        age = "" if lane.end_age_s is None or lane.end_age_s < 1 else f" (as of {lane.end_age_s:.0f} s ago)"
        parts.append(f"{lane.behind:,} {lane.unit} behind{age}")
    elif lane.state == "unknown":
        parts.append("how much is left to read is not known")
    else:
        parts.append(lane.state)
    if lane.state == "caught up" and lane.quiet_ms is not None:
        parts.append(f"quiet for {_length(lane.quiet_ms)}")
    return ", ".join(parts)


def _length(milliseconds: int) -> str:
    """A length of time, in whole seconds where it is long."""
    return format_duration(milliseconds if milliseconds < 10_000 else milliseconds // 1_000 * 1_000)
