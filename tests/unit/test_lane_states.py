from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from confluent_kafka import KafkaError

from streamcore import _core
from streamcore.copy_files import lane_file
from streamcore.errors import ConfigError, StateError
from streamcore.layouts import BEGIN
from tests.state_log import TOPIC, Reader, StateLog, Worker

KEYS = [f"key {number}" for number in range(300)]


@pytest.fixture
def log() -> StateLog:
    return StateLog()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "copies"


def started(log: StateLog, folder: Path, *, epochs: int = 12, lanes: tuple[int, ...] = (0,)) -> int:
    """A worker that commits some epochs and leaves; gives the digest of its first lane."""
    worker = Worker(log, folder, lanes=lanes)
    worker.recover()
    worker.commit(*KEYS)
    worker.commit(*KEYS[:10], times=epochs - 1)
    worker.close()
    return worker.digest(lanes[0])


def test_a_worker_that_starts_again_reads_the_last_manifest_and_its_copy(log: StateLog, folder: Path) -> None:
    digest = started(log, folder)
    everything = len(log.records[0])
    again = Worker(log, folder)
    manifest = again.recover()[0]
    assert manifest is not None
    assert (manifest["epoch"], again.digest()) == (12, digest)
    assert again.counts["records_from_topic"] == 1
    assert again.counts["records_from_copy"] >= everything - 12
    assert (again.counts["lanes_from_copy"], again.counts["rejected"]) == (1, 0)
    again.commit(*KEYS[:5], times=3)
    again.close()
    third = Worker(log, folder)
    third.recover()
    assert (third.digest(), third.counts["records_from_topic"]) == (again.digest(), 1)


def test_what_others_committed_meanwhile_is_all_that_is_read(log: StateLog, folder: Path, tmp_path: Path) -> None:
    started(log, folder)
    other = Worker(log, tmp_path / "other")
    other.recover()
    assert other.counts["lanes_from_copy"] == 0
    before = len(log.records[0])
    other.commit("one", "two", times=9)
    other.close()
    written = len(log.records[0]) - before
    back = Worker(log, folder)
    back.recover()
    assert (back.digest(), back.counts["records_from_topic"]) == (other.digest(), written + 1)
    back.commit("three")
    back.close()
    again = Worker(log, folder)
    again.recover()
    assert (again.digest(), again.counts["records_from_topic"]) == (back.digest(), 1)


