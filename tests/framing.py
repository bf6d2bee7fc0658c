"""Writes records behind their lengths, for tests of reading them: apart from the engine, so that it is no witness for itself."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable


def varint(number: int) -> bytes:
    """As Protobuf's `writeDelimitedTo` writes a length."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


PREFIXES: dict[str, Callable[[int], bytes]] = {"varint": varint, "u32be": lambda number: struct.pack(">I", number)}


def framed(records: Iterable[bytes], framing: str) -> bytes:
    """A whole file of records."""
    if framing == "lines":
        return b"".join(record + b"\n" for record in records)
    return b"".join(PREFIXES[framing](len(record)) + record for record in records)
