"""Owns `[[steps]]`: what happens to the records, in the order written.

Before it: the source. After it: the sinks. The meaning of expressions is the engine's; here they are text.
Invariant: a step has exactly one verb (`filter`, `select`, `dedupe`, `map_batches`, `join` or `window`), and the verb decides its
other keys.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, PlainSerializer, Tag, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from streamcore.config.base import Model, setting
from streamcore.config.durations import (
    Duration,
    Instant,
    PositiveDuration,
    SignedDuration,
    WindowSize,
    format_instant,
    parse_duration,
    parse_instant,
)

VERBS = ("filter", "select", "dedupe", "map_batches", "join", "window")
WINDOWS = ("tumbling", "hopping", "sliding", "cumulate", "session", "whole")

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

Expression = Annotated[str, Field(min_length=1)]


_LAST_PART = re.compile(
    r"""(?:`(?P<quoted>[^`]*)`|_headers\[(?P<mark>['"])(?P<header>.*)(?P=mark)\]|(?P<bare>[^.`]*))$"""
)


_FUNCTION = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*")


def column_name(expression: str) -> str:
    """The column a group key gets where none is given: the last part of the path, without the `_` of record parts.

    >>> column_name("payload.page_id"), column_name("_key"), column_name("_headers['tenant']"), column_name("a.`b.c`")
    ('page_id', 'key', 'tenant', 'b.c')
    """
    found = _LAST_PART.search(expression.strip())
    if found is None:
        return expression.strip()
    name = found["quoted"] if found["quoted"] is not None else found["header"]
    return name if name is not None else found["bare"].strip().lstrip("_")


def _group_keys(value: Any) -> Any:
    """Turns `"a.b"` and `["a.b", "c"]` into `{"b": "a.b", "c": "c"}`."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)):
        return value
    named: dict[str, Any] = {}
    for expression in value:
        if not isinstance(expression, str):
            raise ValueError('group keys are text, as by = ["payload.page_id"] or by = { page = "payload.page_id" }')  # noqa: TRY004 - pydantic collects ValueErrors
        name = column_name(expression)
        if name in named:
            raise ValueError(
                f"{named[name]} and {expression} would both be the column {name}; "
                f'name them, as by = {{ {name} = "{named[name]}", {name}_2 = "{expression}" }}'
            )
        named[name] = expression
    return named


GroupKeys = Annotated[
    dict[str, Expression],
    BeforeValidator(_group_keys),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "string", "minLength": 1}},
                {"type": "object", "additionalProperties": {"type": "string", "minLength": 1}},
            ]
        }
    ),
]
"""Expressions by column name; a list of fields is named by their last parts."""


class StepBase(Model):
    """Keys that every step has."""

    name: str | None = setting(None, "Name shown in plans and errors.", min_length=1)


