"""Owns the command `streamcore`: its parser, the choice of the command, and what the shell gets back.

Before it: the shell. After it: `commands/`, one file each.
Invariant: data goes to standard output, everything else to standard error; every error has its exit code.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COMMANDS = (
    "run",
    "demo",
    "check",
    "test",
    "explain",
    "why",
    "init",
    "topics",
    "state",
    "audit",
    "verify",
    "doctor",
    "config",
)

EPILOG = """exit codes: 0 ok, 1 failed, 2 usage, 3 configuration, 4 broker unreachable or login refused,
5 too many refused records, 6 saved state refused or the state's bound reached, 7 another worker owns the data,
130 interrupted

examples:
  streamcore demo --for 8s
  streamcore init my-pipeline.toml
  streamcore run my-pipeline.toml --for 30s"""

OUTPUT_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Of an `OSError` without a file name: what was printed cannot be written."""

BEFORE_NOW = re.compile(r"-(\d+(\.\d+)?(ms|s|m|h|d|w))+")
"""As `-2h`: a time, which argparse takes for an option where it stands alone."""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class VersionAction(argparse.Action):
    """Prints the versions; what they take to find out is imported only then."""

    def __init__(self, option_strings: Sequence[str], dest: str, **rest: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show versions and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Prints one line."""
        from streamcore.versions import version_line

        print(version_line())
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="streamcore",
        description="Turns streams of events into exact, continuously updated tables.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=VersionAction)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"streamcore.commands.{name}").add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    _open_closed_streams()
    _escape_what_no_locale_has()
    try:
        parser = build_parser()
        if not given:
            parser.print_help(sys.stderr)
            parser.exit(EXIT_USAGE)
        parsed = parser.parse_args(_joined(given))
        code = int(parsed.run(parsed))
        sys.stdout.flush()
    except KeyboardInterrupt:
        _ignore_interrupts()
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone.
        _give_up_output()
        return EXIT_FAILED
    except Exception as error:
        from streamcore.errors import Error

        if isinstance(error, OSError) and error.errno in OUTPUT_ERRNOS and error.filename is None:
            _give_up_output()
            print(error_text(f"standard output cannot be written: {error.strerror}"), file=sys.stderr)
            return EXIT_FAILED
        if not isinstance(error, Error):
            raise
        print(error_text(str(error)), file=sys.stderr)
        return error.exit_code
    else:
        return code


def _joined(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--start`, `-2h` as `--start=-2h`, up to a `--`."""
    joined: list[str] = []
    for number, argument in enumerate(arguments):
        if argument == "--":
            return [*joined, *arguments[number:]]
        before = joined[-1] if joined else ""
        if BEFORE_NOW.fullmatch(argument) and before.startswith("--") and "=" not in before:
            joined[-1] = f"{before}={argument}"
        else:
            joined.append(argument)
    return joined


def _open_closed_streams() -> None:
    """A shell may start us with an output closed (`>&-`); Python then has None in its place."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - open as long as the process
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115


def _escape_what_no_locale_has() -> None:
    """A name or a cell outside the encoding of the terminal is shown as an escape instead of a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        sys.stdout.reconfigure(errors="backslashreplace")


def _ignore_interrupts() -> None:
    """Another Ctrl-C, as Python ends, would be a traceback and another exit code. Where a run is still to be closed it ends that: see `signals.py`."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _give_up_output() -> None:
    """Python would complain once more when it flushes at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def error_text(message: str) -> str:
    """`error:` with what happened, then `hint:` with what to do: the part of the first line after its semicolon."""
    head, *rest = message.splitlines() or [""]
    what, _, hint = head.partition("; ")
    lines = [f"error: {what}", *rest]
    return "\n".join([*lines, f"hint: {hint}"] if hint else lines)


if __name__ == "__main__":
    sys.exit(main())
