"""Owns how a command runs a pipeline: rows to standard output, progress to standard error, an exit code.

Before it: `run.py` and `demo.py` of this folder. After it: `streamcore.run.start`.
Invariant: the report comes last, also when the run fails.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamcore.pipeline import Pipeline
    from streamcore.progress import Progress
    from streamcore.report import Report
    from streamcore.sinks.base import Sink

OUTPUTS = ("table", "jsonl", "arrow")
EXIT_INTERRUPTED = 130

CLIENT_LOG = "streamcore.kafka.librdkafka"
"""What the Kafka client says comes as our errors and warnings instead."""


@dataclass(frozen=True, slots=True)
class Execution:
    """A pipeline and how to show it."""

    pipeline: Pipeline
    options: dict[str, Any] = field(default_factory=dict)
    """Of `streamcore.options.RunOptions`."""
    output: str | None = None
    """One of `OUTPUTS`; unset: a table or JSON lines where the pipeline has no sinks."""
    report_path: Path | None = None


def execute(execution: Execution) -> int:
    """Runs the pipeline to its end, or until a signal comes. Raises what made it fail."""
    from streamcore.run import start
    from streamcore.signals import StopOnSignal

    viewers = _viewers(execution)
    progress = _progress(execution, viewers)
    with _log_as_notes(), StopOnSignal() as signals:
        try:
            run = start(
                execution.pipeline,
                observers=[progress.update],
                viewers=viewers,
                announce=_tell_notes,
                **execution.options,
            )
        except KeyboardInterrupt:
            if signals.received != signal.SIGTERM:
                raise
            return 0  # before anything was read
        signals.watch(run)
        try:
            run.wait()
        finally:
            run.close()
            _finish(execution, progress, run.report)
    return EXIT_INTERRUPTED if signals.received == signal.SIGINT else 0


def _viewers(execution: Execution) -> list[Sink]:
    output = execution.output
    config = execution.pipeline.config
    if output is None and (config.sinks or execution.pipeline.extra_sinks):
        return []
    if output == "arrow":
        from streamcore.config import describe
        from streamcore.sinks.arrow import ArrowStreamSink
        from streamcore.tables import empty_schema

        return [ArrowStreamSink(sys.stdout.buffer, empty_schema(describe(config)["columns"]))]
    from streamcore.config import ConsoleSinkConfig
    from streamcore.sinks.console import console_sink

    return [console_sink(ConsoleSinkConfig.model_validate({"format": output}))]


def _progress(execution: Execution, viewers: list[Sink]) -> Progress:
    from streamcore.progress import CaptionProgress, JsonProgress, TerminalProgress

    if not sys.stderr.isatty():
        return JsonProgress(sys.stderr)
    from rich.console import Console

    console = Console(stderr=True)
    for viewer in viewers:
        tell = getattr(viewer, "tell", None)
        if tell is not None and sys.stdout.isatty():
            return CaptionProgress(tell, console)
    tables = any(sink.type == "console" and sink.format != "jsonl" for sink in execution.pipeline.config.sinks)
    # Two live displays would draw over each other; a table that is a sink of the pipeline wins.
    return CaptionProgress(lambda _: None, console) if tables and sys.stdout.isatty() else TerminalProgress(console)


@contextmanager
def _log_as_notes() -> Iterator[None]:
    """What the package logs meanwhile comes as notes, so that every line of a program's input has one form."""

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name != CLIENT_LOG:
                _tell_notes([record.getMessage()])

    logger, handler = logging.getLogger("streamcore"), Notes(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _tell_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print(note if sys.stderr.isatty() else json.dumps({"note": note}), file=sys.stderr, flush=True)


def _finish(execution: Execution, progress: Progress, report: Report) -> None:
    progress.finish(report)
    if execution.report_path is None:
        return
    try:
        execution.report_path.write_text(json.dumps({"report": report.to_dict()}, indent=2) + "\n")
    except OSError as error:
        from streamcore.errors import Error

        raise Error(f"{execution.report_path}: the report cannot be written: {error.strerror}") from error
