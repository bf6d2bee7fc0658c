"""Owns the whole pipeline description: the one model behind the pipeline file and the Python builder.

Before it: `loading.py` (from a file) or `pipeline.py` (from Python). After it: `engine.py` makes the engine's JSON of it,
`assemble.py` builds sources and sinks from it.
Invariant: equal configurations mean the same run; nothing in here is read from the environment.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from streamcore.config.base import Model, setting
from streamcore.config.connections import Connection, KafkaConnection
from streamcore.config.durations import PositiveDuration, format_instant, parse_instant
from streamcore.config.inputs import InputConfig
from streamcore.config.sinks import DeadLettersConfig, SinkConfig
from streamcore.config.sources import SourceConfig
from streamcore.config.steps import JoinStep, MapBatchesStep, SelectStep, StepConfig, WindowStep

Delivery = Literal["exactly_once", "effectively_once", "at_least_once"]
Combine = Literal["auto", "local", "topic", "none"]


def _not_spill(value: Any) -> Any:
    if value == "spill":
        raise ValueError(
            '"spill" to disk is not built; "stop" ends the run at the bound, "shed" goes on without new keys'
        )
    return value


OnFull = Annotated[Literal["stop", "shed"], BeforeValidator(_not_spill)]


class LimitsConfig(Model):
    """Bounds on what a pipeline may use."""

    max_record_bytes: int = setting(
        16 << 20,
        "Largest record value; a larger one is a dead letter that keeps its beginning.",
        unit="bytes",
        ge=1,
        le=1 << 30,
    )
    max_key_bytes: int = setting(
        4096,
        "Longest group key, with a byte for each of its columns, 65,536 at most; a record with a longer one is a dead letter.",
        unit="bytes",
        ge=1,
        le=1 << 16,
    )
    max_depth: int = setting(
        64, "Deepest nesting of a record; a deeper one is a dead letter.", unit="levels", ge=1, le=128
    )
    max_state_bytes: int = setting(
        4 << 30,
        "Most memory for windows, joins and ids: of all lanes together, with `shed` of each.",
        unit="bytes",
        ge=1,
    )
    max_keys: int | None = setting(
        None,
        "Most keys in the windows of a step (a key counts in each window, a session once), and rows in a join, likewise; "
        "unset: no bound.",
        unit="keys",
        ge=1,
    )
    on_full: OnFull = setting(
        "stop",
        "At either bound: `stop` ends the run (exit code 6) with all polls before committed; `shed` makes records that "
        "would add a key, or a row to a join, dead letters `STATE_FULL` (of rows behind a window they count under "
        "`report.stages`), and those of keys already there count.",
    )
    threads: int = setting(0, "Threads the engine uses; 0: as many as the machine has.", unit="threads", ge=0, le=1024)


def _plain(value: Any) -> Any:
    """TOML's own times become the text a record would carry."""
    if isinstance(value, datetime):
        return format_instant(parse_instant(value))
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


Rows = Annotated[tuple[dict[str, Any], ...], BeforeValidator(_plain)]


class TestConfig(Model):
    """A test of the pipeline, run by `streamcore test`; only the columns given are compared."""

    __test__ = False  # pytest would collect it by its name

    name: str = setting(..., "What is tested.", min_length=1)
    input: Rows = setting(..., "Records, in order.")
    inputs: dict[str, Rows] = setting({}, "Records of other inputs, by name; they come before those of `input`.")
    expect: Rows | None = setting(None, "Result rows.")
    expect_late: Rows | None = setting(None, "Rows of the output `late`.")
    expect_rejected: Rows | None = setting(None, "Rows of the output `rejected`.")
    ledger: dict[str, int] = setting({}, "Counts that must come out, as `{ duplicate = 1 }`.")


class PipelineConfig(Model):
    """A pipeline: a source, others that are joined, steps, sinks."""

    name: str | None = setting(
        None,
        "Names the consumer group and the state. Without it a run is ephemeral: nothing is committed.",
        max_length=100,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
    )
    delivery: Delivery | None = setting(None, "Unset: the strongest that source and sinks allow, printed at start.")
    commit_interval: PositiveDuration = setting(1_000, "How often results, state and positions are made durable.")
    combine: Combine = setting(
        "auto",
        "How the windows of several lanes meet: `auto` merges them unless the group key is the record key, under `exactly_once` "
        "from Kafka through a topic, which workers share, otherwise in one process (`local`). `none` says that they need not, "
        "and of a join that each partition of its topics is joined by itself.",
    )
    combine_partitions: int | None = setting(
        None,
        "Partitions of the topic through which windows meet, as many as workers that may merge; they are fixed when it is made. "
        "Unset: as many as the input has.",
        unit="partitions",
        ge=1,
        le=1_000,
    )
    auto_create_topics: bool = setting(
        True, "Create missing topics of sinks and dead letters where the rights allow; a run never creates its input."
    )
    state_dir: str | None = setting(
        None, "Folder of checkpoints; unset: `.streamcore`. Environment: `STREAMCORE_STATE_DIR`.", min_length=1
    )
    state_cache: bool = setting(
        True,
        "Keep a copy of the state in `state_dir` under `exactly_once`, so that a worker that starts again reads little of the "
        "state's topic. It may be deleted at any time.",
    )
    instance_id: str | None = setting(None, "Names this worker. Environment: `STREAMCORE_INSTANCE_ID`.", min_length=1)
    kafka: KafkaConnection = setting(KafkaConnection(), "The Kafka cluster that is used where no other is named.")
    connections: dict[str, Connection] = setting({}, "Other servers, by name.")
    source: SourceConfig = setting(..., "Where records come from.")
    sources: dict[str, InputConfig] = setting({}, "Other inputs by name, which a join step names.")
    steps: tuple[StepConfig, ...] = setting((), "What happens to them, in this order.")
    sinks: tuple[SinkConfig, ...] = setting((), "Where rows go.")
    dead_letters: DeadLettersConfig | None = setting(None, "Where refused records go.")
    limits: LimitsConfig = setting(LimitsConfig(), "Bounds.")
    tests: tuple[TestConfig, ...] = setting((), "Tests of the pipeline.")

    @property
    def all_sources(self) -> dict[str | None, SourceConfig]:
        """The pipeline's own source, under None, and those of other inputs by name."""
        sources: dict[str | None, SourceConfig] = {None: self.source}
        sources.update(self.sources.items())
        return sources

    def is_table(self, name: str | None) -> bool:
        """Whether the input of this name is a table; None is the pipeline's own."""
        return name is not None and self.sources[name].table

    @property
    def window(self) -> WindowStep | None:
        """The window whose rows are the result, where no later step made others of them."""
        makers = (WindowStep, SelectStep, MapBatchesStep, JoinStep)
        last = next((step for step in reversed(self.steps) if isinstance(step, makers)), None)
        return last if isinstance(last, WindowStep) else None
