from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from streamcore import _core, epoch_size
from streamcore import runner as runner_module
from streamcore.checkpoint import Checkpoint, Header
from streamcore.commit import Committer
from streamcore.errors import ErrorRateError, SinkError
from streamcore.outputs import Outputs, UndeliveredError
from streamcore.report import Report, describe_refusal
from streamcore.runner import COMMIT_SHARE, RETRIES_MAX, Pace, Runner
from streamcore.sinks.base import Version
from streamcore.sources.base import Polled
from streamcore.testing import ManualClock
from tests.fakes import FakeDeadLetters, FakeEngine, FakeSink, FakeSource, Log, batch, engine

POLL_MS = 100
"""What one poll takes by the manual clock."""


class TickingSource(FakeSource):
    """Every poll takes `POLL_MS`."""

    clock: ManualClock
    before_poll: Callable[[], None] = staticmethod(lambda: None)
    polls_before_end = 0
    """Polls that give nothing and do not say that the input is over."""

    def poll(self, timeout_s: float) -> Polled:
        self.before_poll()
        self.clock.advance(POLL_MS)
        if self.polls_before_end:
            self.polls_before_end -= 1
            return Polled()
        return super().poll(timeout_s)


class LostDeadLetters(FakeDeadLetters):
    def keep_some(self) -> None:
        super().keep_some()
        raise SinkError("no disk")


