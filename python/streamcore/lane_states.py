"""Owns bringing a lane's committed state together: from the worker's local copy where it checks, and from the state's topic.

Before it: `epochs.py`, in recovery and after each commit. After it: `state_topics.py`, which reads the topic, and `copy_files.py`,
which keeps the copies.
Invariant: a copy counts only if it is of this very pipeline, lane and topic, and the topic goes on from it; then the topic is read
from the copy's newest manifest on. Otherwise it is removed with one line that says why, and the topic is read from its beginning, so
with a copy or without, what is recovered or refused is the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from streamcore import _core
from streamcore.copy_files import NO_COUNTS, At, CopyFiles, Counts
from streamcore.errors import SourceError, StateError
from streamcore.state_topics import End, Reading, StateTopics
from streamcore.topic_watch import TopicWatch

log = logging.getLogger("streamcore.cache")

TAIL_BYTES_MAX = 8 << 20
"""Bytes behind a copy that are added to it; behind more it is made anew."""

MANIFEST = b"M/"


@dataclass(slots=True)
class CachedReading(Reading):
    """A lane's records, of which a part may come from its copy."""

    facts: bytes = b"{}"
    """What a copy of this lane is of."""
    copy: _core.StateCopy | None = None
    """What the reading began with; then its newest manifest, and how much of the file counts."""
    manifest: tuple[int, bytes, bytes] = (0, b"", b"")
    length: int = 0
    is_there: bool | None = None
    """Whether the first record that was read is that manifest; None: nothing was read yet."""
    tail: list[tuple[bytes, bytes | None]] | None = field(default_factory=list)
    """What came after the copy; None: too much to be kept."""
    tail_bytes: int = 0
    manifests: dict[bytes, int] = field(default_factory=dict)
    """Where manifests lie, by key."""
    bytes_read: int = 0
    found: list[tuple[bytes, bool]] | None = None

    def take(self, key: bytes, value: bytes | None, offset: int) -> None:
        """See `Reading.take`."""
        super(CachedReading, self).take(key, value, offset)
        size = len(key) + len(value or b"")
        self.bytes_read += size
        if key.startswith(MANIFEST):
            self.manifests[key] = offset
        if self.copy is None:
            return
        if self.is_there is None:
            self.is_there = (offset, key, value) == self.manifest
            if self.is_there:
                return
        if self.tail is not None:
            self.tail_bytes += size
            self.tail.append((key, value))
            if self.tail_bytes > TAIL_BYTES_MAX:
                self.tail = None

    def check_copy(self) -> None:
        """Whether the topic goes on from the copy, and both together are whole. Raises `StateError`."""
        if self.is_there is None:
            at = self.manifest[0]
            raise StateError(f"its newest manifest is at {at}, and nothing is there: the topic ends at {self.end}")
        _core.check_copy(self.records, self.manifest[2], self.is_there)
        self.found = self.records.manifests()
        if not self.found[0][1]:
            raise StateError("with what the topic has beside it, it is not whole")


@dataclass(slots=True)
class _Epoch:
    """The records of a lane's epoch, on their way into the topic."""

    records: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    manifest_offset: int = -1

    def delivered(self, offset: int) -> None:
        """The manifest has this place."""
        self.manifest_offset = offset


