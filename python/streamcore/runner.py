"""Owns the loop: poll, push, write, commit. One thread, nobody calls back.

Before it: `assemble.py`, which opened everything. After it: the report of the run.
Invariant: between two rounds nothing is applied that a commit would miss: what the engine pushes in the background is
waited for before an epoch is cut, and dropped with it when it is rolled back.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from streamcore import _core
from streamcore.clock import Clock
from streamcore.commit import Commits
from streamcore.epoch_size import EpochSize
from streamcore.errors import ErrorRateError, SinkError, StateFullError
from streamcore.faults import fault_point
from streamcore.held_outputs import HeldOutputs
from streamcore.outputs import Outputs, UndeliveredError
from streamcore.report import Report, by_input, describe_refusal, watermark
from streamcore.sources.base import Measured, Polled, Position, Source, lags

POLL_TIMEOUT_S = 0.05
"""Also how long a stop may go unnoticed while nothing arrives."""

ADVANCE_INTERVAL_S = 0.25
"""How often the engine is told the time; windows that close by idleness may be late by this."""

COMMIT_SHARE = 10
"""The next commit is no sooner than this many times the last one's duration."""

EPOCH_ROWS_MAX = 50_000
"""With more rows that wait for it an epoch is committed before its time: a transaction stays open while they are sent, and not for ever."""

PUSH_BEHIND_RECORDS_MIN, PUSH_BEHIND_BYTES_MIN = 2_000, 1 << 20
"""Polls of at least so many are pushed while the next polls go on; smaller ones are not kept waiting."""

PUSHES_MAX = 1_024
"""More than are ever under way."""

RETRIES_MAX = 6
RETRY_DELAY_S = 0.25
RETRY_DELAY_MAX_S = 8.0
"""A failed epoch is tried again this often, with delays doubling up to the largest: about 15 s in all."""

STATUS_WAIT_S = 5.0
"""How long whoever asks for the status waits for the round to be over."""

Observer = Callable[[Report], None]


@dataclass(eq=False, slots=True)
class _Question:
    """Somebody's wish for the status, and the answer."""

    window_end_ms: int | None
    answered: threading.Event = field(default_factory=threading.Event)
    answer: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """When to commit and when to stop."""

    commit_interval_ms: int
    run_for_ms: int | None = None
    """Wall time after which the run stops; None: no limit."""
    report_interval_s: float = 1.0
    pauses_lanes: bool = True
    """Whether lanes that run ahead are held back; without a clock before the end of the input there is no ahead."""


