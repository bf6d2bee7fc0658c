from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import streamcore as sc
from streamcore.assemble import Plan, assemble, build_dead_letters, build_sink, build_source, make_plan
from streamcore.checkpoint import Checkpoint
from streamcore.config import ParquetSinkConfig, PipelineConfig
from streamcore.errors import ConfigError, FencedError, SinkError, SourceError, StateError
from streamcore.options import RunOptions
from streamcore.outputs import Outputs
from streamcore.runner import Runner
from streamcore.testing import START_MS, ManualClock
from tests.fakes import FakeSink

RECORD = b'{"page": "home", "at": "2026-01-01T00:00:00Z"}\n'


def config(tmp_path: Path, **keys: Any) -> PipelineConfig:
    (tmp_path / "in.jsonl").write_bytes(RECORD)
    return PipelineConfig.model_validate(
        {
            "state_dir": str(tmp_path / "state"),
            "source": {
                "type": "files",
                "path": str(tmp_path / "in.jsonl"),
                "event_time": "at",
                "schema": {"page": "string"},
            },
            "steps": [{"window": "tumbling", "size": "1m", "by": "page", "aggregate": {"views": "count()"}}],
            **keys,
        }
    )


def run(plan: Plan, clock: ManualClock | None = None) -> FakeSink:
    sink = FakeSink([])
    assembled = assemble(plan, clock=clock or ManualClock(), stopping=threading.Event(), own_sinks=[sink])
    try:
        assembled.runner.run()
    finally:
        assembled.close()
    return sink


def test_a_run_goes_through_from_file_to_sink(tmp_path: Path) -> None:
    sink = run(make_plan(config(tmp_path), RunOptions()))
    assert [row["views"] for row in sink.rows] == [1]
    assert sink.log[0] == "sink open"
    assert sink.log[-1] == "sink close"


def test_a_fresh_state_has_a_generation_that_grows_with_time(tmp_path: Path) -> None:
    clock = ManualClock()
    sink = run(make_plan(config(tmp_path, name="job"), RunOptions()), clock)
    assert sink.versions[0].generation == START_MS // 1_000
    clock.advance(60_000)
    with (tmp_path / "in.jsonl").open("ab") as file:
        file.write(RECORD)
    again = run(make_plan(config_as_is(tmp_path), RunOptions()), clock)
    assert again.versions[0].generation == START_MS // 1_000
    assert again.versions[0] > sink.versions[-1]
    (tmp_path / "state").rename(tmp_path / "moved")
    fresh = run(make_plan(config_as_is(tmp_path), RunOptions()), clock)
    assert fresh.versions[0] > again.versions[-1]


def config_as_is(tmp_path: Path) -> PipelineConfig:
    kept = (tmp_path / "in.jsonl").read_bytes()
    made = config(tmp_path, name="job")
    (tmp_path / "in.jsonl").write_bytes(kept)
    return made


def test_an_ended_input_that_has_not_grown_just_ends(tmp_path: Path) -> None:
    plan = make_plan(config(tmp_path, name="job"), RunOptions())
    first, second = run(plan), run(plan)
    assert len(first.rows) == 1
    assert (second.rows, second.versions) == ([], [])


def test_a_failed_opening_lets_everything_go(tmp_path: Path) -> None:
    class Unreachable(FakeSink):
        def open(self) -> None:
            raise SinkError("nobody answers")

    plan = make_plan(config(tmp_path, name="job"), RunOptions(), sinks=[Unreachable([])])
    for _ in range(2):
        with pytest.raises(SinkError, match="nobody answers"):
            assemble(plan, clock=ManualClock(), stopping=threading.Event())
    Checkpoint(tmp_path / "state" / "job").open()


def test_the_lock_comes_first(tmp_path: Path) -> None:
    holder = Checkpoint(tmp_path / "state" / "job")
    holder.open()
    plan = make_plan(config(tmp_path, name="job"), RunOptions())
    (tmp_path / "in.jsonl").unlink()
    with pytest.raises(FencedError):
        assemble(plan, clock=ManualClock(), stopping=threading.Event())
    holder.close()
    with pytest.raises(SourceError, match="no file matches"):
        assemble(plan, clock=ManualClock(), stopping=threading.Event())


