"""Owns the bench's input: the reference event, a file of it, and the answer counted while it is made.

Before it: nothing but a seed. After it: every bench, which compares its rows with `Input.counts` before it
reports a time. Invariant: the answer comes from the numbers drawn, never from reading the JSON back.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

START_MS = 1_790_000_000_000
EVENTS_PER_MS = 20
PAGES = 1_000
USERS = 100_000
MINUTE_MS = 60_000

USER_AT = 146
"""Where in an event its user is."""

Counts = dict[tuple[str, int], int]
"""Views by page and start of the minute, ms."""


@dataclass(frozen=True)
class Click:
    user: str
    page: str
    time_ms: int
    value: bytes


@dataclass(frozen=True)
class Input:
    path: Path
    events: int
    counts: Counts


def clicks(events: int, seed: int = 1) -> Iterator[Click]:
    """The reference events: 20 a millisecond of event time, in order, pages by a power law."""
    draw = random.Random(seed)
    for number in range(events):
        time_ms = START_MS + number // EVENTS_PER_MS
        user, page = f"u{draw.randrange(USERS)}", f"p{int(draw.paretovariate(1.1)) % PAGES}"
        yield Click(user, page, time_ms, _event(draw, user, page, time_ms))


def _event(draw: random.Random, user: str, page: str, time_ms: int) -> bytes:
    digits = f"{draw.getrandbits(128):032x}"
    ident = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
    text = dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.")
    dwell, address = draw.randrange(60_000), draw.randrange(1 << 24)
    ip = f"10.{address >> 16}.{address >> 8 & 255}.{address & 255}"
    return (
        f'{{"event_id":"{ident}","event_type":"page.view.click.v1","timestamp":"{text}{time_ms % 1000:03d}Z",'
        f'"payload":{{"user_id":"{user}","page_id":"{page}","dwell_ms":{dwell}}},'
        f'"metadata":{{"source":"web","ip":"{ip}"}}}}'
    ).encode()


def prepare(folder: Path, events: int, every: int = 1) -> Input:
    """The input file and its answer, made once and kept for the next run: of `events` events every `every`-th."""
    name = f"clicks-{events}" if every == 1 else f"clicks-{events}-every-{every}"
    path, answer = folder / f"{name}.jsonl", folder / f"{name}.counts.json"
    if not (path.is_file() and answer.is_file()):
        folder.mkdir(parents=True, exist_ok=True)
        counts: Counter[tuple[str, int]] = Counter()
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            for click in itertools.islice(clicks(events), 0, None, every):
                file.write(click.value + b"\n")
                counts[click.page, click.time_ms - click.time_ms % MINUTE_MS] += 1
        answer.write_text(json.dumps([[page, start, count] for (page, start), count in counts.items()]))
        partial.rename(path)
    counted = {(page, start): count for page, start, count in json.loads(answer.read_text())}
    return Input(path, len(range(0, events, every)), counted)


def values(data: Input) -> Iterator[bytes]:
    """Its events, from the file."""
    with data.path.open("rb") as file:
        for line in file:
            yield line[:-1]


def user_of(value: bytes) -> bytes:
    """The user of a reference event, whose fields in front of it are always as long."""
    return value[USER_AT : value.index(b'"', USER_AT)]
