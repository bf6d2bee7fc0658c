"""The Redis sink as far as it goes without a server."""

from __future__ import annotations

from typing import Any

import pytest

from streamcore.config import PipelineConfig, RedisSinkConfig
from streamcore.errors import ConfigError
from streamcore.sinks.base import Version
from streamcore.sinks.redis import RedisSink
from tests.batches import pages


@pytest.mark.parametrize(
    ("keys", "missing"),
    [
        ({"key_template": "p:{pgae}"}, "pgae"),
        ({"key_template": "p:{page}", "value": "veiws"}, "veiws"),
        ({"key_template": "p:{page}", "columns": ["page", "veiws"]}, "veiws"),
        ({"key_template": "{page}:{page}", "columns": ["page"], "value": "views"}, None),
    ],
)
def test_a_column_that_is_not_there_is_named(keys: dict[str, Any], missing: str | None) -> None:
    table = {"type": "redis", "url": "redis://h", **keys}
    pipeline = PipelineConfig.model_validate({"source": {"type": "generate"}, "sinks": [table]})
    (config,) = pipeline.sinks
    assert isinstance(config, RedisSinkConfig)
    sink = RedisSink(config, pipeline=pipeline)
    if missing is None:
        sink.write(pages(1), Version(1, 1, 0))
        return
    with pytest.raises(ConfigError, match=f'no column "{missing}"'):
        sink.write(pages(1), Version(1, 1, 0))
