"""Owns the answer to "why is the window that ends then still open".

Before it: the status of a live run (`status.py`), of a checkpoint (`commands/why.py` makes it) or of committed state
(`committed_status.py`). After it: text or JSON.
Invariant: what would close a window follows from the inequalities of docs/semantics.md; nothing is asked here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from streamcore._core import LANES_PER_INPUT
from streamcore.config.durations import format_duration, format_instant
from streamcore.errors import Error
from streamcore.report import COMBINE_LANE

LANES_SHOWN_MAX = 5
"""Lanes that hold a window and are told one by one."""


@dataclass(frozen=True, slots=True)
class ClockRules:
    """What of an input's settings moves the clocks of its lanes."""

    out_of_orderness_ms: int | None
    """None: unbounded, the clock never moves."""
    idle_timeout_ms: int
    advances_when_idle: bool
    name: str = ""
    """The input's; empty for the pipeline's own."""

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
    """`caught up`, `behind`, `idle`, `held back` (by max_lead), `read by another worker` or `unknown`."""
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
class Wait:
    """A window's wait for a lane."""

    lane: LaneClock
    needed_ms: int
    """The watermark that the lane must reach."""
    rules: ClockRules

    @property
    def left_ms(self) -> int:
        """How far it is from there."""
        return self.needed_ms - (-(1 << 63) if self.lane.watermark_ms is None else self.lane.watermark_ms)


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """An open window and what it waits for."""

    step: str
    lane: str | None
    """Whose window it is; None: lanes meet there."""
    start_ms: int
    end_ms: int
    keys: int
    keys_estimated: bool
    """There are so many that they were not counted one by one; 0.4 % is the standard error."""
    closes_at_ms: int
    """The watermark from which on it is over."""
    watermark_ms: int | None
    """The one it goes by; None: nothing has been seen yet."""
    held_by: tuple[LaneClock, ...]
    """The lanes whose clocks are not there, slowest first."""
    closes_when: str


def explain_window(status: Mapping[str, Any], end_ms: int, rules: Sequence[ClockRules]) -> list[OpenWindow]:
    """The open windows that end at `end_ms`, by the rules of each input.

    Raises `Error` when there is none, with the ends there are.
    """
    lanes = lane_clocks(status, [rule.name for rule in rules])
    windows = status["windows"]
    if not windows:
        raise Error("the pipeline has no window step, so nothing of it is open")
    found = [window for window in windows if window["start_ms"] is not None]
    if not found:
        raise Error(_not_open(windows, _meeting_ms(status, lanes), end_ms))
    return [_open_window(window, end_ms, lanes, status, rules) for window in found]


def lane_clocks(status: Mapping[str, Any], inputs: Sequence[str]) -> dict[int, LaneClock]:
    """The lanes of a status, by number; `inputs` are the names of the inputs."""
    clocks = {int(lane): clock for lane, clock in status["clocks"].items()}
    return {
        lane: _lane_clock(lane, clock, status, input_facts(status["source"], inputs[_input_of(lane)]))
        for lane, clock in sorted(clocks.items())
        if lane != COMBINE_LANE
    }


def input_facts(source: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What a source described of the input `name`: of another than the pipeline's own it has that name before it."""
    prefix = f"{name}." if name else ""
    return {fact.removeprefix(prefix): value for fact, value in source.items() if fact.startswith(prefix)}


def _input_of(lane: int) -> int:
    return lane // LANES_PER_INPUT


def _of_lane(values: Mapping[Any, Any], lane: int) -> Any:
    """A lane's value: JSON makes text of numbers that are keys."""
    return values.get(lane, values.get(str(lane)))


def _lane_clock(lane: int, clock: Mapping[str, Any], status: Mapping[str, Any], source: Mapping[str, Any]) -> LaneClock:
    position, end = _of_lane(status["positions"], lane), _of_lane(status["ends"], lane)
    behind = None if end is None or position is None else max(0, end["position"] - position)
    if clock["idle"]:
        state = "idle"
    elif clock.get("elsewhere"):
        state = "read by another worker"
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
        name=_lane_name(source, lane % LANES_PER_INPUT),
        last_event_ms=clock["max_event_time_ms"],
        watermark_ms=clock["watermark_ms"],
        state=state,
        behind=0 if state in {"idle", "caught up"} else behind,
        unit="bytes" if source.get("type") == "files" else "records",
        end_age_s=None if end is None else end["age_s"],
        quiet_ms=clock["quiet_ms"] if status["live"] else None,
        future=_of_lane(status["future"], lane) or 0,
    )


def _lane_name(source: Mapping[str, Any], partition: int) -> str:
    if source.get("type") == "files":
        return str(source["files"][partition]["path"])
    return f"{source.get('topic', source.get('type', 'lane'))} [{partition}]"


