"""Free loopback ports for servers. A port is only known to be free while its socket is held, so several are taken at once."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

LOWEST = 10_000
CONNECTIONS = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""Ports that Linux gives to connections: a server that starts, or starts again, may find one of them taken by a client."""


def free_ports(count: int) -> list[int]:
    """`count` different TCP ports of 127.0.0.1 that nobody listens on now, and no connection is given."""
    above = int(CONNECTIONS.read_text().split()[0]) if CONNECTIONS.exists() else 1 << 15
    held: list[socket.socket] = []
    try:
        while len(held) < count:
            listener = socket.socket()
            held.append(listener)
            try:
                listener.bind(("127.0.0.1", LOWEST + secrets.randbelow(above - LOWEST)))
            except OSError:
                held.pop().close()
        return [listener.getsockname()[1] for listener in held]
    finally:
        for listener in held:
            listener.close()
