from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from streamcore.errors import ConfigError, Error
from streamcore.status import StatusServer, fetch_status, parse_address


def answer(window_end_ms: int | None) -> Mapping[str, Any] | None:
    return None if window_end_ms == 0 else {"asked": window_end_ms}


@pytest.fixture
def server() -> Iterator[StatusServer]:
    with StatusServer("127.0.0.1:0", answer) as server:
        yield server


def get(server: StatusServer, path: str, **headers: str) -> tuple[int, Any]:
    host, port = parse_address(server.address)
    connection = http.client.HTTPConnection(host, port, timeout=5)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    content = json.loads(response.read())
    connection.close()
    return response.status, content


def test_it_answers_with_the_status_of_the_run(server: StatusServer) -> None:
    assert get(server, "/v1/status") == (200, {"asked": None})
    assert get(server, "/v1/status?window_end_ms=-5") == (200, {"asked": -5})
    assert fetch_status(server.address, 7) == {"asked": 7}


def test_what_is_no_question_gets_no_status(server: StatusServer) -> None:
    assert get(server, "/v1/other")[0] == 404
    assert get(server, "/v1/status?window_end_ms=soon")[0] == 400
    assert get(server, f"/v1/status?window_end_ms={1 << 70}")[0] == 400
    assert get(server, "/v1/status?window_end_ms=0") == (
        503,
        {"error": "the run is busy: it waits for a sink, a commit or whoever takes its rows"},
    )
    with pytest.raises(Error, match=r"busy.*ask again"):
        fetch_status(server.address, 0)


def test_what_is_no_request_is_no_news_of_the_run(server: StatusServer, capfd: pytest.CaptureFixture[str]) -> None:
    assert get(server, "/v1/status", Host="[::1")[0] == 400
    with socket.create_connection(parse_address(server.address)) as gone:
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.sendall(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
    assert get(server, "/v1/status")[0] == 200
    assert capfd.readouterr().err == ""


def test_only_this_machine_may_ask(server: StatusServer) -> None:
    assert get(server, "/v1/status", Host="attacker.example")[0] == 403
    assert get(server, "/v1/status", Host="localhost:80")[0] == 200
    for address in ("0.0.0.0:80", "example.org:80", "192.168.0.1:80"):
        with pytest.raises(ConfigError, match="this machine alone"):
            parse_address(address)


@pytest.mark.parametrize("text", ["8080", ":8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match="no address"):
        parse_address(text)


def test_addresses() -> None:
    assert parse_address("[::1]:80") == ("::1", 80)
    assert parse_address("localhost:0") == ("localhost", 0)


def test_the_address_is_noted_while_it_listens(tmp_path: Path) -> None:
    note = tmp_path / "LISTEN"
    with StatusServer("127.0.0.1:0", answer, note=note) as server:
        address = note.read_text()
        assert address == server.address
        with pytest.raises(ConfigError, match=f"cannot listen on {address}"):
            StatusServer(address, answer)
    assert not note.exists()
    assert fetch_status(address, 1) is None


def test_an_address_that_cannot_be_noted_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write .*LISTEN"):
        StatusServer("127.0.0.1:0", answer, note=tmp_path / "gone" / "LISTEN")


def test_a_run_that_ends_as_it_is_asked_is_nobody() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"

    def end() -> None:
        connection, _ = listener.accept()
        listener.close()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()  # resets, as a server that closes does for those it has not taken yet

    ending = threading.Thread(target=end)
    ending.start()
    assert fetch_status(address, 1) is None
    ending.join()


def test_another_program_is_not_taken_for_a_run() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def talk() -> None:
            connection, _ = listener.accept()
            connection.recv(1 << 16)
            connection.sendall(b"hello\n")
            connection.close()

        threading.Thread(target=talk, daemon=True).start()
        with pytest.raises(Error, match="another program"):
            fetch_status(address, 1)
