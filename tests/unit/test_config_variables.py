"""`${VAR}`, `${VAR:-default}`, `${file:/path}` and `$$`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamcore.config.variables import FILE_BYTES_MAX, Expansion, expand, read_secret_file


def expanded(document: Any, **environ: str) -> tuple[Any, Expansion]:
    expansion = Expansion()
    return expand(document, environ, expansion), expansion


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${HOST}:9092", "broker:9092"),
        ("${HOST:-other}", "broker"),
        ("${NONE:-other}", "other"),
        ("${EMPTY:-other}", "other"),
        ("${EMPTY}", ""),
        ("${NONE:-}", ""),
        ("$$HOME and $$", "$HOME and $"),
        ("$HOST", "$HOST"),
        ("$${HOST}", "${HOST}"),
        ("${HOST}${HOST}", "brokerbroker"),
    ],
)
def test_replaces_in_text(text: str, expected: str) -> None:
    values, expansion = expanded({"a": [text]}, HOST="broker", EMPTY="")
    assert values == {"a": [expected]}
    assert expansion.problems == []


def test_what_is_inserted_is_not_read_again() -> None:
    values, _ = expanded({"a": "${OUTER}"}, OUTER="${INNER} $$", INNER="never")
    assert values == {"a": "${INNER} $$"}


def test_leaves_expressions_tests_numbers_and_keys_alone() -> None:
    document = {
        "source": {"where": "a == '${X}'", "poll_records_max": 5},
        "steps": [{"filter": "b == '$$'"}, {"aggregate": {"${X}": "count() where c == '${X}'"}, "by": ["${X}"]}],
        "tests": [{"input": [{"a": "${X}"}]}],
    }
    assert expanded(document, X="x")[0] == document


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("${NONE}", "the environment variable NONE is not set", "set it, or write ${NONE:-default}"),
        ("${NONE", "${ is not closed", "write $$ for a dollar sign"),
        ("${a-b}", "${a-b} names no variable", "write ${NAME}, ${NAME:-default} or ${file:/path}"),
        (
            "${file:/no/such/file}",
            "cannot read /no/such/file: No such file or directory",
            "check the path and its rights",
        ),
    ],
)
def test_says_what_is_missing_and_keeps_the_text(text: str, message: str, hint: str) -> None:
    values, expansion = expanded({"kafka": {"bootstrap_servers": text}})
    assert values == {"kafka": {"bootstrap_servers": text}}
    [problem] = expansion.problems
    assert (problem.path, problem.message, problem.hint) == ("kafka.bootstrap_servers", message, hint)


def test_reads_mounted_secrets_without_their_newline(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("canary\r\n")
    values, expansion = expanded({"a": f"${{file:{secret}}}"})
    assert values == {"a": "canary"}
    assert expansion.used == {("a",): [f"file:{secret}"]}


def test_bounds_what_it_reads_and_never_shows_it(tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"c" * (FILE_BYTES_MAX + 1))
    with pytest.raises(ValueError, match="larger than 65536 bytes"):
        read_secret_file(str(large))
    binary = tmp_path / "binary"
    binary.write_bytes(b"canary\xff")
    with pytest.raises(ValueError, match="not UTF-8") as caught:
        read_secret_file(str(binary))
    assert "canary" not in str(caught.value)
