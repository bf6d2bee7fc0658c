"""Owns the status of a run over HTTP, for this machine alone: the server behind `--listen`, and asking it.

Before it: `run.py`, whose runner answers between two rounds. After it: `streamcore why`, or any HTTP client.
Invariant: only loopback is listened on, and a page of another site cannot ask: the `Host` must be this machine.

`GET /v1/status` is JSON: fingerprint, report, clocks, positions, ends; with `?window_end_ms=N` also the open windows that
end then.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from streamcore.errors import ConfigError, Error

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PATH = "/v1/status"
NOTE = "LISTEN"
"""File in a named run's folder that tells the address, while it listens."""
MILLISECONDS = re.compile(r"-?\d{1,18}")
ASK_TIMEOUT_S = 10.0
"""How long a client waits; the run itself answers within `runner.STATUS_WAIT_S` or says that it is busy."""

Ask = Callable[[int | None], Mapping[str, Any] | None]
"""The status, with the open windows of an end; None while the run cannot answer."""


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `"127.0.0.1:8080"`. Raises `ConfigError`, also for a host that is not this machine."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) >= 1 << 16:
        raise ConfigError(f'"{text}" is no address; write it as 127.0.0.1:8080 (port 0: one that is free)')
    if host not in LOOPBACK:
        raise ConfigError(
            f'"{text}": the status has no login, so it is for this machine alone; listen on 127.0.0.1 and put a proxy '
            "with a login before it"
        )
    return host, int(port)


class StatusServer:
    """Answers until it is closed, on threads of its own."""

    def __init__(self, address: str, ask: Ask, *, note: Path | None = None) -> None:
        """`note` is the file that tells `streamcore why` the address. Raises `ConfigError` when it cannot listen."""
        host, port = parse_address(address)
        self._note = note
        try:
            self._server = _Server((host, port), ask)
        except OSError as error:
            raise ConfigError(f"cannot listen on {address}: {error.strerror}; name another port, or 0") from error
        shown = f"[{host}]" if ":" in host else host
        self.address = f"{shown}:{self._server.server_address[1]}"
        if note is not None:
            self._write(note)
        self._thread = threading.Thread(target=self._server.serve_forever, name="streamcore-status", daemon=True)
        self._thread.start()

    def _write(self, note: Path) -> None:
        part = note.with_name(f"{note.name}.part")
        try:
            part.write_text(self.address)
            part.replace(note)  # whoever reads it finds the whole address
        except OSError as error:
            self._server.server_close()
            raise ConfigError(f"cannot write {note}, which tells where the run listens: {error.strerror}") from error

    def close(self) -> None:
        """Stops answering."""
        if self._note is not None:
            self._note.unlink(missing_ok=True)
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], ask: Ask) -> None:
        self.ask = ask
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def handle_error(self, *_: object) -> None:
        """Who left before the answer is no news of the run."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = ASK_TIMEOUT_S

    def do_GET(self) -> None:
        """Answers one request."""
        try:
            url = urlsplit(self.path)
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        except ValueError:
            self._answer(400, {"error": "the path or the Host header is no address"})
            return
        if host not in LOOPBACK:
            self._answer(403, {"error": "only this machine may ask"})
        elif url.path != PATH:
            self._answer(404, {"error": f"there is only {PATH}"})
        else:
            self._status(parse_qs(url.query).get("window_end_ms", []))

    def _status(self, window_end: list[str]) -> None:
        if window_end and MILLISECONDS.fullmatch(window_end[-1]) is None:
            self._answer(400, {"error": "window_end_ms is a number of milliseconds since 1970"})
            return
        status = self.server.ask(int(window_end[-1]) if window_end else None)
        if status is None:
            self._answer(503, {"error": "the run is busy: it waits for a sink, a commit or whoever takes its rows"})
        else:
            self._answer(200, status)

    def _answer(self, code: int, content: Mapping[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Standard error belongs to the run."""


def fetch_status(address: str, window_end_ms: int) -> dict[str, Any] | None:
    """The status of the run that listens on `address`; None when nobody does. Raises `Error` for another answer."""
    try:
        try:
            code, content = _get(address, window_end_ms)
        except (ConnectionResetError, BrokenPipeError):  # of a run that ended as it was asked; now nobody listens
            code, content = _get(address, window_end_ms)
    except ConnectionRefusedError:
        return None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Error(f"{address}: no status of a run: {error}; is it another program's port?") from error
    if code != http.client.OK or not isinstance(content, dict):
        reason = content.get("error") if isinstance(content, dict) else None
        raise Error(f"{address}: {reason or f'HTTP {code}'}; ask again")
    return content


def _get(address: str, window_end_ms: int) -> tuple[int, Any]:
    """HTTP status and JSON of the answer."""
    connection = http.client.HTTPConnection(*parse_address(address), timeout=ASK_TIMEOUT_S)
    try:
        connection.request("GET", f"{PATH}?window_end_ms={window_end_ms}")
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()
