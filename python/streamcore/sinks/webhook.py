"""Owns sending rows to an HTTP server: what an answer means, what is tried again, and under which name.

Before it: batches of one output, or `webhook_outbox.py` with committed rows. After it: the server.
Invariant: a row was either taken (2xx) or is a dead letter (a 4xx that does not pass) before the next one is sent; and each
try of a row has the same `Idempotency-Key`, which no other row has.
"""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from streamcore import _core
from streamcore.config import WebhookSinkConfig
from streamcore.dead_letters import DeadLetter
from streamcore.errors import ConfigError, SinkError
from streamcore.sinks.base import Version

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("streamcore.webhook")

PASSING = frozenset({408, 425, 429})
"""Answers of 4xx that pass by themselves; so do all of 5xx."""

TRIES_MAX = 5
DELAY_S, DELAY_MAX_S = 0.25, 8.0
RETRY_AFTER_MAX_S = 60.0
ANSWER_BYTES_MAX = 64 << 10
"""Of an answer's body, which is only read to see that the answer is whole."""

TELL_S = 30.0
"""How often refused rows are told of."""

REFUSED = "SINK_REFUSED"
"""Reason of a dead letter that is a row."""

DETAIL_CHARACTERS = 200

Refuse = Callable[[DeadLetter], None]


class LaterError(SinkError):
    """The server did not take a row now."""

    def __init__(self, message: str, *, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class Row:
    """What one request sends, and where it comes from."""

    body: bytes
    key: str
    topic: str = ""
    partition: int = -1
    offset: int = -1


class Sender:
    """The client of one server."""

    def __init__(self, config: WebhookSinkConfig, *, pipeline: str, refuse: Refuse) -> None:
        """`refuse` takes rows that the server does not."""
        self._config = config
        self._pipeline = pipeline
        self._refuse = refuse
        self._client: httpx.Client | None = None
        self._refused = 0
        self._tell_due_s = 0.0
        url = urlsplit(config.url.get_secret_value())
        self.place = (
            f"the webhook at {url.scheme}://{url.hostname}:{url.port or (443 if url.scheme == 'https' else 80)}"
        )

    def open(self) -> None:
        """Makes the client; the first row shows whether the server is there. Raises `ConfigError`."""
        import httpx

        headers = {name: value.get_secret_value() for name, value in self._config.headers.items()}
        if not all(text.isascii() and text.isprintable() for pair in headers.items() for text in pair):
            raise ConfigError(f"{self.place}: a header cannot be used; name and value are printable ASCII")
        self._client = httpx.Client(
            headers={"Content-Type": "application/json", "User-Agent": "streamcore", **headers},
            timeout=self._config.timeout / 1000,
            follow_redirects=False,
        )

    def send(self, row: Row) -> None:
        """One try. Raises `LaterError`, or `SinkError` where no row will ever be taken."""
        import httpx

        if self._client is None:
            raise SinkError(f"{self.place} is not open", retriable=False)
        try:
            status, after, text = self._ask(self._client, row)
        except (httpx.TransportError, httpx.DecodingError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise LaterError(f"{self.place} gave no whole answer: {reason}") from None
        if 200 <= status < 300:
            return
        if status in PASSING or status >= 500:
            raise LaterError(f"{self.place} answered {status}", after_s=_seconds(after))
        if not 400 <= status < 500:
            raise SinkError(f"{self.place} answered {status}, which leads elsewhere; correct the url", retriable=False)
        self._give_up(row, f"HTTP {status}: {text}")

    def _ask(self, client: httpx.Client, row: Row) -> tuple[int, str | None, str]:
        """Status, `Retry-After`, and the beginning of the body, once the answer is whole."""
        import httpx

        deadline = time.monotonic() + self._config.timeout / 1000
        body = bytearray()
        with client.stream(
            self._config.method,
            self._config.url.get_secret_value(),
            content=row.body,
            headers={"Idempotency-Key": f'"{row.key}"'},
        ) as answer:
            for chunk in answer.iter_raw():
                body += chunk
                if len(body) > ANSWER_BYTES_MAX:
                    break
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("the answer took too long")
            text = bytes(body[:DETAIL_CHARACTERS]).decode(errors="replace")
            return answer.status_code, answer.headers.get("Retry-After"), text

    def _give_up(self, row: Row, detail: str) -> None:
        self._refused += 1
        if time.monotonic() >= self._tell_due_s:
            self._tell_due_s = time.monotonic() + TELL_S
            log.warning(
                "%s refused rows, which become dead letters; the newest of %d: %s", self.place, self._refused, detail
            )
        self._refuse(
            DeadLetter(
                key=row.key.encode(),
                value=row.body,
                headers=(),
                reason=REFUSED,
                detail=detail,
                topic=row.topic,
                partition=row.partition,
                offset=row.offset,
                timestamp_ms=None,
                pipeline=self._pipeline,
                sha256=hashlib.sha256(row.body).hexdigest(),
            )
        )

    def close(self) -> None:
        """Closes connections. Safe to call twice."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


class WebhookSink:
    """Rows sent directly, before their checkpoint; see `sinks/base.py` for the contract.

    An epoch that is repeated after a crash sends its rows again. They have the same keys only where it was cut in the same
    way, and never those of other rows: the key ends in the row's digest.
    """

    def __init__(self, config: WebhookSinkConfig, *, pipeline: str, refuse: Refuse) -> None:
        self.output: str = config.output
        self._config = config
        self._pipeline = pipeline
        self._sender = Sender(config, pipeline=pipeline, refuse=refuse)
        self._rows: deque[Row] = deque()

    def open(self) -> None:
        """Makes the client."""
        self._sender.open()

    def write(self, batch: _core.Batch, version: Version) -> None:
        """Holds the rows until the flush."""
        bodies = batch.to_json(columns=self._config.columns, timestamp_format=self._config.timestamp_format)
        stem = f"{self._pipeline}/{version.generation}/{version.epoch}/{version.sequence}"
        for number, body in enumerate(bodies):
            # Copied: what the engine gives may keep more than the row.
            row = bytes(memoryview(body))
            self._rows.append(Row(row, f"{stem}.{number}/{hashlib.sha256(row).hexdigest()[:16]}"))

    def flush(self) -> None:
        """Sends the rows; each is taken, or a dead letter, when this returns. Raises `SinkError`."""
        while self._rows:
            self._send_patiently(self._rows[0])
            self._rows.popleft()

    def _send_patiently(self, row: Row) -> None:
        for attempt in range(TRIES_MAX):
            try:
                self._sender.send(row)
            except LaterError as error:
                if attempt == TRIES_MAX - 1:
                    raise
                time.sleep(delay_s(attempt, error.after_s))
            else:
                return

    def committed(self, epoch: int) -> None:
        """Nothing waits for the checkpoint."""

    def discard(self) -> None:
        """Drops what is held."""
        self._rows.clear()

    def close(self) -> None:
        """Closes connections."""
        self._sender.close()


def delay_s(attempt: int, after_s: float = 0.0) -> float:
    """How long to wait after a try: doubling, with jitter, so that many workers do not come at once; not sooner than asked."""
    wait_s: float = min(DELAY_S * 2.0**attempt, DELAY_MAX_S)
    return max(after_s, wait_s * random.uniform(0.5, 1.0))


def _seconds(retry_after: str | None) -> float:
    """What `Retry-After` asks for: seconds, or a date; at most a minute."""
    if retry_after is None:
        return 0.0
    try:
        wait_s = float(retry_after)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(max(0.0, wait_s), RETRY_AFTER_MAX_S) if wait_s == wait_s else 0.0  # noqa: PLR0124 - NaN
