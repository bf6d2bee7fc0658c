"""Clicks over HTTP, as fast as a test can: many keep-alive connections with several requests under way on each.

The mix is that of a bad day: copies sent again later, timestamps that are none, clicks minutes late or hours ahead,
other events, everything somewhat out of order.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

CONNECTIONS = 32
PIPELINED = 8
SPAN = timedelta(minutes=8)
"""Event time the traffic covers."""

BAD_TIMESTAMPS = ("yesterday", "2026-13-01T00:00:00Z", "12:00", "1790000000000", "2026-01-01T00:00:00")


def clicks(count: int, start: datetime, seed: int) -> Iterator[dict[str, Any]]:
    """`count` clicks; about one in a hundred is a copy of an earlier one, and one in a hundred has no usable time."""
    chance = random.Random(seed)
    recent: list[dict[str, Any]] = []
    for number in range(count):
        kind = chance.random()
        if kind < 0.01 and recent:
            yield chance.choice(recent)
            continue
        moment = start + SPAN * number / count - timedelta(milliseconds=chance.randrange(4_000))
        if kind > 0.995:
            moment -= timedelta(seconds=chance.randrange(90, 240))
        if kind > 0.999:
            moment += timedelta(hours=3)
        click = {
            "event_id": f"{seed}-{number}",
            "user_id": f"u{chance.randrange(5_000)}",
            "page_id": f"p{min(int(chance.paretovariate(1.1)), 1_000)}",
            "dwell_ms": chance.randrange(60_000),
            "event_type": "page.leave" if chance.random() < 0.05 else "page.view",
            "timestamp": moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        if 0.01 <= kind < 0.02:
            click["timestamp"] = chance.choice(BAD_TIMESTAMPS)
        recent.append(click)
        del recent[:-5_000]
        yield click


async def post_all(port: int, bodies: Iterator[dict[str, Any]], on_progress: Callable[[int], None]) -> list[int]:
    """Posts every body to `/click`; returns the statuses. `on_progress` is told how many are done."""
    statuses: list[int] = []

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while batch := [request(body) for _, body in zip(range(PIPELINED), bodies, strict=False)]:
            writer.write(b"".join(batch))
            await writer.drain()
            statuses.extend([await status(reader) for _ in batch])
            on_progress(len(statuses))
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    return statuses


def request(body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = (
        f"POST /click HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def status(reader: asyncio.StreamReader) -> int:
    """Reads one response."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    lines = head.split("\r\n")
    length = next(int(line.partition(":")[2]) for line in lines if line.lower().startswith("content-length:"))
    await reader.readexactly(length)
    return int(lines[0].split(" ")[1])
