"""Owns the guess of types from the first records of a pipeline's source, for `streamcore check --write-schema`.

Before it: a configuration without mistakes. After it: the file gets the types.
Invariant: nothing is committed and no group is joined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamcore.config import PipelineConfig


def sample_types(config: PipelineConfig) -> dict[str, str]:
    """Types of the fields that nobody declared.

    Raises `SourceError`, or `ConfigError` where there is no record or none has a field (see `inference.py`).
    """
    from threading import Event

    from streamcore.assemble import build_input, make_plan
    from streamcore.clock import SystemClock
    from streamcore.config import describe, unkept
    from streamcore.errors import ConfigError
    from streamcore.inference import Undeclared, infer_types
    from streamcore.options import RunOptions
    from streamcore.sources.base import Start

    fields = Undeclared.of(describe(config), None)
    if not fields.paths:
        return {}
    stop = "end" if config.source.type in ("kafka", "memory") else None
    source = build_input(make_plan(unkept(config), RunOptions(stop=stop)), None, SystemClock())
    try:
        source.open(Start(stop=stop))
        types = infer_types(source, fields, Event())
        if types is not None:
            return types
        raise ConfigError(f"the source has no record to guess types from; declare {', '.join(fields.paths)} by hand")
    finally:
        source.close()
