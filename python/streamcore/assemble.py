"""Owns the building of a run: from a configuration to an opened source, engine, sinks and checkpoint.

Before it: a pipeline and the options of one run. After it: `runner.py` loops over what is opened here.
Invariant: whatever fails on the way, everything opened so far is closed again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from streamcore import _core
from streamcore.checkpoint import Checkpoint, Header, Saved, check_fit, state_folder
from streamcore.clock import Clock
from streamcore.commit import Committer
from streamcore.config import (
    DeadLettersConfig,
    FilesSourceConfig,
    GenerateSourceConfig,
    KafkaSinkConfig,
    KafkaSourceConfig,
    MemorySinkConfig,
    MemorySourceConfig,
    ParquetSinkConfig,
    PipelineConfig,
    RedisSinkConfig,
    SinkConfig,
    WebhookSinkConfig,
    check,
    choose_delivery,
    describe,
    engine_json,
    in_transactions,
    kafka_connection,
    problems_error,
    sink_mode,
)
from streamcore.config.environment import fill_from_environment
from streamcore.errors import ConfigError, StateError
from streamcore.functions import functions_of
from streamcore.inference import FirstLook, Undeclared, describe_types, infer_types, with_types
from streamcore.options import RunOptions
from streamcore.outputs import Outputs
from streamcore.phase_runner import PhasesRunner
from streamcore.report import Report
from streamcore.runner import Pace, Runner
from streamcore.sinks.base import Gatherer, Sink
from streamcore.sources.base import Source, Start

if TYPE_CHECKING:
    from streamcore.assemble_exactly_once import OpenPhase
    from streamcore.dead_letters import DeadLetter, FileDeadLetters, KafkaDeadLetters


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked pipeline with the options of one run applied: everything that can be known without connecting."""

    config: PipelineConfig
    options: RunOptions
    delivery: str
    description: dict[str, Any]
    """What the engine says about it (see `_core.describe`)."""
    records: Mapping[str | None, Iterable[Any]] = field(default_factory=dict)
    """Of `sc.records`: by the name of the input, the pipeline's own under None."""
    sinks: tuple[Sink, ...] = ()
    """Sinks that are not in the configuration."""

    @property
    def keys(self) -> list[str]:
        """Columns that tell result rows of windows apart."""
        window = self.config.window
        bounds = ["window_start", "window_end"]
        return [*window.by, *bounds] if window is not None else []


@dataclass(slots=True)
class Assembled:
    """An opened run. `close` lets go of everything, also after a failure."""

    runner: Runner | PhasesRunner
    notes: list[str]
    """What a person should know at the start."""
    closing: ExitStack = field(repr=False)

    def close(self) -> None:
        """Closes outputs, source and checkpoint, in this order."""
        self.closing.close()


def make_plan(
    config: PipelineConfig,
    options: RunOptions,
    *,
    records: Mapping[str | None, Iterable[Any]] | None = None,
    sinks: Sequence[Sink] = (),
    appends: Sequence[str] = (),
) -> Plan:
    """Checks everything that needs no connection. Raises `ConfigError` with all mistakes.

    `appends` names takers of rows that are not in the configuration and cannot replace a row they got before.
    """
    options.check()
    config = options.applied_to(fill_from_environment(config, os.environ))
    problems = check(config)
    if problems:
        raise problems_error(problems)
    delivery = choose_delivery(config, appends=appends)
    if options.keep_seat and not (delivery == "exactly_once" and in_transactions(config)):
        raise ConfigError(
            f'--keep-seat is for workers that share a topic, with delivery = "exactly_once" from Kafka; this run is {delivery}'
        )
    for source in config.all_sources.values():
        if isinstance(source, GenerateSourceConfig) and options.stop and source.count is None:
            raise ConfigError('stop = "end": this generator has no end; give it a count, or use --for')
        if not isinstance(source, KafkaSourceConfig) and options.stop not in (None, "end"):
            raise ConfigError(f'stop = "{options.stop}": only a Kafka source can stop at a time')
    return Plan(config, options, delivery, describe(config), records or {}, tuple(sinks))


