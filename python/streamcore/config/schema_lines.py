"""Owns writing types into `[source.schema]` of a pipeline file without disturbing anything else in it.

Before it: types guessed from a sample. After it: the file, atomically replaced.
Invariant: the document before and after differ in the added types only; where that cannot be had, nothing is written.
"""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

from streamcore.config.loading import positions_of
from streamcore.config.toml_text import quote
from streamcore.errors import ConfigError

HEADER = "[source.schema]"


def schema_lines(types: Mapping[str, str]) -> list[str]:
    """The lines that declare `types`."""
    return [f"{quote(path)} = {quote(kind)}" for path, kind in sorted(types.items())]


def with_types(text: str, types: Mapping[str, str]) -> str:
    """The document with these types declared. Raises `ConfigError` where they have to be added by hand."""
    before = tomllib.loads(text)
    end = "\r" if "\r\n" in text else ""
    lines = (text.rstrip("\r\n") + end).split("\n")  # not splitlines: a text in the file may hold other separators
    if isinstance(before["source"].get("schema"), dict) and (braces := _braces(text, lines)) is not None:
        lines[braces[0]] = _in_braces(lines[braces[0]], braces[1], types)
    else:
        index, under_header = _place(text, lines)
        added = schema_lines(types)
        if not under_header:
            blank = [""] if index < len(lines) and lines[index].strip() else []
            added = ["", HEADER, *added, *blank]
        lines[index:index] = [line + end for line in added]
    after = "\n".join(lines).rstrip("\r\n") + end + "\n"
    wanted = {**before["source"].get("schema", {}), **types}
    try:
        is_right = tomllib.loads(after) == {**before, "source": {**before["source"], "schema": wanted}}
    except tomllib.TOMLDecodeError:
        is_right = False
    if not is_right:
        by_hand = "\n".join(["[source.schema]", *schema_lines(types)])
        raise ConfigError(f"the types cannot be added to the file as it is written; add them by hand:\n{by_hand}")
    return after


def _braces(text: str, lines: list[str]) -> tuple[int, int] | None:
    """Index of the line with `schema = { ... }`, and where the brace is that closes it; None where it is written otherwise."""
    line, _ = positions_of(text).get("source.schema", (0, 0))
    written = lines[line - 1] if line else ""
    found = re.match(r"""\s*"?schema"?\s*=\s*\{(?:[^"'#{}]|"[^"\\]*"|'[^']*')*\}""", written)
    return None if found is None else (line - 1, found.end() - 1)


def _in_braces(line: str, at: int, types: Mapping[str, str]) -> str:
    """The line with `types` before the brace at `at`."""
    head = line[:at].rstrip()
    comma = "" if head.endswith(("{", ",")) else ","
    return f"{head}{comma} {', '.join(schema_lines(types))} {line[at:]}"


def _place(text: str, lines: list[str]) -> tuple[int, bool]:
    """Index of the line to insert before, and whether the header of the table is already above it."""
    for index, line in enumerate(lines):
        if line.split("#")[0].replace(" ", "").replace('"', "").strip() == HEADER:
            return index + 1, True
    positions = positions_of(text)
    source = [line for path, (line, _) in positions.items() if path == "source" or path.startswith("source.")]
    after = [line for path, (line, _) in positions.items() if line > max(source) and not path.startswith("source")]
    index = min(after) - 1 if after else len(lines)
    # Comments right above the next table belong to it.
    while index > max(source) and lines[index - 1].lstrip().startswith("#"):
        index -= 1
    while index > max(source) and not lines[index - 1].strip():
        index -= 1
    return index, False


def replace_file(path: str, text: str) -> None:
    """Writes `text` beside the file and puts it in its place, with the same rights; a link stays a link."""
    target = Path(os.path.realpath(path))
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).chmod(target.stat().st_mode & 0o7777)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
