"""Types written into a file that somebody else wrote."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from streamcore.config.schema_lines import replace_file, schema_lines, with_types
from streamcore.errors import ConfigError

TYPES = {"payload.page": "string", "n": "int64"}


def test_adds_a_table_behind_the_source() -> None:
    text = '# top\n[source]\ntype = "kafka"\ntopic = "t" # why\n\n# about steps\n[[steps]]\nfilter = "n > 1"\n'
    assert with_types(text, TYPES) == (
        '# top\n[source]\ntype = "kafka"\ntopic = "t" # why\n'
        '\n[source.schema]\n"n" = "int64"\n"payload.page" = "string"\n'
        '\n# about steps\n[[steps]]\nfilter = "n > 1"\n'
    )


def test_keeps_the_ends_of_lines() -> None:
    text = '[source]\r\ntype = "kafka"\r\n[kafka]\r\n'
    assert with_types(text, {"n": "int64"}) == (
        '[source]\r\ntype = "kafka"\r\n\r\n[source.schema]\r\n"n" = "int64"\r\n\r\n[kafka]\r\n'
    )
    assert with_types('[source]\r\ntype = "kafka"', {"n": "int64"}).count("\n") == 5
    alone = with_types('[source]\r\ntype = "kafka"\r\n', {"n": "int64"})
    assert alone == '[source]\r\ntype = "kafka"\r\n\r\n[source.schema]\r\n"n" = "int64"\r\n'


def test_adds_lines_to_the_table_that_is_there() -> None:
    text = '[source]\ntype = "kafka"\n[source.schema] # types\nuser = "string"\n[kafka]\n'
    assert with_types(text, {"n": "int64"}) == (
        '[source]\ntype = "kafka"\n[source.schema] # types\n"n" = "int64"\nuser = "string"\n[kafka]\n'
    )


@pytest.mark.parametrize(
    "text",
    [
        '[source]\ntype = "kafka"',
        '[kafka]\n[source]\ntype = "kafka"\noptions = { a = 1 }\n\n\n\n[[tests]]\nname = "[steps]"\ninput = []\n',
        '[source]\ntype = "kafka"\n[source.options]\na = 1\n[[steps]]\nfilter = "a"\n[limits]\nthreads = 1\n',
        '["source"]\ntype = "kafka"\n\n["source"."schema"]\n\n[kafka]\n',
        '[source]\r\ntype = "kafka"\r\n\r\n[kafka]\r\n',
    ],
)
def test_nothing_but_the_types_changes(text: str) -> None:
    after = with_types(text, TYPES)
    before, changed = tomllib.loads(text), tomllib.loads(after)
    assert changed["source"].pop("schema") == TYPES
    before["source"].pop("schema", None)
    assert changed == before


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ('schema = { "x}" = "string" }  # of {all}', 'schema = { "x}" = "string", ADDED }  # of {all}'),
        ("schema = {}", "schema = { ADDED }"),
        ('"schema"={user="string"}', '"schema"={user="string", ADDED }'),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_types_are_added_in_the_braces_where_the_schema_is_written_so(written: str, wanted: str, end: str) -> None:
    text = f'[source]{end}type = "kafka"{end}{written}{end}{end}[kafka]{end}'
    added = ", ".join(schema_lines(TYPES))
    assert with_types(text, TYPES) == text.replace(written, wanted.replace("ADDED", added))


@pytest.mark.parametrize(
    "text",
    [
        '[source]\ntype = "kafka"\nwhere = """\n[source.schema]\n"""\n[limits]\n',
        'source = { type = "kafka" }\n',
        '[source]\ntype = "kafka"\nschema = { user = "string", at = { b = "string" } }\n',
    ],
)
def test_what_cannot_be_done_safely_is_left_to_the_reader(text: str) -> None:
    with pytest.raises(ConfigError, match="by hand") as caught:
        with_types(text, TYPES)
    assert all(line in str(caught.value) for line in schema_lines(TYPES))


def test_replaces_a_file_through_a_link_with_its_rights(tmp_path: Path) -> None:
    file, link = tmp_path / "real.toml", tmp_path / "link.toml"
    file.write_text("old")
    file.chmod(0o640)
    link.symlink_to(file)
    replace_file(str(link), "new\r\n")
    assert link.is_symlink()
    assert file.read_bytes() == b"new\r\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.toml", "real.toml"]
