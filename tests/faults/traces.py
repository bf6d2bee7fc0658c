"""Reads what commit machines recorded, and holds it against rule 7.

Rule 7: once it is unknown whether a call happened, or may yet happen, the producer is replaced and the manifests are read again
before anything else goes into a transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

SLOW_MS = 2000


def steps(trace: str) -> Iterator[tuple[int, dict[str, Any], int, dict[str, Any]]]:
    """Each action that was carried out and its answer, with the times at which they were told."""
    given: tuple[int, dict[str, Any]] | None = None
    for line in trace.splitlines()[1:]:
        call = json.loads(line)
        if given is not None:
            yield *given, call["now_ms"], call["event"]
        step = call["actions"][-1] if call["actions"] else {"action": "none"}
        given = (call["now_ms"], step) if step["action"] not in ("rest", "exit", "none") else None


def doubts(trace: str) -> list[str]:
    """Why rule 7 was due after a commit or an abort, each time, where it was kept. Fails where it was not."""
    found: list[str] = []
    due: str | None = None
    since_ms: int | None = None
    for asked_ms, step, told_ms, event in steps(trace):
        name = step["action"]
        if name == "new_producer" and event["event"] == "producer_ready" and due is not None:
            found.append(due)
            due = None
        if name in ("begin", "produce", "send_offsets", "commit"):
            assert due is None, f"{name} although {due}"
        if name not in ("commit", "abort"):
            since_ms = since_ms if name == "wait" else None
            continue
        since_ms = asked_ms if since_ms is None else since_ms
        due = reason(event, told_ms - since_ms) or due
    return found


def reason(event: dict[str, Any], took_ms: int) -> str | None:
    """Why the answer to a commit or an abort leaves something in doubt, or None."""
    if event["event"] == "failed":
        return "its outcome is unknown" if event["error"] == "indeterminate" else None
    if event["disconnected"]:
        return "a connection was lost"
    return f"it took {took_ms} ms" if took_ms > SLOW_MS else None


def manifests_read(trace: str) -> int:
    """How often the state was read after a producer was made."""
    return sum(step["action"] == "read_state" for _, step, _, _ in steps(trace))


def epochs_left(trace: str, *, committed: bool) -> dict[int, int]:
    """By lane, the epoch that a worker leaves which died: the last one it kept, or, where that was `committed`, the one it was committing."""
    kept: dict[int, int] = {}
    under_way: dict[int, int] = {}
    for action in _actions(trace):
        if action["action"] == "produce" and action["part"] == "state":
            under_way = {each["lane"]: each["epoch"] for each in action["lanes"]}
        elif action["action"] == "keep":
            kept |= {each["lane"]: each["epoch"] for each in action["lanes"]}
            under_way = {}
    return kept | under_way if committed else kept


def epochs_found(trace: str) -> dict[int, int]:
    """By lane, the epoch that a worker found when it began; lanes without any are left out."""
    found: dict[int, int] = {}
    for action in _actions(trace):
        if action["action"] == "restore":
            epochs = {each["lane"]: each["manifest"] for each in action["lanes"] if each["manifest"] is not None}
            found = {lane: manifest["epoch"] for lane, manifest in epochs.items()} | found
    return found


def _actions(trace: str) -> Iterator[dict[str, Any]]:
    for line in trace.splitlines()[1:]:
        yield from json.loads(line)["actions"]
