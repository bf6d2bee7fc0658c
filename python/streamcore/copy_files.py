"""Owns the files of the local copies of lanes' state: one folder a worker, one file a lane, written by one thread.

Before it: `lane_states.py`, which hands over what was committed. After it: the disk, and the next start of the worker, which
reads the files in the place of the state's topic.
Invariant: a copy may be gone at any time and nothing is lost: no call here waits for the disk but `read` and `close`, none raises
for it, and what the disk refuses ends the copies of this run with one warning.

Files in `<state_dir>/<name>/cache/<worker>/<stage>/`: `LOCK` (held while the worker runs), `lane-N` or `meeting`, and `*.new` (unfinished,
ignored). Epochs are appended without fsync, as a cut file is read up to the last whole epoch; a file that is made anew is synced before it
gets its name, and its folder after.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from streamcore import _core
from streamcore.checkpoint import fsync_folder
from streamcore.errors import StateError
from streamcore.faults import fault_point

log = logging.getLogger("streamcore.cache")

FOLDER = "cache"
WAITING_BYTES_MAX = 64 << 20
"""Bytes of epochs that wait to be written; a lane whose next epoch finds no room has its copy dropped."""

WHOLE_BYTES_MAX = 256 << 20
"""The same of copies of whole lanes, after a recovery."""

DRAIN_S = 5.0
"""How long a read, or the end of the run, waits for what is to be written yet."""

MEETING = "meeting"
"""File of what lanes share where they meet."""

OURS = ("lane-", MEETING)
NEW = ".new"

Records = Sequence[tuple[bytes, bytes | None]]
Counts = dict[str, int]

NO_COUNTS: Counts = {
    "lanes_from_copy": 0,
    "records_from_copy": 0,
    "bytes_from_copy": 0,
    "records_from_topic": 0,
    "bytes_from_topic": 0,
    "rejected": 0,
    "dropped": 0,
    "given_up": 0,
}
"""What a run counts: see `docs/state.md`."""


class At(NamedTuple):
    """Which epoch a copy ends with."""

    epoch: int
    manifest_offset: int
    """Of its manifest, in the state's topic."""


@dataclass(slots=True)
class _File:
    """A lane's file, open at its end."""

    copy: _core.StateCopy
    descriptor: int


@dataclass(slots=True)
class _Task:
    lane: int
    size: int
    is_whole: bool
    do: Callable[[], None]


def copies_folder(state_folder: Path, worker: str, stage: int = 0) -> Path:
    """Where a worker keeps its copies of a stage's lanes."""
    name = quote(worker, safe="")
    return state_folder / FOLDER / (f"%2E{name[1:]}" if name.startswith(".") else name) / str(stage)


def lane_file(folder: Path, lane: int) -> Path:
    """The file of a lane."""
    return folder / (MEETING if lane < 0 else f"lane-{lane}")


def remove_copies(state_folder: Path) -> int:
    """Removes the copies of all workers that do not run; gives how many lanes they were of."""
    removed = 0
    for folder in _folders(state_folder):
        with _locked(folder) as is_ours, suppress(OSError):
            for path in _files(folder) if is_ours else ():
                path.unlink(missing_ok=True)
                removed += path.suffix != NEW
    return removed


def told_copies(state_folder: Path) -> list[tuple[str, int, int]]:
    """Of each folder of a worker's stage that holds any: its path, how many lanes, and their bytes.

    A folder of somebody else's is left out, and so is a file that goes away meanwhile: workers may run.
    """
    found = []
    for folder in _folders(state_folder):
        sizes = []
        with suppress(OSError):
            for path in _files(folder):
                with suppress(FileNotFoundError):
                    sizes += [path.stat().st_size] * (path.suffix != NEW)
        if sizes:
            found.append((str(folder), len(sizes), sum(sizes)))
    return found


