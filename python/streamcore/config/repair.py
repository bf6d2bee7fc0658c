"""Owns what can still be said of a pipeline whose description is not even well formed.

Before it: `loading.py`, when validation failed. After it: the mistakes of the parts that stand, shown beside those.
Invariant: nothing is reported that is only the consequence of a stand-in. Where that cannot be told, it is left out: a
mistake that shows once the others are mended costs a round, one that is not there costs the reader's trust.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from streamcore.config.checks import (
    column_problems,
    delivery_problems,
    describe,
    engine_problems,
    same_places,
    shared_test_names,
    template_problems,
    undeclared_problems,
)
from streamcore.config.combine import combine_problems
from streamcore.config.models import PipelineConfig
from streamcore.config.paths import Path, format_path
from streamcore.config.problems import document_path
from streamcore.config.servers import connection_problems
from streamcore.errors import Problem

ROUNDS_MAX = 4
"""A mended part may show what was hidden behind it, as the keys that a kind of source does not have."""

_STAND_INS: Mapping[str, Any] = {
    **dict.fromkeys(("size", "slide", "gap"), "1h"),
    "within": "36500d",
    **dict.fromkeys(("topic", "path"), "missing"),
    "key_template": "{missing}",
    "url": "redis://missing",
    "aggregate": {"missing": "count()"},
    "output": "rejected",
}
"""Values for keys that are required, and for the output, whose default would be held against the result's columns."""


def problems_of_the_rest(values: Mapping[str, Any], error: ValidationError, *, types_required: bool) -> list[Problem]:
    """What is wrong beside the findings of `error`, once harmless values stand in for what is broken."""
    mended = _mended(values, error)
    # Where inputs are joined, what one is lacking shows in the other.
    if mended is None or mended[0].sources:
        return []
    config, broken = mended
    places = {format_path(path) for path in broken}
    found = _steps_and_columns(config, broken, types_required=types_required)
    return [problem for problem in found + _others(config, broken) if problem.path not in places]


def _mended(values: Mapping[str, Any], error: ValidationError) -> tuple[PipelineConfig, set[Path]] | None:
    """A valid configuration, and the paths that were changed for it; None where a few rounds are not enough."""
    mended = copy.deepcopy(dict(values))
    broken: set[Path] = set()
    for _ in range(ROUNDS_MAX):
        for detail in error.errors(include_url=False, include_input=False):
            path = document_path(detail["loc"])
            if not path:
                return None
            _mend(mended, path if path not in broken else path[: _depth(path)], detail["type"])
            broken.add(path)
        try:
            return PipelineConfig.model_validate(mended), broken
        except ValidationError as left:
            error = left
    return None


def _depth(path: Path) -> int:
    """How much of a path names the table that is given up when its key could not be mended."""
    return 2 if path[0] in ("steps", "sinks", "connections", "sources") else 1


def _mend(values: dict[str, Any], path: Path, kind: str) -> None:
    """Takes a broken value out; where one is needed, something harmless stands in."""
    table: Any = values
    try:
        for part in path[:-1]:
            table = table[part]
        last = path[-1]
        if isinstance(last, int) and len(path) == 2:
            table[last] = _table(str(path[0]), table[last], kind)
        elif isinstance(last, int):
            _mend(values, path[:-1], kind)
        elif path == ("source",):
            table["source"] = _source(table.get("source"), kind)
        else:
            table.pop(last, None)
            if kind != "extra_forbidden" and last in _STAND_INS and path[0] not in ("tests", "dead_letters"):
                table[last] = _STAND_INS[last]
    except (KeyError, IndexError, TypeError, AttributeError):
        return  # the path is not as it was written; the next round gives up the table around it


def _table(family: str, table: Any, kind: str) -> Any:
    """What stands in for a step, sink or test as a whole."""
    if family == "sinks" and kind == "value_error":
        # Keys that do not go together: these are in no such rule.
        return {
            key: table[key] for key in ("type", "output", "topic", "key_template", "value", "columns") if key in table
        }
    if family == "sinks":
        return {"type": "console"}
    if family != "steps":
        return {"name": "missing", "input": []}
    if kind == "window_kind":
        return {"size": _STAND_INS["size"], **table, "window": "tumbling"}
    if isinstance(table, dict) and isinstance(table.get("select"), dict):
        return {"select": table["select"]}  # without it the columns of later steps would be unknown
    return {"filter": "true"}


def _source(table: Any, kind: str) -> dict[str, Any]:
    if isinstance(table, dict) and kind.startswith("union_tag"):
        return {"topic": _STAND_INS["topic"], **table, "type": "kafka"}
    kept = ("schema", "event_time", "event_time_unit", "where", "keyed_by")
    return {"type": "records", **{key: table[key] for key in kept if isinstance(table, dict) and key in table}}


def _steps_and_columns(config: PipelineConfig, broken: Collection[Path], *, types_required: bool) -> list[Problem]:
    """What the engine says, and what follows from the columns it makes."""
    touched = {str(path[0]) for path in broken}
    description = describe(config)
    found = [problem for problem in engine_problems(description) if not _follows(problem.path, config, broken)]
    if "steps" not in touched:
        found += column_problems(config, description)
    if types_required and not touched & {"steps", "source", "name"}:
        found += undeclared_problems(description)
    return found


def _follows(place: str, config: PipelineConfig, broken: Collection[Path]) -> bool:
    """Whether a finding of the engine may come from a stand-in."""
    if place == "combine":
        return any(path[0] in ("steps", "source") for path in broken)
    if place.endswith(".within") and ("source", "out_of_orderness") in broken:
        return True
    makes = ("select", "map_batches", "window")
    makers = [index for index, step in enumerate(config.steps) if any(hasattr(step, verb) for verb in makes)]
    changed = [int(path[1]) for path in broken if path[0] == "steps" and len(path) > 1 and path[1] in makers]
    later = range(min(changed) + 1, len(config.steps)) if changed else ()
    return any(place.startswith(f"steps[{index}]") for index in later)


def _others(config: PipelineConfig, broken: Collection[Path]) -> list[Problem]:
    touched = {str(path[0]) for path in broken}
    found = template_problems(config) + shared_test_names(config)
    if "sinks" not in touched:
        found += same_places(config)
    if "connections" not in touched:
        found += connection_problems(config)
    if config.delivery == "exactly_once" or not touched & {"name", "source", "steps", "sinks"}:
        found += delivery_problems(config) + combine_problems(config)
    return found
