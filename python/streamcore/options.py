"""Owns what a caller may say about one run, on top of the pipeline.

Before it: `Pipeline.start(...)` or the flags of `streamcore run`. After it: `assemble.py`.
Invariant: options change how a pipeline runs, never what it computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from streamcore.config import PipelineConfig, parse_duration
from streamcore.config.durations import check_position
from streamcore.config.problems import problems_of
from streamcore.errors import ConfigError, Problem
from streamcore.status import parse_address


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Settings of one run; None leaves what the pipeline says."""

    name: str | None = None
    delivery: str | None = None
    commit_interval: str | timedelta | None = None
    combine: str | None = None
    instance_id: str | None = None
    start: str | None = None
    """Where to begin without a checkpoint: `earliest`, `latest`, an ISO time, or `-2h`."""
    stop: str | None = None
    """`end`, or a time; unset: the run goes on for ever where the input does."""
    for_: str | timedelta | None = None
    """Wall time to run."""
    listen: str | None = None
    """Where the status is served over HTTP, as `127.0.0.1:8080`; this machine alone may ask."""

    accept_gap: bool = False
    """Whether to go on without records that retention deleted before they were read."""

    old_ends: Mapping[int, int] | None = None
    """Of a topic that grew: the partitions that it had, each with the offset up to which alone it is to be read."""

    keep_seat: bool = False
    """Whether partitions wait for this worker while it restarts, for as long as its session lasts."""

    @property
    def run_for_ms(self) -> int | None:
        """`for_` in milliseconds. Raises `ConfigError`."""
        if self.for_ is None:
            return None
        try:
            return parse_duration(self.for_)
        except ValueError as error:
            raise _problem("for", error) from error

    def check(self) -> None:
        """Raises `ConfigError` when `for_` is no duration, `listen` no address, `start` or `stop` no place in a log."""
        _ = self.run_for_ms
        if self.listen is not None:
            parse_address(self.listen)
        for name, value in (("start", self.start), ("stop", self.stop)):
            try:
                if value is not None:
                    check_position(value)
            except ValueError as error:
                raise _problem(name, error) from error
        if self.start == "end" or self.stop in ("earliest", "latest"):
            raise ConfigError('start is "earliest", "latest" or a time; stop is "end" or a time')

    def applied_to(self, config: PipelineConfig) -> PipelineConfig:
        """The configuration with these settings. Raises `ConfigError`."""
        given: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("name", "delivery", "commit_interval", "combine", "instance_id")
            if getattr(self, name) is not None
        }
        if not given:
            return config
        try:
            checked = PipelineConfig.model_validate({"source": config.source, **given})
        except ValidationError as error:
            raise ConfigError("the run's settings are wrong", problems_of(error, given)) from error
        return config.model_copy(update={name: getattr(checked, name) for name in given})


def _problem(name: str, error: ValueError) -> ConfigError:
    return ConfigError("the run's settings are wrong", [Problem(name, str(error))])