def _open_window(
    window: Mapping[str, Any],
    end_ms: int,
    lanes: Mapping[int, LaneClock],
    status: Mapping[str, Any],
    rules: Sequence[ClockRules],
) -> OpenWindow:
    asked = _asked(window, lanes)
    waits = [
        Wait(lane, needed_ms, rules[_input_of(lane.lane)])
        for lane in asked
        if (needed_ms := window["inputs_ms"][_input_of(lane.lane)]) is not None
    ]
    active = [wait for wait in waits if wait.lane.state != "idle"] or waits
    held = sorted((wait for wait in active if wait.left_ms > 0), key=lambda wait: (-wait.left_ms, wait.lane.lane))
    silence = _silence(held, ahead=len(active) - len(held), lanes=len(waits))
    return OpenWindow(
        step=window["step"],
        lane=None if window["lane"] is None else lanes[window["lane"]].name,
        start_ms=window["start_ms"],
        end_ms=end_ms,
        keys=window["keys"],
        keys_estimated=window["keys_estimated"],
        closes_at_ms=window["over_at_ms"],
        watermark_ms=_meeting_ms(status, {}) if window["lane"] is None else _least_ms(asked),
        held_by=tuple(wait.lane for wait in held),
        closes_when=("" if status["live"] or status.get("runs") else "once the run goes on: ")
        + _closes_when(held, silence),
    )


def _asked(window: Mapping[str, Any], lanes: Mapping[int, LaneClock]) -> list[LaneClock]:
    """The lanes that a window waits for: all that meet, or its own, which behind a join are those of a partition."""
    own = window["lane"]
    if own is None:
        return list(lanes.values())
    if len(window["inputs_ms"]) == 1:
        return [lanes[own]]
    return [lane for number, lane in lanes.items() if number % LANES_PER_INPUT == own]


def _least_ms(lanes: Sequence[LaneClock]) -> int | None:
    return min((lane.watermark_ms for lane in lanes if lane.watermark_ms is not None), default=None)


def _meeting_ms(status: Mapping[str, Any], lanes: Mapping[int, LaneClock]) -> int | None:
    """The watermark where lanes meet, else the least of `lanes`."""
    meeting = _of_lane(status["clocks"], COMBINE_LANE)
    if meeting is not None:
        watermark_ms: int | None = meeting["watermark_ms"]
        return watermark_ms
    return _least_ms(list(lanes.values()))


def _closes_when(held: Sequence[Wait], silence: str) -> str:
    """In one line what would close the window."""
    if not held:
        return "at once: the clock has passed it"
    for wait in held:
        if wait.rules.out_of_orderness_ms is None:
            whose = f" of {wait.rules.name}" if wait.rules.name else ""
            return f'at the end of the input: with out_of_orderness = "unbounded" no event moves the clock{whose}'
    first, lane, more = held[0], held[0].lane, len(held) - 1
    event = f"an event of {format_instant(first.rules.event_time_for(first.needed_ms))} or later"
    same = all(wait.needed_ms == first.needed_ms and wait.rules == first.rules for wait in held)
    rest = f", and the same of {more} more" if same else f", and {more} more as far as the window needs them"
    rest = rest if more else ""
    if lane.state == "held back":
        return f"{lane.name} is held back by max_lead; it goes on when the slowest lane does{rest}"
    if lane.state in ("behind", "unknown"):
        left = "" if lane.behind is None else f" ({lane.behind:,} {lane.unit} to go)"
        return f"when {lane.name} has been read on to {event}{left}{rest}"
    return f"with {event} in {lane.name}{rest}{f', or {silence}' if silence else ''}"


def _silence(held: Sequence[Wait], *, ahead: int, lanes: int) -> str:
    """What silence would do: leave idle lanes out, if active ones are `ahead`, else let the clock of idle lanes run on."""
    if not held:
        return ""
    lane, rules = held[0].lane, held[0].rules
    quiet_ms = lane.quiet_ms or 0
    if ahead:
        return f"{_length(max(0, rules.idle_timeout_ms - quiet_ms))} more without any there (idle_timeout)"
    if not rules.advances_when_idle or lane.last_event_ms is None:
        return ""
    stood_ms = lane.last_event_ms - (rules.out_of_orderness_ms or 0) - 1
    wait_ms = max(0, max(rules.idle_timeout_ms, held[0].needed_ms - stood_ms) - quiet_ms)
    where = "anywhere" if lanes > 1 else "there"
    return f"in {_length(wait_ms)} if nothing comes {where}: the clock of idle lanes runs on"


def _not_open(windows: Sequence[Mapping[str, Any]], watermark_ms: int | None, end_ms: int) -> str:
    ends = sorted({end for window in windows for end in window["nearest_ms"]})
    why = (
        f"the clock has passed it (watermark {format_instant(watermark_ms)}), so it has left or had no rows"
        if watermark_ms is not None and watermark_ms >= end_ms - 1
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
        about = "about " if window.keys_estimated else ""
        keys = f"{about}{window.keys:,} {'key' if window.keys == 1 else 'keys'}"
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
