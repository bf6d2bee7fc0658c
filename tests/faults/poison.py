"""Records of which one in a hundred is of each class that cannot be used, beside good ones that look as if they could not.

What is sent is a function of the seed. Before it: `traffic.py`, which sends. The oracle does not use this file: it judges the
bytes. Invariant: a record has one fault at most, so which is named does not depend on who looks first.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from tests.faults.traffic import BOUND_MS, Sent

RECORD_BYTES_MAX = 16_384
"""What `limits.max_record_bytes` of the pipeline is to be."""

CLASS = "class"
"""The header that names a record's class."""

GOOD = "good"
SHARE = 0.01
"""Of each class."""

Fields = dict[str, Any]
Made = tuple[bytes | None, bytes | None]
"""Key and value."""


def _text(fields: Fields) -> bytes:
    return json.dumps(fields).encode()


def _with(literal: bytes) -> Callable[[Fields], Made]:
    """A field more, as it is written."""
    return lambda fields: (_key(fields), _text(fields)[:-1] + b", " + literal + b"}")


def _but(**others: Any) -> Callable[[Fields], Made]:
    """Other values, the record key as before."""
    return lambda fields: (_key(fields), _text(fields | others))


def _without(name: str) -> Callable[[Fields], Made]:
    return lambda fields: (_key(fields), _text({other: value for other, value in fields.items() if other != name}))


def _value(change: Callable[[bytes], bytes | None]) -> Callable[[Fields], Made]:
    return lambda fields: (_key(fields), change(_text(fields)))


def _keyed(key: Callable[[bytes], bytes | None]) -> Callable[[Fields], Made]:
    return lambda fields: (key(_key(fields)), _text(fields))


def _named(name: str) -> Callable[[Fields], Made]:
    """Another key, in the record and of it."""
    return lambda fields: (name.encode(), _text(fields | {"k": name}))


def _key(fields: Fields) -> bytes:
    name: str = fields["k"]
    return name.encode()


def _nested(levels: int) -> bytes:
    return b'"z": ' + b"[" * levels + b"]" * levels


BAD: dict[str, tuple[str, Callable[[Fields], Made]]] = {
    "no JSON": ("DECODE_SYNTAX", _value(lambda text: b"\x00\x01" + text[2:])),
    "truncated": ("DECODE_SYNTAX", _value(lambda text: text[:-7])),
    "bytes behind it": ("DECODE_SYNTAX", _value(lambda text: text + b"}")),
    "empty": ("DECODE_SYNTAX", _value(lambda _: b"")),
    "a mark of byte order": ("DECODE_SYNTAX", _value(lambda text: b"\xef\xbb\xbf" + text)),
    "NaN": ("DECODE_SYNTAX", _with(b'"z": NaN')),
    "a raw control character": ("DECODE_SYNTAX", _with(b'"z": "\x00"')),
    "invalid UTF-8": ("DECODE_UTF8", _with(b'"z": "\xff\xfe"')),
    "an overlong encoding": ("DECODE_UTF8", _with(b'"z": "\xc0\x80"')),
    "a lone surrogate": ("DECODE_UTF8", _with(rb'"z": "\ud800"')),
    "one level too deep": ("DEPTH_LIMIT", _with(_nested(64))),
    "thousands of levels": ("DEPTH_LIMIT", _value(lambda text: text[:-1] + b', "z": ' + b"[" * 8_000)),
    "too large": ("SIZE_LIMIT", _with(b'"z": "' + b"a" * RECORD_BYTES_MAX + b'"')),
    "beyond int64": ("NUMBER_RANGE", _but(v=2**63)),
    "a fraction": ("NUMBER_RANGE", _but(v=0.5)),
    "beyond float64": ("NUMBER_RANGE", _with(b'"f": 1e400')),
    "too many digits": ("NUMBER_RANGE", _with(b'"z": ' + b"1" * 1_025)),
    "no object": ("TYPE_MISMATCH", _value(lambda text: b"[" + text + b"]")),
    "text for a number": ("TYPE_MISMATCH", _but(v="1")),
    "a number for text": ("TYPE_MISMATCH", _but(k=7)),
    "no time": ("MISSING_FIELD", _without("t")),
    "a time of null": ("MISSING_FIELD", _but(t=None)),
    "no id": ("MISSING_FIELD", _without("id")),
    "a field twice": ("DUP_FIELD", _with(b'"v": 1')),
    "a field twice, once escaped": ("DUP_FIELD", _with(rb'"\u0076": 1')),
    "no time in words": ("BAD_TIMESTAMP", _but(t="the day before")),
    "a time without zone": ("BAD_TIMESTAMP", _but(t="1970-01-01T00:00:10")),
    "the year 10000": ("BAD_TIMESTAMP", _but(t=253_402_300_800_000)),
    "before the year 1": ("BAD_TIMESTAMP", _but(t=-62_135_596_800_001)),
    "no key": ("KEY_MISMATCH", _keyed(lambda _: None)),
    "another key": ("KEY_MISMATCH", _keyed(lambda key: key + b"x")),
    "no group": ("KEY_MISMATCH", _but(k=None)),
    "a key too long": ("KEY_TOO_LONG", _named("long" * 1_250)),
    "the year 9999": ("future", _but(t=253_402_300_799_999)),
    "no value": ("tombstone", _value(lambda _: None)),
}
"""By class: what becomes of it, and how one is made of a good record's fields."""

