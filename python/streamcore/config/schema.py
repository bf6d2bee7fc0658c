"""Owns the JSON Schema of a pipeline file, for editors and for the reference page.

Before it: the models. After it: `streamcore config schema`, `reference.py`.
Invariant: what the schema accepts has the shape the models accept; what expressions mean is the engine's to say.
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from streamcore.config.durations import format_duration
from streamcore.config.models import PipelineConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_TAGS = ("type", "window")


class _Generator(GenerateJsonSchema):
    """TOML has no null, and titles only repeat the keys."""

    def nullable_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False


def json_schema() -> dict[str, Any]:
    """The schema of a whole pipeline file, draft 2020-12."""
    schema = PipelineConfig.model_json_schema(schema_generator=_Generator)
    definitions = {name: _tidy(name, definition) for name, definition in schema.pop("$defs").items()}
    # Records are handed over in Python: a file cannot hold them.
    del definitions["RecordsSourceConfig"]
    _tidy("", schema)
    source = schema["properties"]["source"]
    source["oneOf"] = [choice for choice in source["oneOf"] if not choice["$ref"].endswith("/RecordsSourceConfig")]
    source.pop("discriminator")
    del definitions["RecordsInputConfig"]
    other = schema["properties"]["sources"]["additionalProperties"]
    other["oneOf"] = [choice for choice in other["oneOf"] if not choice["$ref"].endswith("/RecordsInputConfig")]
    other.pop("discriminator")
    return {"$schema": DIALECT, "title": "streamcore pipeline", **schema, "$defs": definitions}


def _tidy(name: str, definition: dict[str, Any]) -> dict[str, Any]:
    definition.pop("title", None)
    properties = definition.get("properties", {})
    for key, value in properties.items():
        if isinstance(value.get("default"), int) and value.get("type") == "string":
            value["default"] = format_duration(value["default"])
        if value.get("default", "") is None or "$ref" in value:
            value.pop("default", None)
        if key in _TAGS and "const" in value and name != "KafkaConnection":
            definition["required"] = [*definition.get("required", []), key]
    return definition
