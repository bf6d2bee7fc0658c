"""A TCP proxy between workers and a broker that knows requests by their kind, and loses, holds and repeats them.

Before it: workers, which know the broker only under the proxy's address. After it: the broker's listener that is advertised
there. A request is four bytes of length, the API key, its version and a correlation id; a reply is a length and that id.
Invariant: bytes of one connection stay in their order, but for what a rule has taken out; a held request can reach the
broker after its sender is gone, as one that was on its way.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

PRODUCE, TXN_OFFSET_COMMIT, ADD_OFFSETS_TO_TXN, END_TXN, WRITE_TXN_MARKERS = 0, 28, 25, 26, 27

FRAME_BYTES_MAX = 100 << 20
READ_BYTES, QUEUED_FRAMES_MAX = 65536, 256
WAIT_S = 60.0
SLICE_BYTES = 64

What = Literal["hold", "drop", "hold reply", "swallow reply", "answer"]
Weather = Literal["clear", "cut", "blackhole", "reset", "slow", "slices", "deaf", "mute"]
"""`deaf`: nothing reaches the client. `mute`: nothing reaches the broker."""
Direction = Literal["request", "reply"]
T = TypeVar("T")


class Framer:
    """Puts bytes, however they were cut, together to frames, each with its length in front."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are whole now. Raises `ValueError` for a length that is none."""
        self._pending += data
        frames = []
        while len(self._pending) >= 4:
            (length,) = struct.unpack_from(">i", self._pending)
            if not 4 <= length <= FRAME_BYTES_MAX:
                raise ValueError(f"a frame of {length} bytes")
            if len(self._pending) < 4 + length:
                break
            frames.append(bytes(self._pending[: 4 + length]))
            del self._pending[: 4 + length]
        return frames


def request_head(frame: bytes) -> tuple[int, int, int]:
    """API key, version and correlation id of a request."""
    api, version, correlation = struct.unpack_from(">hhi", frame, 4)
    return api, version, correlation


def refusal(correlation: int, error: int) -> bytes:
    """A reply of the layout that AddOffsetsToTxn and EndTxn have in versions before 3: throttle time, error."""
    return struct.pack(">iiih", 10, correlation, 0, error)


@dataclass
class Caught:
    """A request or a reply that a rule has taken out."""

    frame: bytes
    connection: Connection
    direction: Direction


@dataclass(eq=False)
class Rule:
    """What is to be done with requests of one kind, `times` of them, after `skip` that pass."""

    api: int
    what: What
    contains: bytes = b""
    """Only requests with these bytes: a topic's name, a transactional id."""
    ends: bytes = b""
    """Only requests that end so: the last byte of EndTxn says whether it commits or aborts."""
    times: int = 1
    skip: int = 0
    error: int = 0
    """Of `answer`: what the proxy says in the broker's place, which is not asked."""
    caught: list[Caught] = field(default_factory=list)

    def applies(self, api: int, frame: bytes) -> bool:
        """Whether this request is one for the rule; counts."""
        if api != self.api or self.contains not in frame or not frame.endswith(self.ends):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        return self.times >= 0

    def await_caught(self, count: int = 1, *, within_s: float = WAIT_S) -> Caught:
        """Waits for the `count`-th; gives it."""
        deadline = time.monotonic() + within_s
        while len(self.caught) < count:
            assert time.monotonic() < deadline, f"no request {self.api} to {self.what} came within {within_s} s"
            time.sleep(0.01)
        return self.caught[count - 1]