class LaneStates(StateTopics):
    """The state of one worker's lanes."""

    def __init__(self, *arguments: Any, files: CopyFiles | None, facts: Mapping[str, object], **more: Any) -> None:
        """`files` are None where no copies are kept; `facts` say of what pipeline they are."""
        super().__init__(*arguments, **more)
        self._files = files
        self._facts = facts
        self.counts: Counts = dict(NO_COUNTS) if files is None else files.counts
        self.watch: TopicWatch | None = None
        """Tells, where the state cannot be read, that its topics are gone."""
        self._is_layout_seen = False
        """Since the worker has its seat."""
        self._without: set[int] = set()
        """Lanes whose copy was rejected, until they are restored."""
        self._epoch: dict[int, _Epoch] = {}
        self._committed: list[tuple[int, int, _Epoch]] = []

    @property
    def _copies(self) -> CopyFiles | None:
        return self._files if self._files is not None and self._files.is_open else None

    # In recovery.

    def read(
        self, lanes: Sequence[int], *, until: End, timeout_s: float, records: Callable[[int], _core.StateRecords]
    ) -> dict[int, bool]:
        """See `StateTopics.read`; a lane whose copy turns out to be of no use is read again, from the beginning.

        Raises `StateError` where topics are gone.
        """
        self.write()
        try:
            reached = self._read(lanes, until, timeout_s, records)
        except SourceError:
            self._look_for_topics()
            raise
        if not all(reached.values()):
            self._look_for_topics()
        return reached

    def _look_for_topics(self) -> None:
        if self.watch is not None:
            self.watch.check_state()

    def _read(
        self, lanes: Sequence[int], until: End, timeout_s: float, records: Callable[[int], _core.StateRecords]
    ) -> dict[int, bool]:
        if not self._is_layout_seen:
            # It may have changed between the worker's start and its seat, and not while the seat is its own.
            self.check_layout()
            self._is_layout_seen = True
        for lane in lanes:
            if self.reading(lane) is not None:
                self._cached(lane).found = None  # there may be more now
        reached = super().read(lanes, until=until, timeout_s=timeout_s, records=records)
        return {lane: done and self._is_usable(lane) for lane, done in reached.items()}

    def _begin(self, lane: int, records: Callable[[int], _core.StateRecords]) -> Reading:
        copies = self._copies
        reading = CachedReading(records(lane))
        if copies is None:
            return reading
        reading.facts = self._facts_of(lane)
        if lane in self._without:
            return reading
        try:
            content = copies.read(lane)
            if content is None:
                return reading
            copy, key, value, offset, length = _core.StateCopy.read(reading.facts, content, reading.records)
        except StateError as error:
            self._reject(lane, str(error))
            reading.records = records(lane)
            return reading
        reading.copy, reading.manifest, reading.length = copy, (offset, key, value), length
        reading.position = offset
        return reading

    def _facts_of(self, lane: int) -> bytes:
        topic, partition = self.place(lane)
        found = self._bounds.topics[topic]
        facts = {
            **self._facts,
            "pipeline": self._pipeline,
            "lane": lane,
            "topic": topic,
            "topic_id": found.topic_id,
            "partition": partition,
            "partitions": len(found.partitions),
            "begin": self._bounds.begins[lane],
        }
        return orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)

    def _is_usable(self, lane: int) -> bool:
        """Whether what was read of a lane may be gone on from; a copy that does not fit is thrown away."""
        reading = self._cached(lane)
        if reading.copy is None:
            return True
        try:
            reading.check_copy()
        except StateError as error:
            self._reject(lane, str(error))
            self.forget([lane])
            return False
        return True

    def _reject(self, lane: int, reason: str) -> None:
        self._without.add(lane)
        self.counts["rejected"] += 1
        if self._files is None:
            return
        log.warning("the local copy of lane %d in %s is not used: %s", lane, self._files.folder, reason)
        self._files.drop(lane)

    def manifests(self, lane: int) -> list[tuple[bytes, bool]]:
        """See `_core.StateRecords.manifests`."""
        reading = self._cached(lane)
        if reading.found is None:
            reading.found = reading.records.manifests()
        return reading.found

    def recover(self, lane: int, engine: _core.Pipeline, *, is_new: bool = False) -> bytes | None:
        """Loads what was read into `engine`, or nothing if the lane `is_new`; gives the manifest. Raises `StateError`.

        Where the state that came from a copy does not load, `SourceError`: without it, it may.
        """
        if is_new:
            return engine.recover(lane, engine.state_records(lane))
        reading = self._cached(lane)
        try:
            return engine.recover(lane, reading.records)
        except StateError as error:
            if reading.copy is None:
                raise
            self._reject(lane, str(error))
            self.forget([lane])
            raise SourceError(f"the local copy of lane {lane} does not load: {error}", unreachable=True) from error

    def restored(self, lane: int, manifest: bytes | None) -> None:
        """The lane has been brought to `manifest`, which is JSON; what was read goes into its copy, and is let go of."""
        reading = self.reading(lane)
        self.forget([lane])
        self._without.discard(lane)
        self._epoch.pop(lane, None)
        if not isinstance(reading, CachedReading):
            return
        self._count(reading)
        copies = self._copies
        if copies is None:
            return
        epoch = 0 if manifest is None else int(orjson.loads(manifest)["epoch"])
        offset = reading.manifests.get(MANIFEST + b"%d" % (epoch % _core.MANIFEST_SLOTS))
        if epoch == 0 or offset is None:
            copies.drop(lane)
        elif reading.copy is not None and reading.tail is not None:
            copies.go_on(lane, reading.copy, reading.length, reading.tail, At(epoch, offset))
        else:
            size = reading.length + reading.bytes_read
            copies.begin(lane, reading.facts, reading.records, size, At(epoch, offset))

    def _count(self, reading: CachedReading) -> None:
        if reading.copy is not None:
            self.counts["lanes_from_copy"] += 1
            self.counts["records_from_copy"] += reading.copy.records
            self.counts["bytes_from_copy"] += reading.length
        self.counts["records_from_topic"] += reading.count
        self.counts["bytes_from_topic"] += reading.bytes_read
        log.info(
            "a lane was read: %d bytes of its local copy, %d records of %d bytes of the topic",
            reading.length,
            reading.count,
            reading.bytes_read,
        )

    def _cached(self, lane: int) -> CachedReading:
        reading = self.reading(lane)
        assert isinstance(reading, CachedReading)  # noqa: S101 - made by `_begin`
        return reading

    # After each commit.

    def begin_epoch(self) -> None:
        """The records of an epoch are made; those of one that was taken back are let go of."""
        self._epoch = {}

    def note(self, lane: int, key: bytes, value: bytes | None) -> Callable[[int], None] | None:
        """A record is sent; gives who wants to know of its offset."""
        if self._copies is None:
            return None
        epoch = self._epoch.setdefault(lane, _Epoch())
        epoch.records.append((key, value))
        return epoch.delivered if key.startswith(MANIFEST) and value is not None else None

    def committed(self, lanes: Sequence[Mapping[str, int]]) -> None:
        """Epochs of these lanes are committed."""
        copies = self._copies
        for each in lanes:
            lane, epoch = each["lane"], self._epoch.pop(each["lane"], None)
            if copies is None or epoch is None:
                continue
            self._committed.append((lane, each["epoch"], epoch))

    def write(self) -> None:
        """Hands over what was committed, to be written by and by."""
        committed, self._committed = self._committed, []
        copies = self._copies
        for lane, number, epoch in committed if copies is not None else ():
            assert copies is not None  # noqa: S101 - see above
            if epoch.manifest_offset < 0:
                self.counts["dropped"] += 1
                copies.drop(lane)
            else:
                copies.append(lane, self._facts_of(lane), epoch.records, At(number, epoch.manifest_offset))

    def drop(self, lanes: Sequence[int]) -> None:
        """These lanes are not ours any more; their copies stay."""
        self.write()
        self.forget(lanes)
        self._is_layout_seen = False
        for lane in lanes:
            self._without.discard(lane)
            self._epoch.pop(lane, None)
            if self._copies is not None:
                self._copies.forget(lane)
