from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

import streamcore as sc
from streamcore.errors import ConfigError
from streamcore.inference import describe_types, infer_types
from streamcore.sources.base import Start
from streamcore.sources.iterable import RecordsSource

PATHS = ["n", "x.y"]


def opened(*records: object) -> RecordsSource:
    source = RecordsSource(iter(records))
    source.open(Start())
    return source


def test_types_come_from_the_first_records_and_none_is_lost() -> None:
    source = opened({"n": 1, "x": {"y": True}}, {"n": 1.5})
    assert infer_types(source, PATHS, threading.Event()) == {"n": "float64", "x.y": "bool"}
    raw = source.poll(0).raw
    assert raw is not None
    assert len(raw) == 2


def test_an_empty_input_says_nothing_and_is_told_of() -> None:
    assert infer_types(opened(), PATHS, threading.Event()) is None
    assert "no records to infer types from" in describe_types(None)


def test_a_field_that_no_record_has_is_an_error_with_the_name_that_was_meant() -> None:
    with pytest.raises(ConfigError) as told:
        infer_types(opened({"n": 1, "x": {"views": 2}}), ["n", "x.vews", "zzz"], threading.Event())
    vews, zzz = told.value.problems
    assert (vews.path, vews.message) == ("x.vews", "none of the first records has this field")
    assert vews.hint == 'did you mean "x.views"? if it comes later, declare its type in [source.schema]'
    assert (zzz.path, zzz.hint) == ("zzz", "if it comes later, declare its type in [source.schema]")


def test_fields_of_assumed_types_that_no_record_has_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = [{"page": "a", "status": 500, "ms": 1}, {"page": "b", "status": 200, "ms": 2}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    counted = sc.files(tmp_path / "in.jsonl", event_time="ms", event_time_unit="ms", schema={"page": "string"})
    windows = counted.window(sc.tumbling("1m"), by="page")
    for name in (None, "job"):
        caplog.clear()
        pipeline = windows.agg(n=sc.count(where="stattus > 300"), m=sc.count(where="status > 300"))
        pipeline.configure(name=name, state_dir=str(tmp_path)).run()
        [warning] = [record.getMessage() for record in caplog.records if record.name == "streamcore.fields"]
        assert "has a field stattus, which the pipeline uses" in warning
        assert warning.endswith('did you mean "status"?')


def test_a_stop_ends_the_waiting() -> None:
    stopping = threading.Event()
    stopping.set()
    assert infer_types(opened({"n": 1}), ["n"], stopping) is None


def test_the_guess_is_printed_as_it_would_be_declared() -> None:
    text = describe_types({"b": "int64", "a": "string"})
    assert text.splitlines()[1:] == ["  [source.schema]", '  "a" = "string"', '  "b" = "int64"']