def assemble(plan: Plan, *, clock: Clock, stopping: Event, own_sinks: Sequence[Sink] = ()) -> Assembled:
    """Opens everything, in the order: checkpoint, source, engine, sinks. `own_sinks` are the run's own.

    Raises `FencedError`, `StateError`, `SourceError`, `SinkError`, `ConfigError`.
    """
    if plan.delivery == "exactly_once" and in_transactions(plan.config):
        return _assemble_exactly_once(plan, clock, stopping)
    with ExitStack() as stack:
        config = plan.config
        if config.name and any(isinstance(source, KafkaSourceConfig) for source in config.all_sources.values()):
            from streamcore.assemble_exactly_once import refuse_committed_state

            refuse_committed_state(plan)
        checkpoint, saved = _open_checkpoint(plan, stack)
        dead_letters = build_dead_letters(config)
        sinks = [*(build_sink(config, sink, dead_letters) for sink in config.sinks), *plan.sinks, *own_sinks]
        left_records_leave = dead_letters is not None or any(sink.output != "result" for sink in sinks)
        source = build_source(plan, clock, whole_records=left_records_leave)
        stack.callback(source.close)
        lanes = source.open(_start(plan, saved))
        _check_alike(config, source)
        where = ", on this machine" if plan.delivery == "exactly_once" else ""
        notes = [
            f"delivery: {plan.delivery}{where}"
            if config.name
            else "without a name nothing is kept: started again, it begins anew"
        ]
        if saved is None:
            notes += _notes_on_earlier_files(config, sinks)
        else:
            _refuse_later_files(config, sinks, saved)
        for name, of_input in _by_name(source).items():
            fields = Undeclared.of(plan.description, name)
            if fields.paths:
                types = infer_types(of_input, fields, stopping)
                notes.append(describe_types(types, fields.table))
                config = with_types(config, name, types or fields.as_text())
        engine, origin = _engine(config, source, lanes, saved, clock)
        outputs = Outputs(sinks, dead_letters, generation=origin.generation)
        stack.callback(outputs.close)
        outputs.open(origin.files, origin.letters)
        committer = Committer(engine=engine, source=source, outputs=outputs, checkpoint=checkpoint, origin=origin)
        runner = Runner(
            engine=engine,
            source=source,
            outputs=outputs,
            committer=committer,
            clock=clock,
            pace=_pace(config, plan.options),
            observe_rejected=_breaker(config),
            report=Report(name=config.name, delivery=plan.delivery, inputs={name: {} for name in _names(config)}),
            stopping=stopping,
            look_at=FirstLook(_assumed(plan), list(config.all_sources)),
        )
        return Assembled(runner, notes, stack.pop_all())


def _assemble_exactly_once(plan: Plan, clock: Clock, stopping: Event) -> Assembled:
    from streamcore.assemble_exactly_once import Parts

    with ExitStack() as stack:
        parts = Parts(plan, clock, stopping, stack, state_folder_of(plan.config))
        pace = _pace(parts.config, plan.options)
        partial = _phase_runner(
            parts.phases[0],
            plan,
            clock=clock,
            stopping=stopping,
            pace=pace,
            observe_rejected=_breaker(parts.config),
            look_at=FirstLook(_assumed(plan), list(plan.config.all_sources)),
        )
        if len(parts.phases) == 1:
            return Assembled(partial, parts.notes, stack.pop_all())
        final_stopping = Event()
        final = _phase_runner(
            parts.phases[1],
            plan,
            clock=clock,
            stopping=final_stopping,
            pace=replace(pace, run_for_ms=None),
            # What is refused here is no record but a row, of which no rate is kept.
            observe_rejected=lambda _, __: None,
            look_at=None,
        )
        runner = PhasesRunner(
            partial, final, stopping=stopping, final_stopping=final_stopping, over=parts.partials_are_over
        )
        return Assembled(runner, parts.notes, stack.pop_all())


def _phase_runner(
    phase: OpenPhase,
    plan: Plan,
    *,
    clock: Clock,
    stopping: Event,
    pace: Pace,
    observe_rejected: Callable[[int, int], None],
    look_at: FirstLook | None,
) -> Runner:
    return Runner(
        engine=phase.engine,
        source=phase.source,
        outputs=phase.outputs,
        committer=phase.epochs,
        clock=clock,
        pace=pace,
        observe_rejected=observe_rejected,
        report=Report(
            name=plan.config.name,
            delivery=plan.delivery,
            inputs={name: {} for name in _names(plan.config)},
            cache=phase.states.counts,
        ),
        stopping=stopping,
        look_at=look_at,
    )


def build_source(plan: Plan, clock: Clock, *, whole_records: bool = False) -> Source:
    """The source of a configuration, not yet opened, or all of them as one.

    `whole_records`: with keys and headers, needed or not.
    """
    if not plan.config.sources:
        return build_input(plan, None, clock, whole_records=whole_records)
    from streamcore.sources.inputs import Input, InputsSource

    return InputsSource(
        [
            Input(
                name=name or "",
                source=build_input(plan, name, clock, whole_records=whole_records),
                start=_default_start(plan, name),
                is_table=plan.config.is_table(name),
                must_be_polled=isinstance(source, KafkaSourceConfig),
            )
            for name, source in plan.config.all_sources.items()
        ]
    )


