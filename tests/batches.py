"""Real batches for tests of what comes after the engine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from streamcore import _core
from streamcore.config import PipelineConfig, engine_json

PAGE = {"page": "string", "views": "int64", "at": "timestamp"}


def result_batch(rows: Sequence[Mapping[str, Any]], types: Mapping[str, str] = PAGE) -> _core.Batch:
    """One batch of the output `result` with these columns."""
    config = PipelineConfig.model_validate(
        {
            "source": {"type": "records", "schema": dict(types)},
            "steps": [{"select": {name: name for name in types}}],
        }
    )
    engine = _core.Pipeline(engine_json(config))
    engine.assign([0])
    records = [(json.dumps(row).encode(), None, None, 0, offset) for offset, row in enumerate(rows)]
    (batch,) = engine.push(_core.Raw.from_records(0, "topic", records), 0)
    assert (batch.output, batch.num_rows) == ("result", len(rows))
    return batch


def pages(*views: int) -> _core.Batch:
    """A row for each number of views."""
    return result_batch(
        [{"page": f"p{number}", "views": count, "at": "2026-01-01T00:00:00Z"} for number, count in enumerate(views)]
    )
