"""Owns "did you mean".

Before it: nothing. After it: every message about a name that is not known.
Invariant: a suggestion is one of the names given, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def closest(name: object, known: Iterable[str]) -> str | None:
    """The known name that is closest, if one is close."""
    matches = get_close_matches(str(name).lower(), list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(name: object, known: Iterable[str]) -> str | None:
    """The sentence that names the closest known name, if one is close.

    >>> did_you_mean("topik", ["topic", "type"])
    'did you mean "topic"?'
    """
    match = closest(name, known)
    return f'did you mean "{match}"?' if match is not None else None


def listed(names: Iterable[str]) -> str:
    """Names in quotes, for "one of ..."."""
    return ", ".join(f'"{name}"' for name in names)
