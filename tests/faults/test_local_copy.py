"""F9: the local copy of the state is damaged, in every way there is. It is rejected, said so and counted, and the topic is read.

All damages are tried in this process, by the real readings, copies and engine on a topic that is kept here (`tests/state_log.py`); some of
them then by workers on a broker. Invariant: what is recovered is the last committed epoch, to its digest.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from streamcore.copy_files import copies_folder, lane_file
from tests.faults.workers import PARTITIONS, RUN_S, Job
from tests.state_log import StateLog, Worker

RUNS = int(os.environ.get("STREAMCORE_FAULT_RUNS", "1"))
SEED = int(os.environ.get("STREAMCORE_SEED") or secrets.randbits(32))

FLIPS = 64
MUTATIONS_MIN = 200
FRAME_HEAD_BYTES, CHECKSUM_BYTES = 13, 4


@dataclass(frozen=True)
class Damage:
    name: str
    content: bytes
    is_harmless: bool = False
    """It may be read, as what is left is of the topic's own history."""


def _head_bytes(content: bytes) -> int:
    return 7 + 4 + int(struct.unpack_from("<I", content, 7)[0]) + CHECKSUM_BYTES


def _ends(content: bytes) -> list[int]:
    """Where the head and each frame ends; the layout is written down here once more."""
    found = [_head_bytes(content)]
    while found[-1] < len(content):
        _, key, value = struct.unpack_from("<cII", content, found[-1])
        found.append(found[-1] + FRAME_HEAD_BYTES + key + value + CHECKSUM_BYTES)
    assert found[-1] == len(content)
    return found


def _damages(content: bytes, *, older: bytes, other: bytes, seed: int) -> Iterator[Damage]:
    head, chance = _head_bytes(content), random.Random(seed)
    for place in range(head):
        yield Damage(f"byte {place} of the head", _changed(content, place, chance.randrange(1, 256)))
    for _ in range(FLIPS):
        place, bit = chance.randrange(head, len(content)), chance.randrange(8)
        yield Damage(f"bit {bit} of byte {place}", _changed(content, place, 1 << bit))
    for end in _ends(content)[:-1]:
        for cut in {end - 1, end, end + 1}:
            yield Damage(f"cut at {cut}", content[:cut], is_harmless=True)
    yield Damage("empty", b"")
    yield Damage("an older epoch", older, is_harmless=True)
    yield Damage("of the other partition", other)
    yield Damage("its records behind the head of the other partition", other[: _head_bytes(other)] + content[head:])
    yield Damage("of a version to come", _of_version(content, 2))
    yield Damage("zeros behind it", content + bytes(4096))
    yield Damage("itself behind it", content + content)
    yield Damage("itself behind it, without the head", content + content[head:])
    start = chance.randrange(head, len(content) - 512)
    yield Damage(f"zeros from {start} on", content[:start] + bytes(512) + content[start + 512 :])
    yield Damage("noise", chance.randbytes(len(content)))


def _changed(content: bytes, place: int, change: int) -> bytes:
    return content[:place] + bytes([content[place] ^ change]) + content[place + 1 :]


def _of_version(content: bytes, version: int) -> bytes:
    """With a checksum that fits."""
    head = bytearray(content[: _head_bytes(content) - CHECKSUM_BYTES])
    head[6] = version
    return bytes(head) + struct.pack("<I", _crc32c(head)) + content[len(head) + CHECKSUM_BYTES :]


def _crc32c(content: bytes | bytearray) -> int:
    value = 0xFFFFFFFF
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


@pytest.mark.parametrize("run", range(RUNS))
def test_every_damage_is_found_or_does_no_harm(tmp_path: Path, run: int) -> None:
    seed = SEED + run
    print(f"seed {seed}")
    log, folder = StateLog(), tmp_path / "copies"
    worker = Worker(log, folder, lanes=(0, 1))
    worker.recover()
    worker.commit(*(f"key {number}" for number in range(200)))
    worker.commit("a", "b", times=5)
    assert worker.files.read(0) is not None
    older = lane_file(folder, 0).read_bytes()
    worker.commit("c", "key 7", times=10)
    worker.close()
    content, other = lane_file(folder, 0).read_bytes(), lane_file(folder, 1).read_bytes()
    rejected = harmless = 0
    damages = list(_damages(content, older=older, other=other, seed=seed))
    for number, damage in enumerate(damages):
        at = tmp_path / str(number)
        shutil.copytree(folder, at)
        lane_file(at, 0).write_bytes(damage.content)
        again = Worker(log, at)
        again.recover()
        told = f"seed {seed}, {damage.name}: {again.counts}"
        assert (again.epochs[0], again.digest()) == (worker.epochs[0], worker.digest()), told
        assert again.counts["rejected"] + again.counts["lanes_from_copy"] == 1, told
        assert again.counts["rejected"] == 1 or damage.is_harmless, told
        if again.counts["rejected"]:
            assert again.counts["records_from_topic"] == len(log.records[0]), told
        rejected, harmless = rejected + again.counts["rejected"], harmless + again.counts["lanes_from_copy"]
        again.commit("d")
        again.close()
        third = Worker(log, at)
        third.recover()
        # The copy that was made in its place, or goes on behind the cut, is a good one.
        assert (third.counts["rejected"], third.digest()) == (0, again.digest()), told
        third.close()
        log = _without_last(log, worker.epochs[0])
        shutil.rmtree(at)
    print(f"{len(damages)} damages: {rejected} rejected, {harmless} read up to an epoch before")
    assert len(damages) >= MUTATIONS_MIN
    assert rejected >= FLIPS + _head_bytes(content)
    assert harmless > 0


