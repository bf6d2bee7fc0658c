"""Owns that clients have tokens for OAUTHBEARER, from the callback of whoever runs the job (`oauth_cb` in `options`).

Before it: that callback. After it: every client of a connection that has one.
Invariant: what the callback raises is told by the name of its class alone, as a token may be in its text; and a token that still
holds is gone on with where there is no new one.

A client asks for tokens while it is polled, and only then: what is asked of one that was never polled waits in vain.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from streamcore.errors import SourceError

TOKENS = "oauth_cb"
"""The client's setting."""

SERVE_INTERVAL_S = 0.25

GOES_ON = "the last token is gone on with until it ends"
WAITS = "the last token is over, and clients wait for a new one"

log = logging.getLogger("streamcore.kafka")


class Tokens:
    """The callback as a client has it."""

    def __init__(self, callback: Callable[[str], Any]) -> None:
        self.callback = callback
        """As it was given."""
        self.failure: str | None = None
        """Why there is no token, as a message; what is raised, not every client hands on."""
        self._last: Any = None
        """The last token, until when it holds (seconds since 1970), and what else came with it."""

    def __call__(self, config: str) -> Any:
        """A token that holds now. Raises `SourceError`."""
        why = "it gave no token that holds, with the time when it ends"
        try:
            given = self.callback(config)
            if isinstance(given[0], str) and float(given[1]) > time.time():
                self._last, self.failure = given, None
                return given
        except Exception as error:  # noqa: BLE001 - it is not ours
            why = type(error).__name__
        self.failure = f"the token callback failed ({why}); look at what it logs"
        if self._last is not None:
            holds = float(self._last[1]) > time.time()
            log.warning("the token callback failed (%s); %s", why, GOES_ON if holds else WAITS)
            if holds:
                self.failure = None
                return self._last
        raise SourceError(self.failure, unreachable=True) from None


def ask_for_token(client: Any, settings: Any) -> None:
    """Has a client ask that was just made with these settings, or that was not polled for long. Raises `SourceError`."""
    if TOKENS in settings:
        client.poll(0)


def keep_asking(client: Any) -> None:
    """Polls a client for as long as it is there, beside whoever uses it: for one that brings nothing when it is polled."""
    kept = weakref.ref(client)

    def serve() -> None:
        while (client := kept()) is not None:
            with suppress(SourceError):  # noted with the tokens
                client.poll(0)
            del client
            time.sleep(SERVE_INTERVAL_S)

    threading.Thread(target=serve, name="kafka-tokens", daemon=True).start()
