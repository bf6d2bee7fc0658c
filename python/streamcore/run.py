"""Owns `Run`, one execution of a pipeline: a thread with the runner in it, and what a caller may ask of it.

Before it: `Pipeline.start`. After it: rows, answers, a report; or the exception that ended it.
Invariant: the engine is touched by the run's own thread only; callers meet it through queues, events and reports.
"""

from __future__ import annotations

import atexit
import os
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from streamcore.assemble import Plan, assemble, make_plan, state_folder_of
from streamcore.clock import Clock, SystemClock
from streamcore.config import RedisSinkConfig, unkept
from streamcore.errors import ConfigError, LateRowsWarning, LostValuesWarning, RefusedRecordsWarning, StateError
from streamcore.options import RunOptions
from streamcore.phase_runner import PhasesRunner
from streamcore.report import Report
from streamcore.runner import Observer, Runner
from streamcore.sinks.base import Sink
from streamcore.sinks.memory import CollectSink
from streamcore.stream import BatchStream, StreamSink
from streamcore.tables import Batch, Table, empty_schema, html_table
from streamcore.views import View

if TYPE_CHECKING:
    import polars as pl

    from streamcore.pipeline import Pipeline

OUTPUTS = ("result", "late", "future", "rejected")

WAIT_S = 0.1
"""How long a wait may ignore Ctrl-C."""