ODD: dict[str, Callable[[Fields], Made]] = {
    "an escaped NUL": _with(rb'"z": "\u0000\ud83d\ude00"'),
    "an unused field twice": _with(b'"z": 1, "z": 2'),
    "as deep as may be": _with(_nested(63)),
    "an unused number beyond float64": _with(b'"z": 1e400'),
    "the largest float64": _with(b'"f": 1.7976931348623157e308'),
    "a number beyond 2^53": _but(v=2**53 + 1),
    "minus zero": lambda fields: (_key(fields), _text(fields | {"v": 0}).replace(b'"v": 0', b'"v": -0')),
    "null for a number": _but(v=None),
    "no number": _without("v"),
    "no key at all": lambda fields: (None, _text(fields | {"k": None})),
    "an empty key": _named(""),
    "composed": _named("\u00e9"),
    "decomposed": _named("e\u0301"),
    "an object of __proto__": _with(b'"__proto__": {"k": "other", "t": 1}'),
    "nearly too large": _with(b'"z": "' + b"a" * (RECORD_BYTES_MAX - 400) + b'"'),
}
"""Good ones that look bad."""


def records(seed: int, *, partitions: int, keys: int) -> Iterator[Sent]:
    """Without end; one in twenty is a copy, and one in three hundred of each of `ODD`."""
    chance = random.Random(seed)
    recent: list[Sent] = []
    makers: dict[str, Callable[[Fields], Made]] = {
        **{name: make for name, (_, make) in BAD.items()},
        **ODD,
        GOOD: lambda fields: (_key(fields), _text(fields)),
    }
    shares = [SHARE] * len(BAD) + [SHARE / 3] * len(ODD)
    weights = [*shares, 1 - sum(shares)]
    number = 0
    while True:
        number += 1
        if recent and chance.random() < 0.05:
            yield chance.choice(recent)
            continue
        key = chance.randrange(keys)
        fields = {
            "t": number * 10 - chance.randrange(BOUND_MS - 10),
            "k": f"k{key}",
            "v": chance.randint(-1000, 1000),
            "id": f"{seed}-{number}",
        }
        name = chance.choices(list(makers), weights)[0]
        record_key, value = makers[name](fields)
        # All of one key lie together, as a producer's partitioner has them.
        partition = key % partitions if record_key == _key(fields) else 0
        sent = Sent(partition, record_key, value, headers=((CLASS, name.encode()),))
        yield sent
        recent = [*recent[-49:], sent]
