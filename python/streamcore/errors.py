"""The exceptions a caller can catch, as a tree.

    Error (catches them all)
    ├── ConfigError            the pipeline is wrong; `.problems` lists every mistake
    │   └── ExpressionError    the mistake is inside an expression
    ├── DecodeError            a record is unreadable where one bad record is fatal (schema samples, tests)
    ├── SourceError            reading failed: broker unreachable, file gone, login refused
    ├── SinkError              writing failed
    ├── StateError             saved state cannot be used
    │   └── StateFullError     the state has reached a bound of [limits]
    ├── FencedError            somebody else owns the partitions
    ├── ErrorRateError         too many records are refused
    └── LedgerError            the conservation ledger does not balance: a bug, please report it

`exit_code` is what the command line ends with.
"""

from __future__ import annotations

from dataclasses import dataclass

SHOWN_MAX = 160
"""Characters of an expression that a message shows, and of them before the mistake."""
SHOWN_BEFORE = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a pipeline: where, what, and what to do about it."""

    path: str
    """Path in the pipeline file, as `steps[1].aggregate.views`."""
    message: str
    hint: str | None = None
    text: str | None = None
    """The expression the mistake is in, if it is in one."""
    start: int | None = None
    """First byte in `text` of the part in question."""
    end: int | None = None
    line: int | None = None
    """1-based line in the pipeline file, when there is a file."""
    column: int | None = None

    def __str__(self) -> str:
        where = f"{self.line}:{self.column}: {self.path}" if self.line is not None else self.path
        lines = [f"{where}: {self.message}"]
        if self.text is not None and self.start is not None:
            lines += [f"    {line}" for line in _shown(self.text, self.start, self.end)]
        if self.hint:
            lines.append(f"    hint: {self.hint}")
        return "\n".join(lines)


def _shown(text: str, start: int, end: int | None) -> tuple[str, str]:
    """A line of `text` and one of carets below the part in question, both cut to what is around it."""
    raw = text.encode()
    at = len(raw[:start].decode(errors="replace"))
    width = len(raw[start:end].decode(errors="replace")) or 1
    first = max(0, at - SHOWN_BEFORE) if len(text) > SHOWN_MAX else 0
    shown = text[first : first + SHOWN_MAX]
    before, behind = "... " if first else "", " ..." if first + SHOWN_MAX < len(text) else ""
    indent = len(before) + at - first
    return f"{before}{shown}{behind}", " " * indent + "^" * min(width, SHOWN_MAX - (at - first))


class Error(Exception):
    """Base of every exception streamcore raises."""

    exit_code = 1


class ConfigError(Error):
    """The pipeline description is wrong. `problems` lists every mistake found."""

    exit_code = 3

    def __init__(self, message: str, problems: list[Problem] | None = None, *, file: str | None = None) -> None:
        self.message = message
        self.problems = problems or []
        self.file = file
        super().__init__(message)

    def __str__(self) -> str:
        head = f"{self.file}: {self.message}" if self.file else self.message
        return "\n".join([head, *(f"  {problem}" for problem in self.problems)])


class ExpressionError(ConfigError):
    """The mistake is inside an expression; the message points at it with a caret."""


class DecodeError(Error):
    """A record cannot be read where that is fatal."""


class SourceError(Error):
    """Reading failed. `unreachable` tells a broker that cannot be reached or refuses the login."""

    def __init__(self, message: str, *, unreachable: bool = False) -> None:
        super().__init__(message)
        self.unreachable = unreachable

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """4 when a server was not reached or refused the login."""
        return 4 if self.unreachable else 1


class SinkError(Error):
    """Writing failed; nothing of the unfinished epoch counts as written.

    The runner goes back and tries a `retriable` failure again, a bounded number of times. `unreachable` tells
    a server that did not answer, or refused the login, when the sink was opened.
    """

    def __init__(self, message: str, *, retriable: bool = True, unreachable: bool = False) -> None:
        super().__init__(message)
        self.retriable = retriable
        self.unreachable = unreachable
        self.after_s = 0.0
        """How long a server asked to be left alone."""

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """4 when a server was not reached or refused the login."""
        return 4 if self.unreachable else 1


class StateError(Error):
    """Saved state is damaged, of another pipeline, or of a newer version."""

    exit_code = 6


class FilesAheadError(StateError):
    """Files of a lane are of later epochs than the state that was read of it, which may have moved on meanwhile."""


class StateFullError(StateError):
    """The state has reached `limits.max_keys` or `limits.max_state_bytes`; the message says which step holds what."""


class RefusedRecordsWarning(UserWarning):
    """Records could not be read or used, so they are in no result and nothing keeps them."""


class LostValuesWarning(UserWarning):
    """Values of a collected table are null: sums beyond their type, or of functions that failed."""


class LateRowsWarning(UserWarning):
    """A bounded read left rows out because they came after their window had closed."""


class FencedError(Error):
    """Another live member owns the partitions, or another process holds the checkpoint."""

    exit_code = 7


class ErrorRateError(Error):
    """More than the allowed share of records is refused: a wrong schema rather than bad records."""

    exit_code = 5


class LedgerError(Error):
    """The conservation ledger does not balance."""
