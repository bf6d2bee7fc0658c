"""Allowed, but worth a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamcore.config.advice import advice
from streamcore.config.loading import parse, read_document

GOOD = """\
name = "p"
[source]
type = "kafka"
topic = "t"
keyed_by = "user"
[source.schema]
user = "string"
[[steps]]
dedupe = "id"
within = "10m"
[[steps]]
window = "tumbling"
size = "1m"
by = "user"
[steps.aggregate]
n = "count()"
[[sinks]]
type = "kafka"
topic = "o"
"""


def words(folder: Path, text: str, *, mode: int = 0o600) -> dict[str, str]:
    file = folder / "p.toml"
    file.write_text(text)
    file.chmod(mode)
    document = read_document(file, environ={"PASSWORD": "canary"})
    found = {problem.path: problem.message for problem in advice(parse(document), document)}
    return {path.replace(str(file), "FILE"): message for path, message in found.items()}


def test_nothing_to_say_about_a_good_pipeline(tmp_path: Path) -> None:
    assert words(tmp_path, GOOD, mode=0o644) == {}


@pytest.mark.parametrize(
    ("old", "new", "path", "message"),
    [
        ('within = "10m"', 'within = "30s"', "steps[0].within", "before a window closes (65s)"),
        ('keyed_by = "user"\n', "", "steps[0].within", "only within one partition"),
        ('window = "tumbling"\nsize = "1m"', 'window = "whole"', "steps[1].emit", "a topic ends only with --stop end"),
        ('topic = "o"\n', 'topic = "o"\nmode = "append"\n', "delivery", "because sinks[0] cannot replace a row"),
        ("[source]\n", '[kafka]\nsasl_password = "canary"\n[source]\n', "kafka.sasl_password", "a secret is written"),
        (
            "[source]\n",
            '[kafka.options]\n"ssl.key.pem" = "canary"\n[source]\n',
            'kafka.options."ssl.key.pem"',
            "a secret",
        ),
    ],
)
def test_each_word(tmp_path: Path, old: str, new: str, path: str, message: str) -> None:
    found = words(tmp_path, GOOD.replace(old, new))
    assert list(found) == [path]
    assert message in found[path]
    assert "canary" not in str(found)


@pytest.mark.parametrize(
    ("keys", "path", "message"),
    [
        ('options = { "enable.ssl.certificate.verification" = false }', "enable.ssl", "pretend to be the broker"),
        ('options = { "ssl.endpoint.identification.algorithm" = "none" }', "ssl.endpoint", "pretend to be the broker"),
        ('security_protocol = "sasl_plaintext"\nsasl_mechanism = "PLAIN"\ninsecure = true', "insecure", "in the clear"),
    ],
)
def test_servers_that_nobody_checks(tmp_path: Path, keys: str, path: str, message: str) -> None:
    for table in ("kafka", "connections.far"):
        [(where, what)] = words(tmp_path, f'{GOOD}[{table}]\ntype = "kafka"\n{keys}\n').items()
        assert where.startswith(f"{table}.")
        assert path in where
        assert message in what


def test_a_secret_in_a_readable_file_is_worse(tmp_path: Path) -> None:
    text = GOOD.replace("[source]\n", '[kafka]\nsasl_password = "canary"\n[source]\n')
    assert "others can read this file" in words(tmp_path, text, mode=0o644)["FILE"]


def test_a_variable_is_no_secret(tmp_path: Path) -> None:
    text = GOOD.replace("[source]\n", '[kafka]\nsasl_password = "${PASSWORD}"\n[source]\n')
    assert words(tmp_path, text, mode=0o644) == {}


def test_a_stated_delivery_is_not_questioned(tmp_path: Path) -> None:
    text = 'delivery = "at_least_once"\n' + GOOD.replace('topic = "o"', 'topic = "o"\nmode = "append"')
    assert words(tmp_path, text) == {}


@pytest.mark.parametrize(
    ("emit", "columns", "warned"),
    [
        ("updates", '["user", "n"]', True),
        ("updates", '["user", "n", "revision"]', False),
        ("final", '["user", "n"]', False),
    ],
)
def test_early_rows_in_files_need_their_revision(tmp_path: Path, emit: str, columns: str, *, warned: bool) -> None:
    text = GOOD.replace('\nby = "user"\n', f'\nby = "user"\nemit = "{emit}"\n')
    text += f'[[sinks]]\ntype = "parquet"\npath = "out"\ncolumns = {columns}\n'
    assert list(words(tmp_path, text)) == (["sinks[1].columns"] if warned else [])


def test_early_rows_by_a_clock_that_stands(tmp_path: Path) -> None:
    head = '[source]\ntype = "files"\npath = "x"\nevent_time = "t"\n'
    tail = '[[steps]]\nwindow = "whole"\nemit = "updates"\nemit_every = "1m"\n[steps.aggregate]\nn = "count()"\n'
    assert "there are no early rows" in words(tmp_path, head + tail)["steps[0].emit_every"]
    assert words(tmp_path, head + 'out_of_orderness = "5s"\n' + tail) == {}
