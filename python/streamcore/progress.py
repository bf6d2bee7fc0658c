"""Owns how a run tells on standard error how it is doing: for a person on a terminal, for a program elsewhere.

Before it: reports of the runner, about one a second. After it: standard error, and the file of `--report`.
Invariant: standard output is never touched; elsewhere than on a terminal a run of days leaves no more than a line every half minute.

Elsewhere a line is `{"progress": {...}}`, and the last one `{"report": {..., "ledger": {...}}}`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from streamcore._core import LANES_PER_INPUT
from streamcore.report import Report

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status


RATE_INTERVAL_S_MIN = 0.1
"""Below it a rate says nothing: the first report comes when a run has hardly begun."""

JSON_INTERVAL_S = 30.0
"""Between two lines that a log keeps; who wants to know at once asks `--listen`."""


class Progress(Protocol):
    """Takes reports."""

    def update(self, report: Report) -> None:
        """The run so far; called from the run's thread."""

    def finish(self, report: Report) -> None:
        """The last report."""


class JsonProgress:
    """A JSON line with the first report, then one every `JSON_INTERVAL_S`, and one with the last."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._rate = Rate()
        self._due_s = 0.0

    def update(self, report: Report) -> None:
        """Writes a progress line, if one is due."""
        if report.elapsed_s < self._due_s:
            return
        self._due_s = report.elapsed_s + JSON_INTERVAL_S
        ledger = report.ledger
        self._write(
            "progress",
            {
                "elapsed_s": round(report.elapsed_s, 3),
                "records": ledger.read,
                "records_per_second": round(self._rate.update(report)),
                "result_rows": report.rows.get("result", 0),
                "watermark": time_text(report.watermark_ms),
                "open_windows": report.open_windows,
                "late": ledger.late,
                "duplicate": ledger.duplicate,
                "rejected": ledger.rejected,
                "epoch": report.epoch,
                "lags": {str(lane): told for lane, told in report.lags.items()},
            },
        )

    def finish(self, report: Report) -> None:
        """Writes the report line."""
        self._write("report", report.to_dict())

    def _write(self, kind: str, content: dict[str, object]) -> None:
        self._file.write(json.dumps({kind: content}, separators=(",", ":")) + "\n")
        self._file.flush()


class TerminalProgress:
    """One line that is redrawn, and a summary at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rate = Rate()
        self._status: Status | None = None

    def update(self, report: Report) -> None:
        """Redraws the line."""
        text = progress_text(report, self._rate.update(report))
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        self._status.update(text)

    def finish(self, report: Report) -> None:
        """Replaces the line by the summary."""
        if self._status is not None:
            self._status.stop()
        print_summary(self._console, report)


class CaptionProgress:
    """The line under a live table, which owns the terminal while it is up; the summary comes below it."""

    def __init__(self, tell: Callable[[str], None], console: Console) -> None:
        """`tell` puts a text under the table."""
        self._tell = tell
        self._console = console
        self._rate = Rate()

    def update(self, report: Report) -> None:
        """Changes the line."""
        self._tell(progress_text(report, self._rate.update(report)))

    def finish(self, report: Report) -> None:
        """Prints the summary; the table has been closed."""
        print_summary(self._console, report)


class Rate:
    """Records per second between one report and the next."""

    def __init__(self) -> None:
        self._records = 0
        self._elapsed_s = 0.0

    def update(self, report: Report) -> float:
        """The rate since the last call; 0 when hardly any time has passed."""
        records, elapsed_s = report.ledger.read, report.elapsed_s
        seconds = elapsed_s - self._elapsed_s
        rate = (records - self._records) / seconds if seconds >= RATE_INTERVAL_S_MIN else 0.0
        self._records, self._elapsed_s = records, elapsed_s
        return rate


def progress_text(report: Report, records_per_second: float) -> str:
    """A run in one line."""
    ledger = report.ledger
    parts = [
        f"{ledger.read:,} records",
        f"{records_per_second:,.0f}/s",
        f"watermark {time_text(report.watermark_ms) or '-'}",
        _counted(report.open_windows, "open window"),
    ]
    if report.lags:
        parts.append(lag_text(report.lags))
    parts += [f"{count:,} {name}" for name, count in _exceptions(report)]
    if report.retries:
        parts.append(f"{report.retries:,} epochs tried again")
    return " · ".join(parts)


def lag_text(lags: Mapping[int, Mapping[str, Any]]) -> str:
    """How many offsets are still to be read, and of which partition most."""
    of_lanes = {lane: int(told["lag"]) for lane, told in lags.items()}
    total, most = sum(of_lanes.values()), max(of_lanes, key=lambda lane: of_lanes[lane])
    of_one = f" ([{most % LANES_PER_INPUT}] {of_lanes[most]:,})" if 0 < of_lanes[most] < total else ""
    return f"lag {total:,}{of_one}"


def summary_text(report: Report) -> str:
    """A finished run in one or two lines, and two more where records were rejected."""
    rows = report.rows.get("result", 0)
    seconds = max(report.elapsed_s, 0.001)
    ledger = report.ledger
    # At the end of a bounded input every window has left; what the engine keeps is for records that may come later.
    windows = (
        f", {_counted(report.open_windows, 'open window')}" if report.state != "ended" and report.open_windows else ""
    )
    speed = f"{ledger.read:,} records in {report.elapsed_s:.1f} s ({ledger.read / seconds:,.0f}/s)"
    lines = [f"{report.state}: {speed}, {_counted(rows, 'result row')}{windows}"]
    left_out = [f"{count:,} {name}" for name, count in _exceptions(report)]
    if left_out:
        lines.append(f"left out: {', '.join(left_out)}")
    if ledger.rejected and report.first_refusal is not None:
        lines.append(f"first rejected: {report.first_refusal}")
        lines.append(f"dead letters: {report.dead_letters or 'none are kept; [dead_letters] keeps them'}")
    return "\n".join(lines)


def print_summary(console: Console, report: Report) -> None:
    """The summary, with nothing in it taken for markup: it quotes records."""
    console.print(summary_text(report), highlight=False, markup=False, soft_wrap=True)


def time_text(milliseconds: int | None) -> str | None:
    """A time as ISO-8601 in UTC; None, and what no calendar holds, as it is."""
    if milliseconds is None:
        return None
    try:
        moment = datetime.fromtimestamp(milliseconds / 1_000, UTC)
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def _exceptions(report: Report) -> list[tuple[str, int]]:
    ledger = report.ledger
    counts = [
        ("duplicate", ledger.duplicate),
        ("late", ledger.late + ledger.late_after_combine),
        ("future", ledger.future),
        ("rejected", ledger.rejected),
    ]
    counts += [("offsets of accepted gaps", sum(report.skipped.values()))]
    counts += [(f"offsets skipped by {name}", offsets) for name, offsets in report.skipped_by_outboxes.items()]
    counts += [(f"null of {column}", count) for column, (count, _) in report.lost_values.items()]
    counts += [
        (f"{name} at {stage}", stage_counts.get(name, 0))
        for stage, stage_counts in report.stages.items()
        for name in ("duplicate", "late", "rejected")
    ]
    return [(name, count) for name, count in counts if count]
