"""Joins as users write them: the builder, the file, the mistakes, files and the in-process log as inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import streamcore as sc
from streamcore import testing
from streamcore.commands.test import run_test
from streamcore.errors import ConfigError
from streamcore.memory_log import default_log

KEYS: dict[str, Any] = {"event_time": "t", "event_time_unit": "s"}
ORDERS = {"schema": {"user": "string", "amount": "int64"}, **KEYS}
CLICKS = {"schema": {"user": "string", "page": "string"}, **KEYS}


def orders(**keys: Any) -> sc.Pipeline:
    return sc.records([{"t": 100, "user": "a", "amount": 5}, {"t": 200, "user": "b", "amount": 7}], **ORDERS | keys)


def clicks(**keys: Any) -> sc.Pipeline:
    records = [
        {"t": 90, "user": "a", "page": "x"},
        {"t": 130, "user": "a", "page": "y"},
        {"t": 90, "user": "b", "page": "z"},
    ]
    return sc.records(records, **CLICKS | keys)


def rows(pipeline: sc.Pipeline) -> list[dict[str, Any]]:
    return pipeline.collect().to_rows()


def test_an_interval_join_gives_pairs_in_order_of_time() -> None:
    joined = orders().join(clicks(), on="user", within=("-30s", "30s"))
    assert rows(joined) == [
        {"user": "a", "amount": 5, "page": "x"},
        {"user": "a", "amount": 5, "page": "y"},
    ]


def test_rows_without_a_partner_leave_where_they_are_asked_for() -> None:
    left = rows(orders().join(clicks(), on="user", how="left", within="30s"))
    assert left[-1] == {"user": "b", "amount": 7, "page": None}
    outer = rows(orders().join(clicks(), on="user", how="outer", within="30s"))
    assert {"user": "b", "amount": None, "page": "z"} in outer
    assert len(outer) == 4


def test_a_windowed_join_says_which_window() -> None:
    joined = rows(orders().join(clicks(), on="user", window=sc.tumbling("120s")))
    assert [(row["page"], row["window_start"].timestamp(), row["window_end"].timestamp()) for row in joined] == [
        ("x", 0.0, 120.0)
    ]


def test_an_as_of_join_takes_the_latest() -> None:
    joined = rows(orders().join_asof(clicks(), on="user", how="left", tolerance="50s"))
    assert joined == [
        {"user": "a", "amount": 5, "page": "x"},
        {"user": "b", "amount": 7, "page": None},
    ]


def test_steps_stand_before_and_behind_a_join() -> None:
    right = clicks().filter("page != 'y'").select(user="user", title="page")
    joined = orders().filter("amount > 1").join(right, on="user", within="30s").select(who="user", what="title")
    assert rows(joined) == [{"who": "a", "what": "x"}]


def test_a_window_stands_behind_a_join() -> None:
    counted = orders().join(clicks(), on="user", within="30s").window(sc.tumbling("1m"), by="user").agg(n=sc.count())
    assert [(row["user"], row["n"], row["window_start"].timestamp()) for row in rows(counted)] == [
        ("a", 1, 60.0),
        ("a", 1, 120.0),
    ]


def test_a_file_is_a_table(tmp_path: Path) -> None:
    users = tmp_path / "users.jsonl"
    users.write_text('{"id": "a", "city": "Bonn"}\n{"id": "b", "city": "Ulm"}\n{"id": "a", "city": "Köln"}\n')
    table = sc.files(users, schema={"id": "string", "city": "string"})
    joined = orders().join_table(table, left_on="user", right_on="id")
    assert rows(joined) == [
        {"user": "a", "amount": 5, "id": "a", "city": "Köln"},
        {"user": "b", "amount": 7, "id": "b", "city": "Ulm"},
    ]


def test_a_table_is_read_first_though_it_is_long(tmp_path: Path) -> None:
    users = tmp_path / "users.jsonl"
    users.write_text("".join(json.dumps({"user": f"u{number}", "n": number}) + "\n" for number in range(200_000)))
    left = sc.records([{"t": 1, "user": "u199999", "amount": 1}], **ORDERS)
    table = sc.files(users, schema={"user": "string", "n": "int64"}, piece_bytes=4096)
    assert rows(left.join_table(table, on="user")) == [{"user": "u199999", "amount": 1, "n": 199999}]


def users_told(flow: sc.Pipeline, table: list[sc.Record], cut: int) -> list[tuple[str, str | None]]:
    """What a left row of `a` and one of `b` find, the table's records pushed `cut` at a time."""
    with testing.start(flow) as run:
        for at in range(0, len(table), cut):
            run.push(table[at : at + cut], "users")
        run.push([{"t": 300, "user": "a", "amount": 1}, {"t": 300, "user": "b", "amount": 2}])
        run.end()
        return [(row["user"], row["city"]) for row in run.rows()]


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("keyed_by", [None, "user"])
def test_a_row_that_a_filter_takes_out_of_a_table_takes_that_of_its_key_along(
    versioned: bool, keyed_by: str | None
) -> None:
    """A compacted topic may have forgotten the row before it: whether it has must not matter."""
    users = sc.memory("users", keyed_by=keyed_by, schema={"user": "string", "city": "string"}, **KEYS)
    flow = sc.memory("orders", **ORDERS).join_table(
        users.filter("city != 'gone'"), on="user", how="left", name="users", versioned=versioned
    )
    told = [("a", "Bonn", 100), ("b", "Ulm", 110), ("a", "gone", 120), ("b", "gone", 130), ("b", "Köln", 140)]
    table = [sc.Record({"t": at, "user": user, "city": city}, key=user) for user, city, at in told]
    for cut in (1, 2, 5):
        assert users_told(flow, table, cut) == [("a", None), ("b", "Köln")]
    assert users_told(flow, table[2:], 1) == [("a", None), ("b", "Köln")]


