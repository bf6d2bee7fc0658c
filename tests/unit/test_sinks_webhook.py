"""Rows sent to an HTTP server: what is tried again, what becomes a dead letter, and under which key."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

import streamcore as sc
from streamcore.config import WebhookSinkConfig
from streamcore.dead_letters import DeadLetter
from streamcore.errors import ConfigError, SinkError
from streamcore.sinks.base import Version
from streamcore.sinks.webhook import LaterError, Row, Sender, WebhookSink, delay_s
from tests.batches import pages
from tests.servers.webhook import WebhookServer

ROW = Row(b'{"n": 1}', "p/1")


@pytest.fixture
def server() -> Iterator[WebhookServer]:
    with WebhookServer() as server:
        yield server


def config(server: WebhookServer, **keys: Any) -> WebhookSinkConfig:
    return WebhookSinkConfig.model_validate({"url": server.url, "timeout": "500ms", **keys})


def opened(server: WebhookServer, refused: list[DeadLetter], **keys: Any) -> Sender:
    sender = Sender(config(server, **keys), pipeline="p", refuse=refused.append)
    sender.open()
    return sender


def test_a_row_is_taken_under_its_key(server: WebhookServer) -> None:
    sender = opened(server, [], headers={"Authorization": "Bearer canary"})
    sender.send(ROW)
    sender.close()
    sender.close()
    assert server.taken == {"p/1": {"n": 1}}
    wanted = {"Authorization": "Bearer canary", "Content-Type": "application/json", "Idempotency-Key": '"p/1"'}
    assert {name: server.headers[name] for name in wanted} == wanted
    with pytest.raises(SinkError, match="not open"):
        sender.send(ROW)


@pytest.mark.parametrize("what", ["408", "425", "429", "500", "503", "hang", "half", "cut"])
def test_what_passes_is_tried_again_later(server: WebhookServer, what: str) -> None:
    refused: list[DeadLetter] = []
    server.behave = lambda _row: what
    server.hang_s = 1.0
    sender = opened(server, refused)
    with pytest.raises(LaterError, match=what if what.isdigit() else "no whole answer") as failed:
        sender.send(ROW)
    assert failed.value.retriable
    assert "canary" not in str(failed.value)
    server.behave = lambda _row: "ok"
    sender.send(ROW)
    assert (server.taken, refused, server.asked) == ({"p/1": {"n": 1}}, [], {"p/1": 2})
    sender.close()


def test_a_server_that_is_not_there_may_come_back() -> None:
    with WebhookServer() as server:
        sender = opened(server, [])
    with pytest.raises(LaterError, match="no whole answer"):
        sender.send(ROW)
    sender.close()


def test_an_answer_that_only_drips_is_given_up(server: WebhookServer, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter(range(0, 1_000, 10))
    sender = opened(server, [])
    monkeypatch.setattr(time, "monotonic", lambda: float(next(moments)))
    with pytest.raises(LaterError, match="took too long"):
        sender.send(ROW)
    monkeypatch.undo()
    sender.close()


@pytest.mark.parametrize("status", ["400", "401", "404", "422"])
def test_a_row_that_is_refused_becomes_a_dead_letter(server: WebhookServer, status: str) -> None:
    refused: list[DeadLetter] = []
    server.behave = lambda _row: status
    sender = opened(server, refused)
    sender.send(Row(b'{"n": 1}', "p/1", "out", 2, 30))
    (letter,) = refused
    assert (letter.reason, letter.detail) == ("SINK_REFUSED", f"HTTP {status}: not this one")
    assert (letter.value, letter.key) == (b'{"n": 1}', b"p/1")
    assert (letter.topic, letter.partition, letter.offset, letter.pipeline) == ("out", 2, 30, "p")
    sender.close()


def test_an_address_that_leads_elsewhere_ends_the_run(server: WebhookServer) -> None:
    server.behave = lambda _row: "308"
    sender = opened(server, [])
    with pytest.raises(SinkError, match="correct the url") as failed:
        sender.send(ROW)
    assert not failed.value.retriable
    sender.close()


@pytest.mark.parametrize(
    ("after", "least_s", "most_s"),
    [
        ("7", 7, 7),
        ("1000", 60, 60),
        ("-3", 0, 0),
        ("soon", 0, 0),
        ("nan", 0, 0),
        ("a date", 5, 41),
    ],
)
def test_a_server_may_say_when(server: WebhookServer, after: str, least_s: float, most_s: float) -> None:
    if after == "a date":
        after = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    server.behave = lambda _row: f"429 after {after}"
    sender = opened(server, [])
    with pytest.raises(LaterError) as failed:
        sender.send(ROW)
    assert least_s <= failed.value.after_s <= most_s
    sender.close()


def test_waits_double_with_jitter_and_keep_to_what_was_asked() -> None:
    waits = [[delay_s(attempt) for _ in range(50)] for attempt in range(8)]
    assert all(
        0.5 * top <= wait <= top for row, top in zip(waits, [0.25, 0.5, 1, 2, 4, 8, 8, 8], strict=True) for wait in row
    )
    assert len(set(waits[0])) > 1
    assert delay_s(0, 30.0) == 30.0


def test_rows_of_an_epoch_have_keys_of_their_own(server: WebhookServer) -> None:
    def sent(epoch: int, *views: int) -> set[str]:
        sink = WebhookSink(config(server, columns=("views",)), pipeline="p", refuse=lambda _letter: None)
        sink.open()
        sink.write(pages(*views), Version(5, epoch, 0))
        before = set(server.taken)
        sink.flush()
        sink.committed(epoch)
        sink.close()
        return set(server.taken) - before

    first = sent(1, 3, 3, 4)
    assert [row["views"] for row in server.taken.values()] == [3, 3, 4]
    assert len(first) == 3
    assert sent(1, 3, 3, 4) == set()
    assert len(sent(1, 5, 3)) == 1, "another cut: the row that is new has a new key"
    assert len(sent(2, 3)) == 1


def test_an_epoch_waits_for_the_server_and_not_for_ever(server: WebhookServer, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    answers = iter(["503", "429 after 9", "ok", *["503"] * 5])
    server.behave = lambda _row: next(answers)
    sink = WebhookSink(config(server), pipeline="p", refuse=lambda _letter: None)
    sink.open()
    sink.write(pages(1, 2), Version(5, 1, 0))
    with pytest.raises(LaterError):
        sink.flush()
    assert (len(server.taken), waits[1], len(waits)) == (1, 9.0, 6)
    sink.discard()
    sink.flush()
    sink.close()


@pytest.mark.parametrize(
    "url", ["http://", "http://[nope/canary", "http://a b/canary", "redis://host/canary", "https://host:port/"]
)
def test_a_url_that_cannot_be_used_is_said_without_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"webhook .* http://host") as refused:
        WebhookSinkConfig.model_validate({"url": url})
    assert "canary" not in str(refused.value)


def test_a_header_that_cannot_be_sent_is_said_without_it(server: WebhookServer) -> None:
    with pytest.raises(ConfigError, match="header cannot be used") as refused:
        opened(server, [], headers={"Authorization": "canäry\n"})
    assert "can" not in str(refused.value).replace("cannot", "")


def test_a_pipeline_sends_rows_and_keeps_what_was_refused(server: WebhookServer, tmp_path: Any) -> None:
    server.behave = lambda row: "422" if row["page"] == "b" else "ok"
    rows = [{"page": page, "at": number} for number, page in enumerate("abab")]
    letters = tmp_path / "letters.jsonl"
    source = sc.records(rows, event_time="at", event_time_unit="s", schema={"page": "string"})
    flow = source.select(page="page").sink_webhook(server.url, timeout="2s")
    flow.dead_letters(path=str(letters)).run()
    assert [row["page"] for row in server.taken.values()] == ["a", "a"]
    assert letters.read_text().count("SINK_REFUSED") == 2
