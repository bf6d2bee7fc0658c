from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

import streamcore as sc
from streamcore.config import MemorySourceConfig
from streamcore.errors import ConfigError
from streamcore.inference import Undeclared, describe_types, infer_types
from streamcore.memory_log import MemoryLog
from streamcore.sources import iterable
from streamcore.sources.base import Source, Start
from streamcore.sources.iterable import RecordsSource
from streamcore.sources.memory import MemorySource

PATHS = Undeclared(["n", "x.y"])


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


def refused(source: Source, *paths: str) -> dict[str, str | None]:
    """The hints of what is refused, by path."""
    with pytest.raises(ConfigError) as told:
        infer_types(source, Undeclared(paths), threading.Event())
    assert {problem.message for problem in told.value.problems} == {"none of the first records has this field"}
    return {problem.path or "": problem.hint for problem in told.value.problems}


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "streamcore.fields"]


def test_a_field_that_no_record_has_is_an_error_with_the_name_that_was_meant() -> None:
    later = "if it comes later, declare its type in [source.schema]"
    hints = refused(opened({"n": 1, "x": {"views": 2}}), "n", "x.vews", "zzz")
    assert hints == {"x.vews": f'did you mean "x.views"? {later}', "zzz": later}


def test_the_path_that_was_meant_is_a_whole_one_that_records_have() -> None:
    hints = refused(
        opened({"uid": 1, "user": {"id": 3, "the page": 1}}), "usr.id", "usr.idd", "usr.`the pge`", "usr.zzz"
    )
    meant = {path: hint.partition("?")[0] for path, hint in hints.items() if hint}
    assert meant["usr.id"] == 'did you mean "user.id"'
    assert meant["usr.idd"] == 'did you mean "user.id"'
    assert meant["usr.`the pge`"] == 'did you mean "user.`the page`"'
    assert meant["usr.zzz"] == "if it comes later, declare its type in [source.schema]"


def test_every_record_of_the_first_poll_is_looked_at() -> None:
    source = opened(*[{"n": 1}] * 1_500, {"n": 1, "discount": 0.5})
    assert infer_types(source, Undeclared(["n", "discount"]), threading.Event()) == {
        "n": "int64",
        "discount": "float64",
    }


def test_a_parent_that_is_null_says_nothing_of_its_fields() -> None:
    source = opened(*[{"user": None}] * 1_200, {"user": {"id": 3}})
    assert infer_types(source, Undeclared(["user.id"]), threading.Event()) == {"user.id": "int64"}
    assert infer_types(opened({"user": None}), Undeclared(["user.id"]), threading.Event()) == {"user.id": "string"}


def test_a_field_that_may_come_later_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    log = MemoryLog()
    log.append("t", b'{"n": 1}')
    source = MemorySource(MemorySourceConfig(topic="t"), log, stop=None)
    source.open(Start())
    assert infer_types(source, Undeclared(["n", "price"]), threading.Event()) == {"n": "int64", "price": "string"}
    [warning] = warnings(caplog)
    assert warning.startswith("none of the first records has a field price,")
    assert warning.endswith("declare its type in [source.schema] if it comes later")
    assert infer_types(source, Undeclared(["price"], ["price"]), threading.Event()) == {"price": "float64"}
    raw = source.poll(0).raw
    assert raw is not None
    assert len(raw) == 1


def test_what_comes_behind_the_first_poll_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    records = [{"n": 1}] * (iterable.POLL_RECORDS_MAX + 1)
    source = opened(*records)
    assert infer_types(source, Undeclared(["n", "price"]), threading.Event()) == {"n": "int64", "price": "string"}
    assert len(warnings(caplog)) == 1
    polled = [source.poll(0) for _ in range(3)]
    assert [len(each.raw) for each in polled if each.raw is not None] == [iterable.POLL_RECORDS_MAX, 1]


def test_a_field_of_the_second_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"page": "a", "ms": 1}\n' * 1_200)
    (tmp_path / "b.jsonl").write_text('{"page": "a", "ms": 1, "price": 2}\n')
    files = sc.files(tmp_path / "*.jsonl", event_time="ms", event_time_unit="ms", schema={"page": "string"})
    [row] = (
        files.window(sc.tumbling("1m"), by="page")
        .agg(n=sc.count(), price=sc.sum("price"))
        .collect()
        .to_polars()
        .rows(named=True)
    )
    assert (row["n"], row["price"]) == (1_201, 2)


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
        [warning] = warnings(caplog)
        assert "has a field stattus, which the pipeline uses" in warning
        assert warning.endswith('did you mean "status"?')


def test_each_input_is_looked_at_for_its_fields_of_assumed_types(caplog: pytest.LogCaptureFixture) -> None:
    left = sc.records([{"id": 1, "cost": 3, "ms": 1}], event_time="ms", event_time_unit="ms", schema={"id": "int64"})
    right = sc.records([{"id": 1, "name": "a", "ms": 1}], event_time="ms", event_time_unit="ms", schema={"id": "int64"})
    left = left.filter("cosst > 1 or cost > 1")
    joined = left.join(right.filter("naem == 'a' or name == 'a'"), on="id", within="1m")
    joined.collect()
    told = sorted(warnings(caplog))
    assert [warning.partition(",")[0] for warning in told] == [
        "none of the first records has a field cosst",
        "none of the first records of right has a field naem",
    ]
    assert [warning.rpartition("; ")[2] for warning in told] == ['did you mean "cost"?', 'did you mean "name"?']


def test_a_stop_ends_the_waiting() -> None:
    stopping = threading.Event()
    stopping.set()
    assert infer_types(opened({"n": 1}), Undeclared(["n"]), stopping) is None


def test_the_guess_is_printed_as_it_would_be_declared() -> None:
    text = describe_types({"b": "int64", "a": "string"})
    assert text.splitlines()[1:] == ["  [source.schema]", '  "a" = "string"', '  "b" = "int64"']
