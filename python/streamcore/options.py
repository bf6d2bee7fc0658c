"""Owns what a caller may say about one run, on top of the pipeline.

Before it: `Pipeline.start(...)` or the flags of `streamcore run`. After it: `assemble.py`.
Invariant: options change how a pipeline runs, never what it computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, get_args

from pydantic import ValidationError

from streamcore.config import PipelineConfig, parse_duration
from streamcore.config.durations import check_position
from streamcore.config.problems import problems_of
from streamcore.config.sources import KafkaSourceConfig, Transport
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

    transport: str | None = None
    """How records of Kafka come, for all inputs: `auto`, `native` or `librdkafka`."""

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
        if self.transport is not None:
            config = self._through(config, self.transport)
        if not given:
            return config
        try:
            checked = PipelineConfig.model_validate({"source": config.source, **given})
        except ValidationError as error:
            raise ConfigError("the run's settings are wrong", problems_of(error, given)) from error
        return config.model_copy(update={name: getattr(checked, name) for name in given})

    @staticmethod
    def _through(config: PipelineConfig, transport: str) -> PipelineConfig:
        """Every input that is a Kafka topic is read so."""
        if transport not in get_args(Transport):
            error = ValueError(f"{transport!r} is none of {', '.join(get_args(Transport))}")
            raise _problem("transport", error)
        own: dict[str | None, Any] = {
            name: source.model_copy(update={"transport": transport})
            for name, source in config.all_sources.items()
            if isinstance(source, KafkaSourceConfig)
        }
        if not own:
            raise _problem("transport", ValueError("no input is a Kafka topic"))
        others = {name: own.get(name, source) for name, source in config.sources.items()}
        return config.model_copy(update={"source": own.get(None, config.source), "sources": others})


def _problem(name: str, error: ValueError) -> ConfigError:
    return ConfigError("the run's settings are wrong", [Problem(name, str(error))])
