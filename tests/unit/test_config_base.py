"""What every table of the pipeline file has in common."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from streamcore.config.base import Model, setting, unit_of


class Table(Model):
    size: int = setting(1, "How large.", unit="bytes", alias="length", ge=0)
    options: dict[str, Any] = setting({}, "Anything.")


def test_the_alias_is_the_key_and_the_unit_is_kept() -> None:
    assert Table.model_validate({"length": 5}) == Table(size=5)
    assert Table(size=5).model_dump() == {"length": 5, "options": {}}
    assert [unit_of(field) for field in Table.model_fields.values()] == ["bytes", None]


def test_unknown_keys_and_changes_are_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Table.model_validate({"size_": 1})
    with pytest.raises(ValidationError, match="frozen"):
        setattr(Table(), "size", 2)  # noqa: B010 - a type checker refuses it already


def test_neither_errors_nor_reprs_show_a_secret() -> None:
    with pytest.raises(ValidationError) as caught:
        Table.model_validate({"length": "canary"})
    assert "canary" not in str(caught.value)
    shown = repr(Table(options={"ssl.key.pem": "canary", "socket.timeout.ms": "me"}))
    assert "canary" not in shown
    assert "me" in shown
