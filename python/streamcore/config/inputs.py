"""Owns `[sources.NAME]`: inputs beside the pipeline's own, which a join names.

Before it: sources and steps. After it: `models.py`, and the sources that are opened for them.
Invariant: whatever `[source]` can be, another input can be.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streamcore.config.base import Model, setting
from streamcore.config.sources import (
    FilesSourceConfig,
    GenerateSourceConfig,
    KafkaSourceConfig,
    MemorySourceConfig,
    RecordsSourceConfig,
)
from streamcore.config.steps import StepConfig


class InputBase(Model):
    """An input beside `[source]`: the keys there, and these."""

    table: bool = setting(
        False,
        "Its rows are those of a table: one replaces the one before of its key, and it is read to its end before anything "
        "is joined.",
    )
    steps: tuple[StepConfig, ...] = setting((), "What happens to its records before the join: no `window`, no `join`.")


class KafkaInputConfig(InputBase, KafkaSourceConfig):
    """A Kafka topic."""


class FilesInputConfig(InputBase, FilesSourceConfig):
    """Files of records."""


class GenerateInputConfig(InputBase, GenerateSourceConfig):
    """Events made up from a seed."""


class RecordsInputConfig(InputBase, RecordsSourceConfig):
    """An iterable."""


class MemoryInputConfig(InputBase, MemorySourceConfig):
    """A topic of the in-process log."""


InputConfig = Annotated[
    KafkaInputConfig | FilesInputConfig | GenerateInputConfig | RecordsInputConfig | MemoryInputConfig,
    Field(discriminator="type"),
]
