"""Owns the name of a worker: given, or leased so that no two workers of a machine have the same.

Before it: the configuration's `instance_id`. After it: the `transactional.id`, by which the broker fences a twin.
Invariant: a leased name is this process's until it ends, however it ends, and the same worker started again gets the same
one where it is free: then the broker ends its last transaction at once.
"""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from streamcore.errors import StateError

WORKERS_MAX = 1_000


class Instance:
    """A worker's name, held until `close`."""

    def __init__(self, name: str, lock: int | None = None) -> None:
        self.name = name
        self._lock = lock

    def close(self) -> None:
        """Gives the name back. Safe to call twice."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def lease_instance(folder: Path, instance_id: str | None) -> Instance:
    """The name that was given, or the first free one of this machine. Raises `StateError`."""
    if instance_id is not None:
        return Instance(instance_id)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(WORKERS_MAX):
            path = folder / f"INSTANCE-{number}"
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            return Instance(f"{socket.gethostname()}-{number}", lock)
    except OSError as error:
        raise StateError(f"{folder}: a worker cannot get a name here: {error.strerror}; set instance_id") from error
    raise StateError(f"{folder}: {WORKERS_MAX} workers run here already; set instance_id")