class Connection:
    """One client's connection and the proxy's own to the broker."""

    def __init__(self, client: asyncio.StreamWriter, broker: asyncio.StreamWriter) -> None:
        self.client = client
        self.broker = broker
        self.replies: dict[int, Rule] = {}
        """By correlation id: what becomes of a reply."""
        self.held = 0
        """Requests that may yet be sent: the broker's side stays open for them."""

    def reset(self) -> None:
        """Ends the client's side with RST."""
        raw = self.client.get_extra_info("socket")
        with suppress(OSError, AttributeError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.transport.abort()

    def close(self) -> None:
        """Ends both sides; the broker's not while something is held for it."""
        self.client.close()
        if not self.held:
            self.broker.close()


class Proxy:
    """Runs in a thread of its own from construction until `close`; its methods may be called from any thread."""

    def __init__(self) -> None:
        self.target = ("127.0.0.1", 0)
        self.rules: list[Rule] = []
        self.weather: Weather = "clear"
        self._connections: set[Connection] = set()
        self._chance = random.Random(0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    # For tests.

    def add(self, api: int, what: What, **settings: Any) -> Rule:
        """A rule, before those there are."""
        rule = Rule(api, what, **settings)
        self.rules.insert(0, rule)
        return rule

    def clear(self) -> None:
        """Good weather and no rules; what is held is lost."""
        self.rules.clear()
        self.set("clear")
        self._do(self._drop_held())

    def set(self, weather: Weather, *, seed: int = 0) -> None:
        """Changes what happens to all bytes from now on."""
        self._chance = random.Random(seed)
        self.weather = weather
        if weather in ("cut", "reset"):
            self.reset(cleanly=weather == "cut")

    def reset(self, *, cleanly: bool = False) -> None:
        """Ends every connection there is."""
        self._do(self._reset(cleanly=cleanly))

    def release(self, caught: Caught, *, anew: bool = False) -> int | None:
        """Sends what was held, on its own connection or on one of its own, whose reply is awaited.

        Gives the error code of that reply (of EndTxn and AddOffsetsToTxn), else None.
        """
        return self._do(self._release(caught, anew=anew))

    def break_off(self, caught: Caught) -> None:
        """Ends the client's side of the connection that something is held of."""
        self._do(self._break_off(caught))

    def close(self) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(WAIT_S)

    # In the loop.

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        if self.weather == "cut":
            client.close()
            return
        try:
            answers, broker = await asyncio.open_connection(*self.target)
        except OSError:
            client.transport.abort()
            return
        connection = Connection(client, broker)
        self._connections.add(connection)
        pumps = [
            asyncio.create_task(self._pump(reader, connection, "request")),
            asyncio.create_task(self._pump(answers, connection, "reply")),
        ]
        with suppress(asyncio.CancelledError):
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        connection.close()
        while connection.held:  # noqa: ASYNC110 - a number that tests change
            await asyncio.sleep(0.05)
        connection.close()
        for pump in pumps:
            pump.cancel()
        self._connections.discard(connection)

    async def _pump(self, reader: asyncio.StreamReader, connection: Connection, direction: Direction) -> None:
        framer = Framer()
        sending: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED_FRAMES_MAX)
        sender = asyncio.create_task(self._send(sending, connection, direction))
        judge: Callable[[bytes, Connection], bytes] = self._request if direction == "request" else self._reply
        try:
            while data := await reader.read(READ_BYTES):
                for frame in framer.feed(data):
                    if passed := judge(frame, connection):
                        await sending.put((time.monotonic(), passed))
                if sender.done():
                    return
        except OSError:
            pass
        finally:
            sender.cancel()

    async def _send(self, sending: asyncio.Queue[tuple[float, bytes]], connection: Connection, way: Direction) -> None:
        writer = connection.broker if way == "request" else connection.client
        with suppress(OSError):
            while True:
                since, frame = await sending.get()
                if self.weather == "slow":
                    due = since + self._chance.uniform(0.1, 0.3)
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                while self._is_stuck(way):  # noqa: ASYNC110 - weather that tests change
                    await asyncio.sleep(0.01)
                step = SLICE_BYTES if self.weather == "slices" else len(frame)
                for at in range(0, len(frame), step):
                    writer.write(frame[at : at + step])
                    await writer.drain()
                    if step < len(frame):
                        await asyncio.sleep(0)
                if self.weather == "reset" and self._chance.random() < 0.02:
                    connection.reset()

    def _is_stuck(self, way: Direction) -> bool:
        return self.weather in ("blackhole", "mute" if way == "request" else "deaf")

    def _request(self, frame: bytes, connection: Connection) -> bytes:
        """What of a request goes on."""
        api, _, correlation = request_head(frame)
        rule = next((rule for rule in self.rules if rule.applies(api, frame)), None)
        if rule is None:
            return frame
        if rule.what in ("hold reply", "swallow reply"):
            connection.replies[correlation] = rule
            return frame
        if rule.what == "hold":
            connection.held += 1
        elif rule.what == "answer":
            connection.client.write(refusal(correlation, rule.error))
        rule.caught.append(Caught(frame, connection, "request"))
        return b""

    def _reply(self, frame: bytes, connection: Connection) -> bytes:
        """What of a reply goes on."""
        (correlation,) = struct.unpack_from(">i", frame, 4)
        rule = connection.replies.pop(correlation, None)
        if rule is None:
            return frame
        rule.caught.append(Caught(frame, connection, "reply"))
        return b""

    async def _reset(self, *, cleanly: bool) -> None:
        for connection in list(self._connections):
            if cleanly:
                connection.client.close()
            else:
                connection.reset()

    async def _stop(self) -> None:
        self._server.close()
        for connection in self._connections:
            connection.client.transport.abort()
            connection.broker.transport.abort()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close their sockets in the turn after

    async def _break_off(self, caught: Caught) -> None:
        caught.connection.reset()

    async def _release(self, caught: Caught, *, anew: bool) -> int | None:
        connection = caught.connection
        if caught.direction == "reply":
            connection.client.write(caught.frame)
            return None
        if anew:
            reader, writer = await asyncio.open_connection(*self.target)
            writer.write(caught.frame)
            reply = await asyncio.wait_for(reader.readexactly(14), WAIT_S)
            writer.close()
            connection.held -= 1
            return int(struct.unpack_from(">h", reply, 12)[0])
        connection.broker.write(caught.frame)
        with suppress(OSError):
            await connection.broker.drain()
        await asyncio.sleep(0.05)  # read by the broker, before a connection without a client ends
        connection.held -= 1
        return None

    async def _drop_held(self) -> None:
        for connection in self._connections:
            connection.held = 0
