"""Reads the fenced examples of a Markdown page, in order, with what they are said to print.

Conventions: a fence with a file name after its language is that file; a `text` fence directly after a `python`
fence is its output; in a `console` fence, lines after a `$ command` are its output, or with `# exit N` behind the
command what it says on standard error. A line `...` in an output stands for any lines. An HTML comment `<!-- needs: NAME -->` anywhere says what the page wants to be running.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(?P<language>\w+)(?: (?P<file>\S+))?\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS = re.compile(r"<!-- needs: (\w+) -->")


@dataclass(frozen=True)
class Example:
    language: str
    file: str | None
    body: str
    line: int
    output: str | None = None
    """What a `python` example prints, where the page says so."""


@dataclass(frozen=True)
class Command:
    line: str
    output: str
    exit_code: int


def read(path: Path) -> list[Example]:
    page = path.read_text(encoding="utf-8")
    found: list[Example] = []
    end_before = 0
    for match in FENCE.finditer(page):
        line = page.count("\n", 0, match.start()) + 1
        example = Example(match["language"], match["file"], match["body"], line)
        adjacent = not page[end_before : match.start()].strip()
        if example.language == "text" and found and found[-1].language == "python" and adjacent:
            shown = found.pop()
            found.append(Example(shown.language, shown.file, shown.body, shown.line, example.body))
        else:
            found.append(example)
        end_before = match.end()
    return found


def needs(path: Path) -> set[str]:
    return set(NEEDS.findall(path.read_text(encoding="utf-8")))


def commands(body: str) -> list[Command]:
    """The `$` lines of a console example, each with the lines under it."""
    parts = re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]
    found = []
    for part in parts:
        line, _, output = part.partition("\n")
        line, _, remark = line.partition("  # ")
        code = re.fullmatch(r"exit (\d+)", remark)
        found.append(Command(line.strip(), output, int(code[1]) if code else 0))
    return found


def matches(expected: str, got: str) -> bool:
    """Line by line; `...` alone on a line stands for any lines, at its end for the rest of that line."""
    lines = [re.escape(line.rstrip()) for line in expected.rstrip().splitlines()]
    pattern = "\n".join(r"[\s\S]*?" if line == r"\.\.\." else re.sub(r"\\\.\\\.\\\.$", ".*", line) for line in lines)
    return re.fullmatch(pattern, "\n".join(line.rstrip() for line in got.rstrip().splitlines())) is not None