def test_a_delete_that_comes_late_is_judged_by_the_clock_right_before_it() -> None:
    """Differential seed 58 (joins): a delete was given the clock of the row before the last, or none at all."""
    users = sc.memory(
        "users", keyed_by="user", out_of_orderness="0s", schema={"user": "string", "city": "string"}, **KEYS
    )
    flow = sc.memory("orders", **ORDERS).join_table(users, on="user", how="left", name="users", versioned=True)
    table = [
        sc.Record({"t": 100, "user": "a", "city": "Bonn"}, key="a"),
        sc.Record({"t": 400, "user": "b", "city": "Ulm"}, key="b"),
        sc.Record(None, key="a", timestamp_ms=150_000),
    ]
    for cut in (1, 2, 3):
        assert users_told(flow, table, cut) == [("a", "Bonn"), ("b", None)], "it counts from 400 on"


def test_a_record_without_a_value_deletes_a_row_of_a_table() -> None:
    table = [
        sc.Record({"city": "Bonn", "user": "a"}, key="a"),
        sc.Record({"city": "Ulm", "user": "b"}, key="b"),
        sc.Record(None, key="a"),
    ]
    users = sc.records(table, keyed_by="user", schema={"user": "string", "city": "string"})
    report: dict[str, Any] = {}
    joined = orders().join_table(users, on="user", how="left", name="users")
    with joined.start() as run:
        found = [row for batch in run.stream() for row in batch.to_rows()]
        report = run.wait().to_dict()
    assert [row["city"] for row in found] == [None, "Ulm"]
    assert report["inputs"]["users"]["tombstone"] == 1
    assert report["inputs"][""]["applied"] == 2
    assert report["join_rows"] == (0, 1)


def test_a_table_with_versions_is_looked_up_as_of_the_time() -> None:
    versions = [
        sc.Record({"t": 50, "user": "a", "city": "Bonn"}, key="a", timestamp_ms=50_000),
        sc.Record(None, key="a", timestamp_ms=150_000),
        sc.Record({"t": 250, "user": "a", "city": "Ulm"}, key="a", timestamp_ms=250_000),
    ]
    table = sc.records(versions, keyed_by="user", schema={"user": "string", "city": "string"}, **KEYS)
    asked = [{"t": time, "user": "a", "amount": time} for time in (10, 50, 149, 150, 260)]
    joined = sc.records(asked, **ORDERS).join_table(table, on="user", how="left", versioned=True)
    assert [(row["amount"], row["city"]) for row in rows(joined)] == [
        (10, None),
        (50, "Bonn"),
        (149, "Bonn"),
        (150, None),
        (260, "Ulm"),
    ]


def test_null_keys_match_nothing() -> None:
    left = sc.records([{"t": 1, "user": None, "amount": 1}], **ORDERS)
    right = sc.records([{"t": 1, "user": None, "page": "x"}], **CLICKS)
    assert rows(left.join(right, on="user", how="outer", within="1s")) == [
        {"user": None, "amount": None, "page": "x"},
        {"user": None, "amount": 1, "page": None},
    ]
    with testing.start(left.join(right, on="user", within="1s", name="right")) as run:
        run.push([{"t": 1, "user": None, "amount": 1}])
        run.end()
        assert run.ledger.filtered == 1


def test_a_late_row_is_an_output_of_its_own() -> None:
    flow = orders(out_of_orderness="5s").join(clicks(out_of_orderness="5s"), on="user", within="30s", name="clicks")
    with testing.start(flow) as run:
        run.push([{"t": 100, "user": "a", "amount": 5}, {"t": 10, "user": "a", "amount": 6}])
        run.end()
        late = run.rows("late")
    assert [(row["reason"], row["lateness_ms"]) for row in late] == [("JOIN", 85_000)]


def test_names_that_both_sides_have_get_a_suffix() -> None:
    both = {"schema": {"user": "string", "n": "int64"}, **KEYS}
    left, right = (
        sc.records([{"t": 1, "user": "a", "n": 1}], **both),
        sc.records([{"t": 1, "user": "a", "n": 2}], **both),
    )
    assert rows(left.join(right, on="user", within="1s")) == [{"user": "a", "n": 1, "n_right": 2}]
    assert rows(left.join(right, on="user", within="1s", suffix="_2")) == [{"user": "a", "n": 1, "n_2": 2}]


