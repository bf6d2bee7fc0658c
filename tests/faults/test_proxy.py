"""The proxy's own framing and rules, against a server that answers every request with its correlation id and no error."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.faults.proxy import ADD_OFFSETS_TO_TXN, END_TXN, Framer, Proxy, refusal, request_head


def request(api: int, correlation: int, body: bytes = b"") -> bytes:
    return struct.pack(">ihhi", 8 + len(body), api, 1, correlation) + body


def test_frames_come_out_whole_however_the_bytes_were_cut() -> None:
    frames = [request(api, api + 7, bytes(range(api))) for api in range(60)]
    for seed in range(20):
        chance, data, framer, found = random.Random(seed), b"".join(frames), Framer(), []
        while data:
            cut = chance.randint(1, 90)
            found += framer.feed(data[:cut])
            data = data[cut:]
        assert found == frames


def test_a_length_that_is_none_is_refused() -> None:
    for length in (-1, 0, 3, 1 << 30):
        with pytest.raises(ValueError, match="frame"):
            Framer().feed(struct.pack(">i", length))


def test_a_request_is_known_by_its_kind() -> None:
    assert request_head(request(26, 99, b"x")) == (26, 1, 99)


class Echo:
    """Answers as a broker would, and remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        framer = Framer()
        with peer, suppress(OSError):
            while data := peer.recv(4096):
                for frame in framer.feed(data):
                    api, _, correlation = request_head(frame)
                    self.seen.append((api, correlation))
                    peer.sendall(refusal(correlation, 0))

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()
    yield echo
    echo.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    proxy = Proxy()
    proxy.target = echo.address
    yield proxy
    proxy.close()


def _connect(proxy: Proxy) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", proxy.port), timeout=5)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def _answers(client: socket.socket, count: int = 1) -> list[tuple[int, int]]:
    """Correlation ids and errors of so many replies."""
    framer = Framer()
    found: list[bytes] = []
    while len(found) < count:
        data = client.recv(4096)
        assert data, "the connection ended"
        found += framer.feed(data)
    return [(struct.unpack_from(">i", frame, 4)[0], struct.unpack_from(">h", frame, 12)[0]) for frame in found]


def test_a_held_request_lets_others_pass_and_goes_on_when_it_is_let_go(proxy: Proxy, echo: Echo) -> None:
    rule = proxy.add(END_TXN, "hold")
    with _connect(proxy) as client:
        client.sendall(request(END_TXN, 1) + request(3, 2))
        assert _answers(client) == [(2, 0)]
        proxy.release(rule.await_caught())
        assert _answers(client) == [(1, 0)]
    assert echo.seen == [(3, 2), (END_TXN, 1)]


def test_a_held_request_arrives_after_its_sender_is_gone(proxy: Proxy, echo: Echo) -> None:
    rule = proxy.add(END_TXN, "hold", times=2)
    for correlation in (1, 2):
        with _connect(proxy) as client:
            client.sendall(request(END_TXN, correlation))
            rule.await_caught(correlation)
    assert echo.seen == []
    assert proxy.release(rule.await_caught(1), anew=True) == 0
    proxy.release(rule.await_caught(2))
    assert echo.seen == [(END_TXN, 1), (END_TXN, 2)]


def test_a_request_is_dropped_or_answered_in_the_broker_s_place(proxy: Proxy, echo: Echo) -> None:
    proxy.add(END_TXN, "drop", skip=1)
    proxy.add(ADD_OFFSETS_TO_TXN, "answer", error=30)
    with _connect(proxy) as client:
        client.sendall(request(END_TXN, 1) + request(END_TXN, 2) + request(ADD_OFFSETS_TO_TXN, 3) + request(3, 4))
        assert sorted(_answers(client, 3)) == [(1, 0), (3, 30), (4, 0)]
    assert echo.seen == [(END_TXN, 1), (3, 4)]


def test_replies_are_swallowed_or_held_by_what_was_asked(proxy: Proxy, echo: Echo) -> None:
    swallowed = proxy.add(END_TXN, "swallow reply", contains=b"mine")
    held = proxy.add(ADD_OFFSETS_TO_TXN, "hold reply")
    with _connect(proxy) as client:
        client.sendall(request(END_TXN, 1, b"theirs") + request(END_TXN, 2, b"mine") + request(ADD_OFFSETS_TO_TXN, 3))
        assert _answers(client) == [(1, 0)]
        swallowed.await_caught()
        proxy.release(held.await_caught())
        assert _answers(client) == [(3, 0)]
    assert [api for api, _ in echo.seen] == [END_TXN, END_TXN, ADD_OFFSETS_TO_TXN]


def test_a_blackhole_and_a_way_that_is_lost_keep_bytes_until_they_heal(proxy: Proxy, echo: Echo) -> None:
    with _connect(proxy) as client:
        for correlation, weather in enumerate(("blackhole", "mute", "deaf")):
            proxy.set(weather)  # type: ignore[arg-type]
            client.sendall(request(3, correlation))
            client.settimeout(0.2)
            with pytest.raises(TimeoutError):
                client.recv(1)
            assert ((3, correlation) in echo.seen) == (weather == "deaf")
            proxy.set("clear")
            client.settimeout(5)
            assert _answers(client) == [(correlation, 0)]


def test_a_cut_and_a_reset_end_connections(proxy: Proxy) -> None:
    with _connect(proxy) as client:
        client.sendall(request(3, 1))
        assert _answers(client) == [(1, 0)]
        proxy.set("cut")
        assert client.recv(1) == b""
        with _connect(proxy) as other:
            assert other.recv(1) == b""
    proxy.set("clear")
    with _connect(proxy) as client:
        client.sendall(request(3, 1))
        assert _answers(client) == [(1, 0)]
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_slices_and_delay_change_nothing_but_time(proxy: Proxy) -> None:
    for weather in ("slices", "slow"):
        proxy.set(weather)
        with _connect(proxy) as client:
            client.sendall(b"".join(request(3, number, bytes(1000)) for number in range(5)))
            assert _answers(client, 5) == [(number, 0) for number in range(5)]
