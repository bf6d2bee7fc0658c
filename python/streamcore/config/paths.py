"""Owns how a place in a pipeline file is named: `steps[1].aggregate.views`, `source.schema."payload.page_id"`.

Before it: nothing. After it: everything that reports or overrides a key.
Invariant: `parse_path(format_path(p)) == p`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

Path = tuple[str | int, ...]
"""Keys and list positions from the top of the document."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_PART = re.compile(r"""\[(?P<index>\d+)\]|(?P<bare>[A-Za-z0-9_-]+)|"(?P<quoted>[^"]*)"|'(?P<literal>[^']*)'""")

TOP_LEVEL_TEXT = frozenset({"tests"})
"""Tables whose strings are data: what looks like a variable in them is not one."""


def format_path(path: Sequence[str | int]) -> str:
    """The text of a path; keys that are not bare TOML keys are quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else f'"{part}"')
    return text


def parse_path(text: str) -> Path:
    """Undoes `format_path`. Raises `ValueError`."""
    path: list[str | int] = []
    position = 0
    while position < len(text):
        match = _PART.match(text, position)
        if match is None:
            raise ValueError(f'"{text}" is no path such as steps[0].within: stuck at "{text[position:]}"')
        path.append(int(match["index"]) if match["index"] is not None else match[match.lastgroup or "bare"])
        position = match.end()
        if position < len(text) and text[position] == ".":
            position += 1
            if position == len(text):
                raise ValueError(f'"{text}" ends with a dot')
        elif position < len(text) and text[position] != "[":
            raise ValueError(f'"{text}" is no path such as steps[0].within: stuck at "{text[position:]}"')
    if not path or isinstance(path[0], int):
        raise ValueError(f'"{text}" is no path such as steps[0].within')
    return tuple(path)


def is_expression(path: Sequence[str | int]) -> bool:
    """Whether the string there is an expression or test data, so that a `$` in it means what the engine says."""
    if path[0] in TOP_LEVEL_TEXT or tuple(path) == ("source", "where"):
        return True
    if path[0] == "sources" and len(path) > 2:
        return path[2] == "where" or (path[2] == "steps" and is_expression(path[2:]))
    return len(path) > 2 and path[0] == "steps" and path[2] in ("filter", "select", "aggregate", "by")
