"""An HTTP server that takes rows, or does not, as a test says. In this process, on a free loopback port."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Behave = Callable[[dict[str, Any]], str]
"""From a row to what the server does: `ok`, a status, `429 after N`, `hang`, `half` an answer, or `cut` the connection."""


@dataclass
class WebhookServer:
    """Rows it has taken lie in `taken`, by idempotency key; `asked` counts every request."""

    behave: Behave = lambda _row: "ok"
    hang_s: float = 3.0
    taken: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    """Keys of more than one row."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of the last request."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/rows?token=canary"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        row = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        key = request.headers["Idempotency-Key"].strip('"')
        with self._lock:
            self.asked[key] = self.asked.get(key, 0) + 1
            self.headers = dict(request.headers)
            what = self.behave(row)
            # Half an answer: the row was taken, and whoever sent it cannot know.
            if what in ("ok", "half") and self.taken.setdefault(key, row) != row:
                self.wrong.append(key)
        if what == "hang":
            time.sleep(self.hang_s)
            what = "cut"
        if what == "cut":
            request.close_connection = True
            return
        status, _, after = what.partition(" after ")
        body = b'{"ok": true}' if what in ("ok", "half") else b"not this one"
        request.send_response(200 if what in ("ok", "half") else int(status))
        request.send_header("Content-Length", str(len(body) * (2 if what == "half" else 1)))
        if after:
            request.send_header("Retry-After", after)
        request.end_headers()
        with suppress(OSError):  # nobody waits any more
            request.wfile.write(body)
        if what == "half":
            request.close_connection = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
