"""The builder: immutable, checked at every step, and the same thing as a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import streamcore as sc
from streamcore.config import KafkaSinkConfig, RedisSinkConfig


def clicks() -> sc.Pipeline:
    return sc.kafka("clicks", event_time="at", schema={"page": "string", "ms": "int64", "user": "string"})


def pages() -> sc.Pipeline:
    return clicks().window(sc.tumbling("1m"), by="page").agg(views=sc.count())


def test_every_method_gives_a_new_pipeline() -> None:
    first = clicks()
    second = first.filter("ms > 1")
    assert first.config.steps == ()
    assert len(second.config.steps) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.config = second.config  # type: ignore[misc]
    assert clicks().filter("ms > 1") == second


def test_parameters_go_with_their_step() -> None:
    pipeline = (
        clicks()
        .filter("page in $pages", pages=["a", "b"])
        .select({"page": "page", "slow": "ms > $limit"}, limit=5)
        .window(sc.tumbling("1m"), by="page")
        .agg({"n": "count() where slow == $yes"}, yes=True)
    )
    assert [step.model_dump()["parameters"] for step in pipeline.config.steps] == [
        {"pages": ["a", "b"]},
        {"limit": 5},
        {"yes": True},
    ]
    assert clicks().select(page="page", limit="ms").config.steps[0].model_dump()["select"] == {
        "page": "page",
        "limit": "ms",
    }


def test_a_mistake_in_an_expression_has_a_caret() -> None:
    with pytest.raises(sc.ExpressionError) as caught:
        clicks().filter("page = 'a'")
    assert str(caught.value).endswith("    page = 'a'\n         ^\n    hint: write `==`")
    with pytest.raises(sc.ExpressionError, match="cont"):
        clicks().window(sc.tumbling("1m")).agg(n="cont()")
    with pytest.raises(sc.ExpressionError, match="pges"):
        clicks().filter("page in $pages", pges=["a"])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda p: p.filter("visits > 1"), "after `window` there is no column visits"),
        (lambda p: p.window(sc.tumbling("1h"), by="pgae").agg(n="count()"), "did you mean page?"),
        (lambda p: p.sink_kafka("o", key=["pge"]), 'did you mean "page"?'),
        (lambda p: p.sink_kafka("o", columns=["nothing"]), 'the result has no column "nothing"'),
        (lambda p: p.sink_kafka("o", mode="upsert", output="late"), "is for results"),
        (lambda p: p.sink_kafka("o", connection="nobody"), 'no kafka connection called "nobody"'),
        (lambda p: p.sink_kafka("o", topik="x"), 'did you mean "topic"?'),
        (lambda p: p.sink_redis("k:{pag}"), 'did you mean "page"?'),
        (lambda p: p.sink_redis("k", ttl=5), 'write "5s"'),
        (lambda p: p.configure(limit={}), 'did you mean "limits"?'),
        (lambda p: p.dead_letters("a", path="b"), 'topic and connection are for type = "kafka"'),
    ],
)
def test_what_can_be_known_is_said_at_once(change: Any, text: str) -> None:
    with pytest.raises(sc.ConfigError) as caught:
        change(pages())
    assert text in str(caught.value)


def test_a_window_needs_its_kind_and_its_aggregates() -> None:
    with pytest.raises(sc.ConfigError, match="the first argument of window"):
        clicks().window("1m")  # type: ignore[arg-type]
    with pytest.raises(sc.ConfigError, match="needs entries"):
        clicks().window(sc.tumbling("1m")).agg()
    assert "says what is computed" in repr(clicks().window(sc.tumbling("1m")))


def test_columns_that_clash_print_the_renaming() -> None:
    with pytest.raises(sc.ConfigError, match="id_2"):
        clicks().window(sc.tumbling("1m"), by=["a.id", "b.id"]).agg(n="count()")
    pipeline = clicks().window(sc.tumbling("1m"), by={"a": "a.id", "b": "b.id"}).agg(n="count()")
    assert pipeline.config.window is not None
    assert pipeline.config.window.by == {"a": "a.id", "b": "b.id"}


def test_sinks_chain_and_bring_their_connections() -> None:
    other = sc.KafkaConnection(bootstrap_servers="other:1")
    cache = sc.RedisConnection.model_validate({"url": "redis://:canary@cache"})
    pipeline = (
        pages()
        .sink_kafka("a", key=["window_end", "page"], partitions=8)
        .sink_kafka("b", connection=other)
        .sink_kafka("c", connection=other, output="late")
        .sink_redis("page:{page}:{window_end:epoch_s}", connection=cache, value="views", ttl="1d")
        .sink_parquet(Path("rows"), columns=["page", "views"])
        .sink_console(format="jsonl")
        .sink_memory("m", timestamp_format="epoch_ms")
        .dead_letters("bad", connection=other)
    )
    config = pipeline.config
    assert list(config.connections) == ["kafka_1", "redis_1"]
    kafka = [sink for sink in config.sinks if isinstance(sink, KafkaSinkConfig)]
    assert [sink.connection for sink in kafka] == [None, "kafka_1", "kafka_1"]
    [redis] = [sink for sink in config.sinks if isinstance(sink, RedisSinkConfig)]
    assert (redis.connection, redis.ttl, redis.value) == ("redis_1", 86_400_000, "views")
    assert [sink.type for sink in config.sinks] == ["kafka", "kafka", "kafka", "redis", "parquet", "console", "memory"]
    assert config.dead_letters is not None
    assert config.dead_letters.connection == "kafka_1"
    assert "canary" not in repr(pipeline) + pipeline.explain() + pipeline.to_toml()
    assert pages().sink_kafka("a", connection=sc.KafkaConnection()).config.connections == {}


def test_a_file_is_the_same_pipeline(tmp_path: Path) -> None:
    pipeline = (
        clicks()
        .dedupe("id", within="10m")
        .filter("page != $x", x="$y ${z}")
        .window(sc.hopping("1m", slide="20s"), by={"p": "page"}, emit="updates", allowed_lateness="5s")
        .agg(views=sc.count(), users=sc.approx_distinct("user"), slow="count() where ms > 5")
        .sink_kafka("o", key=["p", "window_start"])
        .configure(name="p", commit_interval="2s", tests=[{"name": "t", "input": [{"id": "1"}], "expect": []}])
    )
    file = tmp_path / "p.toml"
    file.write_text(pipeline.to_toml())
    assert sc.load(file) == pipeline
    assert sc.load(file, ["name=q"]).config.name == "q"


EXPRESSIONS = st.sampled_from(
    ["ms > 1", "page == '${X} $$'", 'page in ["a", "b"]', "ms + 1 == 2 and not (page is null)"]
)
CHANGES = st.lists(
    st.one_of(
        EXPRESSIONS.map(lambda text: lambda pipeline: pipeline.filter(text)),
        st.integers(1, 10**6).map(lambda n: lambda pipeline: pipeline.filter("ms > $n", n=n)),
        st.sampled_from(["5m", "90s", "1h"]).map(lambda within: lambda pipeline: pipeline.dedupe("id", within=within)),
    ),
    max_size=4,
)
KINDS = st.sampled_from(
    [
        sc.tumbling("1m"),
        sc.hopping("90s", slide="1m", offset="-5s"),
        sc.session("10s", gap_inclusive=False),
        sc.session("10s", max_length="1h", min_start="2026-01-01T00:00:00Z"),
        sc.tumbling("1w", timezone="Europe/Berlin", week_start="sunday"),
        sc.tumbling("1mo", timezone="UTC", offset="6h"),
        sc.cumulate("1d", step="1h"),
        sc.whole(min_start="2026-01-01T00:00:00Z"),
    ]
)
KEYS = st.sampled_from([[], ["page"], {"p": "page", "u": "user"}, ["_key", "page"]])


@given(CHANGES, KINDS, KEYS, st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_to_toml_and_load_are_inverse(tmp_path: Path, changes: list[Any], kind: Any, by: Any, text: str) -> None:
    pipeline = clicks()
    for change in changes:
        pipeline = change(pipeline)
    pipeline = pipeline.window(kind, by=by).agg(n="count()", top=sc.max("ms", where="page != 'x'"))
    pipeline = pipeline.sink_parquet(text).sink_console()
    file = tmp_path / "p.toml"
    file.write_text(pipeline.to_toml(), encoding="utf-8")
    assert sc.load(file) == pipeline


def test_what_lives_in_python_has_no_file() -> None:
    with pytest.raises(sc.ConfigError, match="records live in Python"):
        sc.records([]).to_toml()
    with pytest.raises(sc.ConfigError, match="sinks of your own"):
        pages().sink(object()).to_toml()  # type: ignore[arg-type]


def test_collects_runs_and_explains() -> None:
    rows = [{"page": "home", "at": "2026-01-01T00:00:10Z"}, {"page": "home", "at": "2026-01-01T00:00:20Z"}]
    pipeline = sc.records(rows, event_time="at").window(sc.tumbling("1m"), by="page").agg(views=sc.count())
    assert pipeline.collect().to_polars()["views"].to_list() == [2]
    report = pipeline.sink_memory("test-pipeline-runs").run()
    assert report.ledger.applied == 2
    assert "by page" in pipeline.explain()
    assert (
        repr(pipeline) == "<Pipeline records > tumbling; .explain() shows the plan, .run() or .collect() executes it>"
    )


def test_a_plan_shows_what_the_environment_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "env:1")
    assert "kafka topic clicks at env:1" in clicks().explain()
    own = sc.kafka("clicks", connection={"bootstrap_servers": "own:1"})
    assert "at own:1" in own.explain()


def test_an_explicit_promise_that_cannot_be_kept_is_refused_at_start() -> None:
    with pytest.raises(
        sc.ConfigError, match="its source is Kafka, or files where no other is, and this one is of type memory"
    ):
        sc.memory("x").filter("a > 1").start(name="p", delivery="exactly_once")