class Runner:
    """One execution of a pipeline, from opened parts to a report."""

    def __init__(
        self,
        *,
        engine: _core.Pipeline,
        source: Source,
        outputs: Outputs | HeldOutputs,
        committer: Commits,
        clock: Clock,
        pace: Pace,
        observe_rejected: Callable[[int, int], None],
        report: Report,
        stopping: threading.Event,
        look_at: Callable[[_core.Raw], bool] | None = None,
    ) -> None:
        """`look_at` is shown the first records until it has seen enough. `observe_rejected(read, rejected)` is told the counts of every push and may raise `ErrorRateError`.

        Setting `stopping`, from any thread, asks the loop to finish the epoch and return; windows stay open.
        """
        self._engine = engine
        self._source = source
        self._outputs = outputs
        self._committer = committer
        self._clock = clock
        self._pace = pace
        self._observe_rejected = observe_rejected
        self._first_report = report
        self._stopping = stopping
        self._look_at = look_at
        self._polled_from: Mapping[int, Position] = {}
        self._before: deque[Mapping[int, Position]] = deque(maxlen=PUSHES_MAX)
        """Positions before the last pushes in the background."""
        self._commit_requests: deque[threading.Event] = deque()
        self._questions: deque[_Question] = deque()
        self._observers: list[Observer] = []
        self._paused: list[int] = []
        self._ended = False
        self._failures = 0
        self._retries = 0
        self._refetched = 0
        self._first_refusal: str | None = None
        self._epoch = 0
        """Number of the epoch being filled."""
        self._size = EpochSize()
        self._records_again = 0
        """Records of an epoch that did not fit the state, and that come again in shorter ones."""
        self._started_s = self._commit_due_s = self._advance_due_s = self._report_due_s = clock.monotonic_s()

    def observe(self, observer: Observer) -> None:
        """Calls `observer` with a report about once a second, from the runner's thread."""
        self._observers.append(observer)

    def request_commit(self) -> threading.Event:
        """Asks for a commit as soon as the round is over, and gives what is set then. From any thread."""
        done = threading.Event()
        self._commit_requests.append(done)
        return done

    def ask_status(self, window_end_ms: int | None) -> dict[str, Any] | None:
        """What `status` gives, as soon as the round is over; None if that is not soon. From any thread."""
        question = _Question(window_end_ms)
        self._questions.append(question)
        return question.answer if question.answered.wait(STATUS_WAIT_S) else None

    def run(self) -> Report:
        """Runs until the input ends, the time is over or `stopping` is set. Raises what made it fail."""
        self._started_s = self._clock.monotonic_s()
        self._begin_epoch(commit_s=0.0)
        try:
            self._committer.start()
            while not self._ended and not self._should_stop():
                self._attempt(self._round, self._stopping)
            if not self._ended:
                self._commit_last()
        except UndeliveredError:
            # Whoever took the rows has left: the next start of a named run hands this epoch out again.
            self._committer.rollback()
        except ErrorRateError as error:
            raise ErrorRateError("\n".join([str(error), *self._explain_refusals()])) from None
        return self.report("ended" if self._ended else "stopped")

    def report(self, state: str = "running") -> Report:
        """The run so far. From the runner's thread only."""
        held = self._engine.state()
        return Report(
            name=self._first_report.name,
            delivery=self._first_report.delivery,
            state=state,
            elapsed_s=self._clock.monotonic_s() - self._started_s,
            epoch=self._committer.header.epoch,
            retries=self._retries,
            refetched=self._refetched,
            first_refusal=self._first_refusal,
            dead_letters=self._outputs.dead_letters_place,
            rows=self._outputs.rows,
            watermark_ms=watermark(self._engine.clocks()),
            open_windows=self._engine.open_windows,
            state_bytes=sum(step["bytes"] for step in held.values()),
            held=held,
            layouts_forgotten=self._engine.layouts_forgotten,
            batches_not_interned=self._engine.batches_not_interned,
            lanes=self._committer.ledger(),
            skipped=self._committer.skipped(),
            skipped_by_outboxes=self._outputs.skipped_by_outboxes,
            stages=self._committer.stages(),
            lost_values=self._engine.lost_values(),
            dedupes=self._engine.dedupes(),
            inputs=by_input(self._committer.ledger(), tuple(self._first_report.inputs)),
            join_rows=self._engine.join_rows,
            lags=self._lags(),
            cache=dict(self._first_report.cache),
        )

    def _lags(self) -> dict[int, dict[str, Any]]:
        source = self._source
        return lags(source.positions(), source.ends()) if isinstance(source, Measured) else {}

    def status(self, window_end_ms: int | None) -> dict[str, Any]:
        """Report, clocks and positions, and the open windows that end at `window_end_ms`. From the runner's thread only."""
        report, source = self.report(), self._source
        ends = source.ends() if isinstance(source, Measured) else {}
        return {
            "live": True,
            "report": report.to_dict(),
            "source": source.describe(),
            "clocks": self._engine.clocks(),
            "positions": source.positions(),
            "ends": {lane: asdict(end) for lane, end in ends.items()},
            "paused": self._paused,
            "future": {lane: counts.get("future", 0) for lane, counts in report.lanes.items()},
            "inputs": self._engine.inputs(),
            "windows": [] if window_end_ms is None else self._engine.open_at(window_end_ms),
        }

    def _answer(self) -> None:
        while self._questions:
            question = self._questions.popleft()
            question.answer = self.status(question.window_end_ms)
            question.answered.set()

    def _explain_refusals(self) -> list[str]:
        """Lines for the error that ends the run; the dead letters they name can be read when this returns."""
        first = f"the first: {self._first_refusal}"
        place = self._outputs.dead_letters_place
        if place is None:
            return [first, "no dead letters of them are kept"]
        try:
            self._outputs.keep_dead_letters()
        except SinkError as error:
            return [first, f"their dead letters are lost: {error}"]
        return [first, f"their dead letters: {place}"]

    def _round(self) -> None:
        self._committer.tick()
        polled = self._poll()
        if not self._committer.stands:
            self._go_on(polled)
        self._tell()
        self._answer()

    def _go_on(self, polled: Polled) -> None:
        self._push(polled)
        self._advance(polled)
        if polled.ended:
            self._end_input()
        elif self._commit_is_due():
            self._settle()
            # Unless an epoch ended meanwhile.
            if self._commit_is_due():
                self._commit(ended=False)

    def _poll(self) -> Polled:
        self._polled_from = self._source.positions()
        return self._source.poll(POLL_TIMEOUT_S)

    def _push(self, polled: Polled) -> None:
        self._refetched += polled.refetched
        if polled.lanes_added:
            self._engine.assign(polled.lanes_added)
        if polled.raw is None:
            self._settle()
            self._hold_back()
            return
        if self._look_at is not None and self._look_at(polled.raw):
            self._look_at = None
        fault_point("before-push")
        records, size = len(polled.raw), polled.raw.byte_len
        self._size.read(polled, records, size)
        self._records_again = max(0, self._records_again - records)
        if records < PUSH_BEHIND_RECORDS_MIN and size < PUSH_BEHIND_BYTES_MIN:
            # No epoch may end here: these records count as read.
            self._settle(cut=False)
            self._write(self._engine.push(polled.raw, self._clock.wall_ms(), self._steady_ms()))
            self._settle()
            self._hold_back()
            return
        self._before.append(self._polled_from)
        # Asked before: afterwards the answer would have to wait for the push that begins here.
        self._hold_back()
        taken = False
        while not taken:
            batches, taken = self._engine.push_behind(polled.raw, self._clock.wall_ms(), self._steady_ms())
            self._write(batches)
            if not taken and self._outputs.held_rows >= EPOCH_ROWS_MAX:
                self._withdraw(1 + self._engine.withdraw())
                self._settle()
                return

    def _steady_ms(self) -> int:
        """What silence is measured by: the clock on the wall may be set while nothing comes."""
        return int(self._clock.monotonic_s() * 1_000)

    def _settle(self, *, cut: bool = True) -> bool:
        """Waits for what is pushed in the background and hands out its rows piece by piece.

        With `cut` epochs that are due end between two pieces, and a run that is to stop leaves the others to the next one:
        then it is false, and so it is while the committer stands.
        """
        more = True
        while more:
            if self._committer.stands:
                return False
            batches, under_way, more = self._engine.go_on()
            self._write(batches)
            if not more or not cut:
                continue
            if under_way:
                if self._outputs.held_rows < EPOCH_ROWS_MAX:
                    continue
                self._withdraw(self._engine.withdraw())
            if self._should_stop() and self._committer.is_kept:
                return False
            if self._commit_is_due():
                self._commit(ended=False)
        return True

    def _withdraw(self, pushes: int) -> None:
        """The records of the last pushes are read again, as an epoch ends before them."""
        for _ in range(pushes):
            before = self._before.pop()
        if pushes:
            self._source.seek({lane: at for lane, at in before.items() if lane in self._source.positions()})

    def _write(self, batches: list[_core.Batch]) -> None:
        """Hands out rows of pushes that were applied, and has the refused among their records counted, push by push."""
        self._size.wrote(batches)
        if self._first_refusal is None:
            refused = next((batch for batch in batches if batch.output == "rejected"), None)
            self._first_refusal = None if refused is None else describe_refusal(refused)
        self._outputs.write(batches, epoch=self._epoch)
        for read, rejected in self._engine.pushed():
            self._observe_rejected(read, rejected)

    def _advance(self, polled: Polled) -> None:
        now_s = self._clock.monotonic_s()
        if now_s < self._advance_due_s:
            return
        self._advance_due_s = now_s + ADVANCE_INTERVAL_S
        if self._settle():
            self._write(self._engine.advance(self._steady_ms(), polled.caught_up, polled.finished))
            self._settle()

    def _hold_back(self) -> None:
        if not self._pace.pauses_lanes:
            return
        paused = self._engine.paused()
        if paused != self._paused:
            self._source.pause(paused)
            self._paused = paused

    def _end_input(self) -> None:
        """No more will come: every window closes where the input is bounded, and stays open where a time was set."""
        if not self._nothing_new():
            if not self._settle():
                return
            if self._source.bounded:
                self._write(self._engine.end())
                self._settle(cut=False)
            if not self._commit(ended=self._source.bounded):
                return
        self._ended = True

    def _nothing_new(self) -> bool:
        """Whether the state is still the one the end of the input left, so closing its windows would repeat rows."""
        return self._committer.header.ended and self._size.records == 0

    def _commit(self, *, ended: bool) -> bool:
        """Ends the epoch; nothing that was pushed is under way. False where what was read comes again."""
        started_s = self._clock.monotonic_s()
        requests = list(self._commit_requests)
        # A stop, or a commit in time, before anything new was read must not make the next start close windows again.
        is_committed = self._committer.commit(ended=ended or self._nothing_new())
        if is_committed:
            self._failures = 0
            for done in requests:
                self._commit_requests.remove(done)
                done.set()
        self._begin_epoch(commit_s=self._clock.monotonic_s() - started_s)
        return is_committed

    def _begin_epoch(self, *, commit_s: float) -> None:
        """`commit_s`: how long the commit before it took; the next one begins an interval after that, if as long is left to read in."""
        share_s = COMMIT_SHARE * commit_s if self._committer.writes_whole else 0.0
        interval_s = self._pace.commit_interval_ms / 1_000
        self._commit_due_s = self._clock.monotonic_s() + max(interval_s - commit_s, min(interval_s, commit_s), share_s)
        self._epoch = self._engine.epoch
        self._size.begin()
        if self._records_again == 0:
            self._size.records_bound = None

    def _commit_is_due(self) -> bool:
        return (
            self._clock.monotonic_s() >= self._commit_due_s
            or self._size.is_full(0 if self._committer.writes_whole else self._engine.changed_bytes)
            or self._outputs.held_rows >= EPOCH_ROWS_MAX
            or bool(self._commit_requests)
            or self._engine.is_due
        )

    def _should_stop(self) -> bool:
        limit_ms = self._pace.run_for_ms
        over = limit_ms is not None and self._clock.monotonic_s() - self._started_s >= limit_ms / 1_000
        return over or self._stopping.is_set()

    def _attempt(self, part: Callable[[], None], interrupt: threading.Event) -> bool:
        """Whether `part` of the loop succeeds. Otherwise the epoch is taken back, to be tried again after a while.

        `interrupt` cuts the while short.
        """
        try:
            part()
        except SinkError as error:
            self._failures += 1
            if not error.retriable or self._failures > RETRIES_MAX:
                raise
            self._roll_back()
            self._wait_after_failure(interrupt)
            self._begin_epoch(commit_s=0.0)
        except StateFullError as error:
            self._shorten_epoch(error)
        else:
            return True
        return False

    def _commit_last(self) -> None:
        """Commits what was read before the stop. Where that fails, it is read again, as any other epoch is."""
        if self._committer.stop():
            return
        records = self._size.records
        # The stop must not cut the wait short: a sink that is away for a moment would be asked in one go.
        never = threading.Event()
        while not self._attempt(lambda: self._read_and_commit(records), never):
            continue

    def _read_and_commit(self, records: int) -> None:
        """Reads until the epoch has `records` or a commit is due, and commits; windows stay open."""
        ended, epoch = False, self._epoch
        while not ended and self._size.records < records and self._epoch == epoch and not self._commit_is_due():
            polled = self._poll()
            self._push(polled)
            self._advance(polled)
            ended = polled.ended
        self._settle()
        self._commit(ended=False)

    def _shorten_epoch(self, error: StateFullError) -> None:
        """Takes back an epoch that does not fit the state; it comes again in halves, until all polls that fit are committed.

        Raises `error` when the next poll does not fit, or nothing would outlive the run.
        """
        if not self._committer.is_kept:
            raise error
        polls, records = self._size.polls, self._size.records
        self._roll_back()
        if polls <= 1:
            epoch, many = self._committer.header.epoch, "1 record" if records == 1 else f"{records:,} records"
            if polls == 0:
                raise StateFullError(
                    f"{error}\nall records read are committed (epoch {epoch}); rows of windows that are over are still to "
                    "leave, and what they add behind does not fit; the next start goes on with them"
                ) from None
            raise StateFullError(
                f"{error}\nnothing of the poll that does not fit ({many}) is committed, all before it is (epoch {epoch}); "
                "the next start goes on with it"
            ) from None
        self._records_again += records
        # Shorter each time, whatever the polls are cut to.
        self._size.records_bound = max(1, min(records, self._size.records_bound or records) // 2)
        self._begin_epoch(commit_s=0.0)

    def _roll_back(self) -> None:
        self._retries += 1
        self._committer.rollback()
        self._source.pause([])
        self._paused = []

    def _wait_after_failure(self, interrupt: threading.Event) -> None:
        delay_s = min(RETRY_DELAY_S * 2 ** (self._failures - 1), RETRY_DELAY_MAX_S)
        self._clock.wait(interrupt, delay_s)

    def _tell(self) -> None:
        now_s = self._clock.monotonic_s()
        if not self._observers or now_s < self._report_due_s:
            return
        self._report_due_s = now_s + self._pace.report_interval_s
        report = self.report()
        for observer in self._observers:
            observer(report)
