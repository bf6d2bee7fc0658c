"""Where each key of a pipeline file stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore import _core
from streamcore.errors import ConfigError

PIPELINE = """\
name = "page-counts"

[source]
type = "kafka"
[source.schema]
"payload.page_id" = "string"
'Größe' = "int64"

[[steps]]
dedupe = "event_id"

[[steps]]
window = "tumbling"
by = ["payload.page_id", "x"]
  [steps.aggregate]
  views = "count()"

[[tests]]
input = [{ event_id = "1", payload = { page_id = "home" } }]
"""


def test_keys_tables_and_items_have_their_place() -> None:
    found = _core.locate_toml(PIPELINE)
    assert found["name"] == (1, 1)
    assert found["source.type"] == (4, 1)
    assert found['source.schema."payload.page_id"'] == (6, 1)
    assert found['source.schema."Größe"'] == (7, 1)
    assert found["steps[0].dedupe"] == (10, 1)
    assert found["steps[1]"] == (12, 1)
    assert found["steps[1].by"] == (14, 1)
    assert found["steps[1].by[1]"] == (14, 26)
    assert found["steps[1].aggregate.views"] == (16, 3)
    assert found["tests[0].input[0].payload.page_id"] == (19, 40)


def test_columns_count_characters() -> None:
    assert _core.locate_toml('a = { "ä€😀" = 1, b = 2 }\n')["a.b"] == (1, 18)


def test_dotted_keys_are_their_own_path() -> None:
    assert _core.locate_toml("a.b.c = 1\n")["a.b.c"] == (1, 5)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [("a = = 1\n", 1, 5), ("a = 1\nb = 'x\n", 2, 7), ("a = 1\na = 2\n", 2, 1), ("[t\n", 1, 3), ("x = 1\n\ny", 3, 2)],
)
def test_text_that_is_not_toml_is_placed(text: str, line: int, column: int) -> None:
    with pytest.raises(ConfigError) as caught:
        _core.locate_toml(text)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (line, column)
    assert problem.message


def test_deep_nesting_is_refused_and_does_not_end_the_process() -> None:
    with pytest.raises(ConfigError):
        _core.locate_toml("a = " + "[" * 100_000)


@given(st.text())
def test_any_text_is_located_or_refused(text: str) -> None:
    try:
        found = _core.locate_toml(text)
    except ConfigError:
        return
    assert all(line >= 1 and column >= 1 for line, column in found.values())
