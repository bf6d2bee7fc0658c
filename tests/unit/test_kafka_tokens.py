"""Tokens of a callback that fails now and then."""

from __future__ import annotations

import gc
import time
import weakref
from typing import Any

import pytest

from streamcore.errors import SourceError
from streamcore.kafka_tokens import GOES_ON, SERVE_INTERVAL_S, WAITS, Tokens, ask_for_token, keep_asking


class Callback:
    """Gives what it is told to, or raises it."""

    given: Any = None

    def __call__(self, config: str) -> Any:
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


class Client:
    polls = 0

    def poll(self, timeout_s: float) -> None:
        self.polls += 1
        if self.polls == 1:
            raise SourceError("there is no token")


def test_a_callback_that_fails_is_told_without_its_words_and_the_last_token_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    callback = Callback()
    tokens = Tokens(callback)
    callback.given = ("canary", time.time() + 60, "alice")
    assert tokens("") == callback.given
    first, callback.given = callback.given, RuntimeError("canary")
    assert tokens("") == first
    assert tokens.failure is None
    assert f"the token callback failed (RuntimeError); {GOES_ON}" in caplog.text
    callback.given = ("canary", time.time() + 0.05)
    assert tokens("") == callback.given
    time.sleep(0.1)
    callback.given = RuntimeError("canary")
    with pytest.raises(SourceError, match="the token callback failed"):
        tokens("")
    assert WAITS in caplog.text
    assert "canary" not in caplog.text


@pytest.mark.parametrize("given", [None, (), "canary", ("canary", 1.0), ("canary", "soon"), (b"canary", 4e9)])
def test_what_is_no_token_that_holds_is_an_error_that_does_not_show_it(given: Any) -> None:
    callback = Callback()
    callback.given = given
    tokens = Tokens(callback)
    with pytest.raises(SourceError, match="the token callback failed") as caught:
        tokens("")
    assert caught.value.exit_code == 4
    assert "canary" not in str(caught.value)
    assert tokens.failure == str(caught.value)
    callback.given = ("right", time.time() + 60)
    assert tokens("")[0] == "right"
    assert tokens.failure is None


def test_a_client_asks_where_there_is_a_callback() -> None:
    client = Client()
    ask_for_token(client, {})
    assert client.polls == 0
    with pytest.raises(SourceError):
        ask_for_token(client, {"oauth_cb": Callback()})


def test_a_client_is_polled_until_it_is_gone() -> None:
    client = Client()
    gone = weakref.ref(client)
    keep_asking(client)
    deadline = time.monotonic() + 10
    while client.polls < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    del client
    while gone() is not None:
        assert time.monotonic() < deadline
        time.sleep(SERVE_INTERVAL_S)
        gc.collect()
