"""Owns how one pipeline becomes an input of another: its source, its steps, its connection.

Before it: the builder's `.join`. After it: a configuration with `[sources.NAME]`.
Invariant: nothing of the other pipeline is lost silently: what an input cannot have is a `ConfigError`.
"""

from __future__ import annotations

from typing import Any

from streamcore.config.connections import KafkaConnection
from streamcore.config.models import PipelineConfig
from streamcore.errors import ConfigError

INPUT_NAME = "right"
"""What the other input is called where no name is given."""


def with_input(config: PipelineConfig, other: PipelineConfig, *, name: str | None, table: bool) -> dict[str, Any]:
    """What changes in `config` when `other` becomes its input `name`. Raises `ConfigError`."""
    name = name or other.name or INPUT_NAME
    if name in config.sources:
        raise ConfigError(f'there is an input called "{name}" already; give this one another name')
    if other.sinks or other.dead_letters is not None or other.sources or other.tests:
        raise ConfigError(
            "a pipeline that is joined has a source and steps alone; its sinks, dead letters, tests and joins belong to "
            "the pipeline that joins it"
        )
    source = other.source.model_dump(exclude_unset=True)
    source |= {"type": other.source.type, "table": table, "steps": other.steps}
    connections = {**other.connections, **config.connections}
    if other.source.type == "kafka" and other.source.connection is None and other.kafka != config.kafka:
        own = _name_of(connections, other.kafka)
        connections[own] = other.kafka
        source["connection"] = own
    return {"sources": {**config.sources, name: source}, "connections": connections}


def _name_of(connections: dict[str, Any], connection: KafkaConnection) -> str:
    known = next((name for name, other in connections.items() if other == connection), None)
    free = (name for index in range(len(connections) + 1) if (name := f"kafka_{index + 1}") not in connections)
    return known or next(free)