def build_input(plan: Plan, name: str | None, clock: Clock, *, whole_records: bool = False) -> Source:
    """The source of one input, not yet opened; None: the pipeline's own."""
    config, options, source = plan.config, plan.options, plan.config.all_sources[name]
    needs = plan.description["inputs"].get(name, {}) if name is not None else plan.description
    record_bytes_max = config.limits.max_record_bytes
    if isinstance(source, KafkaSourceConfig):
        from streamcore.sources.kafka import KafkaSource

        return KafkaSource(
            kafka_connection(config, source.connection),
            source,
            group=_group(config, name, source),
            stop=options.stop,
            keys=whole_records or needs.get("needs_keys", False),
            headers=whole_records or needs.get("needs_headers", False),
            instance_id=config.instance_id,
            record_bytes_max=record_bytes_max,
            accept_gap=options.accept_gap,
        )
    if isinstance(source, FilesSourceConfig):
        from streamcore.sources.files import FilesSource

        return FilesSource(source, record_bytes_max=record_bytes_max, reads_on=config.name is not None)
    if isinstance(source, GenerateSourceConfig):
        from streamcore.sources.generator import GeneratorSource

        return GeneratorSource(source, clock)
    if isinstance(source, MemorySourceConfig):
        from streamcore.memory_log import default_log
        from streamcore.sources.memory import MemorySource

        return MemorySource(source, default_log, stop=options.stop, record_bytes_max=record_bytes_max)
    from streamcore.sources.iterable import RecordsSource

    if name not in plan.records:
        raise ConfigError('a source of type "records" needs its iterable; build the pipeline with sc.records(iterable)')
    return RecordsSource(plan.records[name], record_bytes_max=record_bytes_max)


def _group(config: PipelineConfig, name: str | None, source: KafkaSourceConfig) -> str | None:
    """A group an input: each takes all partitions of its topic, and none disturbs the others when it joins."""
    if config.name is None:
        return None
    return source.group_id or (config.name if name is None else f"{config.name}.{name}")


def _check_alike(config: PipelineConfig, source: Source) -> None:
    """Raises `ConfigError` where partitions are joined by themselves, and an input has others."""
    from streamcore.sources.inputs import InputsSource

    if config.combine == "none" and isinstance(source, InputsSource):
        source.check_sizes()


def _by_name(source: Source) -> dict[str | None, Source]:
    from streamcore.sources.inputs import InputsSource

    if not isinstance(source, InputsSource):
        return {None: source}
    return {each.name or None: each.source for each in source.inputs}


def _names(config: PipelineConfig) -> list[str]:
    return ["", *config.sources] if config.sources else []


def build_sink(
    config: PipelineConfig, sink: SinkConfig, letters: KafkaDeadLetters | FileDeadLetters | None = None
) -> Sink:
    """The sink of one `[[sinks]]` table, not yet opened; `letters` take rows that a server refuses."""
    if isinstance(sink, WebhookSinkConfig):
        from streamcore.sinks.webhook import WebhookSink

        return WebhookSink(sink, pipeline=config.name or "ephemeral", refuse=letters.add if letters else _forget)
    if isinstance(sink, KafkaSinkConfig):
        from streamcore.sinks.kafka import KafkaSink

        return KafkaSink(kafka_connection(config, sink.connection), sink, pipeline=config, mode=sink_mode(config, sink))
    if isinstance(sink, RedisSinkConfig):
        from streamcore.sinks.redis import RedisSink

        return RedisSink(sink, pipeline=config)
    if isinstance(sink, ParquetSinkConfig):
        from streamcore.sinks.parquet import ParquetSink

        return ParquetSink(sink, pipeline=config.name)
    if isinstance(sink, MemorySinkConfig):
        from streamcore.memory_log import default_log
        from streamcore.sinks.memory import MemorySink

        return MemorySink(sink, default_log)
    from streamcore.sinks.console import console_sink

    return console_sink(sink)


def _forget(letter: DeadLetter) -> None:
    """An ephemeral run keeps no dead letters; the log has told of the row."""


def build_dead_letters(config: PipelineConfig) -> KafkaDeadLetters | FileDeadLetters | None:
    """Where refused records go; an ephemeral run that says nothing only counts them."""
    settings = config.dead_letters
    if settings is None:
        if config.name is None:
            return None
        settings = default_dead_letters(config)
    from streamcore.dead_letters import open_dead_letters

    return open_dead_letters(config, settings)


def default_dead_letters(config: PipelineConfig) -> DeadLettersConfig:
    """For a named run that says nothing: the topic `<name>.dead-letters` beside a topic, else a file in its folder."""
    if isinstance(config.source, KafkaSourceConfig):
        return DeadLettersConfig()
    return DeadLettersConfig(path=str(state_folder_of(config) / "dead-letters.jsonl"))


def state_folder_of(config: PipelineConfig) -> Path:
    """Where a named pipeline keeps its state."""
    return state_folder(config.state_dir, config.name or "", os.environ)


