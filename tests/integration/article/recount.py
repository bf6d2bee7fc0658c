"""An independent count of the topic `clickstream`: plain Python over every record, from the first offset on.

It follows docs/semantics.md and page_counts.toml and shares no code with the engine. Per partition, in offset order:
a record that cannot be read is a dead letter; one from the future is set aside; the others are judged by the clock as
it stood before them, then move it; then filter, dedupe, window.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

OUT_OF_ORDERNESS_MS = 5_000
FUTURE_MS = 3_600_000
WITHIN_MS = 600_000
SIZE_MS = 60_000


@dataclass
class Recount:
    """What must have come out."""

    views: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Per page and end of the minute (epoch seconds)."""
    rejected: dict[tuple[int, int], str] = field(default_factory=dict)
    """Reason of each dead letter by (partition, offset)."""
    ledger: Counter[str] = field(default_factory=Counter)


@dataclass
class Lane:
    latest_ms: int | None = None
    seen: dict[str, int] = field(default_factory=dict)

    def watermark(self) -> float:
        return float("-inf") if self.latest_ms is None else self.latest_ms - OUT_OF_ORDERNESS_MS - 1


class Refused(Exception):  # noqa: N818 - it is an outcome, not a failure
    """A record is a dead letter, for this reason."""


def recount(messages: list[Any]) -> Recount:
    """Counts plain consumer messages of all partitions."""
    outcome = Recount()
    lanes: defaultdict[int, Lane] = defaultdict(Lane)
    for message in sorted(messages, key=lambda message: (message.partition(), message.offset())):
        outcome.ledger["read"] += 1
        try:
            kind = judge(message, lanes[message.partition()], outcome)
        except Refused as refused:
            outcome.rejected[message.partition(), message.offset()] = str(refused)
            kind = "rejected"
        outcome.ledger[kind] += 1
    return outcome


def judge(message: Any, lane: Lane, outcome: Recount) -> str:  # noqa: PLR0911 - one return a class
    """The class of one record in the ledger."""
    if message.value() is None:
        return "tombstone"
    event, time_ms = read(message)
    if time_ms > message.timestamp()[1] + FUTURE_MS:
        return "future"
    watermark = lane.watermark()
    lane.latest_ms = time_ms if lane.latest_ms is None else max(lane.latest_ms, time_ms)
    if event["event_type"] != "page.view":
        return "filtered"
    generation_ms = WITHIN_MS // 8
    if watermark >= (time_ms // generation_ms + 1) * generation_ms + WITHIN_MS:
        return "late"
    if event["event_id"] in lane.seen:
        return "duplicate"
    lane.seen[event["event_id"]] = time_ms
    end_ms = (time_ms // SIZE_MS + 1) * SIZE_MS
    if end_ms - 1 <= watermark:
        return "late"
    outcome.views[event["payload"]["page_id"], end_ms // 1000] += 1
    return "applied"


def read(message: Any) -> tuple[dict[str, Any], int]:
    """The event and its time. Raises `Refused`."""
    try:
        text = message.value().decode()
    except UnicodeDecodeError:
        raise Refused("DECODE_UTF8") from None
    try:
        event = json.loads(text)
    except ValueError:
        raise Refused("DECODE_SYNTAX") from None
    try:
        moment = datetime.fromisoformat(event["timestamp"])
    except ValueError:
        raise Refused("BAD_TIMESTAMP") from None
    if moment.tzinfo is None or "T" not in event["timestamp"]:
        raise Refused("BAD_TIMESTAMP")
    if event["payload"]["user_id"].encode() != message.key():
        raise Refused("KEY_MISMATCH")
    return event, round(moment.timestamp() * 1000)
