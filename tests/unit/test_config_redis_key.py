"""Keys and texts of Redis rows: different rows, different keys."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcore.config.redis_key import KeyTemplate, value_text
from streamcore.errors import ConfigError, SinkError

END = datetime(2026, 1, 1, 0, 1, 0, 5_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("page:{page}:{end:epoch_s}", "page:home:1767225660"),
        ("{end:epoch_ms}", "1767225660005"),
        ("{end:iso}", "2026-01-01T00:01:00.005Z"),
        ("{end}", "2026-01-01T00:01:00.005Z"),
        ("{{literal}}{views}", "{literal}7"),
    ],
)
def test_formats(template: str, key: str) -> None:
    row = {"page": "home", "end": END, "views": 7}
    assert KeyTemplate(template).render(row, "iso") == key


@pytest.mark.parametrize("template", ["page", "{", "{page", "page:{}", "{end:hours}", "{page!r:iso}:{0:x}"])
def test_a_wrong_template_is_a_configuration_error(template: str) -> None:
    with pytest.raises(ConfigError, match=r"page:{page_id}:{window_end:epoch_s}"):
        KeyTemplate(template)


def test_a_format_of_time_is_for_times() -> None:
    with pytest.raises(SinkError, match="column page is no time"):
        KeyTemplate("{page:epoch_s}").render({"page": "home"}, "iso")


def test_nulls_and_percent_signs_keep_keys_apart() -> None:
    template = KeyTemplate("page:{page}")
    pages: list[str | None] = [None, "", "null", "%null", "%25null", "a:b"]
    keys = [template.render({"page": page}, "iso") for page in pages]
    assert len(set(keys)) == len(pages)
    assert keys[0] == "page:%null"
    assert keys[-1] == "page:a:b"


@given(st.tuples(*[st.text(alphabet=":%3A2b", max_size=5)] * 4))
def test_two_texts_can_always_be_told_apart(texts: tuple[str, str, str, str]) -> None:
    template = KeyTemplate("{a}:{b}")
    one, other = ({"a": texts[0], "b": texts[1]}, {"a": texts[2], "b": texts[3]})
    assert (template.render(one, "iso") == template.render(other, "iso")) == (one == other)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("ü", "ü"),
        (True, "true"),
        (2**63 - 1, "9223372036854775807"),
        (0.1, "0.1"),
        (Decimal("12345678901234567890.10"), "12345678901234567890.10"),
        (Decimal("0E-2"), "0.00"),
        (b"\xff", "/w=="),
        (END, "2026-01-01T00:01:00.005Z"),
        ([], "[]"),
        (["ü", 'a"b', None], '["ü","a\\"b",null]'),
        ([END, b"\xff", Decimal("0.10"), True], '["2026-01-01T00:01:00.005Z","/w==",0.10,true]'),
        ([0.5, math.inf], "[0.5,null]"),
        ([{"value": "x", "count": 2}], '[{"value":"x","count":2}]'),
    ],
)
def test_values_as_text(value: Any, text: str) -> None:
    assert value_text(value, "iso") == text
    assert value_text(END, "epoch_ms") == "1767225660005"
    assert value_text([END], "epoch_ms") == "[1767225660005]"


def test_lists_in_keys_are_taken_apart_again_as_text_is() -> None:
    template = KeyTemplate("{a}:{b}")
    assert template.render({"a": ["x"], "b": "y"}, "iso") == '["x"]:y'
    assert template.render({"a": ["x:%"], "b": "y"}, "iso") == '["x%3A%25"]:y'