def _open_checkpoint(plan: Plan, stack: ExitStack) -> tuple[Checkpoint | None, Saved | None]:
    if plan.config.name is None:
        return None, None
    checkpoint = Checkpoint(state_folder_of(plan.config))
    stack.callback(checkpoint.close)
    checkpoint.open()
    saved = checkpoint.read(pipeline=plan.config.name)
    if saved is not None and plan.options.start is not None:
        raise StateError(
            f"{checkpoint.path} says where to go on, so start = {plan.options.start!r} cannot hold; leave start out, "
            "or give the run another name to read the data again"
        )
    return checkpoint, saved


def _assumed(plan: Plan) -> dict[int, list[str]]:
    """By input: fields whose types are neither declared nor inferred; they follow from what is done with them."""
    assumed = {}
    for number, (name, source) in enumerate(plan.config.all_sources.items()):
        needs = plan.description if name is None else plan.description["inputs"].get(name, {})
        known = {*source.types, *Undeclared.of(plan.description, name).paths}
        assumed[number] = [path for path, _ in needs.get("fields", ()) if path not in known]
    return assumed


def _notes_on_earlier_files(config: PipelineConfig, sinks: Sequence[Sink]) -> list[str]:
    """What a run that begins anew finds in the folders it writes to.

    Raises `StateError` for files of a pipeline with a name: rows of a run whose state is gone would lie beside the same
    rows of this one, and a reader could not tell them apart.
    """
    notes = []
    for sink in sinks:
        if not isinstance(sink, Gatherer) or not (files := sink.earlier_files()):
            continue
        found = f"{sink.folder} holds {len(files):,} {'file' if len(files) == 1 else 'files'}"
        if config.name is not None:
            raise StateError(
                f"{found} of an earlier run of {config.name} (the first is {files[0]}), and there is no state in "
                f"{state_folder_of(config)} to go on from: its rows and those of this run would lie side by side; move "
                "or empty the folder, bring the state back, or give the sink another path"
            )
        notes.append(f"{found} already; the rows of this run go beside theirs")
    return notes


def _refuse_later_files(config: PipelineConfig, sinks: Sequence[Sink], saved: Saved) -> None:
    """Raises `StateError` for files of later epochs than the state is of: an older state was put back.

    A crash leaves none: files get their names after the checkpoint of their epoch is written. This run would write their
    rows once more.
    """
    reached = (saved.header.generation, saved.header.epoch)
    for sink in sinks:
        if isinstance(sink, Gatherer) and (files := sink.earlier_files(after=reached)):
            raise StateError(
                f"{sink.folder} holds {len(files):,} {'file' if len(files) == 1 else 'files'} of {config.name} (the first "
                f"is {files[0]}) that came after the state in {state_folder_of(config)}, which is of epoch {reached[1]}: "
                "this run would write their rows once more; move them away, or bring the newer state back"
            )


def _start(plan: Plan, saved: Saved | None) -> Start:
    return Start(
        positions=saved.header.positions if saved is not None else {},
        default=_default_start(plan, None),
        stop=plan.options.stop,
        previous=saved.header.source if saved is not None else {},
    )


def _default_start(plan: Plan, name: str | None) -> str:
    """Where lanes begin; a table is read from its beginning."""
    source = plan.config.all_sources[name]
    if plan.config.is_table(name):
        return "earliest"
    return plan.options.start or (source.start if isinstance(source, KafkaSourceConfig) else "earliest")


def _engine(
    config: PipelineConfig, source: Source, lanes: Sequence[int], saved: Saved | None, clock: Clock
) -> tuple[_core.Pipeline, Header]:
    engine = _core.Pipeline(engine_json(config), functions_of(config))
    if saved is None:
        engine.assign(lanes)
        generation = clock.wall_ms() // 1_000
        return engine, Header(config.name or "", engine.fingerprint, generation, epoch=0, digest=0, positions={})
    check_fit(
        saved.header, state_folder_of(config), fingerprint=engine.fingerprint, source=source.describe(), lanes=lanes
    )
    engine.restore(saved.lanes)
    engine.assign([lane for lane in lanes if lane not in saved.header.positions])
    return engine, saved.header


def _pace(config: PipelineConfig, options: RunOptions) -> Pace:
    return Pace(
        commit_interval_ms=config.commit_interval,
        run_for_ms=options.run_for_ms,
        pauses_lanes=any(source.out_of_orderness_ms is not None for source in config.all_sources.values()),
    )


def _breaker(config: PipelineConfig) -> Callable[[int, int], None]:
    from streamcore.dead_letters import ErrorRate

    settings = config.dead_letters or DeadLettersConfig()
    return ErrorRate(settings.error_rate_max, settings.error_rate_window).count
