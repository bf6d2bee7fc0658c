"""`docs/pipeline-toml.md` says what the models say."""

from __future__ import annotations

from pathlib import Path

from streamcore.config.reference import reference
from streamcore.config.schema import json_schema

PAGE = Path(__file__).parents[2] / "docs" / "pipeline-toml.md"


def test_the_committed_page_is_current() -> None:
    hint = "run: streamcore config reference > docs/pipeline-toml.md"
    assert PAGE.read_text(encoding="utf-8") == reference(), hint


def test_every_key_is_on_it_with_a_meaning() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]
    assert all(len(line.split(" | ")) >= 2 and not line.endswith("|  |") for line in rows)
    keys = {line.split("`")[1] for line in rows}
    definitions = json_schema()["$defs"].values()
    assert {key for definition in definitions for key in definition["properties"]} <= keys


def test_defaults_units_and_choices_are_shown() -> None:
    page = reference()
    assert '| `commit_interval` | duration | `"1s"` |' in page
    assert "| `piece_bytes` | integer (bytes) | `1048576` |" in page
    assert '| `delivery` | `"exactly_once"` `"effectively_once"` `"at_least_once"` |' in page
    assert '| `window` | `"session"` | required |' in page
    assert "| `REDIS_URL` |" in page