def test_mistakes_are_found_without_opening_anything(tmp_path: Path) -> None:
    wrong = config(tmp_path, delivery="exactly_once", name="job", source={"type": "memory", "topic": "t"})
    with pytest.raises(ConfigError, match="exactly_once cannot be kept: its source is Kafka") as caught:
        make_plan(wrong, RunOptions())
    assert caught.value.exit_code == 3
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ({"type": "generate"}, RunOptions(stop="end"), "this generator has no end"),
        ({"type": "memory", "topic": "t"}, RunOptions(stop="-2h"), "only a Kafka source can stop at a time"),
        ({"type": "records"}, RunOptions(for_="5"), "needs a unit"),
    ],
)
def test_options_that_the_source_cannot_follow(source: dict[str, str], options: RunOptions, message: str) -> None:
    made = PipelineConfig.model_validate({"source": source})
    with pytest.raises(ConfigError, match=message):
        _ = make_plan(made, options).options.run_for_ms


def test_what_promise_is_kept_depends_on_who_takes_the_rows(tmp_path: Path) -> None:
    named = config(tmp_path, name="job", sinks=[{"type": "parquet", "path": str(tmp_path)}])
    assert make_plan(named, RunOptions()).delivery == "effectively_once"
    assert make_plan(named, RunOptions(), appends=["run.stream()"]).delivery == "at_least_once"


def test_records_need_their_iterable() -> None:
    plan = make_plan(sc.records([]).config, RunOptions())
    with pytest.raises(ConfigError, match="needs its iterable"):
        build_source(plan, ManualClock())


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ({"type": "kafka", "topic": "t"}, "KafkaSource"),
        ({"type": "files", "path": "*.jsonl"}, "FilesSource"),
        ({"type": "generate"}, "GeneratorSource"),
        ({"type": "memory", "topic": "t"}, "MemorySource"),
    ],
)
def test_each_source_is_built(source: dict[str, str], kind: str) -> None:
    plan = make_plan(PipelineConfig.model_validate({"source": source}), RunOptions())
    assert type(build_source(plan, ManualClock())).__name__ == kind


@pytest.mark.parametrize(
    ("sink", "kind"),
    [
        ({"type": "parquet", "path": "out"}, "ParquetSink"),
        ({"type": "console", "format": "jsonl"}, "JsonLinesSink"),
        ({"type": "memory", "topic": "t"}, "MemorySink"),
        ({"type": "kafka", "topic": "t"}, "KafkaSink"),
        ({"type": "redis", "key_template": "{page}", "url": "redis://localhost"}, "RedisSink"),
    ],
)
def test_each_sink_is_built(tmp_path: Path, sink: dict[str, str], kind: str) -> None:
    made = config(tmp_path, sinks=[sink])
    assert type(build_sink(made, made.sinks[0])).__name__ == kind


def test_refused_records_of_a_named_run_are_kept(tmp_path: Path) -> None:
    plan = make_plan(config(tmp_path, name="job"), RunOptions())
    (tmp_path / "in.jsonl").write_bytes(b"garbage\n" + RECORD)
    run(plan)
    assert b"garbage" in (tmp_path / "state" / "job" / "dead-letters.jsonl").read_bytes()


def test_refused_records_of_an_ephemeral_run_are_counted() -> None:
    made = sc.records([]).config
    assert build_dead_letters(made) is None
    assert build_dead_letters(made.model_copy(update={"dead_letters": None})) is None


def test_files_of_a_crash_are_published_at_the_next_start(tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = config(tmp_path, name="job", sinks=[ParquetSinkConfig(path=str(out))])

    class Crash(FakeSink):
        def committed(self, epoch: int) -> None:
            raise SystemError("the power went")

    # Sinks are told in their order: this one breaks off before the Parquet sink has published.
    assembled = assemble(make_plan(made, RunOptions()), clock=ManualClock(), stopping=threading.Event())
    assert isinstance(assembled.runner, Runner)
    outputs = assembled.runner._outputs
    assert isinstance(outputs, Outputs)
    outputs._sinks = [Crash([]), *outputs._sinks]
    with pytest.raises(SystemError):
        assembled.runner.run()
    assembled.close()
    assert [path.name[0] for path in out.iterdir()] == ["."]
    run(make_plan(made, RunOptions()))
    [published] = out.iterdir()
    assert published.name.startswith("job-result-g")
    published.unlink()
    with pytest.raises(StateError, match=published.name):
        assemble(make_plan(made, RunOptions()), clock=ManualClock(), stopping=threading.Event())
