from __future__ import annotations

import threading

from streamcore.inference import describe_types, infer_types
from streamcore.sources.base import Start
from streamcore.sources.iterable import RecordsSource

PATHS = ["n", "x.y", "nowhere"]


def opened(*records: object) -> RecordsSource:
    source = RecordsSource(iter(records))
    source.open(Start())
    return source


def test_types_come_from_the_first_records_and_none_is_lost() -> None:
    source = opened({"n": 1, "x": {"y": True}}, {"n": 1.5})
    assert infer_types(source, PATHS, threading.Event()) == {"n": "float64", "x.y": "bool", "nowhere": "string"}
    raw = source.poll(0).raw
    assert raw is not None
    assert len(raw) == 2


def test_an_empty_input_has_text_only() -> None:
    assert infer_types(opened(), PATHS, threading.Event()) == dict.fromkeys(PATHS, "string")


def test_a_stop_ends_the_waiting() -> None:
    stopping = threading.Event()
    stopping.set()
    assert infer_types(opened({"n": 1}), ["n"], stopping) == {"n": "string"}


def test_the_guess_is_printed_as_it_would_be_declared() -> None:
    text = describe_types({"b": "int64", "a": "string"})
    assert text.splitlines()[1:] == ["  [source.schema]", '  "a" = "string"', '  "b" = "int64"']