def _folders(state_folder: Path) -> list[Path]:
    """Folders of all workers' stages, as far as they may be looked at."""
    found: list[Path] = []
    with suppress(OSError):
        for worker in sorted((state_folder / FOLDER).iterdir()):
            with suppress(OSError):
                found += sorted(stage for stage in worker.iterdir() if stage.is_dir())
    return found


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether the folder is ours while this lasts."""
    try:
        lock = _lock(folder)
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        os.close(lock)


def _lock(folder: Path) -> int:
    lock = os.open(folder / "LOCK", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


class CopyFiles:
    """The copies of one worker, from `open` to `close`."""

    def __init__(self, folder: Path, counts: Counts, *, waiting_max: int = WAITING_BYTES_MAX) -> None:
        """`counts` is what this counts in."""
        self.folder = folder
        self.counts = counts
        self._waiting_max = waiting_max
        self._files: dict[int, _File] = {}
        """The writing thread's own."""
        self._tasks: deque[_Task] = deque()
        self._waiting = {False: 0, True: 0}
        """Bytes in the tasks: of epochs, and of whole lanes. The one that is being done counts."""
        self._busy: _Task | None = None
        self._changed = threading.Condition()
        self._stopping = False
        self._lock: int | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_open(self) -> bool:
        """Whether copies are read and written: not before `open`, nor after the disk refused."""
        return self._thread is not None and not self._stopping

    def open(self) -> None:
        """Takes the folder, and starts writing; where that cannot be, there are no copies in this run."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = _lock(self.folder)
            for path in self.folder.glob(f"*{NEW}"):
                path.unlink()
        except BlockingIOError:
            self._refuse("another process of this worker's name holds it")
            return
        except OSError as error:
            self._refuse(error.strerror or str(error))
            return
        self._thread = threading.Thread(target=self._write, name="streamcore-cache", daemon=True)
        self._thread.start()

    def _refuse(self, reason: str) -> None:
        self.counts["given_up"] += 1
        log.warning(
            "no local copy of the state is kept in %s: %s; a start reads its topic instead", self.folder, reason
        )

    def read(self, lane: int) -> bytes | None:
        """What a lane's file holds, once all that is to be written of it is; None without one. Raises `StateError`."""
        if not self.is_open:
            return None
        self._await(lambda: all(task.lane != lane for task in self._unfinished()))
        try:
            descriptor = os.open(lane_file(self.folder, lane), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"it cannot be read: {error.strerror}") from error

    def begin(self, lane: int, facts: bytes, records: _core.StateRecords, size: int, at: At) -> None:
        """Makes a lane's file anew, of all its records; see `_core.StateCopy.of`."""

        def do() -> None:
            copy, content = _core.StateCopy.of(facts, records, *at)
            self._replace(lane, copy, content)

        self._add(_Task(lane, size, True, do))

    def go_on(self, lane: int, copy: _core.StateCopy, length: int, tail: Records, at: At) -> None:
        """Goes on with the file that was read, of which `length` bytes count; `tail` is what came after it."""

        def do() -> None:
            self._close(lane)
            descriptor = os.open(lane_file(self.folder, lane), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            self._files[lane] = _File(copy, descriptor)
            os.ftruncate(descriptor, length)
            os.lseek(descriptor, length, os.SEEK_SET)
            if tail or copy.epoch != at.epoch:
                self._append(lane, tail, at)

        self._add(_Task(lane, _size(tail), False, do))

    def append(self, lane: int, facts: bytes, records: Records, at: At) -> None:
        """Adds an epoch of a lane; where it is not the next one, the copy begins anew with it.

        A copy that begins in the middle serves as soon as all parts have been written since.
        """

        def do() -> None:
            file = self._files.get(lane)
            if file is not None and file.copy.epoch != at.epoch - 1:
                self.counts["dropped"] += 1
                self._close(lane)
                file = None
            if file is None:
                flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
                descriptor = os.open(lane_file(self.folder, lane), flags, 0o600)
                self._files[lane] = _File(_core.StateCopy(facts), descriptor)
            self._append(lane, records, at)

        self._add(_Task(lane, _size(records), False, do))

    def forget(self, lane: int) -> None:
        """The lane is not ours any more; its file stays, as of its last epoch."""
        self._add(_Task(lane, 0, False, lambda: self._close(lane)))

    def drop(self, lane: int) -> None:
        """The copy is of no use: it is removed."""

        def do() -> None:
            self._close(lane)
            lane_file(self.folder, lane).unlink(missing_ok=True)

        with self._changed:
            for task in [task for task in self._tasks if task.lane == lane]:
                self._tasks.remove(task)
                self._waiting[task.is_whole] -= task.size
        self._add(_Task(lane, 0, False, do))

    def close(self) -> None:
        """Writes what is left, for a while, and lets go of the folder. Safe to call twice."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._await(lambda: not self._unfinished())
            with self._changed:
                self._stopping = True
                self._changed.notify_all()
            thread.join(DRAIN_S)
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    # Between threads.

    def _add(self, task: _Task) -> None:
        if not self.is_open:
            return
        bound = WHOLE_BYTES_MAX if task.is_whole else self._waiting_max
        with self._changed:
            waiting = self._waiting[task.is_whole]
            has_room = waiting == 0 or waiting + task.size <= bound or task.size == 0
            if has_room:
                self._tasks.append(task)
                self._waiting[task.is_whole] += task.size
                self._changed.notify_all()
        if not has_room:
            self.counts["dropped"] += 1
            log.info("the local copy of lane %d is dropped, as the disk is slower than the commits", task.lane)
            self.drop(task.lane)

    def _unfinished(self) -> list[_Task]:
        return [*self._tasks, *([] if self._busy is None else [self._busy])]

    def _await(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DRAIN_S
        with self._changed:
            while not is_so() and not self._stopping and time.monotonic() < deadline:
                self._changed.wait(deadline - time.monotonic())

    def _write(self) -> None:
        """The writing thread."""
        while True:
            with self._changed:
                while not self._tasks and not self._stopping:
                    self._changed.wait()
                if self._stopping:
                    break
                task = self._busy = self._tasks.popleft()
            try:
                task.do()
            except StateError as error:
                self._give_up_lane(task.lane, str(error))
            except OSError as error:
                self._give_up(error)
            finally:
                with self._changed:
                    self._busy = None
                    self._waiting[task.is_whole] -= task.size
                    self._changed.notify_all()
        for lane in list(self._files):
            self._close(lane)

    # In the writing thread.

    def _append(self, lane: int, records: Records, at: At) -> None:
        file = self._files[lane]
        content = file.copy.append(records, *at)
        # The last byte by itself: without it the epoch is not there.
        _write_all(file.descriptor, content[:-1])
        fault_point("before-cache-end")
        _write_all(file.descriptor, content[-1:])
        if file.copy.is_long:
            os.lseek(file.descriptor, 0, os.SEEK_SET)
            with os.fdopen(os.dup(file.descriptor), "rb") as whole:
                shrunk = file.copy.shrunk(whole.read())
            self._replace(lane, file.copy, shrunk)

    def _replace(self, lane: int, copy: _core.StateCopy, content: bytes) -> None:
        path = lane_file(self.folder, lane)
        new = path.with_name(path.name + NEW)
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(new, flags, 0o600)
        try:
            _write_all(descriptor, content)
            os.fsync(descriptor)
            fault_point("before-cache-rename")
            new.replace(path)
        except OSError:
            os.close(descriptor)
            raise
        self._close(lane)
        self._files[lane] = _File(copy, descriptor)
        fault_point("after-cache-rename")
        fsync_folder(self.folder)

    def _close(self, lane: int) -> None:
        file = self._files.pop(lane, None)
        if file is not None:
            os.close(file.descriptor)

    def _give_up_lane(self, lane: int, reason: str) -> None:
        self.counts["dropped"] += 1
        log.warning("the local copy of lane %d in %s is begun again: %s", lane, self.folder, reason)
        self._close(lane)
        with suppress(OSError):
            lane_file(self.folder, lane).unlink(missing_ok=True)

    def _give_up(self, error: OSError) -> None:
        """The disk refuses: no copies in this run any more, and what there is makes room."""
        self.counts["given_up"] += 1
        log.warning(
            "the local copies of the state in %s are given up: %s; commits go on, and a start reads the topic instead",
            self.folder,
            error.strerror or error,
        )
        with self._changed:
            self._stopping = True
            self._tasks.clear()
            self._changed.notify_all()
        for lane in list(self._files):
            self._close(lane)
        with suppress(OSError):
            for path in _files(self.folder):
                path.unlink(missing_ok=True)


def _files(folder: Path) -> list[Path]:
    """Files of ours, finished or not, but the lock."""
    return sorted(path for path in folder.iterdir() if path.name.startswith(OURS))


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _size(records: Records) -> int:
    return sum(len(key) + len(value or b"") for key, value in records)