class Run:
    """One execution of a pipeline. Made by `Pipeline.start`; use it as a context manager to have it stopped.

    A run whose pipeline has no sinks begins with the first `stream`, `astream`, `query`, `checkpoint` or `wait`, so
    that no row is missed.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        clock: Clock,
        observers: Sequence[Observer] = (),
        announce: Callable[[Sequence[str]], None] | None = None,
        asked: bool = True,
    ) -> None:
        """Starts the thread and waits until everything is open. Raises what kept it from opening.

        `announce` is told the notes once, before the first record is read. `asked`: someone may ask it for rows.
        """
        self._plan = plan
        self._announce = announce
        self._clock = clock
        self._observers = [*observers, self._remember]
        self._asked = asked
        self._process = os.getpid()
        self._stopping = threading.Event()
        self._opened = threading.Event()
        self._released = threading.Event()
        self._finished = threading.Event()
        self._failure: BaseException | None = None
        self._report = Report(name=plan.config.name, delivery=plan.delivery)
        self._notes: list[str] = []
        self._runner: Runner | PhasesRunner | None = None
        self._stream = StreamSink(self._stopping, acknowledged=plan.config.name is not None)
        self._view = View(plan.keys) if plan.keys else None
        if plan.config.sinks or plan.sinks:
            self._released.set()
        self._thread = threading.Thread(target=self._main, name=f"streamcore-{plan.config.name or 'run'}", daemon=True)
        self._thread.start()
        self._await_opening()

    @property
    def report(self) -> Report:
        """The run so far, at most about a second old; complete once it has finished."""
        return self._report

    @property
    def notes(self) -> list[str]:
        """What a person should know at the start: delivery, inferred types."""
        return list(self._notes)

    @property
    def finished(self) -> bool:
        """Whether the run is over, well or not."""
        return self._finished.is_set()

    def stream(self, outputs: Iterable[str] = ("result",)) -> BatchStream:
        """Iterates over the batches of these outputs, as `sc.Batch`, until the run is over.

        With a name, a batch counts as delivered when the next one is asked for, and the commit waits for that.
        Raises what made the run fail. Unknown outputs, and a second iterator beside a live one, are a `ConfigError`.
        """
        self._check_process()
        wanted = (outputs,) if isinstance(outputs, str) else tuple(outputs)
        unknown = sorted(set(wanted) - set(OUTPUTS))
        if unknown:
            raise ConfigError(f"there is no output {', '.join(unknown)}; the outputs are {', '.join(OUTPUTS)}")
        stream = BatchStream(self._stream, wanted, at_end=self._raise_failure)
        self._released.set()
        return stream

    async def astream(self, outputs: Iterable[str] = ("result",)) -> AsyncIterator[Batch]:
        """`stream` for asyncio."""
        import asyncio

        stream = self.stream(outputs)
        try:
            while (batch := await asyncio.to_thread(stream.next_or_none, threading.get_ident())) is not None:
                yield batch
        finally:
            stream.close()

    def query(self, where: Mapping[str, Any] | None = None) -> pl.DataFrame:
        """The newest committed row of each key and window whose columns equal `where`, as a polars frame.

        Looks at the newest 100,000 result rows. Needs a window; unknown columns are a `ConfigError`.
        """
        self._check_process()
        self._released.set()
        if self._view is None:
            raise ConfigError("query needs a pipeline with a window: only its rows have keys")
        frame = self._view.query(where or {})
        if frame is None:
            import polars as pl

            return pl.DataFrame(empty_schema(self._plan.description["columns"]).empty_table())
        return frame

    def checkpoint(self) -> Report:
        """Commits now, and returns the report once that is durable. Raises what made the run fail.

        With a name, a commit waits until every row of `stream` was taken and followed up, so inside that loop it is a
        `StateError`: to take the call for an acknowledgement would drop the batch in hand if its work then failed.
        """
        self._check_process()
        self._check_not_taking()
        self._released.set()
        if self._runner is not None:
            done = self._runner.request_commit()
            while not done.wait(WAIT_S) and not self._finished.is_set():
                self._check_not_taking()
        self._raise_failure()
        return self._report

    def stop(self) -> None:
        """Asks the run to finish its epoch and end; windows stay open. Returns at once."""
        self._stopping.set()
        self._released.set()

    def wait(self, timeout_s: float | None = None) -> Report:
        """Waits for the end and returns the report. Raises what made the run fail, or `TimeoutError`."""
        self._check_process()
        self._released.set()
        remaining_s = timeout_s
        while not self._finished.wait(WAIT_S if remaining_s is None else min(WAIT_S, max(0.0, remaining_s))):
            if remaining_s is not None:
                remaining_s -= WAIT_S
                if remaining_s <= 0:
                    raise TimeoutError(f"the run is still going on after {timeout_s} s")
        self._raise_failure()
        return self._report

    def close(self) -> None:
        """Stops the run and waits for it; what it failed with is not raised. Rows nobody took are left for later."""
        if os.getpid() != self._process:
            return  # a forked child has no such thread to wait for, and is called here at its exit
        self.stop()
        self._stream.abandon()
        while not self._finished.wait(WAIT_S):
            continue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if error is None:
            self._raise_failure()

    def __repr__(self) -> str:
        report = self._report
        name = report.name or "ephemeral"
        return (
            f"<streamcore.Run {name}: {report.state}, {report.ledger.read:,} records read; "
            "run.stream(), run.query(), run.report, run.stop()>"
        )

    def _repr_html_(self) -> str:
        report = self._report
        row = {"run": report.name or "ephemeral", "state": report.state, "delivery": report.delivery}
        row |= {"records": f"{report.ledger.read:,}", "rows": f"{report.rows.get('result', 0):,}"}
        row |= {"open windows": f"{report.open_windows:,}", "epoch": str(report.epoch)}
        return html_table(list(row), [row], report.ledger.read)

    def _main(self) -> None:
        atexit.register(self.close)
        try:
            own = [sink for sink in (self._stream, self._view) if sink is not None] if self._asked else []
            assembled = assemble(self._plan, clock=self._clock, stopping=self._stopping, own_sinks=own)
            try:
                self._runner = assembled.runner
                self._notes = assembled.notes
                for observer in self._observers:
                    assembled.runner.observe(observer)
                if self._announce is not None:
                    self._announce(assembled.notes)
                with self._serving(assembled.runner):
                    self._opened.set()
                    self._released.wait()
                    self._report = assembled.runner.run()
            except BaseException:
                self._report = self._last_report(assembled.runner)
                raise
            finally:
                assembled.close()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits; a panic of the engine is one too
            self._failure = error
            self._report = self._report.failed()
        finally:
            self._finished.set()
            self._opened.set()
            self._stream.close()
            atexit.unregister(self.close)

    @contextmanager
    def _serving(self, runner: Runner | PhasesRunner) -> Iterator[None]:
        """Answers for the status where `listen` says so."""
        listen = self._plan.options.listen
        if listen is None:
            yield
            return
        from streamcore.status import NOTE, StatusServer

        def ask(window_end_ms: int | None) -> dict[str, Any] | None:
            status = runner.ask_status(window_end_ms)
            # So that whoever asks can tell that it is the pipeline they mean.
            return None if status is None else {"fingerprint": self._plan.description["fingerprint"], **status}

        folder = None if self._plan.config.name is None else state_folder_of(self._plan.config)
        with StatusServer(listen, ask, note=folder and folder / NOTE) as server:
            self._notes.append(f"status: http://{server.address}/v1/status")
            if self._announce is not None:
                self._announce(self._notes[-1:])
            yield

    def _last_report(self, runner: Runner | PhasesRunner) -> Report:
        """The numbers up to a failure; the last ones that were told, where the engine itself is what failed."""
        try:
            return runner.report("failed")
        except BaseException:  # noqa: BLE001 - a panic is one; what made the run fail is told instead
            return self._report

    def _await_opening(self) -> None:
        try:
            while not self._opened.wait(WAIT_S):
                continue
        except KeyboardInterrupt:
            self.stop()
            raise
        if self._runner is None:
            self._raise_failure()

    def _remember(self, report: Report) -> None:
        self._report = report

    def _raise_failure(self) -> None:
        if self._finished.is_set() and self._failure is not None:
            raise self._failure

    def _check_not_taking(self) -> None:
        if not self._finished.is_set() and self._stream.waits_for(threading.get_ident()):
            raise StateError(
                "checkpoint() would wait for ever for rows that this thread has not followed up: a batch of a named "
                "run counts as delivered when the next one is asked for; leave it out, since the run commits by "
                "itself every commit_interval, or call it from another thread"
            )

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise StateError("this run belongs to the process that started it; start one after the fork instead")


def start(
    pipeline: Pipeline,
    *,
    clock: Clock | None = None,
    observers: Sequence[Observer] = (),
    viewers: Sequence[Sink] = (),
    announce: Callable[[Sequence[str]], None] | None = None,
    **options: Any,
) -> Run:
    """Starts a run of `pipeline`. `options` are those of `RunOptions`.

    `viewers` are sinks that only show rows: what they print may repeat after a crash, and they do not weaken the
    delivery promise. `announce` is told what a person should know before the first record is read.
    Raises `ConfigError` and what opening can raise.
    """
    plan = _plan(pipeline, RunOptions(**options), viewers)
    # Before anything is opened, or made: topics of a run that cannot begin would stay.
    if any(isinstance(sink, RedisSinkConfig) for sink in plan.config.sinks):
        from streamcore.sinks.redis import check_client

        check_client()
    return Run(plan, clock=clock or SystemClock(), observers=observers, announce=announce)


def collect(pipeline: Pipeline, *, clock: Clock | None = None, **options: Any) -> Table:
    """Reads a bounded input to its end and returns the result rows; the pipeline's sinks are not written.

    Warns `LateRowsWarning` when records were left out because of their time, `RefusedRecordsWarning` when some could
    not be used. An unbounded source is a `ConfigError`.
    """
    result = CollectSink()
    plan = make_plan(unkept(pipeline.config), RunOptions(**options), records=pipeline.iterables, sinks=[result])
    _require_end(plan)
    run = Run(plan, clock=clock or SystemClock(), asked=False)
    try:
        report = run.wait()
    except BaseException:
        run.close()
        raise
    _warn(report)
    return Table(result.batches, empty_schema(plan.description["columns"]))


def _plan(pipeline: Pipeline, options: RunOptions, viewers: Sequence[Sink]) -> Plan:
    streamed = not pipeline.config.sinks and not pipeline.extra_sinks and not viewers
    appends = ["run.stream()"] if streamed else [type(sink).__name__ for sink in pipeline.extra_sinks]
    return make_plan(
        pipeline.config,
        options,
        records=pipeline.iterables,
        sinks=[*pipeline.extra_sinks, *viewers],
        appends=appends,
    )


def _require_end(plan: Plan) -> None:
    for source in plan.config.all_sources.values():
        endless = source.type in ("kafka", "memory") or (source.type == "generate" and source.count is None)
        if endless and plan.options.stop is None and plan.options.for_ is None:
            raise ConfigError(
                f'collect needs an input that ends, and a source of type "{source.type}" does not; '
                'say stop="end" or for_="10s", or use start() and stream()'
            )


def _warn(report: Report) -> None:
    if report.ledger.rejected:
        warnings.warn(
            f"{report.ledger.rejected} of {report.ledger.read} records could not be used; they are not in the table. "
            f"The first: {report.first_refusal}",
            RefusedRecordsWarning,
            stacklevel=4,
        )
    for column, (count, first) in report.lost_values.items():
        warnings.warn(
            f"{count} values of {column} are null, since they were not to be had. The first: {first}",
            LostValuesWarning,
            stacklevel=4,
        )
    for stage, counts in report.stages.items():
        if lost := counts.get("rejected", 0) + counts.get("late", 0):
            warnings.warn(
                f"{lost} of {counts['read']} rows that a window or a join gave could not be used at {stage}; they are not in the "
                "table. Take them with start() and stream(('rejected', 'late'))",
                RefusedRecordsWarning,
                stacklevel=4,
            )
    late, future = report.ledger.late + report.ledger.late_after_combine, report.ledger.future
    if late or future:
        warnings.warn(
            f"{late} records came after their window had closed and {future} are from the future; they are not in the "
            "table. Raise out_of_orderness or allowed_lateness, or take them with start() and stream(('late',))",
            LateRowsWarning,
            stacklevel=4,
        )
