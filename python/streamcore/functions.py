"""Owns the calls of users' functions: the engine hands over a batch, and gets Arrow back or a reason in one line.

Before it: a configuration whose steps name functions. After it: `_core.Pipeline`, which calls them batch by batch.
Invariant: nothing a function raises leaves here, but for what ends the process; a reason quotes no value.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamcore import _core
from streamcore.config import AggregateFunction, MapBatchesStep, PipelineConfig, WindowStep, function_name
from streamcore.errors import ConfigError, Problem
from streamcore.tables import Batch
from streamcore.user_aggregates import PARTS, missing_part

Function = Callable[[_core.Batch], object]
"""Arrow, or the reason why there is none."""


def functions_of(config: PipelineConfig) -> dict[str, Function]:
    """What `_core.Pipeline` calls, by name. Raises `ConfigError` for a function that cannot be found."""
    found: dict[str, Function] = {}
    for index, step in enumerate(config.steps):
        if isinstance(step, MapBatchesStep):
            function = resolved(step.map_batches, f"steps[{index}].map_batches")
            found[function_name(step.map_batches)] = guarded(function)
        if isinstance(step, WindowStep):
            for name, declared in step.functions.items():
                found |= _parts(declared, f"steps[{index}].functions.{name}.function")
    return found


def _parts(declared: AggregateFunction, path: str) -> dict[str, Function]:
    """The functions of an aggregate, all of one object of its class."""
    made = resolved(declared.function, path)
    problem = missing_part(made, path)
    if problem is None and not isinstance(made, type):
        problem = Problem(path, f"{function_name(declared.function)} is no class")
    if problem is not None:
        raise ConfigError("the pipeline has 1 mistake", [problem])
    functions, named = made(), function_name(declared.function)
    return {f"{named}.{part}": guarded(getattr(functions, part)) for part in PARTS}


def resolved(function: str | Callable[..., Any], path: str) -> Callable[..., Any]:
    """The function itself; one that is named `module:name` is imported."""
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        hint = "write module:function, and start where the module can be imported"
        problem = Problem(path, f"{function} cannot be imported: {error}", hint=hint)
        raise ConfigError("the pipeline has 1 mistake", [problem]) from error
    if not callable(found):
        raise ConfigError("the pipeline has 1 mistake", [Problem(path, f"{function} is no function")])
    return found  # type: ignore[no-any-return]


def guarded(function: Callable[..., Any]) -> Function:
    """`function`, which takes a `streamcore.Batch` and gives Arrow, as the engine calls it."""

    def call(batch: _core.Batch) -> object:
        try:
            given = function(Batch(batch))
        except Exception as error:  # noqa: BLE001 - whatever it is, it costs the rows and not the run
            return reason(error, function)
        if hasattr(given, "__arrow_c_stream__") or hasattr(given, "__arrow_c_array__"):
            return given
        return f"it gave a {type(given).__name__}, and not Arrow, as a polars or pyarrow table is"

    return call


def reason(error: Exception, function: Callable[..., Any]) -> str:
    """`ZeroDivisionError in jobs.py, line 12 (enrich)`: the last line of the user's own file that was running.

    The message of the exception is left out, since it may quote a value.
    """
    frames = traceback.extract_tb(error.__traceback__)[1:]
    code = getattr(function, "__code__", None) or getattr(getattr(function, "__call__", None), "__code__", None)  # noqa: B004
    own = [frame for frame in frames if code is not None and frame.filename == code.co_filename]
    ran = own or list(frames)
    if not ran:
        return type(error).__name__
    return f"{type(error).__name__} in {Path(ran[-1].filename).name}, line {ran[-1].lineno} ({ran[-1].name})"
