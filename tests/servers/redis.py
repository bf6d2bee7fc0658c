"""A Redis server of one's own: no disk, one free loopback port.

Debian's `redis-server` is used as it is; `scripts/install-servers.sh` installs it.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path

from tests.servers.ports import free_ports
from tests.servers.process import Server, ServerError, ServerProcess

START_TIMEOUT_S = 20.0


class RedisServer(Server):
    """Starts on construction; `url` is where clients find it."""

    def __init__(self, *, password: str | None = None) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise ServerError("redis-server is missing: apt-get install redis-server")
        self.directory = Path(tempfile.mkdtemp(prefix="streamcore-redis-"))
        (self.port,) = free_ports(1)
        self._program = program
        self._password = password
        self.start()

    @property
    def url(self) -> str:
        login = f":{self._password}@" if self._password else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Starts the server, empty, on the same port as before."""
        command = [self._program, "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)]
        command += ["--save", "", "--appendonly", "no"]
        if self._password:
            command += ["--requirepass", self._password]
        self.process = ServerProcess(command, self.directory / "redis.log")
        self.process.wait_until(self._answers, "redis-server", START_TIMEOUT_S)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def stop(self) -> None:
        self.process.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
