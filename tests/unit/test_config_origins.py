"""Which layer a value comes from."""

from __future__ import annotations

from pathlib import Path

from streamcore.config.loading import parse, read_document
from streamcore.config.origins import settings

FILE = """\
commit_interval = "2s"
[kafka]
sasl_username = "${USER_NAME}"
[source]
type = "kafka"
topic = "t"
options = { "socket.timeout.ms" = "me" }
[[steps]]
filter = "a > $n"
parameters = { n = 1 }
[[sinks]]
type = "redis"
key_template = "k:{_offset}"
[[sinks]]
type = "parquet"
path = "p"
[[tests]]
name = "one"
input = []
"""


def origins(tmp_path: Path) -> dict[str, tuple[str, str]]:
    file = tmp_path / "p.toml"
    file.write_text(FILE)
    environ = {"USER_NAME": "me", "REDIS_URL": "redis://:canary@h", "KAFKA_BOOTSTRAP_SERVERS": "env:1"}
    document = read_document(file, ["source.topic=u", "limits={threads=2}"], environ=environ)
    found = settings(document, parse(document))
    return {setting.path: (setting.value, setting.origin.replace(str(file), "FILE")) for setting in found}


def test_each_layer_is_named(tmp_path: Path) -> None:
    found = origins(tmp_path)
    assert found["commit_interval"] == ('"2s"', "FILE:1")
    assert found["source.topic"] == ('"u"', "--set source.topic")
    assert found["kafka.sasl_username"] == ('"me"', "FILE:3 through ${USER_NAME}")
    assert found["kafka.bootstrap_servers"] == ('"env:1"', "environment KAFKA_BOOTSTRAP_SERVERS")
    assert found["sinks[0].url"] == ('"redis://***@h"', "environment REDIS_URL")
    assert found["sinks[1].path"] == ('"p"', "FILE:16")
    assert found["source.idle_timeout"] == ('"30s"', "default")
    assert found["source.event_time"] == ("unset", "default")
    assert found["tests"] == ('["one"]', "FILE:17")


def test_keys_of_a_table_given_whole_come_from_where_it_was_given(tmp_path: Path) -> None:
    found = origins(tmp_path)
    assert found["limits.threads"] == ("2", "--set limits")
    assert found["steps[0].parameters.n"] == ("1", "FILE:10")
    assert found['source.options."socket.timeout.ms"'] == ('"me"', "FILE:7")


def test_no_secret_is_listed(tmp_path: Path) -> None:
    assert "canary" not in str(origins(tmp_path))