def _parameter(value: Any) -> Any:
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_scalar(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_instant(parse_instant(value))
    is_number = isinstance(value, (int, float)) and math.isfinite(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("an integer of a parameter fits in 64 bits")
    if not is_number and not isinstance(value, (bool, str)):
        raise ValueError("a parameter is true or false, a finite number, text, or a list of those")
    return value


Parameters = dict[str, Annotated[Any, BeforeValidator(_parameter)]]


class Parameterised(StepBase):
    """A step with expressions, which may hold `$parameters`."""

    parameters: Parameters = setting({}, "Values of the `$name` in the expressions: bool, number, text, or a list.")


class FilterStep(Parameterised):
    """Keeps the rows for which the condition is true."""

    filter: Expression = setting(..., "The condition.")


class SelectStep(Parameterised):
    """Replaces the columns."""

    select: dict[str, Expression] = setting(..., "The new columns in order: name and expression.", min_length=1)


class DedupeStep(StepBase):
    """Drops records whose field was seen before."""

    dedupe: str = setting(..., "Field that identifies an event.", min_length=1)
    within: PositiveDuration = setting(..., "How long past its event time an id is remembered.")
    method: Literal["exact", "bloom"] = setting(
        "exact",
        "How ids are kept. `exact`: 76-bit fingerprints, nothing dropped by guess. `bloom`: filters, in about a fifth "
        "of the memory, that take a share of new ids for copies.",
    )
    false_drop_rate: float | None = setting(
        None,
        "With `bloom`: the share of new ids that may be dropped as copies, over the whole horizon; 0.001 if not given.",
    )
    capacity: int | None = setting(
        None,
        "With `bloom`: ids of one partition expected `within` the horizon. If not given, and beyond it, filters are made "
        "for as many as came before.",
        gt=0,
    )

    @model_validator(mode="after")
    def _filters_only(self) -> DedupeStep:
        for name in ("false_drop_rate", "capacity"):
            if self.method == "exact" and getattr(self, name) is not None:
                raise ValueError(f'{name} is a matter of method = "bloom"; exact drops nothing by guess')
        return self


def function_name(function: str | Callable[..., Any]) -> str:
    """What a function is called in files and in saved state: `module:name`."""
    if isinstance(function, str):
        return function
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{getattr(function, '__module__', None) or type(function).__module__}:{name}"


def _function(value: Any) -> Any:
    if isinstance(value, str) and not _FUNCTION.fullmatch(value):
        raise ValueError('a function is written "module:name", as "jobs:enrich"')
    if not isinstance(value, str) and not callable(value):
        raise ValueError("a function is a Python function, or its name as module:name")  # noqa: TRY004 - pydantic collects ValueErrors
    return value


class MapBatchesStep(StepBase):
    """Replaces the columns by what a Python function makes of whole batches; as many rows, in the same order."""

    map_batches: Annotated[
        Any, BeforeValidator(_function), PlainSerializer(function_name), WithJsonSchema({"type": "string"})
    ] = setting(..., 'The function, as `"module:name"`: it takes Arrow (see the guide) and gives Arrow.')
    types: dict[str, str] = setting(
        ..., 'The columns it gives, in order, with their types, as `score = "float64"`.', alias="schema", min_length=1
    )


class AggregateFunction(Model):
    """An aggregate of your own: what it takes, what a state of it is, and what it gives."""

    function: Annotated[
        Any, BeforeValidator(_function), PlainSerializer(function_name), WithJsonSchema({"type": "string"})
    ] = setting(..., 'The class with `init`, `merge` and `finish`, as `"module:name"`.')
    arguments: dict[str, str] = setting(..., "The arguments it takes, in order: name and type.", min_length=1)
    state: dict[str, str] = setting(..., "The columns of a state: name and type.", min_length=1)
    returns: str = setting(..., "Type of the result.")
    version: int = setting(1, "Version of the state; saved state of another one is refused.", ge=0, le=2**32 - 1)


def _columns(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


KeyColumns = Annotated[
    tuple[Expression, ...],
    BeforeValidator(_columns),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string", "minLength": 1}}]}
    ),
]


def _reach(value: Any) -> Any:
    """Turns `"5m"` into `("-5m", "5m")`."""
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return value
    if isinstance(value, (str, timedelta)):
        reach = parse_duration(value)
        return timedelta(milliseconds=-reach), timedelta(milliseconds=reach)
    raise ValueError('it is how far back and how far ahead, as ["-5m", "10m"], or one duration for both ways')


Reach = Annotated[
    tuple[SignedDuration, SignedDuration],
    BeforeValidator(_reach),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array", "items": {"type": "string", "minLength": 1}}]}
    ),
]


class JoinStep(StepBase):
    """Joins the rows with those of equal key of another input; `within`, `size` or `as_of` says which, or a table."""

    join: str = setting(..., "Name of the other input, the right side: `[sources.NAME]`.", min_length=1)
    on: KeyColumns | None = setting(None, "Columns of the key, called the same on both sides. A null equals nothing.")
    left_on: KeyColumns | None = setting(None, "In place of `on`: those of the left side.")
    right_on: KeyColumns | None = setting(None, "And those of the right side, in the same order.")
    how: Literal["inner", "left", "outer"] = setting(
        "inner", "Which rows leave without a partner: none, those of the left side, those of both."
    )
    within: Reach | None = setting(
        None,
        'How far the time of the right row may lie before and behind that of the left one, both ends included, as `["-5m", '
        '"10m"]`; one duration: as far both ways.',
    )
    size: PositiveDuration | None = setting(None, "Both rows lie in one tumbling window of this length.")
    offset: SignedDuration = setting(
        0, "With `size`: shift of the windows from 1970-01-01T00:00:00Z, by what it leaves over `size`."
    )
    as_of: bool = setting(False, "The latest right row up to the left row's time.")
    tolerance: Duration | None = setting(None, "With `as_of`: how far back it may lie; unset: any distance.")
    versioned: bool = setting(
        False,
        "With a table: the row its key had at the left row's time, not the one it has when that row is read.",
    )
    allowed_lateness: Duration = setting(0, "How far behind its input's watermark a row may be.")
    suffix: str = setting("_right", "Added to the name of a right column where a left one is called the same.")

    @property
    def keys(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Columns of the key, left and right."""
        return self.on or self.left_on or (), self.on or self.right_on or ()

    @model_validator(mode="after")
    def _goes_together(self) -> JoinStep:
        if (self.on is None) == (self.left_on is None and self.right_on is None):
            raise ValueError('a join has a key; write on = ["user_id"], or left_on and right_on')
        if len(self.keys[0]) != len(self.keys[1]) or not self.keys[0]:
            raise ValueError("left_on and right_on are lists of as many columns")
        kinds = [name for name in ("within", "size") if getattr(self, name) is not None]
        kinds += [name for name in ("as_of", "versioned") if getattr(self, name)]
        if len(kinds) > 1:
            raise ValueError(f"{' and '.join(kinds)} do not go together; a join has one of them")
        if self.tolerance is not None and not self.as_of:
            raise ValueError("tolerance belongs to as_of = true")
        if self.offset and self.size is None:
            raise ValueError("offset belongs to size")
        return self


class WindowStep(Parameterised):
    """Groups and aggregates per window; the keys that every kind of window has."""

    by: GroupKeys = setting(
        {}, 'Group keys: a list of fields, or names with expressions, as `{ page = "payload.page_id" }`.'
    )
    aggregate: dict[str, Expression] = setting(
        ..., "Result columns: name and call, as `count() where status >= 500`.", min_length=1
    )
    functions: dict[str, AggregateFunction] = setting(
        {}, "Aggregates of your own, by the name that calls in `aggregate` have for them (see the guide)."
    )
    emit: Literal["final", "updates"] = setting(
        "final", "`final`: one row when a window closes. `updates`: changed rows at each commit, then the final one."
    )
    emit_every: PositiveDuration | None = setting(
        None, "With `updates`: changed rows leave when the clock passes a multiple of it in event time, not at commits."
    )
    emit_when: Expression | None = setting(
        None,
        "With `updates`: a condition over the row, as `views >= 10`. A row leaves early with the record that makes it "
        "true; with `emit_every`, only changed rows leave for which it is true.",
    )
    allowed_lateness: Duration = setting(0, "How long past its end a window still takes records.")
    null_keys: Literal["group", "drop", "reject"] = setting(
        "group", "A null group key is a group of its own, dropped, or a dead letter."
    )


class TumblingStep(WindowStep):
    """Windows of one length, one after the other; with a `timezone`, days, weeks or months of its calendar."""

    window: Literal["tumbling"] = setting("tumbling", "Kind of window.")
    size: WindowSize = setting(..., 'Length. With a `timezone` whole days or weeks, or months, as `"1mo"`.')
    offset: SignedDuration = setting(
        0,
        "Shift of the alignment from 1970-01-01T00:00:00Z; with a `timezone`, from midnight by the clock on the wall.",
    )
    timezone: str | None = setting(None, 'IANA name of a zone whose calendar the windows follow, as `"Europe/Berlin"`.')
    week_start: Weekday | None = setting(None, "With a `timezone` and weeks: their first day; Monday if not given.")
    min_start: Instant | None = setting(None, "No window starts earlier than this time.")


class HoppingStep(WindowStep):
    """Windows of one length, one every `slide`; they overlap, or leave gaps."""

    window: Literal["hopping"] = setting("hopping", "Kind of window.")
    size: PositiveDuration = setting(..., "Length.")
    slide: PositiveDuration = setting(..., "Distance between two starts.")
    offset: SignedDuration = setting(
        0, "Shift of the alignment from 1970-01-01T00:00:00Z, by what it leaves over the distance of starts."
    )
    min_start: Instant | None = setting(None, "No window starts earlier than this time.")


class SlidingStep(WindowStep):
    """The trailing window at each event of a group, closed at both ends; a row for each time at which there is one."""

    window: Literal["sliding"] = setting("sliding", "Kind of window; `window_end` is the event's time.")
    size: PositiveDuration = setting(..., "Length: an event exactly so long before another counts with it.")


class CumulateStep(WindowStep):
    """Windows that start together, every `size`, and end one `step` after the other: the day so far, by the hour."""

    window: Literal["cumulate"] = setting("cumulate", "Kind of window.")
    size: PositiveDuration = setting(..., "Length of the longest.")
    step: PositiveDuration = setting(..., "Distance between two ends; `size` is a multiple of it.")
    offset: SignedDuration = setting(
        0, "Shift of the alignment from 1970-01-01T00:00:00Z, by what it leaves over the distance of starts."
    )
    min_start: Instant | None = setting(None, "No window starts earlier than this time.")


class SessionStep(WindowStep):
    """Events no further apart than a gap."""

    window: Literal["session"] = setting("session", "Kind of window.")
    gap: PositiveDuration = setting(..., "The largest silence inside a session.")
    gap_inclusive: bool = setting(True, "Whether two events exactly a gap apart are one session.")
    max_length: PositiveDuration | None = setting(
        None, "The longest window: a longer session is cut at the multiples of it since 1970-01-01T00:00:00Z."
    )
    min_start: Instant | None = setting(None, "Events before this time are in no session.")


class WholeStep(WindowStep):
    """One window for ever, over at the end of the input; with `emit = "updates"` a running total at each commit."""

    window: Literal["whole"] = setting("whole", "Kind of window; `window_start` and `window_end` are null.")
    min_start: Instant | None = setting(None, "Events before this time are in no window.")


STEP_MODELS: Mapping[str, type[StepBase]] = {
    "filter": FilterStep,
    "select": SelectStep,
    "dedupe": DedupeStep,
    "map_batches": MapBatchesStep,
    "join": JoinStep,
    "tumbling": TumblingStep,
    "hopping": HoppingStep,
    "sliding": SlidingStep,
    "cumulate": CumulateStep,
    "session": SessionStep,
    "whole": WholeStep,
}
"""By verb, and for windows by kind."""


def tag_of(step: StepBase) -> str:
    """The verb of a step; for windows, the kind."""
    return next(tag for tag, model in STEP_MODELS.items() if type(step) is model)


def _tag(value: Any) -> str:
    """Which model reads a step. Raises `PydanticCustomError` where that cannot be told."""
    if isinstance(value, StepBase):
        return tag_of(value)
    if not isinstance(value, Mapping):
        raise PydanticCustomError("step_type", "a step is a table with one verb: {verbs}", {"verbs": ", ".join(VERBS)})
    verbs = [verb for verb in VERBS if verb in value]
    if len(verbs) != 1:
        found = f"{' and '.join(verbs)}; split it into {len(verbs)} steps" if verbs else "none"
        message = "a step has exactly one verb ({verbs}), and this one has {found}"
        raise PydanticCustomError("step_verb", message, {"verbs": ", ".join(VERBS), "found": found})
    if verbs[0] != "window":
        return verbs[0]
    if value["window"] not in WINDOWS:
        raise PydanticCustomError("window_kind", "window is one of {kinds}", {"kinds": ", ".join(WINDOWS)})
    return str(value["window"])


def _readable(value: Any) -> Any:
    _tag(value)
    return value


StepConfig = Annotated[
    Annotated[FilterStep, Tag("filter")]
    | Annotated[SelectStep, Tag("select")]
    | Annotated[DedupeStep, Tag("dedupe")]
    | Annotated[MapBatchesStep, Tag("map_batches")]
    | Annotated[JoinStep, Tag("join")]
    | Annotated[TumblingStep, Tag("tumbling")]
    | Annotated[HoppingStep, Tag("hopping")]
    | Annotated[SlidingStep, Tag("sliding")]
    | Annotated[CumulateStep, Tag("cumulate")]
    | Annotated[SessionStep, Tag("session")]
    | Annotated[WholeStep, Tag("whole")],
    Discriminator(_tag),
    BeforeValidator(_readable),
]
