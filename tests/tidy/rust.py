"""Reads Rust sources without a compiler: comments and literals are blanked, then braces are counted.

Invariant: blanking keeps every line break, so line numbers stay those of the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.tidy.tree import text

TOKEN = re.compile(
    r"""
      (?P<comment> //[^\n]* )
    | (?P<block> /\* )
    | (?P<raw> \b b?r(?P<hashes>\#*)" )
    | (?P<string> b?"(?:\\.|[^"\\])*" )
    | (?P<char> b?'(?:\\(?:x[0-9a-fA-F]{2}|u\{[0-9a-fA-F_]+\}|.)|[^'\\\n])' )
    """,
    re.VERBOSE | re.DOTALL,
)
FUNCTION = re.compile(r"\bfn\s+([a-zA-Z_]\w*)")
MODULE = re.compile(r"^\s*(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+)\s*;", re.MULTILINE)
CRATE_PATH = re.compile(r"\bcrate::(\w+)")
CRATE_GROUP = re.compile(r"\bcrate::\{")


@dataclass(frozen=True)
class Function:
    name: str
    line: int
    lines: int


@cache
def code(path: Path) -> str:
    """The file with comments, strings and characters blanked."""
    return blank(text(path))


def blank(source: str) -> str:
    out = []
    position = 0
    while match := TOKEN.search(source, position):
        end = _literal_end(source, match)
        out += [source[position : match.start()], re.sub(r"[^\n]", " ", source[match.start() : end])]
        position = end
    return "".join([*out, source[position:]])


def _literal_end(source: str, match: re.Match[str]) -> int:
    if match["raw"]:
        closing = source.find('"' + match["hashes"], match.end())
        return len(source) if closing < 0 else closing + 1 + len(match["hashes"])
    if match["block"]:
        return _comment_end(source, match.end())
    return match.end()


def _comment_end(source: str, position: int) -> int:
    """Block comments nest."""
    depth = 1
    while depth and (mark := re.compile(r"/\*|\*/").search(source, position)):
        depth += 1 if mark[0] == "/*" else -1
        position = mark.end()
    return position if depth == 0 else len(source)


def functions(source: str) -> list[Function]:
    """Every function with a body, from `fn` to its closing brace. `source` is blanked."""
    found = []
    for match in FUNCTION.finditer(source):
        end = _body_end(source, match.end())
        if end is not None:
            line = source.count("\n", 0, match.start()) + 1
            found.append(Function(match[1], line, source.count("\n", match.start(), end) + 1))
    return found


def _body_end(source: str, position: int) -> int | None:
    """One past the brace that closes the body; None for a declaration that ends in `;`."""
    nesting = 0  # of ( and [, where a `;` separates the length of an array
    depth = 0
    for at in range(position, len(source)):
        char = source[at]
        if depth == 0 and char in "([":
            nesting += 1
        elif depth == 0 and char in ")]":
            nesting -= 1
        elif depth == 0 and nesting == 0 and char == ";":
            return None
        elif char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if depth == 0:
                return at + 1
    return None


def submodules(source: str) -> list[str]:
    """Names declared by `mod name;`. `source` is blanked."""
    return MODULE.findall(source)


def crate_uses(source: str) -> set[str]:
    """The top-level modules of its own crate that a file names. `source` is blanked."""
    used = set(CRATE_PATH.findall(source))
    for match in CRATE_GROUP.finditer(source):
        used |= _group_heads(source, match.end())
    return used


def _group_heads(source: str, position: int) -> set[str]:
    """First names of `{a::b, c::{d, e}}`, given the position behind the opening brace."""
    heads = set()
    depth = 1
    expecting = True
    for token in re.compile(r"\w+|[{},]|::").finditer(source, position):
        if token[0] == "{":
            depth += 1
        elif token[0] == "}":
            depth -= 1
            if depth == 0:
                break
        elif token[0] == "," and depth == 1:
            expecting = True
        elif expecting and token[0] != "::":
            heads.add(token[0])
            expecting = False
    return heads


def module_of(path: Path, root: Path) -> str:
    """The top-level module a file belongs to: `window` for `window/session.rs`, `lib` for the root."""
    return path.relative_to(root).parts[0].removesuffix(".rs")


def without_tests(source: str) -> str:
    """Drops `#[cfg(test)] mod ... { }`: tests may reach across layers. `source` is blanked."""
    marker = re.compile(r"#\[cfg\(test\)\]\s*mod\s+\w+\s*\{")
    while match := marker.search(source):
        end = _body_end(source, match.end() - 1)
        lines = source[match.start() : end].count("\n")
        source = source[: match.start()] + "\n" * lines + source[end:]
    return source