def _without_last(log: StateLog, epoch: int) -> StateLog:
    """The topic as it was before the epochs behind `epoch`."""
    newer = [at for at, (key, _) in log.records[0].items() if key.startswith(b"D/") and int(key.split(b"/")[1]) > epoch]
    end = min(newer)
    log.records[0] = {at: each for at, each in log.records[0].items() if at < end}
    log.ends[0] = end
    return log


# On a broker.


def _cut(job: Job, path: Path, earlier: bytes) -> None:
    del job, earlier
    path.write_bytes(path.read_bytes()[:-20])


def _flipped(job: Job, path: Path, earlier: bytes) -> None:
    del job, earlier
    content = path.read_bytes()
    path.write_bytes(_changed(content, len(content) // 2, 0x10))


def _older(job: Job, path: Path, earlier: bytes) -> None:
    del job
    path.write_bytes(earlier)


def _other_lane(job: Job, path: Path, earlier: bytes) -> None:
    del job, earlier
    shutil.copy(path.with_name("lane-1"), path)


def _newer_version(job: Job, path: Path, earlier: bytes) -> None:
    del job, earlier
    path.write_bytes(_of_version(path.read_bytes(), 9))


def _gone(job: Job, path: Path, earlier: bytes) -> None:
    del job, earlier
    shutil.rmtree(path.parent)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize(
    ("damage", "rejected", "copies"),
    [
        (_flipped, 1, 2),
        (_other_lane, 1, 2),
        pytest.param(_newer_version, 1, 2, marks=pytest.mark.column("pull")),
        pytest.param(_cut, 0, 3, marks=pytest.mark.column("pull")),
        (_older, None, None),
        pytest.param(_gone, 0, 0, marks=pytest.mark.column("pull")),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_a_worker_with_a_damaged_copy_goes_on_from_the_topic(
    job: Job, run: int, damage: Callable[[Job, Path, bytes], None], rejected: int | None, copies: int | None
) -> None:
    """One of three lanes is damaged; an old copy is read from its end on, or from the topic if nothing of it counts any more."""
    folder = copies_folder(job.folder / "w0" / job.name, "w0")
    stream = job.stream(run)
    process = job.start()
    job.await_progress({})
    job.leave({"w0": process})
    earlier = lane_file(folder, 0).read_bytes()
    process = job.start()
    job.await_progress(job.offsets())
    job.leave({"w0": process})
    damage(job, lane_file(folder, 0), earlier)
    report = job.folder / "report.json"
    process = job.start(more=("--report", str(report)))
    job.await_progress(job.offsets())
    job.leave({"w0": process})
    counts = json.loads(report.read_text())["report"]["cache"]
    if rejected is None:
        assert counts["rejected"] + counts["lanes_from_copy"] == PARTITIONS, counts
    else:
        assert (counts["rejected"], counts["lanes_from_copy"]) == (rejected, copies), counts
    assert (job.folder / "w0.log").read_text().count("is not used: ") == counts["rejected"]
    stream.close()
    job.finish()
    job.check()


# F1, CP10: the writing of a copy, where the worker has committed already.


@pytest.mark.timeout(240)
@pytest.mark.parametrize("run", range(RUNS))
@pytest.mark.parametrize(
    "point", ["before-cache-end:4:kill", "before-cache-rename:1:kill", "after-cache-rename:1:kill"]
)
def test_a_worker_killed_while_it_writes_its_copy_loses_and_repeats_nothing(job: Job, run: int, point: str) -> None:
    stream = job.stream(run)
    if "rename" in point:
        # A copy is made whole after a recovery without one.
        process = job.start(worker="other", instance="w0")
        job.await_progress({})
        job.leave({"other": process})
    process = job.start(faults=point)
    assert process.wait(RUN_S) == -signal.SIGKILL, f"the point was not reached:\n{job.log()}"
    stream.close()
    job.finish()
    job.check()