class Parts:
    """A runner over fakes. `pace` in ms."""

    def __init__(
        self,
        *,
        total: int | None = None,
        bounded: bool = True,
        failures: list[SinkError] | None = None,
        interval_ms: int = 1_000,
        run_for_ms: int | None = None,
        pauses_lanes: bool = True,
        observe: Callable[[int, int], None] = lambda _read, _rejected: None,
        ended_before: bool = False,
        dead_letters: FakeDeadLetters | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.log: Log = []
        self.clock = ManualClock()
        self.engine = FakeEngine(self.log)
        self.source = TickingSource(self.log, total=total, bounded=bounded)
        self.source.clock = self.clock
        self.sink = FakeSink(self.log, failures=failures or [])
        self.stopping = threading.Event()
        outputs = Outputs([self.sink], dead_letters, generation=1)
        committer = Committer(
            engine=engine(self.engine),
            source=self.source,
            outputs=outputs,
            checkpoint=checkpoint,
            origin=Header("", "", 1, epoch=0, digest=0, positions={}, ended=ended_before),
        )
        self.committer = committer
        self.runner = Runner(
            engine=engine(self.engine),
            source=self.source,
            outputs=outputs,
            committer=committer,
            clock=self.clock,
            pace=Pace(interval_ms, run_for_ms, pauses_lanes=pauses_lanes),
            observe_rejected=observe,
            report=Report(name="job", delivery="effectively_once"),
            stopping=self.stopping,
        )


def test_a_bounded_input_closes_its_windows_and_is_committed() -> None:
    parts = Parts(total=3)
    report = parts.runner.run()
    assert parts.sink.rows == [1, 2, 3, "closed", "sealed"]
    assert parts.log[-8:] == [
        "end",
        "write ['closed']",
        "seal",
        "write ['sealed']",
        "flush",
        "engine committed",
        "sink committed 1",
        "source committed {0: 3}",
    ]
    assert (report.state, report.ledger.read, report.epoch, report.rows) == ("ended", 3, 1, {"result": 5})
    assert (report.name, report.delivery, report.watermark_ms, report.open_windows) == ("job", "effectively_once", 5, 2)


def test_the_end_at_a_time_leaves_windows_open() -> None:
    parts = Parts(total=3, bounded=False)
    assert parts.runner.run().state == "ended"
    assert "end" not in parts.log
    assert parts.sink.rows == [1, 2, 3, "sealed"]


@pytest.mark.parametrize("cause", ["stop", "time", "request"])
def test_a_stop_before_anything_new_keeps_the_end_of_the_input(cause: str) -> None:
    parts = Parts(total=0, ended_before=True, run_for_ms=0 if cause == "time" else None)
    if cause == "stop":
        parts.stopping.set()
    if cause == "request":
        parts.source.polls_before_end = 1
        parts.runner.request_commit()
    parts.runner.run()
    assert "end" not in parts.log
    assert parts.committer.header.ended
    assert parts.committer.header.epoch == 1


def test_a_stop_after_something_new_forgets_the_end_of_the_input() -> None:
    parts = Parts(total=2, ended_before=True, run_for_ms=POLL_MS)
    parts.runner.run()
    assert not parts.committer.header.ended


def test_commits_come_at_the_interval() -> None:
    parts = Parts(total=25, interval_ms=1_000)
    parts.runner.run()
    committed = [entry for entry in parts.log if entry.startswith("source committed")]
    assert committed == ["source committed {0: 10}", "source committed {0: 20}", "source committed {0: 25}"]


def test_a_slow_commit_spaces_out_the_next() -> None:
    parts = Parts(total=40, interval_ms=300)
    flush = parts.sink.flush

    def slow() -> None:
        parts.clock.advance(200)
        flush()

    parts.sink.flush = slow  # type: ignore[method-assign]
    parts.runner.run()
    committed = [entry for entry in parts.log if entry.startswith("source committed")]
    assert committed[0] == "source committed {0: 3}"
    assert committed[1] == f"source committed {{0: {3 + COMMIT_SHARE * 200 // POLL_MS}}}"


@pytest.mark.parametrize(("commit_ms", "polls"), [(0, 6), (250, 4), (350, 4), (550, 6), (2_000, 6)])
def test_commits_begin_at_the_interval_and_leave_as_long_to_read_in_as_they_take(
    commit_ms: int, polls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = Parts(total=40, interval_ms=600)
    monkeypatch.setattr(Committer, "writes_whole", property(lambda _: False))
    flush = parts.sink.flush

    def slow() -> None:
        parts.clock.advance(commit_ms)
        flush()

    parts.sink.flush = slow  # type: ignore[method-assign]
    parts.runner.run()
    committed = [entry for entry in parts.log if entry.startswith("source committed")]
    assert committed[:2] == ["source committed {0: 6}", f"source committed {{0: {6 + polls}}}"]


@pytest.mark.parametrize(
    ("bound", "limit"),
    [
        ("EPOCH_BYTES_MAX", 4 * len(b"{}")),
        ("EPOCH_RECORDS_MAX", 4),
        ("EPOCH_OUTPUT_BYTES_MAX", 4 * 8),
        ("EPOCH_OUTPUT_ROWS_MAX", 4),
    ],
)
def test_a_long_epoch_is_cut(bound: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch_size, bound, limit)
    parts = Parts(total=8, interval_ms=1_000_000)
    parts.runner.run()
    committed = [entry for entry in parts.log if entry.startswith("source committed")]
    assert committed == ["source committed {0: 4}", "source committed {0: 8}", "source committed {0: 8}"]


@pytest.mark.parametrize("writes_whole", [False, True])
def test_an_epoch_that_changed_much_is_cut_where_changes_are_written(
    monkeypatch: pytest.MonkeyPatch, *, writes_whole: bool
) -> None:
    monkeypatch.setattr(Committer, "writes_whole", property(lambda _: writes_whole))
    parts = Parts(total=3, interval_ms=1_000_000)
    parts.engine.changed_bytes = epoch_size.EPOCH_CHANGED_BYTES_MAX
    parts.runner.run()
    assert parts.log.count("engine committed") == (1 if writes_whole else 4)


def test_an_epoch_is_cut_where_the_source_must_not_keep_more() -> None:
    parts = Parts(total=8, interval_ms=1_000_000)
    polls = iter([False, False, True, *[False] * 6])
    poll = parts.source.poll
    parts.source.poll = lambda timeout_s: replace(poll(timeout_s), source_is_full=next(polls))  # type: ignore[method-assign]
    parts.runner.run()
    committed = [entry for entry in parts.log if entry.startswith("source committed")]
    assert committed == ["source committed {0: 3}", "source committed {0: 8}"]


def test_a_failed_epoch_is_rolled_back_and_tried_again() -> None:
    parts = Parts(total=3, failures=[SinkError("away"), SinkError("still away")])
    report = parts.runner.run()
    assert parts.sink.rows == [1, 2, 3, "closed", "sealed"]
    assert (report.retries, report.ledger.read, report.rows) == (2, 3, {"result": 5})
    assert parts.log.count("engine rollback") == 2


def test_retries_wait_longer_each_time_and_are_bounded() -> None:
    parts = Parts(total=1, failures=[SinkError("away")] * (RETRIES_MAX + 1))
    with pytest.raises(SinkError, match="away"):
        parts.runner.run()
    assert parts.log.count("engine rollback") == RETRIES_MAX
    polls_s = (RETRIES_MAX + 1) * 2 * POLL_MS / 1_000
    assert parts.clock.monotonic_s() == pytest.approx(polls_s + 0.25 + 0.5 + 1 + 2 + 4 + 8)


def test_a_success_forgets_earlier_failures() -> None:
    failures = [SinkError("away")] * RETRIES_MAX
    parts = Parts(total=30, failures=failures, interval_ms=1_000)
    write = parts.sink.committed

    def fail_again(epoch: int) -> None:
        write(epoch)
        if epoch == 1:
            parts.sink.failures = [SinkError("away")] * RETRIES_MAX

    parts.sink.committed = fail_again  # type: ignore[method-assign]
    assert parts.runner.run().retries == 2 * RETRIES_MAX


def test_what_cannot_be_retried_is_raised_at_once() -> None:
    parts = Parts(total=1, failures=[SinkError("never", retriable=False)])
    with pytest.raises(SinkError, match="never"):
        parts.runner.run()
    assert "engine rollback" not in parts.log


def test_a_stop_finishes_the_epoch_and_leaves_windows_open() -> None:
    parts = stopped_at_the_fifth()
    report = parts.runner.run()
    assert (report.state, parts.sink.rows) == ("stopped", [1, 2, 3, 4, 5, "sealed"])
    assert "end" not in parts.log


def stopped_at_the_fifth(**more: Any) -> Parts:
    """Parts that are stopped while the fifth record comes, before anything is committed."""
    parts = Parts(interval_ms=1_000_000, **more)
    parts.source.before_poll = lambda: parts.stopping.set() if parts.source.position == 4 else None
    return parts


def test_the_last_commit_of_a_stop_is_tried_again_as_others_are() -> None:
    parts = stopped_at_the_fifth(failures=[SinkError("away"), SinkError("away")])
    wait, interrupted = parts.clock.wait, list[bool]()

    def note(event: threading.Event, seconds: float) -> bool:
        interrupted.append(event.is_set())
        return wait(event, seconds)

    parts.clock.wait = note  # type: ignore[method-assign]
    report = parts.runner.run()
    assert (report.state, report.retries, report.epoch) == ("stopped", 2, 1)
    assert (parts.sink.rows, parts.committer.positions) == ([1, 2, 3, 4, 5, "sealed"], {0: 5})
    assert "end" not in parts.log
    assert interrupted == [False, False], "the stop that was asked for does not cut the wait short"
    assert parts.clock.monotonic_s() == pytest.approx(3 * 5 * POLL_MS / 1_000 + 0.25 + 0.5)


def test_the_last_commit_fails_for_good_in_the_end() -> None:
    parts = stopped_at_the_fifth(failures=[SinkError("away")] * (RETRIES_MAX + 1))
    with pytest.raises(SinkError, match="away"):
        parts.runner.run()
    assert (parts.log.count("engine rollback"), parts.committer.positions) == (RETRIES_MAX, {0: 0})
    parts = stopped_at_the_fifth(failures=[SinkError("never", retriable=False)])
    with pytest.raises(SinkError, match="never"):
        parts.runner.run()
    assert "engine rollback" not in parts.log


def test_of_records_that_do_not_come_again_none_are_waited_for_at_a_stop() -> None:
    parts = stopped_at_the_fifth(failures=[SinkError("away")], total=5)

    def end_earlier() -> None:
        if parts.stopping.is_set():
            parts.source.total = 3
        elif parts.source.position == 4:
            parts.stopping.set()

    parts.source.before_poll = end_earlier
    report = parts.runner.run()
    assert (report.state, parts.sink.rows, parts.committer.positions) == ("stopped", [1, 2, 3, "sealed"], {0: 3})
    assert "end" not in parts.log


def test_rows_nobody_took_are_not_committed_at_a_stop() -> None:
    parts = stopped_at_the_fifth(failures=[UndeliveredError()])
    report = parts.runner.run()
    assert (report.state, report.ledger.read, parts.sink.rows, parts.engine.count) == ("stopped", 0, [], 0)


def test_the_time_to_run_is_kept() -> None:
    parts = Parts(run_for_ms=1_500)
    report = parts.runner.run()
    assert (report.state, report.elapsed_s, report.ledger.read) == ("stopped", 1.5, 15)


def test_a_commit_on_request() -> None:
    parts = Parts(total=5, interval_ms=1_000_000)
    done: list[threading.Event] = []
    parts.source.before_poll = lambda: done.append(parts.runner.request_commit()) if not done else None
    parts.runner.run()
    assert parts.log.index("source committed {0: 1}") < parts.log.index("write [2]")
    assert done[0].is_set()


def test_the_engine_is_told_the_time_by_the_clock_that_nobody_sets() -> None:
    parts = Parts(total=10)
    parts.runner.run()
    told = [entry for entry in parts.log if entry.startswith("advance")]
    assert told[:3] == [f"advance {ms} []" for ms in (100, 400, 700)]
    assert told[-1].endswith(" [0]") or len(told) == 4


def test_lanes_that_run_ahead_are_held_back_and_let_go() -> None:
    parts = Parts(total=6)
    parts.source.before_poll = lambda: parts.engine.__setattr__("ahead", [1] if parts.source.position in (2, 3) else [])
    parts.runner.run()
    assert [entry for entry in parts.log if entry.startswith("pause")] == ["pause [1]", "pause []"]


def test_without_a_clock_before_the_end_nothing_is_held_back() -> None:
    parts = Parts(total=3, pauses_lanes=False)
    parts.engine.ahead = [0]
    parts.runner.run()
    assert "pause [0]" not in parts.log


def test_a_rollback_lets_held_lanes_go() -> None:
    parts = Parts(total=3, failures=[SinkError("away")])
    parts.engine.ahead = [1]
    parts.runner.run()
    assert [entry for entry in parts.log if entry.startswith("pause")] == ["pause [1]", "pause []", "pause [1]"]


def test_lanes_that_join_are_assigned_before_their_records() -> None:
    parts = Parts(total=3)
    parts.source.lanes_added = {1: (7,)}
    parts.runner.run()
    assert parts.engine.lanes == [7]


def test_the_breaker_sees_every_push() -> None:
    seen: list[tuple[int, int]] = []

    def observe(read: int, rejected: int) -> None:
        seen.append((read, rejected))
        if len(seen) == 2:
            raise ErrorRateError("DLQ_STORM")

    parts = Parts(total=5, observe=observe)
    with pytest.raises(ErrorRateError):
        parts.runner.run()
    assert seen == [(1, 0), (1, 0)]


@pytest.mark.parametrize(
    ("letters", "told"),
    [
        (None, "no dead letters of them are kept"),
        (FakeDeadLetters([]), "their dead letters: letters.jsonl"),
        (LostDeadLetters([]), "their dead letters are lost: no disk"),
    ],
)
def test_the_breaker_names_the_first_refusal(letters: FakeDeadLetters | None, told: str) -> None:
    def observe(_read: int, rejected: int) -> None:
        if rejected:
            raise ErrorRateError("DLQ_STORM")

    parts = Parts(total=5, observe=observe, dead_letters=letters)
    parts.engine.refuses = True
    with pytest.raises(ErrorRateError, match=rf"^DLQ_STORM\nthe first: 1 at offset 1 of 1 \[1\]: 1\n{told}"):
        parts.runner.run()
    assert letters is None or letters.log == ["letters 1", "letters kept"]
    assert parts.runner.report("failed").ledger.read == 1


def test_a_refusal_cannot_move_the_cursor() -> None:
    assert describe_refusal(batch("rejected", ["\x1b[2J"])).count("�[2J") == 5


def test_reports_come_about_once_a_second() -> None:
    parts = Parts(total=25)
    reports: list[Report] = []
    parts.runner.observe(reports.append)
    parts.runner.run()
    assert [report.ledger.read for report in reports] == [1, 11, 21]
    assert {report.state for report in reports} == {"running"}


@pytest.fixture
def pushing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every poll is large enough to be pushed while the next ones go on."""
    monkeypatch.setattr(runner_module, "PUSH_BEHIND_RECORDS_MIN", 1)


@pytest.mark.usefixtures("pushing_behind")
def test_a_large_poll_is_pushed_while_the_next_ones_go_on() -> None:
    parts = Parts(total=4)
    assert parts.runner.run().ledger.read == 4
    order = [entry.split()[0] for entry in parts.log if entry.split()[0] in ("behind", "push", "end", "seal")]
    # The engine is told the time at the first and the fourth poll, and settles what is under way.
    assert order == ["behind", "push", "behind", "behind", "behind", "push", "push", "push", "end", "seal"]


@pytest.mark.usefixtures("pushing_behind")
def test_refused_rows_are_held_against_the_records_of_their_own_push() -> None:
    counts: list[tuple[int, int]] = []
    parts = Parts(total=6, observe=lambda read, rejected: counts.append((read, rejected)))
    parts.engine.refuses = True
    parts.runner.run()
    assert sum(read for read, _ in counts) == 6
    assert all(read == rejected for read, rejected in counts)


@pytest.mark.usefixtures("pushing_behind")
def test_everything_polled_is_pushed_before_an_epoch_is_cut() -> None:
    parts = Parts(total=25, interval_ms=1_000)
    committed_counts: list[tuple[int, int]] = []
    committed = parts.source.committed

    def note(positions: Mapping[int, int]) -> None:
        committed_counts.append((parts.engine.count, positions[0]))
        committed(positions)

    parts.source.committed = note  # type: ignore[method-assign]
    parts.runner.run()
    assert committed_counts == [(10, 10), (20, 20), (25, 25)]


@pytest.mark.usefixtures("pushing_behind")
def test_what_is_pushed_behind_does_not_survive_a_rollback() -> None:
    parts = Parts(total=5)
    write, failures = parts.sink.write, [SinkError("away")]

    def fail_once(batch: _core.Batch, version: Version) -> None:
        if parts.engine.count == 2 and failures:
            raise failures.pop()
        write(batch, version)

    parts.sink.write = fail_once  # type: ignore[method-assign]
    report = parts.runner.run()
    assert (report.retries, report.ledger.read) == (1, 5)
    assert parts.sink.rows == [1, 2, 3, 4, 5, "closed", "sealed"]


@pytest.mark.usefixtures("pushing_behind")
def test_a_stop_waits_for_what_is_pushed_behind() -> None:
    parts = Parts(interval_ms=1_000_000)
    parts.source.before_poll = lambda: parts.stopping.set() if parts.source.position == 4 else None
    assert parts.runner.run().ledger.read == 5
    assert parts.sink.rows == [1, 2, 3, 4, 5, "sealed"]


def test_while_the_committer_stands_nothing_changes_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    parts, in_doubt = Parts(total=4, interval_ms=POLL_MS), threading.Event()
    monkeypatch.setattr(Committer, "stands", property(lambda _self: in_doubt.is_set()))
    touched: list[int] = []

    def doubt_once() -> None:
        if parts.source.position == 2 and not touched:
            in_doubt.set()
            parts.source.polls_before_end = 20
            touched.append(len(parts.log))
        elif in_doubt.is_set() and parts.source.polls_before_end == 0:
            in_doubt.clear()
            touched.append(len(parts.log))

    parts.source.before_poll = doubt_once
    report = parts.runner.run()
    assert parts.log[touched[0] : touched[1]] == []
    assert report.ledger.read == 4
