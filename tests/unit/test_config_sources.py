"""The clock of a source."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from streamcore.config.sources import FilesSourceConfig, GenerateSourceConfig, KafkaSourceConfig


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (KafkaSourceConfig(topic="t"), 5_000),
        (GenerateSourceConfig(), 5_000),
        (FilesSourceConfig(path="x"), None),
        (FilesSourceConfig.model_validate({"path": "x", "out_of_orderness": "2s"}), 2_000),
        (KafkaSourceConfig.model_validate({"topic": "t", "out_of_orderness": "unbounded"}), None),
        (KafkaSourceConfig.model_validate({"topic": "t", "out_of_orderness": timedelta(minutes=1)}), 60_000),
    ],
)
def test_disorder_is_bounded_where_the_input_has_no_end(source: Any, expected: int | None) -> None:
    assert source.out_of_orderness_ms == expected
