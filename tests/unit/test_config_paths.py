"""Names of places in a pipeline file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore.config.paths import format_path, is_expression, parse_path

KEYS = st.text(st.characters(exclude_characters='"', exclude_categories=["Cs"]), min_size=1)


@given(st.lists(st.one_of(KEYS, st.integers(0, 99)), max_size=5), KEYS)
def test_a_path_is_read_as_it_was_written(rest: list[str | int], first: str) -> None:
    path = (first, *rest)
    assert parse_path(format_path(path)) == path


@pytest.mark.parametrize("text", ["", "a..b", "a.", "[0].a", "a b", "a[x]", "a]"])
def test_refuses_what_is_no_path(text: str) -> None:
    with pytest.raises(ValueError, match=r"path|dot"):
        parse_path(text)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("source", "where"), True),
        (("steps", 0, "filter"), True),
        (("steps", 0, "aggregate", "views"), True),
        (("steps", 0, "by", 0), True),
        (("tests", 0, "input", 0, "x"), True),
        (("steps", 0, "within"), False),
        (("steps", 0, "parameters", "c"), False),
        (("source", "topic"), False),
        (("sinks", 0, "key_template"), False),
    ],
)
def test_knows_where_a_dollar_belongs_to_the_engine(path: tuple[str | int, ...], *, expected: bool) -> None:
    assert is_expression(path) is expected