def test_a_path_is_called_by_its_last_part() -> None:
    left = sc.records([{"t": 1, "who": {"id": "a"}}], schema={"who.id": "string"}, **KEYS)
    right = sc.records([{"t": 1, "id": "a", "n": 3}], schema={"id": "string", "n": "int64"}, **KEYS)
    assert rows(left.join(right, left_on="who.id", right_on="id", within="1s")) == [{"id": "a", "n": 3}]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: orders().join(clicks(), on="user"), 'within = ["-5m", "5m"]'),
        (lambda: orders().join(clicks(), within="1s"), "a join has a key"),
        (lambda: orders().join(clicks(), on="user", within="1s", window=sc.tumbling("1s")), "do not go together"),
        (
            lambda: orders().join(clicks(), left_on="amount", right_on="page", within="1s"),
            "amount is int64, and page of right is string: they are never equal",
        ),
        (lambda: orders().join(clicks(), on="user", window=sc.hopping("2s", slide="1s")), "tumbling window"),
        (lambda: orders().join(clicks().sink_console(), on="user", within="1s"), "source and steps alone"),
        (lambda: orders().join(clicks(), on="user", within=("5s", "1s")), "the interval is empty"),
        (
            lambda: orders().join(clicks().window(sc.tumbling("1m")).agg(n=sc.count()), on="n", within="1s"),
            "cannot have a window of its own",
        ),
        (
            lambda: (
                orders().window(sc.tumbling("1m"), by="user").agg(n=sc.count()).join(clicks(), on="user", within="1s")
            ),
            "stands before the first window",
        ),
        (lambda: orders().join_table(sc.kafka("users", schema={"user": "string"}), on="user"), "record key"),
        (lambda: orders().join(clicks(), on="user", within="1s").filter("_key is null"), "no column _key"),
    ],
)
def test_mistakes_say_what_to_do(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make().explain()
    assert message in str(caught.value)


FILE = """
[source]
type = "memory"
topic = "orders"
event_time = "t"

[source.schema]
user = "string"

[sources.users]
type = "kafka"
topic = "users"
table = true
keyed_by = "id"

[sources.users.schema]
id = "string"
city = "string"

[[sources.users.steps]]
filter = "city is not null"

[[steps]]
join = "users"
left_on = ["user"]
right_on = ["id"]
how = "left"
"""


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.toml"
    path.write_text(FILE)
    loaded = sc.load(path)
    again = tmp_path / "again.toml"
    again.write_text(loaded.to_toml())
    assert sc.load(again) == loaded
    assert "[[sources.users.steps]]" in loaded.to_toml()
    assert (
        "join     users where user = id: the row its key has when it comes; every row of the left side"
        in loaded.explain()
    )


def test_the_builder_gives_what_the_file_gives(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.toml"
    path.write_text(FILE)
    users = sc.kafka("users", keyed_by="id", schema={"id": "string", "city": "string"}).filter("city is not null")
    built = sc.memory("orders", event_time="t", schema={"user": "string"}).join_table(
        users, left_on="user", right_on="id", how="left", name="users"
    )
    assert sc.load(path).config == built.config


def test_mistakes_in_a_file_have_their_line(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.toml"
    path.write_text(FILE.replace('keyed_by = "id"', 'keyd_by = "id"'))
    with pytest.raises(ConfigError) as caught:
        sc.load(path)
    assert [(problem.path, problem.line) for problem in caught.value.problems] == [("sources.users.keyd_by", 14)]


def test_a_test_of_a_file_has_records_for_every_input(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.toml"
    given = """
[[tests]]
name = "a city"
inputs = { users = [{ _key = "a", id = "a", city = "Ulm", _timestamp = "2026-01-01T00:00:00Z" }] }
input = [{ t = "2026-01-01T00:00:10Z", user = "a" }]
expect = [{ user = "a", city = "Ulm" }]
"""
    path.write_text(FILE + given)
    config = sc.load(path).config
    assert run_test(config, config.tests[0]) == []


def test_memory_topics_are_joined_and_a_named_run_goes_on(tmp_path: Path) -> None:
    def write(topic: str, *events: dict[str, Any]) -> None:
        for event in events:
            default_log.append(topic, json.dumps(event).encode())

    keys = {**KEYS, "out_of_orderness": "5s"}
    left = sc.memory("joins-left", schema={"user": "string", "n": "int64"}, **keys)
    right = sc.memory("joins-right", schema={"user": "string", "m": "int64"}, **keys)
    flow = left.join(right, on="user", within="10s").sink_memory("joins-out").configure(state_dir=str(tmp_path))
    write("joins-left", {"t": 1, "user": "a", "n": 1})
    write("joins-right", {"t": 2, "user": "a", "m": 2})
    flow.run(name="joined", for_="300ms")
    assert default_log.ends("joins-out") == [0]
    write("joins-left", {"t": 100, "user": "b", "n": 3})
    write("joins-right", {"t": 100, "user": "b", "m": 4})
    flow.run(name="joined", for_="300ms")
    out = default_log.read("joins-out", 0, 0, 10)
    assert [json.loads(entry.value or b"") for entry in out] == [{"user": "a", "n": 1, "m": 2}]