def test_what_others_committed_is_too_much_to_be_added_and_the_copy_is_made_anew(
    log: StateLog, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamcore.lane_states.TAIL_BYTES_MAX", 100)
    started(log, folder)
    other = Worker(log, tmp_path / "other")
    other.recover()
    other.commit(*KEYS[:50], times=3)
    other.close()
    back = Worker(log, folder)
    back.recover()
    back.close()
    again = Worker(log, folder)
    again.recover()
    assert (again.digest(), again.counts["records_from_topic"]) == (other.digest(), 1)


def test_a_copy_may_be_deleted(log: StateLog, folder: Path) -> None:
    digest = started(log, folder)
    shutil.rmtree(folder)
    again = Worker(log, folder)
    again.recover()
    assert (again.digest(), again.counts["records_from_topic"]) == (digest, len(log.records[0]))
    assert again.counts["rejected"] == 0
    again.close()
    third = Worker(log, folder)
    third.recover()
    assert (third.digest(), third.counts["records_from_topic"]) == (digest, 1)


def test_an_epoch_that_was_taken_back_is_not_in_the_copy(log: StateLog, folder: Path) -> None:
    worker = Worker(log, folder)
    worker.recover()
    worker.commit("a", "b")
    worker.take_back("c")
    worker.commit("a")
    worker.close()
    again = Worker(log, folder)
    again.recover()
    assert (again.digest(), again.counts["records_from_topic"]) == (worker.digest(), 1)


def test_an_epoch_whose_place_in_the_log_is_not_known_ends_the_copy_until_it_is_whole_again(
    log: StateLog, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(log, folder)
    worker.recover()
    worker.commit(*KEYS)
    worker.commit("a", delivers=False)
    worker.commit("a")
    worker.close()
    assert worker.counts["dropped"] == 1
    again = Worker(log, folder)
    again.recover()
    assert (again.digest(), again.counts["rejected"]) == (worker.digest(), 1)
    assert "it is not whole" in caplog.text
    # A copy that began in the middle has all of it once every part was written since.
    again.close()
    shutil.rmtree(folder)
    third = Worker(log, folder)
    third.recover()
    third.commit("a", delivers=False)
    third.commit(*KEYS, times=400)
    third.close()
    last = Worker(log, folder)
    last.recover()
    assert (last.digest(), last.counts["lanes_from_copy"]) == (third.digest(), 1)
    assert last.counts["records_from_topic"] == 1


def made_again(log: StateLog, folder: Path) -> None:
    del folder
    log.topic_id = "second"


def begun_later(log: StateLog, folder: Path) -> None:
    """All was written anew, and what was before it is deleted."""
    before = log.ends[0]
    repaired(log, folder)
    log.begin = before


def cut_off(log: StateLog, folder: Path) -> None:
    """The broker has lost the last epoch, and nobody wrote since."""
    del folder
    log.lose(0, 2)


def of_the_other_lane(log: StateLog, folder: Path) -> None:
    del log
    shutil.copy(lane_file(folder, 1), lane_file(folder, 0))


def empty(log: StateLog, folder: Path) -> None:
    del log
    lane_file(folder, 0).write_bytes(b"")


def damaged(log: StateLog, folder: Path) -> None:
    del log
    content = bytearray(lane_file(folder, 0).read_bytes())
    content[len(content) // 2] ^= 4
    lane_file(folder, 0).write_bytes(content)


def repaired(log: StateLog, folder: Path) -> None:
    """As `state repair` and `restore` do: all anew, behind what there is, under a higher owner epoch."""
    other = Worker(log, folder.with_name("repair"))
    other.recover()
    records = other.engine.state_records(0)
    records.add([each for _, each in sorted(log.records[0].items())])
    other.owner[0] += 1
    log.write(0, other.engine.rewrite(0, records, other._facts(0)))
    other.close()


def long_ago(log: StateLog, folder: Path) -> None:
    """All that counted is over, and compacted away."""
    other = Worker(log, folder.with_name("other"), lanes=(0,))
    other.recover()
    other.commit(*KEYS, times=400)
    other.close()
    log.compact(0)


REASONS: dict[Callable[[StateLog, Path], None], str] = {
    made_again: 'its topic_id is "first", and should be "second"',
    begun_later: "its begin is 0, and should be ",
    cut_off: "and nothing is there: the topic ends at",
    of_the_other_lane: "its lane is 1, and should be 0",
    empty: "it is empty",
    damaged: "it is damaged: a checksum is of other bytes",
    repaired: "it is of owner epoch 0, and the log of 1: the state was repaired or put back meanwhile",
    long_ago: "so old that nothing of it counts",
}


@pytest.mark.parametrize("change", REASONS, ids=lambda change: change.__name__)
def test_a_copy_that_does_not_fit_is_rejected_with_its_reason_and_made_anew(
    log: StateLog, folder: Path, caplog: pytest.LogCaptureFixture, change: Callable[[StateLog, Path], None]
) -> None:
    started(log, folder, lanes=(0, 1))
    change(log, folder)
    truth = Worker(log, folder.with_name("truth"))
    truth.recover()
    caplog.clear()
    again = Worker(log, folder)
    again.recover()
    assert (again.digest(), again.epochs) == (truth.digest(), truth.epochs)
    assert (again.counts["rejected"], again.counts["lanes_from_copy"]) == (1, 0)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert line.startswith(f"the local copy of lane 0 in {folder} is not used: ")
    assert REASONS[change] in line
    again.close()
    third = Worker(log, folder)
    third.recover()
    assert (third.digest(), third.counts["lanes_from_copy"]) == (truth.digest(), 1)


def test_a_copy_that_points_past_the_end_is_rejected_beside_lanes_that_are_read(log: StateLog, folder: Path) -> None:
    started(log, folder, lanes=(0, 1))
    cut_off(log, folder)
    truth = Worker(log, folder.with_name("truth"), lanes=(0, 1))
    truth.recover()
    again = Worker(log, folder, lanes=(0, 1))
    again.recover()
    assert [again.digest(lane) for lane in (0, 1)] == [truth.digest(lane) for lane in (0, 1)]
    assert (again.counts["rejected"], again.counts["lanes_from_copy"]) == (1, 1)


def test_another_history_of_the_same_length_is_noticed(log: StateLog, folder: Path, tmp_path: Path) -> None:
    """The broker lost an epoch of the copy, and another worker wrote another one in its place, and more."""
    worker = Worker(log, folder)
    worker.recover()
    worker.commit(*KEYS)
    worker.commit("a")
    log.lose(0, 2)
    worker.close()
    other = Worker(log, tmp_path / "other")
    other.recover()
    other.commit("b", "c")
    other.commit("d", times=5)
    again = Worker(log, folder)
    again.recover()
    assert (again.digest(), again.counts["rejected"]) == (other.digest(), 1)


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_after_a_reset_nothing_of_a_copy_is_left(log: StateLog, folder: Path, *, is_forgotten: bool) -> None:
    """`is_forgotten`: the deletions themselves are compacted away."""
    started(log, folder)
    keys = {key for key, _ in log.records[0].values()}
    log.write(0, [(key, None) for key in sorted(keys)])
    log.compact(0, deletions=is_forgotten)
    again = Worker(log, folder)
    assert again.recover() == {0: None}
    assert (again.counts["rejected"], again.counts["lanes_from_copy"]) == (1, 0)
    again.commit("a")
    again.close()
    third = Worker(log, folder)
    third.recover()
    assert (third.digest(), third.counts["lanes_from_copy"]) == (again.digest(), 1)


def test_deletions_that_are_forgotten_do_no_harm(log: StateLog, folder: Path, tmp_path: Path) -> None:
    """A block that the copy has was deleted since, and its deletion is compacted away: nobody names it."""
    started(log, folder, epochs=90)
    other = Worker(log, tmp_path / "other")
    other.recover()
    other.commit(*KEYS[:3], times=12)
    deleted = sum(value is None for _, value in log.records[0].values())
    log.compact(0, deletions=True)
    again = Worker(log, folder)
    again.recover()
    assert deleted > 0
    assert (again.digest(), again.counts["lanes_from_copy"]) == (other.digest(), 1)
    again.commit("a", times=10)
    other_again = Worker(log, tmp_path / "third")
    other_again.recover()
    assert other_again.digest() == again.digest()


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ((b"greetings", b"from elsewhere"), "that streamcore did not write"),
        ((b"M/0", b"from elsewhere"), "it is none of streamcore"),
        ((b"D/12/0", b"from elsewhere"), "it is no block of streamcore"),
        ((b"D/12/0", None), "names 1 records that are not there"),
        ((b"M/0", None), "no manifest of an epoch after 11"),
    ],
)
def test_a_damaged_topic_is_refused_as_without_a_copy(
    log: StateLog, folder: Path, record: tuple[bytes, bytes | None], reason: str
) -> None:
    started(log, folder)
    log.write(0, [record])
    again = Worker(log, folder)
    with pytest.raises(StateError, match=reason):
        _refused(again)
    assert again.counts["rejected"] == 1


def _refused(worker: Worker) -> None:
    """Recovers, as `epochs.py` does: where the newest manifest is not whole, loading says why."""
    worker.recover()


def test_a_state_that_comes_from_a_copy_and_does_not_load_is_read_from_the_topic(
    log: StateLog, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    digest = started(log, folder)
    again = Worker(log, folder)
    again.engine = _RefusingOnce(again.engine)  # type: ignore[assignment]
    again.recover()
    assert (again.digest(), again.counts["rejected"], again.counts["lanes_from_copy"]) == (digest, 1, 0)
    assert "another digest" in caplog.text


class _RefusingOnce:
    def __init__(self, engine: _core.Pipeline) -> None:
        self._engine, self._refuses = engine, True

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)

    def recover(self, lane: int, records: _core.StateRecords) -> bytes | None:
        if self._refuses:
            self._refuses = False
            raise StateError("another digest")
        return self._engine.recover(lane, records)


def test_a_lane_that_was_given_away_and_comes_back_goes_on_from_its_copy(
    log: StateLog, folder: Path, tmp_path: Path
) -> None:
    worker = Worker(log, folder, lanes=(0, 1))
    worker.recover()
    worker.commit(*KEYS)
    worker.engine.revoke([1])
    worker.states.drop([1])
    worker.lanes = [0]
    worker.commit("a")
    heir = Worker(log, tmp_path / "heir", lanes=(1,))
    heir.recover()
    heir.commit("b")
    worker.lanes = [1]
    before = dict(worker.counts)
    worker.recover()
    assert worker.digest(1) == heir.digest(1)
    assert worker.counts["lanes_from_copy"] - before["lanes_from_copy"] == 1
    assert worker.counts["records_from_topic"] - before["records_from_topic"] == 3  # the last manifest, and one epoch


def test_a_worker_without_copies_reads_the_topic(log: StateLog, folder: Path) -> None:
    digest = started(log, folder)
    again = Worker(log, folder)
    again.states._files = None
    again.recover()
    assert (again.digest(), again.counts["records_from_topic"]) == (digest, len(log.records[0]))
    again.commit("a")
    assert again.position[0] == len(KEYS) + 11 * 10 + 1


def test_a_leader_that_moves_while_state_is_read_is_waited_for(log: StateLog, folder: Path) -> None:
    """It ended the run with exit code 1: the client calls no error of a message retriable."""
    digest = started(log, folder)
    again = Worker(log, folder)
    codes = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError._TRANSPORT, KafkaError.GROUP_AUTHORIZATION_FAILED)
    cast("Reader", again.states._consumer).failures = [KafkaError(code) for code in codes]
    again.recover()
    assert again.digest() == digest


def test_a_state_that_may_not_be_read_says_what_to_grant(log: StateLog, folder: Path) -> None:
    started(log, folder)
    again = Worker(log, folder)
    cast("Reader", again.states._consumer).failures = [KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)]
    with pytest.raises(ConfigError, match=f"READ and DESCRIBE on {TOPIC}"):
        again.recover()


def test_a_layout_that_came_between_a_worker_s_start_and_its_seat_is_noticed(
    log: StateLog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write(0, [(BEGIN, b"{}")])
    worker = Worker(log, folder)
    monkeypatch.setattr(log, "topic_names", lambda: [TOPIC, "job.0.state.g2"])
    with pytest.raises(
        StateError, match=r"has gone from job\.0\.state\.g1 to job\.0\.state\.g2 since this worker began"
    ):
        worker.recover()
    worker.close()


def test_who_reads_for_long_may_do_something_else_in_between(log: StateLog, folder: Path) -> None:
    started(log, folder)
    worker, calls = Worker(log, folder.parent / "other"), []
    worker.states.between = lambda: calls.append(worker.states.reading(0))
    worker.recover()
    worker.close()
    assert calls
