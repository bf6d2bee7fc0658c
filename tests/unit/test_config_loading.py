"""From a file to a configuration, or to every mistake with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamcore.config import PipelineConfig, load
from streamcore.errors import ConfigError, ExpressionError

GOOD = """\
name = "p"
[kafka]
bootstrap_servers = "${SERVERS:-localhost:9092}"
[source]
type = "kafka"
topic = "clicks"
event_time = "at"
[source.schema]
"payload.page" = "string"
[[steps]]
window = "tumbling"
size = "1m"
by = ["payload.page"]
[steps.aggregate]
views = "count()"
[[sinks]]
type = "kafka"
topic = "views"
key = ["window_end", "page"]
"""

WRONG = """\
nmae = "p"
combine = "locale"
[kafka]
bootstrap_servers = "${NOBODY}"
[source]
type = "kafka"
topic = "clicks"
event_time = "at"
idle_timeout = 30
[[steps]]
filter = "payload.x = 3"
[[steps]]
dedupe = "id"
within = "1s"
[[steps]]
window = "tumbling"
size = 60
by = ["payload.page"]
[steps.aggregate]
views = "cont()"
[[sinks]]
type = "kafka"
topic = "views"
connection = "other"
[[sinks]]
type = "kafak"
[dead_letters]
type = "file"
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "pipeline.toml"
    file.write_text(text, encoding="utf-8")
    return file


def mistakes(error: ConfigError) -> list[tuple[int | None, int | None, str]]:
    return [(problem.line, problem.column, problem.path) for problem in error.problems]


def test_loads_a_file(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD), environ={"SERVERS": "a:1"})
    assert config.kafka.bootstrap_servers == "a:1"
    assert config.steps[0].model_dump()["by"] == {"page": "payload.page"}
    assert load(write(tmp_path, GOOD), ["name=q"], environ={}).name == "q"


def test_shows_every_mistake_at_once_with_its_place(tmp_path: Path) -> None:
    file = write(tmp_path, WRONG)
    with pytest.raises(ExpressionError) as caught:
        load(file, environ={})
    assert mistakes(caught.value) == [
        (1, 1, "nmae"),
        (2, 1, "combine"),
        (4, 1, "kafka.bootstrap_servers"),
        (9, 1, "source.idle_timeout"),
        (11, 1, "steps[0].filter"),
        (14, 1, "steps[1].within"),
        (17, 1, "steps[2].size"),
        (20, 1, "steps[2].aggregate.views"),
        (24, 1, "sinks[0].connection"),
        (25, 1, "sinks[1]"),
        (27, 2, "dead_letters"),
    ]
    text = str(caught.value)
    assert text.startswith(f"{file}: the pipeline has 11 mistakes")
    assert "    payload.x = 3\n              ^" in text
    assert caught.value.exit_code == 3


EVERY_KIND = """\
name = "p"
delivery = "exactly_once"
[source]
type = "kafka"
topic = "t"
[source.schema]
u = "strng"
[[steps]]
filter = "a == 'x"
[[steps]]
window = "tumbling"
size = "1 mn"
by = ["u"]
[steps.aggregate]
n = "cuont()"
m = "sum(u +)"
[[sinks]]
type = "redis"
key_template = "p:{nope"
[dead_letters]
path = "letters.jsonl"
"""


def test_mistakes_of_every_kind_are_shown_together(tmp_path: Path) -> None:
    with pytest.raises(ExpressionError) as caught:
        load(write(tmp_path, EVERY_KIND), environ={})
    assert mistakes(caught.value) == [
        (2, 1, "delivery"),
        (7, 1, "source.schema.u"),
        (9, 1, "steps[0].filter"),
        (12, 1, "steps[1].size"),
        (15, 1, "steps[1].aggregate.n"),
        (16, 1, "steps[1].aggregate.m"),
        (19, 1, "sinks[0].key_template"),
    ]


def test_sinks_are_held_against_the_columns_of_the_result(tmp_path: Path) -> None:
    redis = '\n[[sinks]]\ntype = "redis"\nkey_template = "p:{pge}:{window_end:epoch_s}"\nvalue = "view"\n'
    text = GOOD.replace('"window_end", "page"', '"window_end", "pages"') + redis
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), environ={})
    assert mistakes(caught.value) == [
        (19, 1, "sinks[0].key"),
        (23, 1, "sinks[1].key_template"),
        (24, 1, "sinks[1].value"),
    ]
    assert [problem.hint for problem in caught.value.problems][:2] == ['did you mean "page"?'] * 2


def test_mistakes_from_elsewhere_name_where_they_come_from(tmp_path: Path) -> None:
    redis = '\n[[sinks]]\ntype = "redis"\nkey_template = "p:{page}"\n'
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, GOOD + redis), ["limits.threads=two", "x"], environ={"REDIS_URL": "http://:canary@h"})
    assert {path for _, _, path in mistakes(caught.value)} == {
        "--set x",
        "--set limits.threads",
        "sinks[1].url (from REDIS_URL)",
    }
    assert "canary" not in str(caught.value)


def test_a_missing_key_points_at_its_table(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, GOOD.replace('topic = "clicks"\n', "")), environ={})
    assert mistakes(caught.value) == [(4, 2, "source.topic")]


def test_a_named_pipeline_declares_the_types_its_result_depends_on(tmp_path: Path) -> None:
    text = GOOD.replace('"payload.page" = "string"\n', "")
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text), environ={})
    [problem] = caught.value.problems
    assert problem.path == "steps[0].by.page"
    assert problem.line == 12
    assert problem.hint is not None
    assert 'add "payload.page" = "string"' in problem.hint
    assert "--write-schema" in problem.hint
    anonymous = text.replace('name = "p"\n', "")
    assert load(write(tmp_path, anonymous), environ={}).name is None
    assert load(write(tmp_path, text), environ={}, types_required=False).name == "p"
    with pytest.raises(ConfigError, match="is not declared"):
        load(write(tmp_path, anonymous), environ={}, types_required=True)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [("a = \n", 1, 5), ('a = 1\nb = "', 2, 6), ("a = 1\na = 2\n", 2, 6), ("[x\n", 1, 3)],
)
def test_what_is_no_toml_says_where(tmp_path: Path, text: str, line: int, column: int) -> None:
    with pytest.raises(ConfigError, match="this is not TOML") as caught:
        load(write(tmp_path, text), environ={})
    assert mistakes(caught.value) == [(line, column, "toml")]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="streamcore init"):
        load(tmp_path / "nothing.toml", environ={})
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b'name = "\xff"')
    with pytest.raises(ConfigError, match="not UTF-8 text at byte 8"):
        load(binary, environ={})
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="no pipeline file"):
        load(huge, environ={})


def test_records_have_no_place_in_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="records live in Python"):
        load(write(tmp_path, '[source]\ntype = "records"\n'), environ={})


def test_variables_keep_the_type_that_is_needed(tmp_path: Path) -> None:
    text = GOOD + '\n[limits]\nthreads = "${THREADS}"\n'
    assert load(write(tmp_path, text), environ={"THREADS": "3"}).limits.threads == 3


def test_the_same_file_gives_equal_configurations(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    first, second = load(file, environ={}), load(file, environ={})
    assert first == second
    assert isinstance(first, PipelineConfig)
