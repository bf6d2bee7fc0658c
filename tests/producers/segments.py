"""Reads the heads of batches from a broker's own files: which kinds of batches a test really has.

Shares no code with what is tested.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HEAD = struct.Struct(">qiibIhiqqqhii")
LENGTH_END = 12
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@dataclass(frozen=True)
class Batch:
    first: int
    last: int
    count: int
    codec: str
    producer_id: int
    has_append_time: bool
    is_transactional: bool
    is_control: bool
    has_horizon: bool
    """Whether the cleaner has said until when its tombstones and markers are kept, in the place of the base time."""

    @property
    def has_holes(self) -> bool:
        return self.count <= self.last - self.first


def batches(data: Path, topic: str, partition: int) -> list[Batch]:
    """All of a partition, in order."""
    files = sorted((data / f"{topic}-{partition}").glob("*.log"))
    return [batch for file in files for batch in of_file(file.read_bytes())]


def of_file(content: bytes) -> Iterator[Batch]:
    at = 0
    while at + HEAD.size <= len(content):
        first, length, _, _, _, attributes, last_delta, _, _, producer_id, _, _, count = HEAD.unpack_from(content, at)
        if length == 0:  # room that was taken ahead
            return
        yield Batch(
            first,
            first + last_delta,
            count,
            CODECS[attributes & 7],
            producer_id,
            bool(attributes & 8),
            bool(attributes & 16),
            bool(attributes & 32),
            bool(attributes & 64),
        )
        at += LENGTH_END + length
